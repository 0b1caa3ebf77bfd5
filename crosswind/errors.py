"""Every error that Crosswind raises on purpose.

CrosswindError
├── SettingsError            a setting is missing, malformed or contradicts another
├── DataError                an input file or row cannot be used
│   └── ContractError        one message breaks its contract; carries a `Reason`, ends in `news.dead`
├── ModelError               weights, tokenizer or labels cannot be used
│   ├── BundleError          a bundle is incomplete, altered or from another version
│   └── ProviderError        the inference device that was asked for is not there
├── BrokerError              Kafka cannot be reached or refuses
├── DatabaseError            Postgres cannot be reached or refuses
└── ServiceError             a child process or server of ours did not start or died

Messages say what was found, what was expected and what to do next. `exit_code` is the process's exit status when the
error reaches a command line.
"""

from enum import StrEnum


class CrosswindError(Exception):
    """Base of the tree: catch this to catch everything that Crosswind raises on purpose."""

    exit_code = 1


class SettingsError(CrosswindError):
    """A setting is missing, malformed or contradicts another."""

    exit_code = 2


class DataError(CrosswindError):
    """An input file or row cannot be used."""

    exit_code = 3


class Reason(StrEnum):
    """Why a message was dead-lettered. The values are part of the `news.dead` contract."""

    NULL_VALUE = "null_value"
    BAD_UTF8 = "bad_utf8"
    BAD_JSON = "bad_json"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    UNKNOWN_VERSION = "unknown_version"
    TOO_LARGE = "too_large"
    IN_THE_FUTURE = "in_the_future"
    TOO_OLD = "too_old"
    EMPTY_TEXT = "empty_text"
    BAD_ROW = "bad_row"


class ContractError(DataError):
    """One message breaks its contract.

    Attributes:
        reason: the machine-readable cause, part of the dead-letter contract.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ModelError(CrosswindError):
    """Weights, tokenizer or labels cannot be used."""

    exit_code = 4


class BundleError(ModelError):
    """A bundle is incomplete, altered or from another version."""


class ProviderError(ModelError):
    """The inference device that was asked for is not there."""


class BrokerError(CrosswindError):
    """Kafka cannot be reached or refuses."""

    exit_code = 5


class DatabaseError(CrosswindError):
    """Postgres cannot be reached or refuses."""

    exit_code = 6


class ServiceError(CrosswindError):
    """A child process or server of ours did not start or died."""

    exit_code = 7
