"""Looks into bundles: check, describe, compare. Needs neither torch nor `onnx`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from crosswind.errors import BundleError
from crosswind.export.bundle import MODEL, TOKENIZER, Head, Manifest, verify
from crosswind.export.parity import answers, compare
from crosswind.export.running import Floats, encode, run_graph
from crosswind.models.rows import Row


def check(folder: Path, trusted: str | None = None) -> Manifest:
    """Verifies a bundle, and that it still gives the answers it was sealed with.

    Args:
        trusted: see `bundle.verify`.

    Raises:
        BundleError: naming the file, output or sentence that is not as it should be.
    """
    manifest = verify(folder, trusted)
    texts = [sentence["text"] for sentence in manifest.smoke] or ["-"]  # the graph is run in any case
    logits = _logits(folder, manifest, texts)
    for head in manifest.heads:
        found = answers(logits[head.name], head, _unsure(manifest, head))
        for sentence, answer in zip(manifest.smoke, found.tolist(), strict=False):
            expected, given = sentence.get(head.name), head.labels[answer]
            if expected is not None and expected != given:
                raise BundleError(
                    f"{folder} gives {head.name} {given!r} for a smoke sentence, it was sealed with {expected!r}: "
                    f"this processor or ONNX Runtime computes otherwise; export it again here (sentence: "
                    f"{manifest.smoke.index(sentence) + 1} of {len(manifest.smoke)})"
                )
    return manifest


def describe(manifest: Manifest) -> dict[str, Any]:
    """The manifest for reading: as it is, the files' digests shortened."""
    described: dict[str, Any] = msgspec.to_builtins(manifest)
    described["files"] = {name: digest[:16] for name, digest in manifest.files.items()}
    return described


def diff(one: Path, other: Path, rows: Sequence[Row] = ()) -> dict[str, Any]:
    """What differs: `fields` (name -> before, after), and `answers` per language and head where texts are given.

    Each bundle answers by its own threshold and temperatures; labels are compared by name. `not_compared`: the heads
    that one of the two has not, or has with other labels (head, before, after; null: no such head).

    Raises:
        BundleError: a bundle does not verify.
    """
    before, after = verify(one), verify(other)
    old, new = describe(before), describe(after)
    fields = {key: (old[key], new[key]) for key in old if old[key] != new[key]}
    compared, apart = (_compared(one, before, other, after, rows), _apart(before, after)) if rows else ([], [])
    return {"fields": fields, "answers": compared, "not_compared": apart}


def _compared(one: Path, before: Manifest, other: Path, after: Manifest, rows: Sequence[Row]) -> list[dict[str, Any]]:
    texts = [row.text for row in rows]
    old, new = _logits(one, before, texts), _logits(other, after, texts)
    theirs, found = {head.name: head for head in after.heads}, []
    for head in before.heads:
        their = theirs.get(head.name)
        if their and _same_labels(head, their):
            columns = new[head.name][:, [their.labels.index(label) for label in head.labels]]
            judged = msgspec.structs.replace(their, labels=head.labels), _unsure(after, their)
            found += compare(rows, head, old[head.name], columns, _unsure(before, head), judged)
    return [comparison.to_json() for comparison in found]


def _apart(before: Manifest, after: Manifest) -> list[dict[str, Any]]:
    ours, theirs = ({head.name: head for head in manifest.heads} for manifest in (before, after))
    pairs = [(name, ours.get(name), theirs.get(name)) for name in {**ours, **theirs}]
    return [
        {"head": name, "before": one.labels if one else None, "after": other.labels if other else None}
        for name, one, other in pairs
        if not (one and other and _same_labels(one, other))
    ]


def _same_labels(one: Head, other: Head) -> bool:
    return sorted(one.labels) == sorted(other.labels)


def _logits(folder: Path, manifest: Manifest, texts: Sequence[str]) -> dict[str, Floats]:
    ids = encode(folder / TOKENIZER, texts, manifest.max_tokens)
    return run_graph(folder / MODEL, ids, manifest.heads).logits


def _unsure(manifest: Manifest, head: Head) -> float:
    return manifest.unsure_below if head.name == "sentiment" else 0.0
