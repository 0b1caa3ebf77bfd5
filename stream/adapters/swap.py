"""A scorer that changes its bundle between two batches."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crosswind.errors import BundleError
from crosswind.export.bundle import Manifest
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.article import Score
from crosswind.stream.service.deployment import Candidate

WARM_SECONDS = 600.0
"""How long the former bundle stays in memory, so that a rollback needs no loading; then it is freed."""

BUILT_IN = ("Bank fails", "Le bénéfice progresse", "銀行が破綻", "تراجع الأرباح", "", "profit " * 400)
"""What every bundle must answer before it goes live, besides its own smoke sentences: scripts, nothing, too much."""


@dataclass(eq=False)
class _Held:
    """A scorer and how many batches are on it."""

    scorer: Candidate
    batches: int = 0
    retired: bool = False


class SwapScorer:
    """Implements `Scorer` and `Exchange`. A batch is scored as a whole by the bundle that was live when it began.

    Safe to call from many threads; `switch` waits for nobody, and the former bundle is closed when its last batch ends
    and `WARM_SECONDS` have passed.
    """

    def __init__(self, first: Candidate, warm_seconds: float = WARM_SECONDS) -> None:
        self._lock = threading.Lock()
        self._live = _Held(first)
        self._former: _Held | None = None
        self._warm_seconds = warm_seconds

    @property
    def version(self) -> str:
        """See `Scorer.version`: the live bundle's."""
        return self._live.scorer.version

    @property
    def provider(self) -> str:
        """See `Scorer.provider`: the live bundle's."""
        return self._live.scorer.provider

    @property
    def remark(self) -> str:
        """See `Exchange.remark`."""
        return self._live.scorer.remark

    @property
    def live(self) -> Candidate:
        """The scorer that is live now; for looking at, not for scoring with: it may be freed."""
        return self._live.scorer

    def score(self, texts: Sequence[str]) -> list[Score]:
        """See `Scorer.score`."""
        with self._lock:
            held = self._live
            held.batches += 1
        try:
            return held.scorer.score(texts)
        finally:
            with self._lock:
                held.batches -= 1
                idle = held.retired and not held.batches
            if idle:
                held.scorer.close()

    def switch(self, to: Candidate) -> None:
        """See `Exchange.switch`. The former one stays warm until `free_former` or the next switch."""
        with self._lock:
            older, self._former = self._former, self._live
            self._live = _Held(to)
        self._retire(older)

    def back_to(self, version: str) -> bool:
        """See `Exchange.back_to`."""
        with self._lock:
            former = self._former
            if former is None or former.scorer.version != version:
                return False
            self._live, self._former = former, self._live
            return True

    def free_former(self, switched_at: float, now: float) -> None:
        """Frees the former bundle once it has been warm long enough. Times are seconds of any one clock."""
        if now - switched_at < self._warm_seconds:
            return
        with self._lock:
            former, self._former = self._former, None
        self._retire(former)

    def close(self) -> None:
        """Frees both, when their last batches end."""
        with self._lock:
            former, self._former = self._former, None
        self._retire(former)
        self._retire(self._live)

    def _retire(self, held: _Held | None) -> None:
        if held is None:
            return
        with self._lock:
            held.retired = True
            idle = not held.batches
        if idle:
            held.scorer.close()


def load_checked(
    folder: Path, like: Manifest | None, device: str, threads: int, trusted: str | None, back: bool = False
) -> OnnxScorer:
    """A scorer that may go live: verified, of the same labels and languages as `like`, its smoke sentences answered.

    Args:
        back: see `check_fit`.

    Raises:
        ModelError: naming what was found and what was expected; nothing stays loaded.
    """
    scorer = OnnxScorer(folder, device, threads, trusted)
    try:
        if like is not None:
            check_fit(scorer.manifest, like, back)
        smoke(scorer)
    except BaseException:
        scorer.close()
        raise
    return scorer


def check_fit(candidate: Manifest, live: Manifest, back: bool = False) -> None:
    """Compares what trends rest on: topics, sentiments and languages. The order of labels is free.

    Args:
        back: it goes back to this candidate, which may lack the languages that the live one added: else nobody could
            take a bad bundle back that has one language more.

    Raises:
        BundleError: a label is missing or new, or a language would be lost.
    """
    for name in ("topic", "sentiment"):
        found, expected = set(candidate.head(name).labels), set(live.head(name).labels)
        if found != expected:
            raise BundleError(
                f"bundle {candidate.version} has other {name} labels than the live {live.version}: "
                f"missing {sorted(expected - found)}, extra {sorted(found - expected)}"
            )
    lost = [] if back else sorted(set(live.languages) - set(candidate.languages))
    if lost:
        raise BundleError(f"bundle {candidate.version} lacks languages of the live {live.version}: {', '.join(lost)}")


def smoke(scorer: OnnxScorer) -> None:
    """Asks a bundle its own smoke sentences and the built-in ones.

    Raises:
        BundleError: an answer is not the sealed one, or is no number.
    """
    sealed = scorer.manifest.smoke
    for place, (sentence, score) in enumerate(zip(sealed, scorer.score([s["text"] for s in sealed])), start=1):
        for head, given in (("topic", score.topic), ("sentiment", score.sentiment.value)):
            if given != sentence.get(head, given):
                raise BundleError(
                    f"bundle {scorer.version} gives {head} {given!r} for smoke sentence {place} of {len(sealed)}, "
                    f"it was sealed with {sentence[head]!r}: its parts do not belong together, or this machine "
                    "computes otherwise"
                )
    for head, logits in scorer.logits(BUILT_IN).items():
        if not np.isfinite(logits).all():
            raise BundleError(f"bundle {scorer.version} gives {head} logits that are no numbers")
