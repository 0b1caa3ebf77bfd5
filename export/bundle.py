"""The bundle: a folder with `model.onnx`, `tokenizer.json` and `manifest.json`. Read without torch or transformers.

A bundle is closed: its manifest names every file with its SHA-256, nothing else may lie in the folder, nothing is a
link, and the version is a digest over the contents, so the same version is always the same model. Who made it is told
by an optional Ed25519 signature (`signing.py`), which is no part of the version.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from crosswind.errors import BundleError
from crosswind.export.wire import external_tensors, opset
from crosswind.structs import known

FORMAT = 1
MODEL, TOKENIZER, MANIFEST = "model.onnx", "tokenizer.json", "manifest.json"
SHIPPED = Path(__file__).parent.parent / "models" / "bundle"


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """One output of the model: logits over `labels`, divided by `temperature` before the softmax."""

    name: str
    labels: tuple[str, ...]
    temperature: float = 1.0


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """Ed25519 over `signed_bytes`: public key and signature, base64."""

    key: str
    value: str


@known
class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=False):
    """What a bundle says of itself.

    Attributes:
        version: first 16 hex digits of the SHA-256 over the manifest without `version` and `signature`, file digests
            included.
        unsure_below: a sentiment whose probability is lower counts as neutral, unsure.
        max_tokens: longer texts are cut.
        data: what shaped the weights: name, licence, rows of each source.
        smoke: sentences with the labels that the model gave when the bundle was made.
        files: name -> SHA-256 of each file but the manifest.
        vocabulary: rows of the word embedding, 0 where unknown; the tokenizer has no more entries.
        together: texts of one length that may share a run on the CPU, because it was measured at the export that their
            scores stay the same bit by bit.
    """

    format: int
    name: str
    version: str
    base: str
    languages: tuple[str, ...]
    heads: tuple[Head, ...]
    unsure_below: float
    max_tokens: int
    precision: str
    opset: int
    data: tuple[dict[str, Any], ...]
    licence: str
    metrics: dict[str, Any]
    smoke: tuple[dict[str, str], ...]
    files: dict[str, str]
    command: str
    vocabulary: int = 0
    together: int = 1
    signature: Signature | None = None

    def head(self, name: str) -> Head:
        """The head of that name.

        Raises:
            BundleError: there is none.
        """
        for head in self.heads:
            if head.name == name:
                return head
        raise BundleError(f"bundle {self.name} has no head {name!r}; it has {[head.name for head in self.heads]}")


def resolve(model: str) -> Path:
    """The folder of a bundle named on a command line: a path, or `default` for the shipped one."""
    return SHIPPED if model == "default" else Path(model)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a bundle, its files not yet checked.

    Raises:
        BundleError: the folder or manifest is missing, malformed or of a newer format.
    """
    path = folder / MANIFEST
    try:
        raw = path.read_bytes()
    except OSError:
        raise BundleError(f"{folder} is not a bundle: no readable {MANIFEST} in it") from None
    try:
        version = msgspec.json.decode(raw).get("format")
        if version != FORMAT:
            raise BundleError(
                f"{path} has format {version}; this Crosswind reads format {FORMAT}: upgrade it or re-export"
            )
        return msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, AttributeError) as error:
        raise BundleError(f"{path} is not a bundle manifest: {error}") from None


def verify(folder: Path, trusted: str | None = None) -> Manifest:
    """Checks a bundle against its manifest: files, digests, version, opset, no links, nothing besides.

    Args:
        trusted: a public key, or its file; a bundle that is not signed by it is refused.

    Raises:
        BundleError: naming what was found and what was expected.
    """
    manifest = read_manifest(folder)
    expected = {MANIFEST, *manifest.files}
    for required in (MODEL, TOKENIZER):
        if required not in manifest.files:
            raise BundleError(f"{folder}: the manifest does not list {required}")
    found = {path.name for path in folder.iterdir()}
    if found != expected:
        raise BundleError(f"{folder} holds {sorted(found)}; its manifest lists {sorted(expected)}")
    for name, digest in sorted(manifest.files.items()):
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.parent != folder:
            raise BundleError(f"{path} is not a plain file inside the bundle")
        actual = sha256(path)
        if actual != digest:
            raise BundleError(f"{path} has SHA-256 {actual[:16]}…, its manifest says {digest[:16]}…: it was altered")
    _check_graph(folder / MODEL, manifest.opset)
    _check_vocabulary(folder / TOKENIZER, manifest.vocabulary)
    version = version_of(msgspec.to_builtins(manifest))
    if version != manifest.version:
        raise BundleError(f"{folder}: the manifest says version {manifest.version}, its contents give {version}")
    if trusted:
        from crosswind.export.signing import check_signature  # here, because only who signs needs `cryptography`

        check_signature(folder, manifest, trusted)
    return manifest


def _check_graph(path: Path, promised: int) -> None:
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise BundleError(f"{path} is not an ONNX graph: it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as raw:
            try:
                outside, wanted = external_tensors(raw), opset(raw)
            except BundleError as error:
                raise BundleError(f"{path} is not an ONNX graph: {error}") from None
    if outside:
        raise BundleError(f"{path} keeps data outside itself ({', '.join(outside[:3])}); a bundle's graph must not")
    if wanted != promised:
        raise BundleError(f"{path} is for opset {wanted}, its manifest says {promised}: export it again")


def _check_vocabulary(path: Path, rows: int) -> None:
    """A tokenizer with more entries than the embedding has rows belongs to another model, and would end in a crash."""
    if not rows:
        return
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_TokenizerFile)
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} is not a tokenizer: {error}") from None
    entries = max([len(file.model.vocab), *(token.id + 1 for token in file.added_tokens)])
    if entries > rows:
        raise BundleError(
            f"{path}: the tokenizer has {entries:,} entries, the model's embedding {rows:,} rows: "
            "it is another model's tokenizer"
        )


class _Token(msgspec.Struct):
    id: int


class _Model(msgspec.Struct):
    vocab: list[Any] | dict[str, int]


@known
class _TokenizerFile(msgspec.Struct):
    model: _Model
    added_tokens: list[_Token] = []


def version_of(manifest: Mapping[str, Any]) -> str:
    """The content-addressed version of a manifest (a mapping), whatever its own `version` says."""
    return hashlib.sha256(signed_bytes(manifest)).hexdigest()[:16]


def signed_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Canonical JSON of a manifest without `version` and `signature`: what both are made of."""
    rest = {name: value for name, value in manifest.items() if name not in ("version", "signature")}
    if rest.get("together") == 1:  # bundles of before this field keep their version
        del rest["together"]
    return json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def sha256(path: Path) -> str:
    """Hex digest of a file, read in chunks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seal(folder: Path, manifest: Mapping[str, Any]) -> Manifest:
    """Writes the manifest of a folder that already holds its files: digests and version are filled in here.

    Raises:
        BundleError: the manifest lacks a field, or the folder does not verify afterwards.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    filled = {**manifest, "format": FORMAT, "files": {name: sha256(folder / name) for name in names}, "version": "",
              "signature": None}  # fmt: skip
    try:
        complete = msgspec.to_builtins(msgspec.convert(filled, Manifest))
    except msgspec.ValidationError as error:
        raise BundleError(f"cannot seal {folder}: {error}") from None
    complete["version"] = version_of(complete)
    write_manifest(folder, complete)
    return verify(folder)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Writes `manifest.json` in one step."""
    partial = folder.parent / f".{folder.name}.{MANIFEST}.partial"
    partial.write_text(json.dumps(manifest, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
    partial.replace(folder / MANIFEST)
