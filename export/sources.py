"""What can be exported: our MODEL_DIR, or any transformers sequence classifier. Needs torch (extra `[train]`)."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from crosswind.errors import ModelError
from crosswind.export.bundle import TOKENIZER, Head
from crosswind.models.encoder import mean_pool
from crosswind.models.network import Network, load_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel

EMBEDDING = "embedding"
SMALLEST_SHARE = 0.9
"""A tokenizer with fewer entries than this share of the embedding's rows is another model's. Not 1: published encoders
pad the rows (multilingual-e5: 250,037 rows, 250,002 entries)."""


class Exportable(nn.Module):
    """What goes into the graph: logits per head, and the pooled embedding that stories are built on."""

    config: Any

    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order; the last one is the embedding."""
        raise NotImplementedError


class Ours(Exportable):
    """A `Network`: encoder, mean pooling, linear heads."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        self.config = network.encoder.config

    def outputs(self) -> tuple[str, ...]:
        """See `Exportable.outputs`."""
        return (*(task.name for task in self.network.tasks), EMBEDDING)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """int64 [batch, length] each to float32 [batch, labels] per head and [batch, width]."""
        hidden = self.network.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        pooled = mean_pool(hidden, attention_mask)
        return {**self.network.classify(pooled), EMBEDDING: pooled}


class Foreign(Exportable):
    """Any sequence classifier: one head under the name it is given."""

    def __init__(self, model: "PreTrainedModel", head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.config = model.config

    def outputs(self) -> tuple[str, ...]:
        """See `Exportable.outputs`."""
        return (self.head, EMBEDDING)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """int64 [batch, length] each to float32 [batch, labels] and [batch, width]."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, output_hidden_states=True)
        return {self.head: found.logits, EMBEDDING: mean_pool(found.hidden_states[-1], attention_mask)}


@dataclass(frozen=True)
class Source:
    """A model that is ready to be exported.

    Attributes:
        module: in evaluation mode, or the exporter would leave dropout in the graph (seen: logits off by 0.05–0.22).
        tokenizer: the fast tokenizer's file.
        rows: rows of the word embedding.
    """

    module: Exportable
    tokenizer: Path
    heads: tuple[Head, ...]
    base: str
    max_tokens: int
    rows: int
    unsure_below: float = 0.0
    languages: tuple[str, ...] = ()
    data: tuple[dict[str, Any], ...] = ()
    metrics: dict[str, Any] = field(default_factory=dict)


def load_source(folder: Path, head: str = "sentiment") -> Source:
    """Reads what is to be exported and checks that its parts belong together.

    Args:
        head: the name of the one head of a foreign sequence classifier; ours name their own.

    Raises:
        ModelError: a part is missing, or tokenizer, labels and weights do not fit each other.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder: give the one that `crosswind train` wrote")
    if not (folder / TOKENIZER).is_file():
        raise ModelError(f"{folder} has no {TOKENIZER}: serving needs a fast tokenizer")
    source = _load_ours(folder) if (folder / "crosswind.json").is_file() else _load_foreign(folder, head)
    source.module.eval()
    _check_tokenizer(source)
    return source


def _load_ours(folder: Path) -> Source:
    network, _, manifest = load_model(folder)
    if manifest.prefix:
        raise ModelError(f"{folder} wants the prefix {manifest.prefix!r} before each text; serving puts none")
    if manifest.pooling != "mean":
        raise ModelError(f"{folder} pools by {manifest.pooling!r}; export knows 'mean'")
    return Source(
        module=Ours(network),
        tokenizer=folder / TOKENIZER,
        heads=tuple(Head(name=t.name, labels=t.labels, temperature=float(manifest.temperature.get(t.name, 1.0)))
                    for t in manifest.tasks),
        base=manifest.base,
        max_tokens=manifest.max_tokens,
        rows=_rows(network.encoder),
        unsure_below=float(manifest.unsure_below.get("sentiment", 0.0)),
        languages=tuple(manifest.languages),
        data=tuple(manifest.data),
        metrics=manifest.metrics,
    )  # fmt: skip


def _load_foreign(folder: Path, head: str) -> Source:
    from transformers import AutoModelForSequenceClassification

    try:
        model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} has no crosswind.json and is no sequence classifier: {error}") from error
    labels = tuple(str(model.config.id2label[index]).lower() for index in range(model.config.num_labels))
    longest = int(getattr(model.config, "max_position_embeddings", 128))
    return Source(
        module=Foreign(model, head),
        tokenizer=folder / TOKENIZER,
        heads=(Head(name=head, labels=labels),),
        base=folder.name,
        max_tokens=min(96, longest),
        rows=_rows(model),
    )


def _rows(model: "PreTrainedModel") -> int:
    embedding: Any = model.get_input_embeddings()
    return int(embedding.weight.shape[0])


def _check_tokenizer(source: Source) -> None:
    try:
        tokenizer = Tokenizer.from_file(str(source.tokenizer))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{source.tokenizer} is not a tokenizer: {error}") from None
    entries = tokenizer.get_vocab_size(with_added_tokens=True)
    if not SMALLEST_SHARE * source.rows <= entries <= source.rows:
        raise ModelError(
            f"{source.tokenizer} has {entries:,} entries, the model's embedding {source.rows:,} rows: "
            "it is another model's tokenizer; put the right one there"
        )
