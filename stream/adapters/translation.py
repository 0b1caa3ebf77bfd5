"""Translators in service: ONNX Runtime, tokenizers and numpy, nothing else.

The decoder runs piece by piece and remembers its keys and values: the first graph starts them, the second goes on.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from crosswind.errors import BundleError, ModelError, SettingsError
from crosswind.export import translator as files
from crosswind.export.bundle import MANIFEST, TOKENIZER
from crosswind.export.running import open_graph
from crosswind.stream.adapters.translation_search import Search, search

BATCH: Final = 16
"""Texts of one run; more of them only wait for the longest."""
OPEN: Final = 4
"""Pairs in memory at a time: a usual model of 75 million weights takes 0.6 GB."""
SPACE: Final = "▁"


class Marian:
    """One language pair.

    Args:
        folder: a translator that `crosswind translate add` wrote.

    Raises:
        BundleError: it does not verify, or its parts do not fit each other.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self.manifest = files.verify(folder)
        self._pieces = files.read_pieces(folder)
        source, special = self._pieces.source, (self.manifest.pad, self.manifest.end, self.manifest.unknown)
        # a headline that says `</s>` or `>>fra<<` says it to its reader, not to the model
        self._known = {p: i for p, i in source.items() if i not in special and not p.startswith(">>")}
        self._prefix = [source[self.manifest.prefix]] if self.manifest.prefix else []
        self._tokenizer = _load_tokenizer(folder / TOKENIZER)
        self._encoder, self._first, self._later = (open_graph(folder / name, threads) for name in files.GRAPHS)
        given = [output.name for output in self._later.get_outputs()]
        if "logits" not in given or not all(name == "logits" or name.startswith("present.") for name in given):
            raise BundleError(f"{folder / files.DECODER_PAST} gives {given}; expected `logits` and `present.…`")

    def ids(self, text: str) -> list[int]:
        """The model's input for one text, its prefix and end included, cut at `max_tokens`."""
        pieces = self._tokenizer.encode(" ".join(text.split()), add_special_tokens=False).tokens
        ids = [*self._prefix, *(self._known.get(piece, self.manifest.unknown) for piece in pieces)]
        return [*ids[: self.manifest.max_tokens - 1], self.manifest.end]

    def text(self, ids: Sequence[int]) -> str:
        """The words of a translation's ids. What the model does not know is left out."""
        left_out = (self.manifest.unknown, self.manifest.pad, self.manifest.end)
        found = [self._pieces.target[i] for i in ids if i < len(self._pieces.target) and i not in left_out]
        return " ".join("".join(found).replace(SPACE, " ").split())

    def translate(self, texts: Sequence[str], beams: int | None = None) -> list[str]:
        """One translation per text, in order.

        Args:
            beams: 1: greedy; None: as the model's makers say.
        """
        given = [self.ids(text) for text in texts]
        order = sorted(range(len(given)), key=lambda i: len(given[i]))
        found = [""] * len(given)
        for at in range(0, len(order), BATCH):
            chosen = order[at : at + BATCH]
            for i, ids in zip(chosen, self._run([given[i] for i in chosen], beams), strict=True):
                found[i] = self.text(ids)
        return found

    def _run(self, given: Sequence[Sequence[int]], beams: int | None) -> list[list[int]]:
        manifest = self.manifest
        longest = max(len(ids) for ids in given)
        tokens = np.full((len(given), longest), manifest.pad, dtype=np.int64)
        for row, ids in enumerate(given):
            tokens[row, : len(ids)] = ids
        mask = (np.arange(longest)[None, :] < np.array([len(ids) for ids in given])[:, None]).astype(np.int64)
        plan = Search(manifest.start, manifest.end, beams or manifest.beams, manifest.length_penalty, (manifest.pad,))
        limits = [min(manifest.max_tokens, longest_for(ids)) for ids in given]
        hidden = self._encoder.run(None, {"input_ids": tokens, "attention_mask": mask})[0]
        step = _Decoder(self._first, self._later, np.asarray(hidden).repeat(plan.beams, 0), mask.repeat(plan.beams, 0))
        return search(step, limits, plan)


def longest_for(ids: Sequence[int]) -> int:
    """Pieces of a translation at most: one that is three times as long as its source has run away."""
    return 3 * len(ids) + 8


class _Decoder:
    """The decoder's state over one batch: implements `Step`."""

    def __init__(self, first: ort.InferenceSession, later: ort.InferenceSession, hidden: "NDArray[np.float32]",
                 mask: "NDArray[np.int64]") -> None:  # fmt: skip
        self._first, self._later, self._hidden, self._mask = first, later, hidden, mask
        self._past: dict[str, NDArray[Any]] = {}
        self._wanted = {node.name for node in later.get_inputs()}

    def __call__(self, pieces: "NDArray[np.int64]", order: "NDArray[np.int64] | None") -> "NDArray[np.float32]":
        feed: dict[str, NDArray[Any]] = {"input_ids": pieces[:, None], "encoder_attention_mask": self._mask}
        if order is None:
            return self._took(self._first, feed | {"encoder_hidden_states": self._hidden})
        # the encoder's part is the same for all beams of a text, and beams never change their text
        feed |= {name: part if ".encoder." in name else part[order] for name, part in self._past.items()}
        feed |= {"encoder_hidden_states": self._hidden} if "encoder_hidden_states" in self._wanted else {}
        return self._took(self._later, feed)

    def _took(self, session: ort.InferenceSession, feed: "dict[str, NDArray[Any]]") -> "NDArray[np.float32]":
        names = [output.name for output in session.get_outputs()]
        given = dict(zip(names, session.run(names, feed), strict=True))
        logits: NDArray[np.float32] = np.asarray(given.pop("logits"))[:, -1]
        for name, part in given.items():
            past = name.replace("present", "past_key_values", 1)
            if past in self._wanted:
                self._past[past] = np.asarray(part)
        return logits


_State = tuple[tuple[str, int, int, int], ...]
"""Name, inode, size and time of each file of a translator."""


@dataclass(frozen=True, slots=True)
class _Place:
    folder: Path
    version: str
    stamp: tuple[int, ...]
    """Of the manifest: inode, size, time. Another one: the translator was added anew."""


class OnnxTranslator:
    """Implements `Translator` on a folder of translators. A pair is loaded when it is first needed.

    One that is added anew meanwhile is used from then on; pairs that were not there are found at the next start. One
    that is damaged is looked at again when a file of it has changed.

    Raises:
        SettingsError: the folder is not there.
        BundleError: two translators are of one pair, or a manifest cannot be read.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        self._threads, self._lock = threads, threading.Lock()
        self._places = _places(folder)
        self._open: OrderedDict[tuple[str, str], Marian] = OrderedDict()
        self._broken: dict[tuple[str, str], tuple[_State, str]] = {}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of each pair that is there, sorted."""
        return sorted(self._places)

    def version(self, source: str, target: str) -> str | None:
        """See `Translator.version`."""
        place = self._place(source, target)
        return place.version if place else None

    def translate(self, source: str, target: str, texts: Sequence[str]) -> list[str]:
        """See `Translator.translate`."""
        return self._model(source, target).translate(texts)

    def _model(self, source: str, target: str) -> Marian:
        place = self._place(source, target)
        if place is None:
            known = ", ".join(f"{one}-{other}" for one, other in self.pairs) or "none"
            raise ModelError(
                f"no translator from {source} to {target}; there are: {known}. Add one with `crosswind translate add "
                f"{source}-{target} --model HUB_ID_OR_FOLDER`"
            )
        with self._lock:
            model = self._open.pop((source, target), None)
            if model is None or model.manifest.version != place.version:
                model = self._load((source, target), place.folder)
            self._open[source, target] = model
            while len(self._open) > OPEN:
                self._open.popitem(last=False)
            return model

    def _load(self, pair: tuple[str, str], folder: Path) -> Marian:
        """Opens a pair. One that did not verify says so at once: it takes seconds to find that out, at every pulse."""
        state = _state(folder)
        if pair in self._broken and self._broken[pair][0] == state:
            raise BundleError(self._broken[pair][1])
        try:
            model = Marian(folder, self._threads)
        except BundleError as error:
            self._broken[pair] = state, str(error)
            raise
        self._broken.pop(pair, None)
        return model

    def _place(self, source: str, target: str) -> _Place | None:
        place = self._places.get((source, target))
        if place is None:
            return None
        with suppress(OSError, BundleError):  # one that was damaged is told of when it is loaded
            stamp = _stamp(place.folder)
            if stamp != place.stamp:
                place = _Place(place.folder, files.read_manifest(place.folder).version, stamp)
                self._places[source, target] = place
        return place


def _stamp(folder: Path) -> tuple[int, ...]:
    found = (folder / MANIFEST).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _state(folder: Path) -> _State:
    """Changes whenever a file of the translator does."""
    with suppress(OSError):  # a folder that is gone is told of when it is loaded
        found = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
        return tuple((name, one.st_ino, one.st_size, one.st_mtime_ns) for name, one in found)
    return ()


def _places(folder: Path) -> dict[tuple[str, str], _Place]:
    if not folder.is_dir():
        raise SettingsError(f"CROSSWIND_TRANSLATORS: {folder} is not a folder; `crosswind translate add` makes it")
    found: dict[tuple[str, str], _Place] = {}
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if not (path / MANIFEST).is_file():
            continue
        stamp, manifest = _stamp(path), files.read_manifest(path)
        pair = manifest.source, manifest.target
        if pair in found:
            raise BundleError(f"{path} and {found[pair].folder} both translate {manifest.pair}; remove one of them")
        found[pair] = _Place(path, manifest.version, stamp)
    return found


def _load_tokenizer(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path} is not a tokenizer: {error}") from None
