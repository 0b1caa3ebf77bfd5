"""One mean-pooled encoder with a linear head per task, its loss, and the MODEL_DIR on disk (see README.md)."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crosswind.errors import ModelError
from crosswind.models.encoder import layers_of, load_base, mean_pool, run_layers
from crosswind.models.taxonomy import SENTIMENTS, TOPICS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

IGNORE: Final = -100
FORMAT: Final = 1


@dataclass(frozen=True)
class Task:
    """A head: its name (a field of `Row`), its labels in output order, its loss and that loss's share."""

    name: str
    labels: tuple[str, ...]
    loss: Literal["cross_entropy"] = "cross_entropy"
    weight: float = 1.0
    smoothing: float = 0.05


DEFAULT_TASKS: Final = (Task("topic", TOPICS), Task("sentiment", SENTIMENTS))


@dataclass
class Manifest:
    """What `crosswind.json` says beside the weights: how to run them, and where they come from."""

    base: str
    tasks: tuple[Task, ...] = DEFAULT_TASKS
    max_tokens: int = 96
    prefix: str = ""
    pooling: str = "mean"
    temperature: dict[str, float] = field(default_factory=dict)
    unsure_below: dict[str, float] = field(default_factory=dict)
    languages: list[str] = field(default_factory=list)
    data: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    command: str = ""
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The file's content."""
        raw = {k: v for k, v in vars(self).items() if k != "tasks"}
        heads = [{"name": t.name, "labels": list(t.labels), "loss": t.loss} for t in self.tasks]
        return {"format": self.format, "heads": heads, **raw}

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Manifest":
        """Read the file's content.

        Raises:
            ModelError: another format, or a part is missing.
        """
        if raw.get("format") != FORMAT:
            raise ModelError(f"crosswind.json: format {raw.get('format')!r}, this version reads {FORMAT}")
        try:
            tasks = tuple(Task(h["name"], tuple(h["labels"]), h["loss"]) for h in raw["heads"])
            return cls(tasks=tasks, **{k: v for k, v in raw.items() if k != "heads"})
        except (KeyError, TypeError) as error:
            raise ModelError(f"crosswind.json: {error!r}") from error


class Network(nn.Module):
    """Encoder, mean pooling, dropout, one linear head per task."""

    def __init__(self, encoder: "PreTrainedModel", tasks: Sequence[Task] = DEFAULT_TASKS, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.tasks = tuple(tasks)
        self.dropout = nn.Dropout(dropout)
        width = encoder.config.hidden_size
        self.heads = nn.ModuleDict({t.name: nn.Linear(width, len(t.labels)) for t in self.tasks})

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Token ids and mask, [batch, tokens] each, to logits [batch, labels] per task."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return self.classify(mean_pool(hidden, attention_mask))

    def pool_from(self, hidden: Tensor, mask: Tensor, start: int) -> Tensor:
        """The pooled vector [batch, width] from the output of layer `start` - 1, [batch, tokens, width]."""
        return mean_pool(run_layers(self.encoder, hidden, mask, start), mask)

    def pools_from(self, hidden: Tensor, mask: Tensor, start: int, depths: Iterable[int] = ()) -> dict[int, Tensor]:
        """Depth -> `pool_from` of the so many lowest layers, each above `start`; all layers are always among them."""
        found: dict[int, Tensor] = {}
        for depth in sorted({*depths, len(layers_of(self.encoder))}):
            hidden, start = run_layers(self.encoder, hidden, mask, start, depth), depth
            found[depth] = mean_pool(hidden, mask)
        return found

    def classify(self, pooled: Tensor) -> dict[str, Tensor]:
        """Pooled vectors [batch, width] to logits [batch, labels] per task."""
        dropped = self.dropout(pooled)
        return {name: head(dropped) for name, head in self.heads.items()}


def masked_loss(
    logits: Mapping[str, Tensor],
    targets: Mapping[str, Tensor],
    weights: Tensor,
    tasks: Sequence[Task],
    class_weights: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Cross-entropy summed over the tasks, per row of the batch; a missing label adds nothing.

    Args:
        logits: [batch, labels] per task.
        targets: int64 [batch] per task, `IGNORE` where unknown.
        weights: float [batch], each row's weight.
        tasks: the heads that count.
        class_weights: [labels] per task, or None for all alike.

    Returns:
        A scalar; 0 with a gradient of zeros where nothing is labelled.
    """
    total = torch.zeros((), dtype=torch.float32, device=weights.device)
    for task in tasks:
        loss = nn.functional.cross_entropy(
            logits[task.name].float(),
            targets[task.name],
            weight=None if class_weights is None else class_weights.get(task.name),
            ignore_index=IGNORE,
            reduction="none",
            label_smoothing=task.smoothing,
        )
        # Divided by all rows, not by the labelled ones: a row's pull must not depend on its neighbours in the batch.
        total = total + task.weight * (loss * weights).sum() / len(weights)
    return total


def save_model(folder: Path, network: Network, tokenizer: "PreTrainedTokenizerFast", manifest: Manifest) -> None:
    """Write a MODEL_DIR; the folder is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    network.encoder.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    heads = {name: tensor.contiguous() for name, tensor in network.heads.state_dict().items()}
    save_file(heads, folder / "heads.safetensors")
    write_manifest(folder, manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `crosswind.json` of a MODEL_DIR; a write that is cut off leaves the former one."""
    content = json.dumps(manifest.to_json(), ensure_ascii=False, indent=2)
    partial = folder / "crosswind.partial"
    partial.write_text(content + "\n", encoding="utf-8")
    os.replace(partial, folder / "crosswind.json")


def read_manifest(folder: Path) -> Manifest:
    """Read `crosswind.json` of a MODEL_DIR.

    Raises:
        ModelError: it is missing or malformed.
    """
    path = folder / "crosswind.json"
    try:
        return Manifest.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: {error}") from error


def load_model(folder: Path) -> "tuple[Network, PreTrainedTokenizerFast, Manifest]":
    """Read a MODEL_DIR.

    Raises:
        ModelError: a file is missing, or the heads do not fit the manifest.
    """
    manifest = read_manifest(folder)
    encoder, tokenizer = load_base(str(folder))
    network = Network(encoder, manifest.tasks)
    try:
        network.heads.load_state_dict(load_file(folder / "heads.safetensors"))
    except (OSError, RuntimeError) as error:
        raise ModelError(f"{folder}: the heads do not fit: {error}") from error
    return network.eval(), tokenizer, manifest
