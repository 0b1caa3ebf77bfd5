from pathlib import Path

import pytest

from crosswind.errors import DataError
from crosswind.models import annotations, sources
from crosswind.models.annotations import Label, annotated, key_of, parallel_rows, read
from crosswind.models.rows import Row

OURS = sorted(path.stem for path in annotations.FOLDER.glob("*.tsv"))


def test_every_file_is_of_a_source_that_may_train() -> None:
    assert set(OURS) <= {source.name for source in sources.SOURCES} | {sources.PARALLEL}
    assert sum(len(read(name)) for name in OURS) > 6000


def test_a_file_holds_no_text() -> None:
    for path in annotations.FOLDER.glob("*.tsv"):
        assert all(field.isascii() and " " not in field and len(field) <= 20 for line in path.read_text().splitlines()
                   for field in line.split("\t"))  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_labels_are_of_training_texts_only(shared_data: Path, name: str) -> None:
    if name == sources.PARALLEL:
        assert all(int(key.rpartition(":")[2]) % 2 == 1 for key in read(name))  # the even ones measure stories
        return
    source = next(source for source in sources.SOURCES if source.name == name)
    parts = sources.read_source(source, shared_data)
    assert {key_of(row.text) for row in parts["train"]} & set(read(name))
    assert not {key_of(row.text) for part in ("validation", "test") for row in parts[part]} & set(read(name))


def test_a_text_gets_the_topic_that_it_was_given() -> None:
    rows = [Row(text=text, lang="en", source="x", sentiment="neutral") for text in ("one", "two")]
    found = annotated(rows, {key_of("two"): Label("credit")})
    assert [(row.topic, row.sentiment) for row in found] == [(None, "neutral"), ("credit", "neutral")]


def test_a_parallel_sentence_is_told_in_every_language_unless_it_is_no_business() -> None:
    texts = [(f"s:{number}", lang, "…") for number in range(100) for lang in ("de", "ja")]
    labels = {f"s:{number}": Label("credit", "negative") if number < 10 else Label("other", "negative")
              for number in range(90)}  # fmt: skip
    found = parallel_rows(texts, labels)
    business = [row for row in found if row.topic == "credit"]
    assert len(business) == 20
    assert {row.sentiment for row in business} == {"negative"}
    others = [row for row in found if row.topic == "other"]
    assert 5 < len(others) < 60
    assert {row.sentiment for row in others} == {None}
    assert {row.group for row in found} <= set(labels)


@pytest.mark.parametrize(
    "line", ["a", "a\tcredits", "a\tcredit\tbad", "a\tcredit\tnegative\tx", "\tcredit", "b\tcredit\nb\tcredit"]
)
def test_a_bad_line_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.tsv").write_text(f"good\tcredit\n{line}\n")
    with pytest.raises(DataError, match=r"annotations/x.tsv:[23]: "):
        read("x", tmp_path)
    assert read("y", tmp_path) == {}
