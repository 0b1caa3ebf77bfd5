"""`crosswind score`: the shipped model on anyone's texts."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

from tqdm import tqdm

from crosswind.errors import DataError
from crosswind.export.bundle import resolve
from crosswind.lines import json_of, lines_of
from crosswind.settings import Settings
from crosswind.stream.adapters.language import LangidDetector
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.article import Score
from crosswind.stream.domain.normalise import clean, language_code

CHUNK: Final = 64
"""Lines that are scored together: enough for every thread, few enough that the first answers come soon."""


def score_file(file: Path, settings: Settings, out: IO[str]) -> int:
    """Scores each line of a JSON Lines file; returns the exit status: 0, or `DataError.exit_code` for bad lines.

    Raises:
        DataError: the file cannot be read.
        ModelError: the bundle cannot be used.
    """
    scorer = OnnxScorer(resolve(settings.model), settings.device, settings.threads, settings.trusted_key)
    detector = LangidDetector()
    bad = 0
    lines = enumerate(tqdm(lines_of(file), unit=" texts", file=sys.stderr, disable=None), start=1)
    while chunk := list(islice(lines, CHUNK)):
        for answer in _answers(chunk, scorer, detector):
            bad += "error" in answer
            out.write(json.dumps(answer, ensure_ascii=False) + "\n")
    scorer.close()
    if bad:
        sys.stderr.write(f"crosswind: {bad} of the lines could not be read; each has its error in its place\n")
    return DataError.exit_code if bad else 0


def _answers(
    chunk: Sequence[tuple[int, bytes]], scorer: OnnxScorer, detector: LangidDetector
) -> Iterator[dict[str, Any]]:
    """One answer per line, in order; the texts are scored together, so that the threads have something to do."""
    read = [_read(number, line) for number, line in chunk]
    judged = iter(scorer.explained([one.text for one in read if isinstance(one, _Asked)]))
    for one in read:
        yield one.answer(*next(judged), detector) if isinstance(one, _Asked) else one


@dataclass(frozen=True, slots=True)
class _Asked:
    """A line that can be judged."""

    id: Any
    text: str
    lang: str | None

    def answer(
        self, score: Score, probabilities: dict[str, dict[str, float]], detector: LangidDetector
    ) -> dict[str, Any]:
        return {
            "id": self.id,
            "lang": self.lang or detector.detect(self.text),
            "topic": score.topic,
            "sentiment": score.sentiment.value,
            "unsure": score.unsure,
            "probabilities": {
                head: {label: round(value, 6) for label, value in labels.items()}
                for head, labels in probabilities.items()
            },
            "model": score.model,
        }


def _read(number: int, line: bytes) -> _Asked | dict[str, Any]:
    """What a line asks, or the answer with its error."""
    named: Any = number
    try:
        row = json_of(line)
        if not isinstance(row, dict):
            raise DataError("not a JSON object; expected `text`, or `title` and `body`")
        named = row.get("id", number)
        lang = language_code(row["lang"]) if isinstance(row.get("lang"), str) else None
        return _Asked(named, _text(row), lang)
    except DataError as error:
        return {"id": named, "error": str(error)}


def _text(row: dict[str, Any]) -> str:
    parts = [row["text"]] if row.get("text") is not None else [row.get("title"), row.get("body")]
    if not all(part is None or isinstance(part, str) for part in parts):
        raise DataError("`text`, `title` and `body` must be strings")
    text = "\n".join(cleaned for part in parts if part and (cleaned := clean(part)))
    if not text:
        raise DataError("no text; expected `text`, or `title` and `body`")
    return text
