from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.dashboard.view import DEFAULT_RANGE, RANGES, SENTIMENTS, Pick, View, parse_stamp, stamp
from crosswind.models.taxonomy import TOPICS
from crosswind.stream.domain.normalise import clean
from crosswind.stream.domain.validate import MAX_NAME

times = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(microsecond=0)
)
words = st.lists(st.sampled_from([*TOPICS, "en", "zh", "zh-hant"]), unique=True).map(lambda found: tuple(sorted(found)))
spans = st.tuples(times, times).filter(lambda ends: ends[0] < ends[1])
picks = st.tuples(st.sampled_from([*TOPICS, "*"]), times, times).filter(lambda p: p[1] < p[2]).map(lambda p: Pick(*p))
LONG = "ب\u200cا" * (MAX_NAME // 3)
joined = st.sampled_from(["بانک ملی\u200cها", "क्\u200dष", LONG, "A" * MAX_NAME])
names = joined | st.text(max_size=60).map(clean).filter(lambda name: name != "*")
"""Names as articles are stored with them: the only ones that a page links."""
views = st.builds(
    View,
    range=st.sampled_from(list(RANGES)),
    topics=words,
    langs=words,
    sentiment=st.sampled_from(["", *SENTIMENTS]),
    topic=st.sampled_from(["", *TOPICS]),
    entity=names,
    zoom=st.none() | spans,
    pick=st.none() | picks,
    ui=st.sampled_from(["", "zh"]),
    novel=st.booleans(),
    before=st.from_regex(r"[A-Za-z0-9_-]{0,40}", fullmatch=True),
)


@given(views)
def test_a_view_survives_its_address(view: View) -> None:
    assert View.from_query(view.to_query()) == view


@given(st.text(max_size=200))
def test_any_address_can_be_read(query: str) -> None:
    view = View.from_query(query)
    assert view.range in RANGES
    assert View.from_query(view.to_query()) == view


@pytest.mark.parametrize("name", ["*", "Acme ", "Ac  me", "A\u202eB", "A\x00B", "A" * (MAX_NAME + 1)])
def test_what_no_article_can_name_is_no_entity(name: str) -> None:
    assert View.from_query(View(entity=name).to_query()).entity == ""


def test_the_default_view_has_an_empty_address() -> None:
    assert View().to_query() == ""


@pytest.mark.parametrize(
    "query",
    ["?range=<script>", "?topics=%3Cimg%3E,", "?pick=credit,2026,2027", "?before=a%00", "?sentiment=angry",
     "?pick=credit,2026-03-02T10:00:00Z", "?pick=credit,2026-03-02T10:00:00Z,2026-03-02T09:00:00Z",
     "?pick=a,0001-01-01T00:00:00%2B23:00,x", "?pick=*,0001-01-01T00:00:00Z,2026-03-02T09:00:00Z",
     "?zoom=2026-03-02T09:00:00Z,9999-12-31T23:59:59Z"],
)  # fmt: skip
def test_what_cannot_be_read_is_the_default(query: str) -> None:
    assert View.from_query(query) == View()


def test_a_changed_filter_starts_again_at_the_newest() -> None:
    view = View(before="abc").filtered(range="1h", topics=("macro", "credit"), langs=(), sentiment="")
    assert (view.before, view.topics, view.range) == ("", ("credit", "macro"), "1h")
    assert View().range == DEFAULT_RANGE


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        parse_stamp("2026-03-02T09:00:00")


@given(times)
def test_stamps_are_read_back(moment: datetime) -> None:
    assert parse_stamp(stamp(moment)) == moment
