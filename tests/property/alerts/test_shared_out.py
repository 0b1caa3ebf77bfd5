"""Each article is put into the series that it belongs to, and into no other."""

from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.series import Mention, Series, shared_out
from tests.unit.alerts.feeds import START

TOPICS, LANGS, NAMES = ("credit", "rates"), ("de", "en"), ("Acme", "Borealis", "Ceres")
SERIES = st.sets(
    st.builds(Series, st.sampled_from((ALL, *TOPICS)), st.sampled_from((ALL, *LANGS)), st.sampled_from((ALL, *NAMES)))
)
MENTIONS = st.lists(
    st.builds(
        Mention, st.just(START), st.uuids().map(str), st.just("wire"), st.just("k"), st.sampled_from(TOPICS),
        st.sampled_from(LANGS), st.just(900_000), st.just("m"), st.lists(st.sampled_from(NAMES)).map(tuple),
    )
)  # fmt: skip


def _belongs(mention: Mention, one: Series) -> bool:
    return (
        one.topic in (ALL, mention.topic)
        and one.lang in (ALL, mention.lang)
        and (one.entity == ALL or one.entity in mention.entities)
    )


@given(SERIES, MENTIONS)
def test_every_series_has_its_own_articles_in_their_order(series: set[Series], mentions: list[Mention]) -> None:
    assert shared_out(mentions, series) == {one: [m for m in mentions if _belongs(m, one)] for one in series}
