"""API tokens: only their hashes are kept, so whoever reads the database cannot use them."""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine, text

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.errors import database

SCOPES = ("subscriptions:read", "subscriptions:write", "alerts:read")
PREFIX = "cwt_"
_COLUMNS = "token_id, name, scopes, per_minute, max_subscriptions, created_at, revoked_at"


@dataclass(frozen=True, slots=True)
class Token:
    """What a token may do. Its id owns the subscriptions made with it."""

    token_id: str
    name: str
    scopes: tuple[str, ...]
    per_minute: int
    max_subscriptions: int
    created_at: datetime
    revoked_at: datetime | None


class Tokens:
    """Makes, finds and revokes tokens. Methods raise DatabaseError."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create(self, name: str, scopes: Sequence[str], per_minute: int = 120, max_subscriptions: int = 100) -> str:
        """A new token; this is the only time that it is seen.

        Raises:
            DataError: an unknown scope.
        """
        if not scopes or not set(scopes) <= set(SCOPES):
            raise DataError(f"scopes: expected some of {', '.join(SCOPES)}")
        plain = PREFIX + secrets.token_urlsafe(32)
        values = {"id": "tok_" + secrets.token_hex(8), "name": name, "hash": _hash(plain), "scopes": list(scopes),
                  "per_minute": per_minute, "most": max_subscriptions}  # fmt: skip
        query = text("INSERT INTO api_token (token_id, name, hash, scopes, per_minute, max_subscriptions, created_at) "
                     "VALUES (:id, :name, :hash, :scopes, :per_minute, :most, clock_timestamp())")  # fmt: skip
        with database("making a token"), self._engine.begin() as connection:
            connection.execute(query, values)
        return plain

    def find(self, plain: str) -> Token | None:
        """The token, None when it is unknown or revoked."""
        query = text(f"SELECT {_COLUMNS} FROM api_token WHERE hash = :hash AND revoked_at IS NULL")
        with database("reading a token"), self._engine.connect() as connection:
            row = connection.execute(query, {"hash": _hash(plain)}).one_or_none()
        return Token(**{**row._asdict(), "scopes": tuple(row.scopes)}) if row else None

    def list(self) -> Sequence[Token]:
        """All of them, also the revoked."""
        query = text(f"SELECT {_COLUMNS} FROM api_token ORDER BY created_at")
        with database("reading tokens"), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return [Token(**{**row._asdict(), "scopes": tuple(row.scopes)}) for row in rows]

    def revoke(self, token_id: str) -> None:
        """From now on it opens nothing.

        Raises:
            DataError: there is no such token.
        """
        query = text("UPDATE api_token SET revoked_at = coalesce(revoked_at, clock_timestamp()) WHERE token_id = :id")
        with database("revoking a token"), self._engine.begin() as connection:
            if connection.execute(query, {"id": token_id}).rowcount == 0:
                raise DataError(f"there is no token {token_id[:40]!r}; see `crosswind subscriptions tokens`")


def _hash(plain: str) -> str:
    """Tokens are 256 random bits, so a plain hash cannot be searched; passwords would need more."""
    return hashlib.sha256(plain.encode()).hexdigest()
