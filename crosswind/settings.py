"""All settings, from the environment (`CROSSWIND_*`), a `.env` file or the command line.

Every process reads one `Settings`. Command-line options override the environment, the environment overrides `.env`,
`.env` overrides the defaults here.
"""

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, Json, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from crosswind.errors import SettingsError


class Settings(BaseSettings):
    """Settings of every Crosswind process; see each field's description."""

    model_config = SettingsConfigDict(env_prefix="CROSSWIND_", env_file=".env", extra="ignore", frozen=True)

    kafka: str | None = Field(None, description="host:port[,host:port] of Kafka; unset: the embedded broker")
    database_url: SecretStr | None = Field(None, description="postgresql://…; unset: the embedded Postgres")
    read_database_url: SecretStr | None = Field(
        None,
        description="the same database by a role that can only read, for the dashboard's pages; unset: read-only "
        "sessions of the role in database_url",
    )
    data_dir: Path = Field(Path(".crosswind"), description="where the embedded database and logs live")
    model: str = Field("default", description="a bundle's folder, or 'default' for the shipped one")
    registry: str | None = Field(None, description="folder or fsspec address of bundles; unset: DATA_DIR/models")
    trusted_key: str | None = Field(None, description="Ed25519 public key or its file; other bundles are refused")
    device: str = Field(
        "cpu",
        pattern=r"^(cpu|openvino|cuda|tensorrt)(,(cpu|openvino|cuda|tensorrt))*$",
        description="where inference runs: cpu, openvino (bfloat16), cuda, tensorrt, or several by commas, the "
        "preferred first; refuses to start where none of them is there",
    )
    kafka_tls: bool = Field(False, description="speak TLS to Kafka; the server's name and certificate are checked")
    kafka_ca: Path | None = Field(None, description="PEM file of the authority that signed Kafka's certificate")
    kafka_certificate: Path | None = Field(None, description="PEM file with our certificate and key, for mutual TLS")
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(None, description="how to log in")
    kafka_user: str | None = Field(None, description="name to log in to Kafka with")
    kafka_password: SecretStr | None = Field(None, description="password to log in to Kafka with")
    run: str = Field("live", pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="the run's id; replays have their own")

    raw_topic: str = "news.raw"
    scored_topic: str = "news.scored"
    dead_topic: str = "news.dead"
    alerts_topic: str = "alerts"
    partitions: int = Field(4, ge=1, le=1024, description="partitions of topics that Crosswind creates")
    group: str = Field("crosswind", description="consumer group of the workers")
    session_timeout: float = Field(
        6.0,
        gt=0,
        description="seconds; short, because the embedded broker admits a group's first member only after half of it",
    )

    batch_size: int = Field(
        512, ge=1, le=4096, description="articles per micro-batch at most; fewer where they would take over two seconds"
    )
    batch_seconds: float = Field(0.05, gt=0, description="seconds to wait for a full micro-batch at most")
    threads: int = Field(0, ge=0, description="inference threads; 0: one per core")
    max_bytes: int = Field(1_048_576, ge=1024, description="a larger message is dead-lettered")
    future_seconds: int = Field(3600, ge=0, description="an article dated further ahead is dead-lettered")
    lateness_seconds: int = Field(120, ge=0, description="event time that a bucket stays open after it ends")
    idle_seconds: float = Field(3.0, gt=0, description="a partition silent this long no longer holds the watermark")

    keep_articles_days: int | None = Field(
        None, ge=8, le=36500, description="days of articles that are kept, in event time; unset: all, for good"
    )
    keep_minutes_days: int | None = Field(
        None, ge=8, le=36500, description="days of minute counts that are kept; hours stay for good; unset: all"
    )

    rules: Path | None = Field(None, description="a rule file, read again when it changes; unset: the shipped rules")
    watchlist: Path | None = Field(None, description="a watchlist file: entities with aliases; unset: none")
    stories: bool = Field(True, description="count an event once; needs pgvector and a bundle with output `meaning`")

    translators: Path | None = Field(None, description="folder of translators, one per language pair; unset: none")

    seal_key: SecretStr | None = Field(
        None, description="Fernet keys, newest first, by commas; seal subscribers' secrets; unset: DATA_DIR/secret.key"
    )
    notify_private: bool = Field(False, description="messages may go to private addresses, and by plain http")
    public_url: str = Field(
        "",
        pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$",
        description="the dashboard's address as subscribers reach it, e.g. https://crosswind.example.com; unset: "
        "messages have no links",
    )
    notify_host: str = Field("127.0.0.1", description="address of the dispatcher's metrics; keep it private")
    notify_port: int = Field(0, ge=0, le=65535, description="the dispatcher's metrics port; 0: any free one")
    keep_deliveries_days: int = Field(
        90, ge=0, description="days that delivered messages and their log are kept; 0: for good"
    )

    api_token: SecretStr | None = Field(None, description="cwt_…, for commands that ask a dashboard by its address")
    host: str = Field("127.0.0.1", description="address that the dashboard listens on")
    auth: Literal["none", "local", "oidc", "both"] = Field(
        "none", description="none: loopback only; local: accounts with passwords; oidc: an identity provider; or both"
    )
    trusted_proxies: str = Field(
        "",
        description="addresses or networks of the proxies before the dashboard, by commas: of these alone it believes "
        "X-Forwarded-For and X-Forwarded-Proto; unset: of nobody",
    )
    oidc_issuer: str = Field("", description="the identity provider's issuer, https://…, just as it names itself")
    oidc_client_id: str = Field("", description="what the identity provider calls this dashboard")
    oidc_client_secret: SecretStr | None = Field(None, description="proves to it that we are that dashboard")
    oidc_scopes: str = Field("openid profile email", pattern=r"^openid( [!-~]+)*$", description="openid, and others")
    oidc_role_claim: str = Field(
        "roles", min_length=1, description="claim of the ID token that holds roles or groups; a.b: b inside a"
    )
    oidc_roles: Json[dict[str, Literal["viewer", "analyst", "admin"]]] = Field(
        "{}", validate_default=True, description="JSON, value of that claim -> role; who has none of them has no access"
    )
    port: int = Field(8050, ge=0, le=65535, description="the dashboard's port; 0: any free one")
    worker_host: str = Field("127.0.0.1", description="address of the worker's health and metrics; keep it private")
    worker_port: int = Field(0, ge=0, le=65535, description="the worker's health and metrics port; 0: any free one")

    stuck_seconds: float = Field(
        120.0, gt=0, description="a worker that commits no offset for so long, with lag and no outage, ends itself"
    )

    feed: str = Field("sample", description="a JSONL, CSV or Parquet file, or 'sample' for the bundled feed")
    speed: float = Field(3600.0, gt=0, description="event seconds played per second")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("kafka")
    @classmethod
    def _check_kafka(cls, addresses: str | None) -> str | None:
        """Clients of Kafka answer a port that is no number with a traceback."""
        for address in addresses.split(",") if addresses else ():
            found = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+)(?::([0-9]{1,5}))?", address.strip())
            if not found or int(found[1] or 0) > 65535:
                raise ValueError("expected host:port, or several by commas, e.g. kafka.example.com:9092")
        return addresses

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, addresses: str) -> str:
        """The server would take what is no address for a name, and trust nobody; and `*` for everybody."""
        for address in addresses.split(",") if addresses else ():
            try:
                ipaddress.ip_network(address.strip())
            except ValueError as error:
                said = f"{error}; expected addresses or networks by commas, e.g. 127.0.0.1,10.0.0.0/8"
                raise ValueError(said) from None
        return addresses


def load_settings(overrides: Mapping[str, Any] | None = None) -> Settings:
    """The settings, with the given values (None: not given) over those of the environment.

    Raises:
        SettingsError: one line that names each bad setting, where it came from and what was wrong.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError(_explain(error, given)) from None


def _explain(error: ValidationError, given: Mapping[str, Any]) -> str:
    problems = []
    for item in error.errors(include_url=False):
        name = str(item["loc"][0]) if item["loc"] else "settings"
        source = f"--{name.replace('_', '-')}" if name in given else f"CROSSWIND_{name.upper()}"
        problems.append(f"{source}: {item['msg']}")
    return "; ".join(problems)
