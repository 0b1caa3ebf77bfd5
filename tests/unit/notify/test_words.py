"""What messages say: in the subscriber's language, hostile titles as text only, templates that can do little."""

import json
import string

import pytest

from crosswind.errors import DataError, SettingsError
from crosswind.stream.notify.adapters.render import CATALOGUE, body, check_template, template_problem, words
from crosswind.stream.notify.adapters.vault import Sealed, Vault, new_key, rotated
from crosswind.stream.notify.adapters.webhook import signature
from crosswind.stream.notify.domain.subscription import LANGUAGES, Channel
from crosswind.stream.notify.service.dispatcher import Message
from tests.notify_helpers import KEY, VAULT, alert

HOSTILE = "<script>alert(1)</script>\u202egnp {{7*7}} \x00\r\nBcc: x"


def message(language: str = "en", template: str | None = None, **fields: object) -> Message:
    own = {"incident_id": f"words-{fields}"} | fields  # what is rendered is kept by the incident
    one = alert(evidence=["a1"], **own)  # type: ignore[arg-type]
    return Message("m", "s", Channel.APPRISE, "h", language, "", (one,), titles={"a1": HOSTILE}, template=template)


def test_the_catalogues_are_whole_and_have_the_same_gaps() -> None:
    def gaps(words: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(words) if name}

    assert set(CATALOGUE) == set(LANGUAGES)
    for language in LANGUAGES:
        english, there = CATALOGUE["en"], CATALOGUE[language]
        assert {k: gaps(v) for k, v in there.items()} == {k: gaps(v) for k, v in english.items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_titles_stay_text(language: str) -> None:
    said = words(message(language), "https://x/", "https://x/u")
    assert "<script" not in said.html
    assert "&lt;script&gt;" in said.html
    assert "49" not in said.html.replace("3449", "")
    assert not any(letter in said.text for letter in "\u202e\x00\r")


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_title_says_why_an_incident_is_told_again(language: str) -> None:
    causes = ("fired", "escalated", "repeated", "corrected", "silence_ended")
    titles = [words(message(language, cause=cause), "", "").title for cause in causes]
    assert len(set(titles)) == len(causes)
    assert all(title.endswith(titles[0]) for title in titles)


def test_an_entity_cannot_put_markup_into_the_heading() -> None:
    said = words(message(entity="<img src=x>", topic="*"), "l", "u")
    assert "<img" not in said.html


def test_the_json_is_the_same_at_every_attempt_and_for_its_subscriber() -> None:
    first, second = body(message(), "l", "u"), body(message(), "l", "u")
    other = body(message(), "l", "another")
    assert first == second != other
    assert json.loads(other)["data"]["unsubscribe"] == "another"
    assert json.loads(first)["data"]["alerts"][0]["incident_id"] == "words-{}"


@pytest.mark.parametrize("source", [
    "{% for i in range(10**9) %}x{% endfor %}", "{{ ''.__class__.__mro__ }}{{ f() }}", "{{ 9**9**9 }}",
    "{{ 'a'*10**9 }}",
    "{% macro f() %}{{ f() }}{% endmacro %}", "{{ alert|safe }}", "{% include '/etc/passwd' %}", "{{ alert['topic'] }}",
    "{% set x = 1 %}", "{{ broken", "{% if alert.expected > '5' %}much{% endif %}", "{{ alert.topic.x.y }}",
])  # fmt: skip
def test_templates_that_do_more_than_show_are_refused(source: str) -> None:
    with pytest.raises(DataError):
        check_template(source)


def test_a_template_shows_values_escaped_and_reaches_nothing_else() -> None:
    source = "{% if alert.severity == 'warning' %}W{% endif %} {{ alert.entity }} {{ alert.__class__ }}"
    check_template(source)
    said = words(message(template=source, entity="<i>"), "l", "u")
    assert said.text == "W &lt;i&gt; "


def test_a_template_that_fails_on_one_alert_gives_our_own_text_and_says_so() -> None:
    source = "{% if alert.topic == 'rates' and alert.expected > '5' %}much{% else %}{{ alert.topic }}{% endif %}"
    check_template(source)  # with no alert about rates
    good, bad, ours = (message(template=template, topic=topic) for template, topic in
                       ((source, "credit"), (source, "rates"), (None, "rates")))  # fmt: skip
    assert (words(good, "", "").text, template_problem(good, "")) == ("credit", "")
    assert words(bad, "", "") == words(ours, "", "")
    assert json.loads(body(bad, "", ""))["data"]["text"] == json.loads(body(ours, "", ""))["data"]["text"]
    assert template_problem(bad, "") == "our own text: the template failed: TypeError"
    assert template_problem(ours, "") == ""


def test_secrets_are_opened_by_old_keys_and_by_no_others() -> None:
    sealed = VAULT.seal(Sealed("https://secret.example/", (new_key(),)))
    assert "secret.example" not in sealed
    newer = "1" * 42 + "w="
    assert Vault([newer, KEY]).open(sealed).target == "https://secret.example/"
    with pytest.raises(DataError):
        Vault([newer]).open(sealed)
    with pytest.raises(SettingsError):
        Vault(["short"])


def test_unsubscribe_tokens_cannot_be_forged_or_moved() -> None:
    token = VAULT.token("sub_1")
    assert VAULT.subscription_of(token) == "sub_1"
    for bad in (token.replace("sub_1", "sub_2"), token[:-1], "sub_1", "", "sub_1.é"):
        assert VAULT.subscription_of(bad) is None


def test_a_replaced_key_signs_for_a_day_and_then_no_more() -> None:
    content = rotated(Sealed("t", (new_key(),)), 1000.0)
    assert len(signature(content.keys, "m", 1000, b"{}").split()) == 2
    assert len(signature(content.keys, "m", 1000 + 86_401, b"{}").split()) == 1
