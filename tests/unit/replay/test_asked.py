"""What a replay was asked for holds when it goes on; what it cannot use is told; and it stops when it is told to."""

import itertools
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import SettingsError
from crosswind.stream.domain.article import PPM, Sentiment
from crosswind.stream.replay.columns import normalise
from crosswind.stream.replay.inprocess import LATENESS
from crosswind.stream.replay.job import record_of
from crosswind.stream.replay.made import made_feed
from crosswind.stream.replay.notebook import replay
from crosswind.stream.replay.sources import Source
from crosswind.stream.replay.split import replay_split
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.service.rules import DEFAULT, load_rules
from tests.unit.replay.world import table


@given(st.data())
def test_probabilities_that_are_not_given_take_what_is_left(data: st.DataObject) -> None:
    """Whatever is given of them, as long as it can be: what a row gets can be scored by a worker."""
    mood = data.draw(st.sampled_from(list(Sentiment)))
    shares = data.draw(st.fixed_dictionaries({}, optional={
        "negative_ppm": st.integers(0, 400_000), "neutral_ppm": st.integers(0, 200_000),
        "positive_ppm": st.integers(0, 400_000),
    }))  # fmt: skip
    one = {"published_at": "2026-03-02T10:00:00Z", "topic": "credit", "sentiment": mood.value, "title": "T", **shares}
    found, bad = normalise(pa.Table.from_pylist([one]))
    (row,) = found.to_pylist()
    together = [row[f"{name}_ppm"] for name in Sentiment]
    assert bad == 0
    assert {name: row[name] for name in shares} == shares
    assert min(together) >= 0
    assert sum(together) == PPM or len(shares) == 3


@pytest.mark.parametrize("share", [-1, PPM + 1])
def test_a_probability_that_cannot_be_is_no_article(share: int) -> None:
    one = {"published_at": "2026-03-02T10:00:00Z", "topic": "credit", "sentiment": "negative", "negative_ppm": share}
    found, bad = normalise(pa.Table.from_pylist([one]))
    assert (len(found), bad) == (0, 1)


def test_a_folder_goes_on_only_with_what_it_was_asked_for(tmp_path: Path) -> None:
    def play(**options: Any) -> int:
        return len(replay(Source("made", iter([table()])), folder=tmp_path / "kept", **options))

    first = play()
    assert first > 0
    assert play() == first
    with pytest.raises(SettingsError, match="another clock"):
        play(clock=Clock.KNOWN)
    quiet = tmp_path / "quiet.yaml"
    quiet.write_text(DEFAULT.read_text("utf-8").replace("headlines: 6", "headlines: 600"), "utf-8")
    with pytest.raises(SettingsError, match="another rules"):
        play(rules=quiet)


def test_a_resumed_run_keeps_the_content_of_its_rules(tmp_path: Path) -> None:
    asked = {"feed": "sample", "through_kafka": False, "rules": "a.yaml", "rules_version": "1"}
    record_of(tmp_path, "one", asked, resume=False)
    assert record_of(tmp_path, "one", dict(asked), resume=True).run == "one"
    with pytest.raises(SettingsError, match="another rules_version"):
        record_of(tmp_path, "one", {**asked, "rules_version": "2"}, resume=True)


def test_several_processes_stop_when_they_are_told(tmp_path: Path) -> None:
    stage = Stage(tmp_path / "staged")
    assert stage.fill([made_feed(4_000, 40, crises=0).table], Clock.PUBLISHED, LATENESS) > 0
    looks = itertools.count()
    outcome = replay_split(tmp_path / "staged", "test", load_rules(), LATENESS, 2, lambda: next(looks) > 0)
    assert outcome is None
