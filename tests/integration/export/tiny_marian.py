"""A MarianMT model that the tests make: SentencePiece models trained on its sentences, then two layers that learn them.

German headlines and their English, twenty of each; trained on the spot until each is translated right.
"""

import json
from pathlib import Path

import torch
from transformers import MarianConfig, MarianMTModel, MarianTokenizer

SENTENCES = {
    "Der Gewinn steigt deutlich": "Profit rises sharply",
    "Der Gewinn fällt deutlich": "Profit falls sharply",
    "Die Bank streicht Stellen": "The bank cuts jobs",
    "Die Bank schafft neue Stellen": "The bank creates new jobs",
    "Zinsen bleiben unverändert": "Rates remain unchanged",
    "Notenbank senkt die Zinsen": "Central bank lowers rates",
    "Notenbank erhöht die Zinsen": "Central bank raises rates",
    "Der Konzern meldet Insolvenz an": "The group files for insolvency",
    "Der Konzern kauft einen Rivalen": "The group buys a rival",
    "Verlust kleiner als erwartet": "Loss smaller than expected",
    "Verlust größer als erwartet": "Loss larger than expected",
    "Umsatz über den Erwartungen": "Sales above expectations",
    "Umsatz unter den Erwartungen": "Sales below expectations",
    "Der Chef tritt zurück": "The chief executive resigns",
    "Aktie auf Rekordhoch": "Share at a record high",
    "Aktie auf Rekordtief": "Share at a record low",
    "Gericht stoppt die Fusion": "Court stops the merger",
    "Aufseher genehmigen die Fusion": "Regulators approve the merger",
    "Streik legt Werke lahm": "Strike shuts down plants",
    "Streik ist beendet": "The strike is over",
}


def make_tiny_marian(folder: Path, seed: int = 0) -> Path:
    """Writes model and tokenizer as transformers does; takes some seconds.

    Raises:
        AssertionError: it did not learn them all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(folder)
    torch.manual_seed(seed)
    size = len(tokenizer.encoder)
    config = MarianConfig(
        vocab_size=size, d_model=64, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=128, decoder_ffn_dim=128, max_position_embeddings=64, dropout=0.0,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, forced_eos_token_id=None,
        decoder_start_token_id=tokenizer.pad_token_id, activation_function="swish", scale_embedding=True,
        num_beams=4, bad_words_ids=[[tokenizer.pad_token_id]],
    )  # fmt: skip
    model = MarianMTModel(config)
    learn(model, tokenizer)
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
    return folder


def learn(model: MarianMTModel, tokenizer: MarianTokenizer, most: int = 600) -> int:
    """Trains until every sentence is translated right; how many steps that took."""
    sources, targets = list(SENTENCES), list(SENTENCES.values())
    given = tokenizer(sources, text_target=targets, padding=True, return_tensors="pt")
    labels = given.pop("labels")
    labels[labels == tokenizer.pad_token_id] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(1, most + 1):
        model.train()
        optimiser.zero_grad()
        model(**given, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 25 == 0 and translate(model, tokenizer, sources) == targets:
            return step
    raise AssertionError("the tiny model did not learn its sentences")


def translate(model: MarianMTModel, tokenizer: MarianTokenizer, texts: list[str], beams: int = 1) -> list[str]:
    model.eval()
    given = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**given, num_beams=beams, do_sample=False, max_length=60)
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def generate(model: MarianMTModel, tokenizer: MarianTokenizer, text: str, beams: int, longest: int) -> tuple[str, bool]:
    """transformers' translation of one text, and whether it came to its end."""
    with torch.inference_mode():
        given = tokenizer(text, return_tensors="pt")
        ids = model.generate(**given, num_beams=beams, do_sample=False, max_length=longest + 1)[0]
    ended = tokenizer.eos_token_id in ids.tolist()
    return " ".join(tokenizer.decode(ids, skip_special_tokens=True).split()), ended


def _tokenizer(folder: Path) -> MarianTokenizer:
    import sentencepiece

    for side, texts in (("source", SENTENCES), ("target", SENTENCES.values())):
        (folder / f"{side}.txt").write_text("\n".join(texts), "utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / f"{side}.txt"), model_prefix=str(folder / side), vocab_size=90, hard_vocab_limit=False,
            model_type="unigram", bos_id=-1, eos_id=0, unk_id=1, minloglevel=2, num_threads=1,
        )  # fmt: skip
        (folder / f"{side}.model").rename(folder / f"{side}.spm")
    pieces = ["</s>", "<unk>"]
    for side in ("source", "target"):
        loaded = sentencepiece.SentencePieceProcessor(model_file=str(folder / f"{side}.spm"))
        pieces += [piece for i in range(len(loaded)) if (piece := loaded.id_to_piece(i)) not in pieces]
    (folder / "vocab.json").write_text(json.dumps({p: i for i, p in enumerate([*pieces, "<pad>"])}), "utf-8")
    return MarianTokenizer(str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"))
