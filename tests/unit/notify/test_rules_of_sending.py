"""Filters, quiet hours, caps, the schedule, the pace: pure rules of who is told when."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import DataError
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.validate import _entities
from crosswind.stream.notify.domain.pace import FIRST, MOST, Pace
from crosswind.stream.notify.domain.subscription import Channel, Draft, Filter, Told, check, wants, worth_telling
from crosswind.stream.notify.domain.timing import (
    HOUR,
    JITTER,
    LONGEST,
    SCHEDULE,
    hold_until,
    quiet_hours,
    quiet_until,
    retry_after,
    wait_after,
)
from crosswind.stream.notify.service.dispatcher import Message, Outcome, Reply, judge
from tests.notify_helpers import alert

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
zones = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Auckland"])
minutes = st.integers(0, 1439).map(lambda m: f"{m // 60:02}:{m % 60:02}")
moments = st.datetimes(datetime(2024, 1, 1), datetime(2027, 1, 1)).map(lambda d: d.replace(tzinfo=UTC))


@given(zones, minutes, minutes, moments)
def test_quiet_hours_end_and_are_then_over(zone: str, start: str, end: str, now: datetime) -> None:
    if start == end:
        return
    quiet = quiet_hours(zone, start, end)
    until = quiet_until(quiet, now)
    assert until is None or (now < until <= now + timedelta(hours=26) and quiet_until(quiet, until) is None)


def test_quiet_hours_follow_the_clock_change() -> None:
    night = quiet_hours("Europe/Berlin", "22:00", "07:00")
    assert quiet_until(night, datetime(2026, 3, 28, 23, tzinfo=UTC)) == datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert quiet_until(night, datetime(2026, 3, 29, 5, tzinfo=UTC)) is None


@pytest.mark.parametrize("words", [("Mars/Base", "22:00", "07:00"), ("UTC", "25:00", "07:00"), ("UTC", "7:0", "07:00"),
                                   ("UTC", "07:00", "07:00"), ("localtime", "22:00", "07:00"),
                                   ("Europe", "22:00", "07:00"), ("../etc/passwd", "22:00", "07:00")])  # fmt: skip
def test_bad_quiet_hours_are_refused(words: tuple[str, str, str]) -> None:
    with pytest.raises(DataError):
        quiet_hours(*words)


def test_critical_alerts_break_the_quiet_and_the_cap_still_holds() -> None:
    night = quiet_hours("UTC", "08:00", "10:00")
    assert hold_until(night, None, NOW, ["warning"], []) == NOW + HOUR
    assert hold_until(night, None, NOW, ["warning", "critical"], []) is None
    assert hold_until(night, 1, NOW, ["critical"], [NOW - HOUR / 2]) == NOW + HOUR / 2
    assert hold_until(None, 2, NOW, ["warning"], [NOW - HOUR / 2]) is None


def test_the_schedule_ends_and_its_jitter_is_bounded_and_differs() -> None:
    for attempt, wait in enumerate(SCHEDULE, 1):
        drawn = [wait_after(attempt, f"m{n}") for n in range(50)]
        assert all(d and (1 - JITTER) * wait <= d <= (1 + JITTER) * wait for d in drawn)
        assert len(set(drawn)) == 50
    assert wait_after(len(SCHEDULE) + 1, "m") is None


@pytest.mark.parametrize(("header", "seconds"), [
    ("120", 120), ("0", 0), ("9" * 400, LONGEST.total_seconds()), ("Mon, 02 Mar 2026 09:01:00 GMT", 60),
    ("Mon, 02 Mar 2020 09:01:00 GMT", 0), ("-5", None), ("soon", None), ("", None), ("１２", None),
])  # fmt: skip
def test_retry_after(header: str, seconds: float | None) -> None:
    found = retry_after(header, NOW)
    assert (found.total_seconds() if found is not None else None) == seconds


@pytest.mark.parametrize(("status", "outcome"), [
    (200, Outcome.SENT), (204, Outcome.SENT), (302, Outcome.RETRY), (304, Outcome.RETRY), (400, Outcome.RETRY),
    (410, Outcome.GONE), (429, Outcome.RETRY), (500, Outcome.RETRY), (None, Outcome.RETRY),
])  # fmt: skip
def test_what_an_answer_means(status: int | None, outcome: Outcome) -> None:
    message = Message("m", "s", Channel.WEBHOOK, "h:1", "en", "", (alert(),))
    assert judge(message, Reply(status), NOW).outcome is outcome


@pytest.mark.parametrize("name", [
    "Moody's", "L'Oréal", "McDonald’s", "Yum! Brands", "Amazon.com, Inc.", "Kraft (Heinz)", "रिलायंस इंडस्ट्रीज",
    "บริษัท ปตท.", "ソニー", "AT&T", "*", "شرکت\u200cها", "x" * 512,
])  # fmt: skip
def test_what_an_article_can_name_can_be_asked_for(name: str) -> None:
    assert name == "*" or _entities([name]) == (name,)
    check(Draft(Channel.STREAM, filter=Filter(entities=(name,))))


@pytest.mark.parametrize("name", ["", " ", " Acme", "Acme  AG", "a\r\nBcc: x", "a\x00", "a\u202eb", "a\tb", "x" * 513])
def test_what_no_article_can_name_is_refused(name: str) -> None:
    with pytest.raises(DataError, match="entities: expected"):
        check(Draft(Channel.STREAM, filter=Filter(entities=(name,))))


def test_a_receiver_that_asks_for_longer_gets_it() -> None:
    message = Message("m", "s", Channel.WEBHOOK, "h:1", "en", "", (alert(),))
    assert judge(message, Reply(429, retry_after=HOUR), NOW).due_at == NOW + HOUR


def test_the_end_goes_to_those_who_were_told() -> None:
    end = alert(2, state="resolved", cause="resolved")
    assert wants(Filter(topics=("other",)), end, told=True)
    assert not wants(Filter(), end, told=False)


@pytest.mark.parametrize(("wanted", "fields", "expected"), [
    (Filter(), {}, True),
    (Filter(topics=("fraud",)), {}, False),
    (Filter(topics=("fraud",), entities=("Tesla",)), {"topic": "*", "entity": "Tesla"}, True),
    (Filter(langs=("de",)), {}, True),
    (Filter(langs=("ja",)), {}, False),
    (Filter(langs=("de",)), {"lang": "en"}, False),
    (Filter(min_severity="critical"), {}, False),
    (Filter(min_severity="critical"), {"severity": "critical", "cause": "escalated"}, True),
    (Filter(topics=("fraud",)), {"topic": "*", "entity": "*", "state": "no_data", "cause": "no_data"}, True),
    (Filter(langs=("zh",), entities=("Tesla",)), {"topic": "*", "entity": "*", "cause": "no_data"}, True),
    (Filter(min_severity="critical"), {"topic": "*", "entity": "*", "cause": "no_data"}, False),
    (Filter(langs=("en",)), {"topic": "*", "entity": "*", "lang": "de"}, False),
    (Filter(langs=("de",)), {"topic": "*", "entity": "*", "lang": "de"}, True),
    (Filter(topics=("fraud",)), {"topic": "*", "entity": "*", "lang": "de"}, True),
    (Filter(), {"silenced": True}, False),
    (Filter(), {"leads": False}, True),
    (Filter(), {"state": "pending", "cause": "opened"}, False),
])  # fmt: skip
def test_filters(wanted: Filter, fields: dict[str, object], expected: bool) -> None:
    assert wants(wanted, alert(**fields), told=False) is expected  # type: ignore[arg-type]


def told_of(wanted: Filter, *alerts: Alert) -> list[int]:
    told = Told()
    return [one.seq for one in alerts if told.tell(wanted, one)]


COMPANY, TOPIC = {"topic": "*", "entity": "Tesla", "group": "inc1"}, {"group": "inc1", "leads": False}
OVER = {"state": "resolved", "cause": "resolved"}


@pytest.mark.parametrize(("wanted", "seqs"), [
    (Filter(), [1, 4, 6, 8]),  # of the second one when the first is over, and of its end
    (Filter(topics=("credit",)), [2, 3, 6, 8]),
    (Filter(entities=("Tesla",)), [1, 4]),
    (Filter(min_severity="critical"), [3, 6, 8]),
    (Filter(topics=("fraud",)), []),
])  # fmt: skip
def test_who_was_told_of_no_open_incident_of_a_group_is_told_of_the_next(wanted: Filter, seqs: list[int]) -> None:
    assert told_of(
        wanted, alert(1, "inc1", **COMPANY), alert(2, "inc2", **TOPIC),
        alert(3, "inc2", cause="escalated", severity="critical", **TOPIC), alert(4, "inc1", **COMPANY, **OVER),
        alert(5, "inc2", cause="opened", **TOPIC), alert(6, "inc2", cause="repeated", severity="critical", **TOPIC),
        alert(7, "inc3", topic="credit", group="inc1", severity="critical"), alert(8, "inc2", **TOPIC, **OVER),
    ) == seqs  # fmt: skip


def test_a_silenced_incident_mutes_no_other_of_its_group() -> None:
    loud, quiet = alert(2, "inc2", **TOPIC), {**COMPANY, "silenced": True}
    back = alert(3, "inc1", cause="silence_ended", **COMPANY)
    assert told_of(Filter(), alert(1, "inc1", **quiet), loud, back) == [2]
    assert told_of(Filter(entities=("Tesla",)), alert(1, "inc1", **quiet), loud, back) == [3]


def test_pending_is_not_worth_telling() -> None:
    assert not worth_telling(alert(state="pending", cause="opened"))


def test_corrected_figures_are_told_to_nobody() -> None:
    fired, corrected = alert(), alert(cause="corrected", observed=99)
    told = Told()
    assert told.tell(Filter(), fired)
    assert not told.tell(Filter(), corrected)
    assert not Told().tell(Filter(), corrected)


@pytest.mark.parametrize("draft", [
    Draft(Channel.STREAM, "x"), Draft(Channel.WEBHOOK), Draft(Channel.KAFKA, "news.raw"),
    Draft(Channel.KAFKA, "alerts"), Draft(Channel.STREAM, language="xx"),
    Draft(Channel.STREAM, filter=Filter(topics=("<b>",))),
    Draft(Channel.STREAM, cap_per_hour=0), Draft(Channel.STREAM, digest_minutes=0),
    Draft(Channel.STREAM, filter=Filter(min_severity="bad")), Draft(Channel.WEBHOOK, "https://" + "a" * 2000),
])  # fmt: skip
def test_what_cannot_be_served_is_refused(draft: Draft) -> None:
    with pytest.raises(DataError):
        check(draft)


@given(st.lists(st.booleans(), max_size=60))
def test_the_pace_stays_within_bounds_and_collapses_on_failure(answers: list[bool]) -> None:
    pace = Pace()
    for well in answers:
        pace.starts("a")
        pace.ends("a", well)
        assert 1 <= pace.room("a") <= MOST
        assert well or pace.room("a") == 1
    assert pace.room("b") == FIRST


def test_what_is_under_way_takes_room() -> None:
    pace = Pace()
    for _ in range(FIRST + 3):
        pace.starts("a")
    assert pace.known == {"a": 0}
