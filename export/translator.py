"""A translator on disk: a folder with three graphs, tokenizer and pieces of one language pair, sealed by a manifest.

Read without torch, transformers or sentencepiece. Like a bundle it is closed: the manifest names every file with its
SHA-256, nothing else may lie in the folder, nothing is a link, no graph keeps data outside itself.
"""

import hashlib
import json
import mmap
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from crosswind.errors import BundleError
from crosswind.export.bundle import MANIFEST, TOKENIZER, sha256
from crosswind.export.wire import external_tensors
from crosswind.structs import known

FORMAT: Final = 1
ENCODER, DECODER, DECODER_PAST, PIECES = "encoder.onnx", "decoder.onnx", "decoder_past.onnx", "pieces.json"
GRAPHS: Final = (ENCODER, DECODER, DECODER_PAST)
_PAIR: Final = re.compile(r"([a-z]{2,3})-([a-z]{2,3})")


@known
class TranslatorManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a translator says of itself.

    Attributes:
        version: first 16 hex digits of the SHA-256 over the manifest without it.
        prefix: a piece put before every text, as in `>>fra<<`, where the model has several targets; else empty.
        max_tokens: longer texts are cut, and no translation is longer.
        start: id that a translation begins with; not part of it.
        files: name -> SHA-256 of each file but the manifest.
    """

    format: int
    kind: str
    version: str
    source: str
    target: str
    base: str
    licence: str
    prefix: str
    max_tokens: int
    pad: int
    end: int
    unknown: int
    start: int
    beams: int
    length_penalty: float
    files: dict[str, str]

    @property
    def pair(self) -> str:
        """Its languages, as in `de-en`."""
        return f"{self.source}-{self.target}"


@known
class Pieces(msgspec.Struct, frozen=True):
    """The model's ids: `source` piece -> id, `target` the pieces in the order of their ids."""

    source: dict[str, int]
    target: list[str]


def languages_of(pair: str) -> tuple[str, str]:
    """Source and target of a pair as people write it.

    >>> languages_of("de-en")
    ('de', 'en')

    Raises:
        BundleError: it is not two language codes.
    """
    found = _PAIR.fullmatch(pair)
    if not found or found[1] == found[2]:
        raise BundleError(f"{pair!r} is not a pair of two languages; expected something like de-en")
    return found[1], found[2]


def read_manifest(folder: Path) -> TranslatorManifest:
    """The manifest, the files not yet checked.

    Raises:
        BundleError: it is missing, malformed, of another format, or no translator's.
    """
    path = folder / MANIFEST
    try:
        found = msgspec.json.decode(path.read_bytes(), type=TranslatorManifest)
    except OSError:
        raise BundleError(f"{folder} is not a translator: no readable {MANIFEST} in it") from None
    except msgspec.DecodeError as error:
        raise BundleError(f"{path} is not a translator's manifest: {error}") from None
    if found.kind != "translator" or found.format != FORMAT:
        raise BundleError(f"{path} is a {found.kind} of format {found.format}; expected a translator of {FORMAT}: "
                          "make it again with `crosswind translate add`")  # fmt: skip
    return found


def verify(folder: Path) -> TranslatorManifest:
    """Checks a translator against its manifest.

    Raises:
        BundleError: naming what was found and what was expected.
    """
    manifest = read_manifest(folder)
    expected, found = {MANIFEST, *manifest.files}, {path.name for path in folder.iterdir()}
    if found != expected or not {*GRAPHS, TOKENIZER, PIECES} <= found:
        raise BundleError(f"{folder} holds {sorted(found)}; its manifest lists {sorted(expected)}")
    for name, digest in sorted(manifest.files.items()):
        path = folder / name
        if path.parent != folder or path.is_symlink() or not path.is_file():
            raise BundleError(f"{path} is not a plain file inside the translator")
        if sha256(path) != digest:
            raise BundleError(f"{path} does not have the SHA-256 that its manifest names: it was altered")
    for name in GRAPHS:
        _check_closed(folder / name)
    version = version_of(msgspec.to_builtins(manifest))
    if version != manifest.version:
        raise BundleError(f"{folder}: the manifest says version {manifest.version}, its contents give {version}")
    return manifest


def _check_closed(path: Path) -> None:
    if not path.stat().st_size:
        raise BundleError(f"{path} is not an ONNX graph: it is empty")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as raw,
    ):
        outside = external_tensors(raw)
    if outside:
        raise BundleError(f"{path} keeps data outside itself ({', '.join(outside[:3])}); a translator must not")


def read_pieces(folder: Path) -> Pieces:
    """The ids of a translator.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        return msgspec.json.decode((folder / PIECES).read_bytes(), type=Pieces)
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(f"{folder / PIECES} cannot be read: {error}") from None


def version_of(manifest: Mapping[str, Any]) -> str:
    """The content-addressed version of a manifest, whatever its own `version` says."""
    rest = {name: value for name, value in manifest.items() if name != "version"}
    canonical = json.dumps(rest, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def seal(folder: Path, manifest: Mapping[str, Any]) -> TranslatorManifest:
    """Writes the manifest of a folder that holds its files: format, digests and version are filled in here.

    Raises:
        BundleError: the manifest lacks a field, or the folder does not verify afterwards.
    """
    names = sorted(path.name for path in folder.iterdir() if path.name != MANIFEST)
    digests = {name: sha256(folder / name) for name in names}
    filled = {**manifest, "format": FORMAT, "kind": "translator", "files": digests, "version": ""}
    try:
        complete = msgspec.to_builtins(msgspec.convert(filled, TranslatorManifest))
    except msgspec.ValidationError as error:
        raise BundleError(f"cannot seal {folder}: {error}") from None
    complete["version"] = version_of(complete)
    content = json.dumps(complete, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    (folder / MANIFEST).write_text(content, "utf-8")
    return verify(folder)
