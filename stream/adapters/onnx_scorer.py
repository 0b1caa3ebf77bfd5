"""The model in service: ONNX Runtime and tokenizers, nothing else.

One article per run, many runs in parallel: ONNX Runtime's dynamic int8 scales per tensor, so in a batch the score of
an article would move with its neighbours and its padding. Replay must equal live, byte for byte. One session with one
intra-op thread is safe to run from many threads at once.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from crosswind.errors import BundleError, ProviderError
from crosswind.export import bundle
from crosswind.stream.domain.article import PPM, Score, Sentiment
from crosswind.stream.domain.stories.meaning import pack

MEANING = "meaning"
"""The output that stories are told apart by; a bundle may lack it (see `models/projection.py`)."""
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxScorer:
    """Implements `Scorer` on a verified bundle.

    Args:
        folder: the bundle.
        device: `cuda` refuses to start where ONNX Runtime cannot use one; there is no silent fall-back.
        threads: articles scored at the same time; 0: one per core.
        trusted: a public key or its file; a bundle that is not signed by it is refused.

    Raises:
        BundleError: the bundle does not verify, or its graph does not fit its manifest.
        ProviderError: the device is not there.
    """

    def __init__(
        self, folder: Path, device: Literal["cpu", "cuda"] = "cpu", threads: int = 0, trusted: str | None = None
    ) -> None:
        self._manifest = bundle.verify(folder, trusted)
        self._topic, self._sentiment = self._manifest.head("topic"), self._manifest.head("sentiment")
        if set(self._sentiment.labels) != {label.value for label in Sentiment}:
            raise BundleError(f"sentiment labels are {self._sentiment.labels}; expected {[s.value for s in Sentiment]}")
        self._tokenizer = _load_tokenizer(folder / bundle.TOKENIZER, self._manifest.max_tokens)
        self._session = _open_session(folder / bundle.MODEL, _PROVIDERS[device])
        self._check_graph()
        given = {output.name for output in self._session.get_outputs()}
        self._names = [self._topic.name, self._sentiment.name, *sorted({MEANING} & given)]
        self._pool = ThreadPoolExecutor(threads or cpu_count() or 1, thread_name_prefix="inference")

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

    def score(self, texts: Sequence[str]) -> list[Score]:
        """See `Scorer.score`."""
        encodings = self._tokenizer.encode_batch(list(texts))
        return list(self._pool.map(self._score_one, encodings))

    def logits(self, texts: Sequence[str]) -> "dict[str, np.ndarray[Any, Any]]":
        """Head -> float32 [texts, labels], as the model gives them: for measuring it."""
        rows = list(self._pool.map(self._outputs, self._tokenizer.encode_batch(list(texts))))
        names = (self._topic.name, self._sentiment.name)
        return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(names)}

    def probabilities(self, text: str) -> dict[str, dict[str, float]]:
        """Head -> label -> calibrated probability, for reading by a person."""
        topic, sentiment, _ = self._run(self._tokenizer.encode(text))
        return {
            "topic": dict(zip(self._topic.labels, topic.tolist(), strict=True)),
            "sentiment": dict(zip(self._sentiment.labels, sentiment.tolist(), strict=True)),
        }

    def close(self) -> None:
        """Ends the inference threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _outputs(self, encoding: Any) -> "list[np.ndarray[Any, Any]]":
        """Logits of both heads, each float32 [1, labels]; then `MEANING`, float32 [1, width], where there is one."""
        feed = {
            "input_ids": np.asarray([encoding.ids], dtype=np.int64),
            "attention_mask": np.ones((1, len(encoding.ids)), dtype=np.int64),
        }
        return [np.asarray(found) for found in self._session.run(self._names, feed)]

    def _run(self, encoding: Any) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]", bytes]:
        topic, sentiment, *meaning = self._outputs(encoding)
        return (
            _softmax(topic[0] / self._topic.temperature),
            _softmax(sentiment[0] / self._sentiment.temperature),
            pack(meaning[0][0]) if meaning else b"",
        )

    def _score_one(self, encoding: Any) -> Score:
        topics, sentiments, meaning = self._run(encoding)
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


def _open_session(path: Path, provider: str) -> ort.InferenceSession:
    if provider not in ort.get_available_providers():
        raise ProviderError(
            f"{provider} is not available; this ONNX Runtime has {ort.get_available_providers()}: "
            "install crosswind[gpu] or use --device cpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise BundleError(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}") from None
    if session.get_providers()[0] != provider:
        raise ProviderError(f"{provider} was asked for, ONNX Runtime fell back to {session.get_providers()[0]}")
    return session
