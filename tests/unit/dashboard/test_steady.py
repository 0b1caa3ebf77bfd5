from datetime import UTC, datetime

from dash import html, no_update

from crosswind.dashboard.components import when
from crosswind.dashboard.steady import differing


def card(text: str) -> html.Div:
    return html.Div([html.Bdi(text, dir="auto"), when(datetime(2026, 3, 2, 9, tzinfo=UTC))])


def test_what_is_shown_already_is_not_sent_again() -> None:
    *_, known = differing(None, [card("a"), card("b")])
    first, second, tags = differing(known, [card("a"), card("c")])
    assert first is no_update
    assert second.children[0].children == "c"
    assert differing(tags, [card("a"), card("c")]) == (no_update, no_update, tags)


def test_a_new_page_is_sent_everything() -> None:
    for known in (None, [], ["x"], "ab", {"a": 1}):
        sent = differing(known, [None, card("b")])
        assert sent[0] is None
        assert sent[1].children[0].children == "b"
