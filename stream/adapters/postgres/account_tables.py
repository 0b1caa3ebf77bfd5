"""Tables of who may use the dashboard, who is logged in, and who changed what. On the same `Base` as `schema`."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint, Identity, Index, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from crosswind.stream.adapters.postgres.schema import Base


class AccountRow(Base):
    """A person; only an argon2id hash of the password is kept, and none where a provider vouches for them."""

    __tablename__ = "account"

    name: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str]
    password: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class IdentityRow(Base):
    """Whose account it is, where an identity provider vouches for people: its issuer and its lasting name for them."""

    __tablename__ = "identity"
    __table_args__ = (ForeignKeyConstraint(["name"], ["account.name"], ondelete="CASCADE"), UniqueConstraint("name"))

    provider: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())


class SessionRow(Base):
    """A login; only the SHA-256 of its token is kept."""

    __tablename__ = "session"
    __table_args__ = (
        ForeignKeyConstraint(["name"], ["account.name"], ondelete="CASCADE"),
        Index("ix_session_expires_at", "expires_at"),
    )

    token: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    expires_at: Mapped[datetime]


class AuditRow(Base):
    """One change that a person asked for, a login or a refused one."""

    __tablename__ = "audit"

    audit_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    actor: Mapped[str]
    action: Mapped[str]
    subject: Mapped[str]
    detail: Mapped[dict[str, Any]]
    address: Mapped[str]
