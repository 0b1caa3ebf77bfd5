"""Accounts, logins and the audit log of the dashboard, on Postgres."""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from typing import Any, Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Connection, Engine, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql

from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.account_tables import AccountRow, AuditRow, IdentityRow, SessionRow
from crosswind.stream.adapters.postgres.errors import database

LASTS: Final = timedelta(hours=12)
"""A login ends after this long, used or not."""

SHORTEST: Final = 12
"""Characters of a password at least (NIST SP 800-63B asks for 8 and counsels longer ones)."""

BY_PROVIDER: Final = "sso:"
"""How the name of an account begins that an identity provider vouches for."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_UNFIT = re.compile(r"[^A-Za-z0-9._@-]")
_NONE = "none: an identity provider vouches for them"
"""In the place of a password's hash. No password fits it."""

_SILENCE = text("""
    UPDATE subscription SET state = 'disabled', state_reason = 'its account was removed', updated_at = clock_timestamp()
    WHERE owner = :owner AND state IN ('active', 'paused')
""")
_LEAVE = text("UPDATE subscription SET owner = :left WHERE owner = :owner")

_hasher = PasswordHasher()
_NOBODY = _hasher.hash("nobody has this password")
"""Checked when there is no such account, so that the time of the answer does not tell."""


class Role(IntEnum):
    """What somebody may do; each may do what the ones before it may."""

    VIEWER = 1
    ANALYST = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Account:
    """Who is asking."""

    name: str
    role: Role

    @property
    def owner(self) -> str:
        """Whose the subscriptions are that they make."""
        return _owner(self.name)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody whom an identity provider vouches for.

    Attributes:
        provider: its issuer.
        subject: what it calls them, for good.
        name: what they are called there today. It is only shown: others may be called so too.
    """

    provider: str
    subject: str
    name: str = ""

    @property
    def account(self) -> str:
        """The name of an account for them: `sso:`, with which no local name begins, and a digest that is theirs alone.

        Who is called like somebody else, or like somebody who left, gets neither their account nor what belongs to it.

        >>> Person("https://id.example", "42", "ada@example.org").account
        'sso:ada@example.org-aa10b1411debe0c2'
        """
        shown = _UNFIT.sub("_", self.name)[:40] or "somebody"
        return f"{BY_PROVIDER}{shown}-{_digest(json.dumps([self.provider, self.subject]))[:16]}"


LOCAL: Final = Account("local", Role.ADMIN)
"""Whoever sits at the machine, where no login is configured and nobody else can connect."""


class Accounts:
    """Every method blocks, and raises DatabaseError when the database cannot be reached or refuses."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, name: str, password: str, role: Role) -> None:
        """Adds an account, or gives an existing one this password and role and ends its logins.

        Raises:
            DataError: the name or the password will not do.
        """
        if not _NAME.fullmatch(name):
            raise DataError(f"{name!r} is no name for an account: letters, digits and . _ @ -, 64 at most")
        if len(password) < SHORTEST:
            raise DataError(f"the password has {len(password)} characters; take {SHORTEST} at least")
        values = {"role": role.name.lower(), "password": _hasher.hash(password)}
        with database("adding an account"), self._engine.begin() as connection:
            changed = connection.execute(update(AccountRow).where(AccountRow.name == name).values(values))
            if not changed.rowcount:
                connection.execute(insert(AccountRow), {"name": name, **values})
            # Last: `log_in` holds the account until its login is stored, and we have waited for it.
            connection.execute(delete(SessionRow).where(SessionRow.name == name))

    def remove(self, name: str) -> int:
        """Removes an account, ends its logins and disables its subscriptions; returns how many.

        Nobody who gets the name later gets them: only admins see them. Where a provider vouches for somebody the name
        is theirs for good, and so are the subscriptions, should they come back.

        Raises:
            DataError: there is no such account.
        """
        with database("removing an account"), self._engine.begin() as connection:
            if not connection.execute(delete(AccountRow).where(AccountRow.name == name)).rowcount:
                raise DataError(f"there is no account {name!r}; list them with `crosswind users list`")
            disabled = connection.execute(_SILENCE, {"owner": _owner(name)}).rowcount
            if not name.startswith(BY_PROVIDER):
                connection.execute(_LEAVE, {"owner": _owner(name), "left": f"removed:{name}"})
        return disabled

    def all(self) -> list[Account]:
        """Every account, by name."""
        with database("reading the accounts"), self._engine.connect() as connection:
            rows = connection.execute(select(AccountRow.name, AccountRow.role).order_by(AccountRow.name))
            return [Account(row.name, Role[row.role.upper()]) for row in rows]

    def log_in(self, name: str, password: str) -> str | None:
        """The token of a new login; None when name and password do not fit."""
        query = select(AccountRow.password).where(AccountRow.name == name)
        with database("logging in"), self._engine.connect() as connection:
            stored = connection.execute(query).scalar()
        known = stored if stored != _NONE else None
        if not _fits(known or _NOBODY, password) or known is None:
            return None
        with database("logging in"), self._engine.begin() as connection:
            # The check took a while: a password that was changed since then does not count, nor a removed account.
            if connection.execute(query.with_for_update(read=True)).scalar() != known:
                return None
            return _session(connection, name)

    def log_in_as(self, person: Person, role: Role) -> tuple[Account, str]:
        """Somebody's account, and the token of a new login. The first login makes the account; each one gives it the
        role that the provider says now."""
        key = {"provider": person.provider, "subject": person.subject}
        with database("logging in"), self._engine.begin() as connection:
            name = _name_of(connection, person)
            if name is None:  # two first logins at once make one account: its name is a function of who they are
                name = person.account
                row = {"name": name, "role": role.name.lower(), "password": _NONE}
                connection.execute(postgresql.insert(AccountRow).values(row).on_conflict_do_nothing())
                identity = postgresql.insert(IdentityRow).values(name=name, **key)
                connection.execute(identity.on_conflict_do_nothing(index_elements=list(key)))
            connection.execute(update(AccountRow).where(AccountRow.name == name).values(role=role.name.lower()))
            return Account(name, role), _session(connection, name)

    def shut_out(self, person: Person) -> None:
        """Ends the logins of somebody to whom the provider gives no role any more."""
        with database("ending logins"), self._engine.begin() as connection:
            connection.execute(delete(SessionRow).where(SessionRow.name == _name_of(connection, person)))

    def log_out(self, token: str) -> None:
        """Ends a login."""
        with database("logging out"), self._engine.begin() as connection:
            connection.execute(delete(SessionRow).where(SessionRow.token == _digest(token)))

    def of(self, token: str) -> Account | None:
        """Who has this token; None when the login is over."""
        query = select(AccountRow.name, AccountRow.role).join(SessionRow, SessionRow.name == AccountRow.name)
        query = query.where(SessionRow.token == _digest(token), SessionRow.expires_at > func.clock_timestamp())
        with database("reading a login"), self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Account(row.name, Role[row.role.upper()])

    def note(self, actor: str, action: str, subject: str, address: str, **detail: Any) -> None:
        """Writes into the audit log."""
        values = {"actor": actor, "action": action, "subject": subject, "address": address, "detail": detail}
        with database("writing the audit log"), self._engine.begin() as connection:
            connection.execute(insert(AuditRow), values)

    def noted(self, limit: int = 100) -> list[dict[str, Any]]:
        """The audit log, newest first: at, actor, action, subject, detail, address."""
        names = ("at", "actor", "action", "subject", "detail", "address")
        query = select(*(getattr(AuditRow, name) for name in names)).order_by(AuditRow.audit_id.desc()).limit(limit)
        with database("reading the audit log"), self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _owner(name: str) -> str:
    return f"user:{name}"


def _name_of(connection: Connection, person: Person) -> str | None:
    row = IdentityRow
    query = select(row.name).where(row.provider == person.provider, row.subject == person.subject)
    return connection.execute(query).scalar()


def _session(connection: Connection, name: str) -> str:
    token = secrets.token_urlsafe(32)
    connection.execute(delete(SessionRow).where(SessionRow.expires_at < func.clock_timestamp()))
    expires = func.clock_timestamp() + LASTS
    connection.execute(insert(SessionRow).values(token=_digest(token), name=name, expires_at=expires))
    return token


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _fits(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False
