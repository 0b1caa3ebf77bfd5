"""Who made a bundle: an Ed25519 signature (RFC 8032) in its manifest. Needs `cryptography`."""

import base64
import binascii
import os
from pathlib import Path

import msgspec

from crosswind.errors import BundleError, SettingsError
from crosswind.export.bundle import Manifest, Signature, signed_bytes, verify, write_manifest

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
except ModuleNotFoundError:
    raise SettingsError("signatures need the package cryptography: pip install cryptography") from None

_CONTEXT = b"crosswind bundle, format 1\n"
"""Before what is signed, so that a signature made for something else never counts here."""


def keygen(path: Path) -> str:
    """Makes a key pair: the private one in `path` (PEM, mode 0600), the public one, which is returned, in `path.pub`.

    Raises:
        SettingsError: a file is there already, or cannot be written; then neither is made.
    """
    private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = _public_text(private.public_key())
    beside, made = path.with_name(f"{path.name}.pub"), []
    try:
        for file, mode, content in ((path, 0o600, pem), (beside, 0o666, f"{public}\n".encode())):
            with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as opened:
                made.append(file)
                opened.write(content)
    except OSError as error:
        for file in made:
            file.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise SettingsError(f"{error.filename} exists; it will not be overwritten: choose another file") from None
        raise SettingsError(f"cannot write {path}: {error.strerror}") from None
    return public


def sign(folder: Path, key: Path) -> Manifest:
    """Signs a bundle in place; its version stays what it is.

    Raises:
        BundleError: the bundle does not verify.
        SettingsError: the key cannot be read.
    """
    manifest = verify(folder)
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{key} is no private key of `crosswind bundle keygen`: {error}") from None
    if not isinstance(private, Ed25519PrivateKey):
        raise SettingsError(f"{key} is no Ed25519 key: make one with `crosswind bundle keygen`")
    content = msgspec.to_builtins(manifest)
    value = base64.b64encode(private.sign(_CONTEXT + signed_bytes(content))).decode()
    content["signature"] = msgspec.to_builtins(Signature(key=_public_text(private.public_key()), value=value))
    write_manifest(folder, content)
    return verify(folder)


def check_signature(folder: Path, manifest: Manifest, trusted: str) -> None:
    """Checks that a bundle was signed by the trusted key.

    Args:
        trusted: the public key, base64, or a file with it.

    Raises:
        BundleError: it is not signed, or by another key, or was changed since.
        SettingsError: the trusted key cannot be read.
    """
    key = _trusted(trusted)
    if manifest.signature is None:
        raise BundleError(f"{folder} is not signed, and a trusted key is set: sign it with `crosswind bundle sign`")
    if manifest.signature.key != _public_text(key):
        raise BundleError(f"{folder} is signed by {manifest.signature.key}; trusted is {_public_text(key)}")
    try:
        signature = base64.b64decode(manifest.signature.value, validate=True)
        key.verify(signature, _CONTEXT + signed_bytes(msgspec.to_builtins(manifest)))
    except (InvalidSignature, binascii.Error):
        raise BundleError(f"{folder}: the signature does not fit the manifest: it was altered") from None


def _trusted(text: str) -> Ed25519PublicKey:
    try:
        content = Path(text).read_text("ascii") if Path(text).is_file() else text
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(content.strip(), validate=True))
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"CROSSWIND_TRUSTED_KEY is neither a public key (base64, 32 bytes) nor a file with one: {error}"
        ) from None


def _public_text(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()
