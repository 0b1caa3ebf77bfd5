"""The model in service: ONNX Runtime and tokenizers, nothing else; by setting OpenVINO instead, or a GPU.

Replay must equal live, byte for byte, so the score of an article must not move with the articles beside it. On the CPU
only texts of one length share a run, and only as many as the bundle's export found to change no bit (`together`, see
`export/fused.py`; one where activations are scaled per run); OpenVINO has both found out when it opens. Runs go in
parallel: a session with one intra-op thread is safe to run from many threads at once. On a GPU many articles per run,
see `bound_runs.py`.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from crosswind.stream.domain.stories.meaning import pack_rows

NO_MEANING = (
    "it has no output `meaning`, so no new stories will be told while it is live; "
    "`python -m crosswind.models.projection BUNDLE` gives it one"
)
MEANING = "meaning"
"""The output that stories are told apart by; a bundle may lack it (see `models/projection.py`)."""


@dataclass(frozen=True, slots=True)
class _Calibrated:
    """Float64 [texts, labels] of each head, and packed meanings."""

    topics: "np.ndarray[Any, Any]"
    sentiments: "np.ndarray[Any, Any]"
    meanings: list[bytes]


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
        self._together, self._step = self._manifest.together, 1
        if isinstance(self._session, OpenVinoSession):
            self._together, self._step = self._session.together, self._session.step
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
        return self._judge(self._calibrate(self._run(texts)))

    def logits(self, texts: Sequence[str]) -> "dict[str, np.ndarray[Any, Any]]":
        """Head -> float32 [texts, labels], as the model gives them: for measuring it."""
        topic, sentiment, *_ = self._run(texts)
        return {self._topic.name: topic, self._sentiment.name: sentiment}

    def explained(self, texts: Sequence[str]) -> list[tuple[Score, dict[str, dict[str, float]]]]:
        """Scores with what they rest on, head -> label -> calibrated probability, for reading by a person.

        Raises:
            BundleError: the model gives logits that are no numbers.
        """
        found = self._calibrate(self._run(texts))
        probabilities = [
            {"topic": dict(zip(self._topic.labels, topic, strict=True)),
             "sentiment": dict(zip(self._sentiment.labels, sentiment, strict=True))}
            for topic, sentiment in zip(found.topics.tolist(), found.sentiments.tolist(), strict=True)
        ]  # fmt: skip
        return list(zip(self._judge(found), probabilities, strict=True))

    def close(self) -> None:
        """Ends the inference threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, texts: Sequence[str]) -> "list[np.ndarray[Any, Any]]":
        """The logits of both heads, float32 [texts, labels] each; then `MEANING`, [texts, width], where it is."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        if not ids:
            return [np.zeros((0, len(head.labels)), np.float32) for head in (self._topic, self._sentiment)]
        if self._bound is not None:
            rows = self._bound.run(ids)
            return [np.concatenate([row[place] for row in rows]) for place in range(len(self._names))]
        # The longest first: at the end the threads then wait for each other the least.
        groups = by_length(ids, self._together, self._step)[::-1]
        shared = list(self._pool.map(self._share, [[ids[place] for place in group] for group in groups]))
        order = np.argsort(np.concatenate(groups))
        return [np.concatenate([outputs[place] for outputs in shared])[order] for place in range(len(self._names))]

    def _share(self, texts: Sequence[Sequence[int]]) -> "list[np.ndarray[Any, Any]]":
        return [np.asarray(found) for found in self._session.run(self._names, feed_many(texts, self._step))]

    def _calibrate(self, outputs: "list[np.ndarray[Any, Any]]") -> _Calibrated:
        topic, sentiment, *meaning = outputs
        for name, logits in ((self._topic.name, topic), (self._sentiment.name, sentiment)):
            if not np.isfinite(logits).all():  # as integers they would be scores that look like any other
                raise BundleError(f"bundle {self.version} gives {name} logits that are no numbers")
        return _Calibrated(
            _softmax(topic / self._topic.temperature),
            _softmax(sentiment / self._sentiment.temperature),
            pack_rows(meaning[0]) if meaning else [b""] * len(topic),
        )

    def _judge(self, found: _Calibrated) -> list[Score]:
        topics, sentiments = found.topics.argmax(1).tolist(), found.sentiments.argmax(1).tolist()
        sure = found.sentiments.max(1, initial=0.0) >= self._manifest.unsure_below
        parts = zip(topics, sentiments, to_ppm(found.topics).tolist(), to_ppm(found.sentiments).tolist(), sure.tolist(),
                    found.meanings, strict=True)  # fmt: skip
        return [self._score(*part) for part in parts]

    def _score(
        self, topic: int, sentiment: int, topics: list[int], sentiments: list[int], sure: bool, meaning: bytes
    ) -> Score:
        ppm = dict(zip(self._sentiment.labels, sentiments, strict=True))
        return Score(
            topic=self._topic.labels[topic],
            sentiment=Sentiment(self._sentiment.labels[sentiment]) if sure else Sentiment.NEUTRAL,
            negative_ppm=ppm["negative"],
            neutral_ppm=ppm["neutral"],
            positive_ppm=ppm["positive"],
            topic_ppm=topics[topic],
            unsure=not sure,
            model=self.version,
            meaning=meaning,
        )


def to_ppm(probabilities: "np.ndarray[Any, Any]") -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Parts per million that sum to `PPM` exactly over the last axis (largest remainder; ties by position).

    >>> to_ppm(np.array([1 / 3, 1 / 3, 1 / 3])).tolist()
    [333334, 333333, 333333]
    """
    exact = probabilities.astype(np.float64)
    scaled = exact / exact.sum(-1, keepdims=True) * PPM
    floor = np.floor(scaled).astype(np.int64)
    order = np.argsort(-(scaled - floor), axis=-1, kind="stable")
    missing = PPM - floor.sum(-1, keepdims=True)
    ranks = np.argsort(order, axis=-1)
    parts: np.ndarray[Any, np.dtype[np.int64]] = floor + (ranks < missing)
    return parts


def _softmax(logits: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """Over the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    result: np.ndarray[Any, Any] = shifted / shifted.sum(-1, keepdims=True)
    return result


def _load_tokenizer(path: Path, max_tokens: int) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path} is not a tokenizer: {error}") from None
    tokenizer.enable_truncation(max_tokens)
    tokenizer.no_padding()
    return tokenizer
