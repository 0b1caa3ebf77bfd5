"""Secrets of subscribers at rest, and the tokens that end a subscription."""

import base64
import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from crosswind.errors import DataError, SettingsError
from crosswind.settings import Settings
from crosswind.structs import known

FILE = "secret.key"
ROTATION_SECONDS = 24 * 3600.0
"""A replaced signing key still signs for so long, beside the new one."""


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key of the Standard Webhooks form `whsec_…`; `until`: Unix time after which it is not used any more."""

    secret: str
    until: float | None = None


@known
@dataclass(frozen=True, slots=True)
class Sealed:
    """What is kept encrypted for one subscription."""

    target: str
    keys: tuple[Key, ...] = ()


class Vault:
    """Seals and opens with Fernet; the first key seals, every key opens.

    Raises:
        SettingsError: a key is not a Fernet key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise SettingsError(
                "CROSSWIND_SEAL_KEY: expected Fernet keys, 32 bytes in URL-safe base64, with commas between; "
                "make one by: python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'"
            ) from None
        self._token_keys = [hashlib.sha256(b"unsubscribe|" + key.encode()).digest() for key in keys]

    def seal(self, content: Sealed) -> str:
        """Encrypted text for the database."""
        return self._fernet.encrypt(msgspec.json.encode(content)).decode()

    def open(self, sealed: str) -> Sealed:
        """The content again.

        Raises:
            DataError: it was sealed with a key that is not among ours.
        """
        try:
            return msgspec.json.decode(self._fernet.decrypt(sealed.encode()), type=Sealed)
        except (InvalidToken, msgspec.MsgspecError):
            raise DataError(
                "a subscription's secrets cannot be opened; put the key they were sealed with into "
                "CROSSWIND_SEAL_KEY, behind the present one"
            ) from None

    def token(self, subscription_id: str) -> str:
        """A word for links that ends this subscription, and does nothing else."""
        return f"{subscription_id}.{_mac(self._token_keys[0], subscription_id)}"

    def subscription_of(self, token: str) -> str | None:
        """The subscription that a token ends; None when it is not one of ours."""
        subscription_id, _, mac = token.partition(".")
        given = mac.encode()
        good = [hmac.compare_digest(_mac(key, subscription_id).encode(), given) for key in self._token_keys]
        return subscription_id if any(good) else None


def _mac(key: bytes, word: str) -> str:
    return base64.urlsafe_b64encode(hmac.digest(key, word.encode(), "sha256")[:24]).decode()


def new_key() -> Key:
    """A fresh signing key of 32 bytes."""
    return Key("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())


def rotated(content: Sealed, now: float) -> Sealed:
    """With a new signing key in front; the one before it signs for `ROTATION_SECONDS` more, older ones no longer."""
    old = tuple(Key(key.secret, now + ROTATION_SECONDS) for key in content.keys[:1])
    return Sealed(content.target, (new_key(), *old))


def open_vault(settings: Settings) -> Vault:
    """The vault of the settings' keys, or of a key file in the data folder that is made when it is first needed.

    Raises:
        SettingsError: a key is not a Fernet key, or the file cannot be written.
    """
    if settings.seal_key:
        return Vault([key.strip() for key in settings.seal_key.get_secret_value().split(",")])
    path = settings.data_dir / FILE
    try:
        return Vault([_key_file(path)])
    except OSError as error:
        raise SettingsError(f"cannot keep a key in {path} ({error.strerror}); set CROSSWIND_SEAL_KEY") from None


def _key_file(path: Path) -> str:
    """The file's key. Two processes may make it at the same time: the first link wins, whole."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{FILE}.{os.getpid()}.{secrets.token_hex(4)}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(Fernet.generate_key())
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_text("ascii").strip()
