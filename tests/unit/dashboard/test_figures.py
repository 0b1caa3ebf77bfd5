import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.dashboard.figures import Band, Words, escape, heat_figure, trend_figure
from crosswind.dashboard.series import Span, trend_of

START = datetime(2026, 3, 2, tzinfo=UTC)
SPAN = Span(START, START + timedelta(hours=24), timedelta(minutes=15))
TREND = trend_of("credit", SPAN, [(SPAN.times[index], 4, index % 4, 0) for index in range(0, 90)])
BAND = Band("credit", START + timedelta(hours=3), START + timedelta(hours=5), "alert <b>x</b>")


def figure(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"bands": [], "gaps": [], "revision": "24h", **changes}
    return trend_figure(changes.pop("trend", TREND), SPAN, **{k: v for k, v in given.items() if k != "trend"})


@pytest.mark.parametrize("trend", [TREND, None])
@pytest.mark.parametrize("tall", [True, False])
def test_plotly_accepts_the_figure(trend: Any, tall: bool) -> None:
    go.Figure(figure(trend=trend, tall=tall, bands=[BAND], gaps=[(START, START + timedelta(hours=2))]))


def test_an_alert_is_hatched_labelled_and_can_be_clicked() -> None:
    (strip,) = (trace for trace in figure(bands=[BAND])["data"] if trace.get("name") == "alert")
    assert strip["marker"]["pattern"]["shape"]
    assert strip["text"] == ["alert &lt;b&gt;x&lt;/b&gt;"]
    assert strip["customdata"] == [[int(BAND.start.timestamp()) // 60, 120]]


def test_an_alert_outside_of_the_span_is_not_drawn() -> None:
    late = Band("credit", SPAN.end, SPAN.end + timedelta(hours=1), "later")
    assert not [trace for trace in figure(bands=[late])["data"] if trace.get("name") == "alert"]


def test_no_data_is_drawn_and_named() -> None:
    layout = figure(gaps=[(START, START + timedelta(hours=2))])["layout"]
    assert [note["text"] for note in layout["annotations"]] == ["no data"]
    assert layout["shapes"][0]["line"]["dash"] == "dot"


def test_an_unknown_share_is_a_gap_and_not_a_zero() -> None:
    line = figure()["data"][0]
    assert line["y"][-1] is None
    assert line["connectgaps"] is False


def test_bars_add_up_to_the_articles() -> None:
    _, negative, other, _ = figure()["data"]
    assert sum(negative["y"]) + sum(other["y"]) == TREND.total


def test_the_axis_fits_the_span_with_and_without_data() -> None:
    for trend in (TREND, None):
        anchor = figure(trend=trend)["data"][-1]
        assert anchor["x"] == ["2026-03-02T00:00:00", "2026-03-03T00:00:00"]


def test_a_zoom_is_drawn_as_it_was() -> None:
    zoomed = figure(zoom=("2026-03-02 03:00", "2026-03-02 04:00"))["layout"]["xaxis"]
    assert (zoomed["range"], zoomed["autorange"]) == (["2026-03-02 03:00", "2026-03-02 04:00"], False)
    assert "range" not in figure()["layout"]["xaxis"]


def test_the_readers_changes_are_kept_while_the_revision_is() -> None:
    assert figure(revision="24h credit")["layout"]["uirevision"] == "24h credit"


@given(st.text())
def test_escaped_text_holds_no_markup_and_no_control(text: str) -> None:
    escaped = escape(text)
    assert not set("<>\"'") & set(escaped)
    assert escaped.isprintable()


def test_bidi_overrides_are_taken_out() -> None:
    assert escape("a\u202eb\u2066c") == "abc"


def test_the_heat_map_leaves_thin_cells_empty() -> None:
    found = heat_figure(["credit", "macro"], ["en", "ja"], {("credit", "en"): (4, 1), ("macro", "ja"): (2, 2)})
    assert found["data"][0]["z"] == [[0.25, None], [None, None]]
    go.Figure(found)


def test_a_chart_speaks_the_language_of_the_interface() -> None:
    said = Words("负面", "负面 <b>文章", "其他文章", "预期", "无数据", "{articles} 篇中 {negative} 篇负面")
    drawn = json.dumps(figure(words=said, gaps=[(START, START + timedelta(hours=2))]), ensure_ascii=False)
    for text in ("负面 &lt;b&gt;文章", "其他文章", '"无数据"'):
        assert text in drawn
    assert "no data" not in drawn
    heat = heat_figure(["credit"], ["en"], {("credit", "en"): (4, 1)}, said)
    assert heat["data"][0]["customdata"] == [["credit · en: 4 篇中 1 篇负面"]]


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("crosswind.dashboard.figures", {"dash", "sqlalchemy", "faust", "onnxruntime", "fastapi"}),
        ("crosswind.dashboard.series", {"dash", "sqlalchemy", "faust", "onnxruntime", "fastapi"}),
        ("crosswind.dashboard.serve", {"torch", "transformers", "faust", "onnxruntime"}),
    ],
)
def test_a_module_imports_nothing_from_an_outer_ring(module: str, banned: set[str]) -> None:
    code = f"import sys, {module}; print(*(name.partition('.')[0] for name in sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not banned & set(loaded)
