"""The model in service: ONNX Runtime and tokenizers, nothing else; by setting OpenVINO instead, or a GPU.

Replay must equal live, byte for byte, so the score of an article must not move with the articles beside it. On the CPU
only texts of one length share a run, and only as many as the bundle's export found to change no bit (`together`, see
`export/fused.py`; one where activations are scaled per run). Runs go in parallel: a session with one intra-op thread is
safe to run from many threads at once. On a GPU many articles per run, see `bound_runs.py`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from crosswind.errors import BundleError
from crosswind.export import bundle
from crosswind.export.running import by_length, feed_many
from crosswind.stream.adapters.bound_runs import BoundRuns
from crosswind.stream.adapters.openvino_session import OpenVinoSession
from crosswind.stream.adapters.providers import CPU, open_session
from crosswind.stream.domain.article import PPM, Score, Sentiment
from crosswind.stream.domain.stories.meaning import pack

NO_MEANING = (
    "it has no output `meaning`, so no new stories will be told while it is live; "
    "`python -m crosswind.models.projection BUNDLE` gives it one"
)
MEANING = "meaning"
"""The output that stories are told apart by; a bundle may lack it (see `models/projection.py`)."""


class OnnxScorer:
    """Implements `Scorer` on a verified bundle.

    Args:
        folder: the bundle.
        device: `cpu`, `openvino`, `cuda`, `tensorrt`, or several by commas, the preferred first; the first that is
            there is used, and `cuda` alone refuses to start where there is none: nothing falls back in silence.
        threads: articles scored at the same time; 0: one per core.
        trusted: a public key or its file; a bundle that is not signed by it is refused.

    Raises:
        BundleError: the bundle does not verify, or its graph does not fit its manifest.
        ProviderError: the device is not there, or cannot run the bundle's precision.
        SettingsError: the device is not one that there is.
    """

    def __init__(self, folder: Path, device: str = "cpu", threads: int = 0, trusted: str | None = None) -> None:
        self._manifest = bundle.verify(folder, trusted)
        self._topic, self._sentiment = self._manifest.head("topic"), self._manifest.head("sentiment")
        if set(self._sentiment.labels) != {label.value for label in Sentiment}:
            raise BundleError(f"sentiment labels are {self._sentiment.labels}; expected {[s.value for s in Sentiment]}")
        self._tokenizer = _load_tokenizer(folder / bundle.TOKENIZER, self._manifest.max_tokens)
        self._session = open_session(folder / bundle.MODEL, device, self._manifest.precision, threads, self._trial())
        self._check_graph()
        given = {output.name for output in self._session.get_outputs()}
        self._names = [self._topic.name, self._sentiment.name, *sorted({MEANING} & given)]
        self._bound: BoundRuns | None = None
        self._together = self._manifest.together
        if isinstance(self._session, OpenVinoSession):
            self._together = self._session.together
        elif self.provider != CPU:
            self._bound = BoundRuns(self._session, self._names, "cuda")
        self._pool = ThreadPoolExecutor(threads or cpu_count() or 1, thread_name_prefix="inference")

    def _trial(self) -> list[list[int]]:
        """Token ids of the smoke sentences; of labels, where a bundle has none."""
        texts = [sentence["text"] for sentence in self._manifest.smoke] or list(self._topic.labels)
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts)]

    def _check_graph(self) -> None:
        shapes = {output.name: output.shape for output in self._session.get_outputs()}
        for head in (self._topic, self._sentiment):
            shape = shapes.get(head.name)
            if not shape or shape[-1] != len(head.labels):
                raise BundleError(
                    f"model.onnx gives {head.name!r} as {shape}; the manifest has {len(head.labels)} labels"
                )

    @property
    def manifest(self) -> bundle.Manifest:
        """The bundle's manifest."""
        return self._manifest

    @property
    def version(self) -> str:
        """See `Scorer.version`."""
        return self._manifest.version

    @property
    def provider(self) -> str:
        """See `Scorer.provider`."""
        return str(self._session.get_providers()[0])

    @property
    def remark(self) -> str:
        """See `Candidate.remark`."""
        return "" if MEANING in self._names else NO_MEANING

    def score(self, texts: Sequence[str]) -> list[Score]:
        """See `Scorer.score`.

        Raises:
            BundleError: the model gives logits that are no numbers.
        """
        encodings = self._tokenizer.encode_batch(list(texts))
        return [self._judge(row) for row in self._run([encoding.ids for encoding in encodings])]

    def logits(self, texts: Sequence[str]) -> "dict[str, np.ndarray[Any, Any]]":
        """Head -> float32 [texts, labels], as the model gives them: for measuring it."""
        encodings = self._tokenizer.encode_batch(list(texts))
        rows = self._run([encoding.ids for encoding in encodings])
        names = (self._topic.name, self._sentiment.name)
        return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(names)}

    def explained(self, texts: Sequence[str]) -> list[tuple[Score, dict[str, dict[str, float]]]]:
        """Scores with what they rest on, head -> label -> calibrated probability, for reading by a person.

        Raises:
            BundleError: the model gives logits that are no numbers.
        """
        rows = self._run([encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))])
        return [(self._judge(row), self._probabilities(row)) for row in rows]

    def _probabilities(self, row: "list[np.ndarray[Any, Any]]") -> dict[str, dict[str, float]]:
        topic, sentiment, _ = self._calibrate(row)
        return {
            "topic": dict(zip(self._topic.labels, topic.tolist(), strict=True)),
            "sentiment": dict(zip(self._sentiment.labels, sentiment.tolist(), strict=True)),
        }

    def close(self) -> None:
        """Ends the inference threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, texts: Sequence[Sequence[int]]) -> "list[list[np.ndarray[Any, Any]]]":
        """Per text the logits of both heads, float32 [1, labels] each; then `MEANING`, [1, width], where it is."""
        if self._bound is not None:
            return self._bound.run(texts)
        groups = by_length(texts, self._together)
        found: list[list[np.ndarray[Any, Any]]] = [[] for _ in texts]
        # The longest first: at the end the threads then wait for each other the least.
        for group, outputs in zip(groups[::-1], self._pool.map(self._share, _pick(texts, groups[::-1])), strict=True):
            for row, place in enumerate(group):
                found[place] = [output[row : row + 1] for output in outputs]
        return found

    def _share(self, texts: Sequence[Sequence[int]]) -> "list[np.ndarray[Any, Any]]":
        return [np.asarray(found) for found in self._session.run(self._names, feed_many(texts))]

    def _calibrate(
        self, row: "list[np.ndarray[Any, Any]]"
    ) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]", bytes]:
        topic, sentiment, *meaning = row
        for name, logits in ((self._topic.name, topic), (self._sentiment.name, sentiment)):
            if not np.isfinite(logits).all():  # as integers they would be scores that look like any other
                raise BundleError(f"bundle {self.version} gives {name} logits that are no numbers")
        return (
            _softmax(topic[0] / self._topic.temperature),
            _softmax(sentiment[0] / self._sentiment.temperature),
            pack(meaning[0][0]) if meaning else b"",
        )

    def _judge(self, row: "list[np.ndarray[Any, Any]]") -> Score:
        topics, sentiments, meaning = self._calibrate(row)
        best_topic, best_sentiment = int(topics.argmax()), int(sentiments.argmax())
        unsure = bool(sentiments[best_sentiment] < self._manifest.unsure_below)
        ppm = dict(zip(self._sentiment.labels, to_ppm(sentiments), strict=True))
        return Score(
            topic=self._topic.labels[best_topic],
            sentiment=Sentiment.NEUTRAL if unsure else Sentiment(self._sentiment.labels[best_sentiment]),
            negative_ppm=ppm["negative"],
            neutral_ppm=ppm["neutral"],
            positive_ppm=ppm["positive"],
            topic_ppm=to_ppm(topics)[best_topic],
            unsure=unsure,
            model=self.version,
            meaning=meaning,
        )


def _pick(texts: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    return [[texts[place] for place in group] for group in groups]


def to_ppm(probabilities: "np.ndarray[Any, Any]") -> list[int]:
    """Parts per million that sum to `PPM` exactly (largest remainder; ties by position).

    >>> to_ppm(np.array([1 / 3, 1 / 3, 1 / 3]))
    [333334, 333333, 333333]
    """
    scaled = probabilities.astype(np.float64) / float(probabilities.sum()) * PPM
    floor = np.floor(scaled).astype(np.int64)
    order = np.argsort(-(scaled - floor), kind="stable")
    floor[order[: PPM - int(floor.sum())]] += 1
    return [int(value) for value in floor]


def _softmax(logits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
    result: np.ndarray[Any, Any] = shifted / shifted.sum()
    return result


def _load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path} is not a tokenizer: {error}") from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer
