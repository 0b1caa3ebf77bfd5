"""What shaped a model: the data list of its manifest, with rows and licences, and the languages it was taught."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crosswind.models import dataset, sources, written
from crosswind.models.inputs import Inputs
from crosswind.models.network import Task, read_manifest
from crosswind.models.rows import Row


def spoken(rows: Sequence[Row]) -> dict[str, list[str]]:
    """The languages of each source's rows, sorted."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        found[row.source].add(row.lang)
    return {name: sorted(langs) for name, langs in found.items()}


def taught(base: str, rows: Sequence[Row], tasks: Sequence[Task]) -> list[str]:
    """The languages whose labels shaped the model, those of a MODEL_DIR below it included."""
    own = {row.lang for row in rows if any(row.label(task.name) is not None for task in tasks)}
    folder = Path(base)
    earlier = read_manifest(folder).languages if (folder / "crosswind.json").is_file() else []
    return sorted(own.union(earlier))


def origin(base: str, data: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """What a run on top of `base` rests on: where that is a MODEL_DIR, its own base, and its data beside the run's."""
    folder = Path(base)
    if not (folder / "crosswind.json").is_file():
        return base, data
    earlier = read_manifest(folder)
    mine = {entry["name"] for entry in data}
    return earlier.base, [*data, *(entry for entry in earlier.data if entry["name"] not in mine)]


def _licence(path: Path) -> str:
    """What the card that `data prepare` wrote beside a file says of its licence."""
    card = path.with_name("card.md")
    lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
    return next((line.removeprefix("Licence: ") for line in lines if line.startswith("Licence: ")), "unknown")


def _own_licences(inputs: Inputs) -> dict[str, str]:
    """Licence of each source of the user's own files; all of them where files of several licences hold one."""
    found: dict[str, set[str]] = defaultdict(set)
    for path, rows in inputs.own():
        for name in {row.source for row in rows}:
            found[name].add(_licence(path))
    return {name: ", ".join(sorted(licences)) for name, licences in found.items()}


def data_list(
    used: Counter[str], parallel: bool, langs: Mapping[str, Sequence[str]], inputs: Inputs
) -> list[dict[str, Any]]:
    """The manifest's list of what a run trained on.

    Args:
        used: rows by source.
        parallel: whether parallel text was aligned.
        langs: languages by source.
    """
    listed = [{**entry, "rows": used[entry["name"]]} for entry in sources.licences(used)]
    if used[dataset.WRITTEN]:
        ours = inputs.corpus.resolve() == written.CORPUS_DIR.resolve()
        listed.append({"name": "crosswind written corpus (synthetic)" if ours else f"corpus {inputs.corpus.name}",
                       "licence": "Apache-2.0" if ours else "unknown", "languages": list(langs[dataset.WRITTEN]),
                       "domain": "financial", "rows": used[dataset.WRITTEN]})  # fmt: skip
    known = {entry["name"] for entry in listed} | {dataset.WRITTEN, sources.PARALLEL}
    licences = _own_licences(inputs)
    listed += [{"name": name, "licence": licences.get(name, "unknown"), "languages": list(langs[name]),
                "domain": "unknown", "rows": used[name]} for name in sorted(set(used) - known)]  # fmt: skip
    if parallel:
        listed += [{"name": n, "licence": licence, "domain": "parallel"}
                   for n, licence in sources.PARALLEL_LICENCES.items()]  # fmt: skip
    return listed
