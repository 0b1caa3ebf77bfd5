from pathlib import Path

import pytest

from crosswind.errors import ModelError
from crosswind.models.taxonomy import SENTIMENTS, TAXONOMY, TOPICS, read_taxonomy


def test_the_labels_are_in_the_order_of_the_outputs() -> None:
    assert SENTIMENTS == ("positive", "neutral", "negative")
    assert TOPICS[0] == "earnings"
    assert TOPICS[-1] == "other"
    assert len(TOPICS) == 15


def test_every_topic_is_described() -> None:
    assert set(TAXONOMY.descriptions) == set(TOPICS)
    assert all(TAXONOMY.descriptions.values())


def test_a_label_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.toml"
    topic = '[[topic]]\nlabel = "a"\ndescription = "x"\n'
    path.write_text(f'[sentiment]\nlabels = ["p", "p"]\ndescription = ""\n{topic}', encoding="utf-8")
    with pytest.raises(ModelError, match="twice"):
        read_taxonomy(path)


def test_a_file_without_topics_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "taxonomy.toml"
    path.write_text('[sentiment]\nlabels = ["p"]\ndescription = ""\n', encoding="utf-8")
    with pytest.raises(ModelError, match="not a taxonomy"):
        read_taxonomy(path)
