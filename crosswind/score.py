"""`crosswind score`: the shipped model on anyone's texts."""

import json
import sys
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from crosswind.errors import DataError
from crosswind.export.bundle import resolve
from crosswind.lines import lines_of
from crosswind.settings import Settings
from crosswind.stream.adapters.language import LinguaDetector
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.normalise import clean, language_code


def score_file(file: Path, settings: Settings, out: IO[str]) -> int:
    """Scores each line of a JSON Lines file; returns the exit status: 0, or `DataError.exit_code` for bad lines.

    Raises:
        DataError: the file cannot be read.
        ModelError: the bundle cannot be used.
    """
    scorer = OnnxScorer(resolve(settings.model), settings.device, settings.threads, settings.trusted_key)
    detector = LinguaDetector()
    bad = 0
    for number, line in enumerate(tqdm(lines_of(file), unit=" texts", file=sys.stderr, disable=None), start=1):
        try:
            answer = _judge(_row(line), number, scorer, detector)
        except DataError as error:
            bad += 1
            answer = {"id": number, "error": str(error)}
        out.write(json.dumps(answer, ensure_ascii=False) + "\n")
    scorer.close()
    if bad:
        sys.stderr.write(f"crosswind: {bad} of the lines could not be read; each has its error in its place\n")
    return DataError.exit_code if bad else 0


def _row(line: bytes) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from None
    if not isinstance(row, dict):
        raise DataError("not a JSON object; expected `text`, or `title` and `body`")
    return row


def _text(row: dict[str, Any]) -> str:
    parts = [row["text"]] if row.get("text") is not None else [row.get("title"), row.get("body")]
    if not all(part is None or isinstance(part, str) for part in parts):
        raise DataError("`text`, `title` and `body` must be strings")
    text = "\n".join(cleaned for part in parts if part and (cleaned := clean(part)))
    if not text:
        raise DataError("no text; expected `text`, or `title` and `body`")
    return text


def _judge(row: dict[str, Any], number: int, scorer: OnnxScorer, detector: LinguaDetector) -> dict[str, Any]:
    text = _text(row)
    lang = language_code(row["lang"]) if isinstance(row.get("lang"), str) else None
    (score,) = scorer.score([text])
    probabilities = {
        head: {label: round(value, 6) for label, value in labels.items()}
        for head, labels in scorer.probabilities(text).items()
    }
    return {
        "id": row.get("id", number),
        "lang": lang or detector.detect(text),
        "topic": score.topic,
        "sentiment": score.sentiment.value,
        "unsure": score.unsure,
        "probabilities": probabilities,
        "model": score.model,
    }
