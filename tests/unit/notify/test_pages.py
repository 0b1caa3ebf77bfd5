"""Alerts link to their page: the dashboard reads the address as it was meant; no address, no link."""

import html
import json
import re
from dataclasses import replace
from datetime import timedelta
from urllib.parse import urlsplit

import pytest

from crosswind.dashboard.view import Pick, View
from crosswind.errors import SettingsError
from crosswind.settings import load_settings
from crosswind.stream.notify.adapters.render import body, check_template, words
from crosswind.stream.notify.domain.pages import AFTER, BEFORE, page_of
from crosswind.stream.notify.domain.subscription import LANGUAGES, Channel
from crosswind.stream.notify.service.dispatcher import Message
from tests.notify_helpers import alert

ADDRESS, END = "https://crosswind.example.com", "https://crosswind.example.com/api/v1/unsubscribe/t"


def message(**fields: object) -> Message:
    one = alert(evidence=["a1"], **fields)  # type: ignore[arg-type]
    return Message("m", "s", Channel.APPRISE, "h", "en", "", (one,), titles={"a1": "A headline"})


def read(link: str) -> View:
    return View.from_query("?" + urlsplit(link).query)


@pytest.mark.parametrize("fields", [
    {"topic": "credit"}, {"topic": "credit", "lang": "ja"}, {"topic": "*", "entity": "Ernst & Young, Ltd. ?=#"},
    {"topic": "*", "entity": "特斯拉"}, {"topic": "*", "entity": '"><script>'},
])  # fmt: skip
def test_the_dashboard_reads_the_link_as_it_was_meant(fields: dict[str, str]) -> None:
    one = alert(window=60, **fields)
    link = page_of(ADDRESS, one)
    assert link.startswith(ADDRESS + "/series?")
    expected = View(
        range="all", topic="" if one.topic == "*" else one.topic, langs=() if one.lang == "*" else (one.lang,),
        entity="" if one.entity == "*" else one.entity, zoom=(one.at - BEFORE, one.at + AFTER),
        pick=Pick(one.topic, one.at - timedelta(minutes=60), one.at + timedelta(minutes=1)),
    )  # fmt: skip
    assert read(link) == expected
    assert read(link).to_query() == "?" + urlsplit(link).query


def test_the_end_of_an_incident_shows_its_series_and_a_silent_feed_the_list() -> None:
    assert read(page_of(ADDRESS, alert(state="resolved", cause="resolved"))).pick is None
    silent = page_of(ADDRESS, alert(topic="*", entity="*", state="no_data", cause="no_data", rule="no-data"))
    assert silent == ADDRESS + "/alerts?range=all"


def test_no_address_no_link_and_a_test_has_no_page() -> None:
    assert page_of("", alert()) == ""
    assert page_of(ADDRESS, alert(rule="test")) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_people_get_the_link_below_the_evidence(language: str) -> None:
    said = words(replace(message(), language=language), ADDRESS, END)
    link = page_of(ADDRESS, alert())
    links = [html.unescape(found) for found in re.findall(r'href="([^"]*)"', said.html)]
    assert links == [link, ADDRESS + "/", END]
    assert said.html.index("A headline") < said.html.index("/series?")
    assert said.text.endswith(f": {link}")


def test_without_an_address_nothing_is_linked() -> None:
    said = words(message(), "", "")
    assert "href" not in said.html
    assert "http" not in said.text
    data = json.loads(body(message(), "", ""))["data"]
    assert not data.keys() & {"link", "links", "unsubscribe"}


def test_programs_get_a_link_for_each_alert() -> None:
    data = json.loads(body(message(), ADDRESS, END))["data"]
    link = page_of(ADDRESS, alert())
    assert (data["link"], data["links"], data["unsubscribe"]) == (link, {"inc1": link}, END)
    two = replace(message(), alerts=(alert(1), alert(2, "inc2", lang="de")), digest=True)
    data = json.loads(body(two, ADDRESS, END))["data"]
    assert data["link"] == ADDRESS + "/alerts"
    assert data["links"] == {"inc1": link, "inc2": page_of(ADDRESS, alert(2, "inc2", lang="de"))}
    assert link in data["text"]


def test_the_same_alert_under_another_address_has_other_links() -> None:
    assert b"one.example" in body(message(), "https://one.example", END)
    assert b"one.example" not in body(message(), "https://two.example", END)


def test_a_template_may_show_the_link() -> None:
    check_template("{{ link }}")
    said = words(replace(message(), template="See {{ link }}"), ADDRESS, END)
    assert html.unescape(said.text) == "See " + page_of(ADDRESS, alert())
    assert words(replace(message(), template="See {{ link }}"), "", "").text == "See "


def test_a_long_digest_keeps_whole_alerts_and_the_last_links() -> None:
    titles = {"a1": '"' * 300}
    many = tuple(alert(n, f"inc{n}", evidence=["a1"]) for n in range(1, 60))
    said = words(replace(message(), alerts=many, titles=titles, digest=True), ADDRESS, END)
    assert said.html.endswith("</a></p>")
    assert said.html.count("<p") == said.html.count("</p>") < 59 * 3
    assert END in said.html


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "crosswind.example.com", "https://", "https://x.example/?a"]
)
def test_addresses_that_links_cannot_begin_with(address: str) -> None:
    with pytest.raises(SettingsError, match="public-url"):
        load_settings({"public_url": address})
