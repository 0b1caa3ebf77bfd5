"""Vocabulary trimming: keep the pieces that the covered languages use, and the tokenisation of everything they use.

A Unigram tokenizer picks the best-scoring split of a text. If every piece of that split stays, it stays the best of the
splits that are left: trimming cannot change the tokens of a text whose pieces were counted.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from crosswind.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

CHUNK: Final = 4096


@dataclass(frozen=True)
class Trimmed:
    """A trimmed tokenizer as the text of its `tokenizer.json`, and the old id of each new one, ascending."""

    tokenizer_json: str
    kept: list[int]


def count_pieces(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str]) -> Counter[int]:
    """How often each id occurs when `texts` are tokenised."""
    counts: Counter[int] = Counter()
    for chunk in _chunks(texts):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(chunk, add_special_tokens=False):
            counts.update(encoding.ids)
    return counts


def unknown_rate(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str]) -> float:
    """Share of tokens that are unknown, over all `texts`; 0 for no texts."""
    counts = count_pieces(tokenizer, texts)
    return counts[tokenizer.unk_token_id] / max(1, counts.total())


def shares(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[tuple[str, str]]) -> dict[int, float]:
    """How much each piece is wanted: its share of the tokens of a language, summed over the languages.

    Shares, not counts: a language of which there is little text must not lose its words to one of which there is much.

    Args:
        texts: pairs of a language and a text.
    """
    by_language: dict[str, list[str]] = defaultdict(list)
    for lang, text in texts:
        by_language[lang].append(text)
    wanted: dict[int, float] = defaultdict(float)
    for lang in sorted(by_language):
        counts = count_pieces(tokenizer, by_language[lang])
        for i, n in counts.items():
            wanted[i] += n / counts.total()
    return dict(wanted)


def trim(tokenizer: "PreTrainedTokenizerFast", counts: Mapping[int, float], limit: int) -> Trimmed:
    """Trim a Unigram tokenizer to its special tokens, single characters of the scripts seen, and the pieces seen.

    Args:
        tokenizer: a fast tokenizer over a Unigram model.
        counts: how much each piece is wanted, by id: counts, or shares.
        limit: rows to keep at most. Special tokens and single characters always stay; then come the pieces wanted,
            then, while there is room, the tokenizer's own most frequent ones in the scripts seen.

    Raises:
        ModelError: the tokenizer's model is not Unigram.
    """
    spec: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    if spec["model"]["type"] != "Unigram":
        raise ModelError(f"only Unigram vocabularies can be trimmed, this one is {spec['model']['type']}")
    vocabulary: list[tuple[str, float]] = spec["model"]["vocab"]
    always = {t["id"] for t in spec["added_tokens"]} | {spec["model"]["unk_id"]}
    blocks = {ord(c) >> 7 for i in counts for c in vocabulary[i][0]}
    always |= {i for i, (piece, _) in enumerate(vocabulary) if _single(piece, blocks)}
    reachable = (i for i, (piece, _) in enumerate(vocabulary)
                 if i not in always and (i in counts or all(ord(c) >> 7 in blocks for c in piece)))  # fmt: skip
    ranked = sorted(reachable, key=lambda i: (-counts.get(i, 0.0), -vocabulary[i][1], i))
    kept = sorted(always | set(ranked[: max(0, limit - len(always))]))
    return Trimmed(json.dumps(_remap(spec, kept), ensure_ascii=False), kept)


def trim_embeddings(model: "PreTrainedModel", kept: Sequence[int]) -> None:
    """Keep only the rows `kept` of a model's input embeddings, in place; its config follows."""
    import torch

    old: torch.Tensor = cast(Any, model.get_input_embeddings()).weight.data
    padding = model.config.pad_token_id
    new = torch.nn.Embedding(len(kept), old.shape[1], padding_idx=kept.index(padding) if padding in kept else None)
    new.weight.data = old[torch.tensor(kept)].clone()
    model.set_input_embeddings(new)
    model.config.vocab_size = len(kept)
    if padding in kept:
        model.config.pad_token_id = kept.index(padding)


def _single(piece: str, blocks: set[int]) -> bool:
    """One character (with or without the space mark) of a block of 128 code points that was seen."""
    bare = piece.removeprefix("▁") or piece
    return len(bare) == 1 and ord(bare) >> 7 in blocks


def _remap(spec: dict[str, Any], kept: list[int]) -> dict[str, Any]:
    new = {old: i for i, old in enumerate(kept)}
    spec["model"]["vocab"] = [spec["model"]["vocab"][i] for i in kept]
    spec["model"]["unk_id"] = new[spec["model"]["unk_id"]]
    for token in spec["added_tokens"]:
        token["id"] = new[token["id"]]
    processor = spec.get("post_processor") or {}
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new[i] for i in token["ids"]]
    for name in ("cls", "sep"):
        if isinstance(processor.get(name), list):
            processor[name][1] = new[processor[name][1]]
    return spec


def _chunks(texts: Iterable[str]) -> Iterable[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
