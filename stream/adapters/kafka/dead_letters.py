"""Dead letters: the original bytes as value, the cause in Kafka Connect's own headers."""

import hashlib

from crosswind.errors import ContractError, Reason
from crosswind.stream.domain.article import Origin

PREFIX = "__connect.errors."
REASON = "crosswind.reason"
SIZE = "crosswind.size"
SHA256 = "crosswind.sha256"


def headers(origin: Origin | None, error: ContractError, stage: str) -> dict[str, bytes]:
    """Headers of a dead letter.

    Args:
        origin: the record it came from; None when it never was one (a feed's bad row).
        stage: where it failed, e.g. `VALUE_CONVERTER`.
    """
    found = {
        REASON: error.reason.value,
        PREFIX + "stage": stage,
        PREFIX + "exception.class.name": type(error).__name__,
        PREFIX + "exception.message": str(error)[:1000],
    }
    if origin is not None:
        found[PREFIX + "topic"] = origin.topic
        found[PREFIX + "partition"] = str(origin.partition)
        found[PREFIX + "offset"] = str(origin.offset)
    return {name: value.encode("utf-8", "replace") for name, value in found.items()}


def in_place_of(value: bytes | None) -> dict[str, bytes]:
    """Headers that say which message it was where a letter cannot carry it: its size and digest."""
    found = value or b""
    return {SIZE: str(len(found)).encode(), SHA256: hashlib.sha256(found).hexdigest().encode()}


def reason_of(found: dict[str, bytes]) -> Reason | None:
    """The reason in a dead letter's headers, None when there is none that we know."""
    value = found.get(REASON, b"").decode("utf-8", "replace")
    return Reason(value) if value in Reason.__members__.values() else None
