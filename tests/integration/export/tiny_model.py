"""A MODEL_DIR that the tests make: two layers, 48 wide, random weights from a fixed seed, a few dozen words."""

import random
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from crosswind.export.build import run_torch
from crosswind.export.running import encode
from crosswind.export.sources import load_source
from crosswind.models.network import Manifest, Network, save_model
from crosswind.models.rows import Row

WORDS = [f"w{index}" for index in range(60)]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def make_tiny_model(folder: Path) -> Path:
    """Writes it; the heads are wide enough that rounding changes no answer of random weights by chance."""
    torch.manual_seed(0)
    size = len(SPECIAL) + len(WORDS)
    config = BertConfig(vocab_size=size, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
                        intermediate_size=96, max_position_embeddings=128, pad_token_id=1,
                        initializer_range=0.2)  # fmt: skip
    network = Network(BertModel(config, add_pooling_layer=False))
    for head in network.heads.values():
        torch.nn.init.normal_(head.weight, std=1.0)
    save_model(folder, network, _tokenizer(), Manifest(base="made by the tests", max_tokens=64, languages=["en", "de"]))
    return folder


def sentences(count: int, seed: int = 0) -> list[str]:
    """Texts of 3 to 30 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(3, 30))) for _ in range(count)]


def clear_rows(folder: Path) -> list[Row]:
    """Texts on which the random weights have a clear answer: near ties would flip by rounding, and teach nothing."""
    source = load_source(folder)
    texts = sentences(300, seed=2)
    logits = run_torch(source, encode(source.tokenizer, texts, 64)).logits
    gaps = [np.diff(np.sort(values, 1)[:, -2:])[:, 0] / values.std() for values in logits.values()]
    clear = [text for text, gap in zip(texts, np.minimum.reduce(gaps), strict=True) if gap > 0.2]
    assert len(clear) > 50
    return [Row(text=text, lang=("en", "de")[index % 2], source="t", topic="credit", sentiment="negative")
            for index, text in enumerate(clear)]  # fmt: skip


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
                                   unk_token="<unk>")  # fmt: skip
