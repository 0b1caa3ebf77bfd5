"""Real Postgres, real sockets: what is due arrives, what was taken is not sent again, nobody waits for others."""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, text
from standardwebhooks import Webhook

from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.outbox import PostgresOutbox
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.adapters.vault import Sealed, Vault, rotated
from crosswind.stream.notify.domain.pace import FIRST
from crosswind.stream.notify.domain.subscription import Channel, Filter, Standing
from crosswind.stream.notify.domain.timing import quiet_hours
from crosswind.stream.notify.service import dispatcher
from crosswind.stream.notify.service.dispatcher import Dispatcher, Outcome, Reply, Result
from tests.notify_helpers import KEY, VAULT, Receiver, alert, fire, receiver, rows, subscribe

FAST = tuple(timedelta(seconds=0.05) for _ in range(6))


@pytest.fixture
def there() -> Iterator[Receiver]:
    with receiver() as started:
        yield started


def dispatch(
    engine: Engine, done: str, seconds: float = 20, dispatchers: int = 1, schedule: Sequence[timedelta] = FAST,
    send_seconds: float = 2.0,
) -> None:  # fmt: skip
    """Runs dispatchers until the query `done` says true."""

    async def work() -> None:
        settings = load_settings({"seal_key": KEY, "notify_private": True})
        stop, deadline = asyncio.Event(), time.monotonic() + seconds
        async with Senders(settings, VAULT) as send:
            running = [
                asyncio.create_task(Dispatcher(PostgresOutbox(engine), send, f"d{n}", lambda: datetime.now(UTC),
                                               schedule, send_seconds=send_seconds).run(stop))
                for n in range(dispatchers)
            ]  # fmt: skip
            while not (await asyncio.to_thread(rows, engine, done))[0][0] and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            stop.set()
            await asyncio.gather(*running)

    asyncio.run(work())
    assert rows(engine, done)[0][0], f"not within {seconds} s: {done}"


NONE_WAITS = "SELECT count(*) = 0 FROM message WHERE state = 'waiting'"


def test_a_signed_message_arrives_once(engine: Engine, there: Receiver) -> None:
    new = subscribe(engine, there.address + "/ok", language="de")
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    [message_id] = there.ids("/ok")
    sealed, _ = Subscriptions(engine, "live").sealed(new)
    key = VAULT.open(sealed).keys[0].secret
    said = Webhook(key).verify(there.bodies[message_id], there.headers[message_id])
    assert said["type"] == "incident.firing"
    assert said["data"]["title"].startswith("Schlechte Nachrichten")
    assert rows(engine, "SELECT outcome, status, attempt FROM delivery") == [("sent", 200, 1)]


def test_a_template_that_fails_is_told_in_the_log(engine: Engine, there: Receiver) -> None:
    template = "{% if alert.topic == 'rates' and alert.seq > 'x' %}{% endif %}"
    subscribe(engine, there.address + "/ok", template=template)
    fire(engine, alert(topic="rates"))
    dispatch(engine, NONE_WAITS)
    [message_id] = there.ids("/ok")
    assert "rates" in json.loads(there.bodies[message_id])["data"]["text"]
    assert rows(engine, "SELECT outcome, status, detail FROM delivery") == [
        ("sent", 200, "our own text: the template failed: TypeError")
    ]


def test_secrets_that_another_key_sealed_say_what_to_do_in_the_log(engine: Engine, there: Receiver) -> None:
    new = subscribe(engine, there.address + "/ok")
    other = Vault([Fernet.generate_key().decode()])
    Subscriptions(engine, "live").seal(new, other.seal(Sealed(there.address + "/ok")))
    fire(engine, alert())
    dispatch(engine, "SELECT count(*) > 0 FROM delivery")
    [detail] = rows(engine, "SELECT DISTINCT detail FROM delivery")[0]
    assert "CROSSWIND_SEAL_KEY" in detail
    assert there.got == []


def test_both_keys_sign_while_they_are_exchanged(engine: Engine, there: Receiver) -> None:
    new = subscribe(engine, there.address + "/ok")
    store = Subscriptions(engine, "live")
    before = VAULT.open(store.sealed(new)[0])
    after = rotated(before, time.time())
    store.seal(new, VAULT.seal(after))
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    [message_id] = there.ids("/ok")
    for content in (before, after):
        Webhook(content.keys[0].secret).verify(there.bodies[message_id], there.headers[message_id])
    late = Sealed(after.target, tuple(k for k in after.keys if k.until is None))
    assert len(late.keys) == 1


def test_failing_receivers_get_the_same_id_until_they_take_it(engine: Engine, there: Receiver) -> None:
    for kind in ("flaky", "drop", "busy"):
        subscribe(engine, f"{there.address}/{kind}")
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    assert [len(there.ids(f"/{kind}")) for kind in ("flaky", "drop", "busy")] == [4, 2, 2]
    assert all(len(set(there.ids(f"/{kind}"))) == 1 for kind in ("flaky", "drop", "busy"))
    assert rows(engine, "SELECT count(*) FROM message WHERE state = 'sent'") == [(3,)]


def test_retry_after_is_waited_for(engine: Engine, there: Receiver) -> None:
    subscribe(engine, there.address + "/busy")
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    first, second = rows(engine, "SELECT at FROM delivery ORDER BY delivery_id")
    assert second[0] - first[0] >= timedelta(seconds=0.95)


def test_gone_disables_and_a_redirect_is_not_followed(engine: Engine, there: Receiver) -> None:
    gone = subscribe(engine, there.address + "/gone")
    subscribe(engine, there.address + "/moved")
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    assert there.ids("/ok") == []
    assert len(there.ids("/gone")) == 1
    assert len(there.ids("/moved")) == len(FAST) + 1
    assert Subscriptions(engine, "live").get(gone).state is Standing.DISABLED
    fire(engine, alert(2, "inc2"))
    assert rows(engine, f"SELECT count(*) FROM outbox WHERE subscription_id = '{gone}'") == [(1,)]


def test_receivers_that_hang_and_drip_delay_nobody(
    engine: Engine, there: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "PLACES", 32)
    for n in range(52):  # enough to fill every place, and older than the quick one
        subscribe(engine, f"{there.address}/{'hang' if n % 2 else 'drip'}/{n}")
    quick = subscribe(engine, there.address.replace("127.0.0.1", "localhost") + "/ok")
    fire(engine, alert())
    with engine.begin() as connection:
        later = text("UPDATE message SET due_at = now() + interval '1 s' WHERE subscription_id = :id")
        connection.execute(later, {"id": quick})
    dispatch(engine, f"SELECT state = 'sent' FROM message WHERE subscription_id = '{quick}'", 15, send_seconds=40)
    assert rows(engine, "SELECT count(*) FROM message WHERE state = 'sent'") == [(1,)]


def test_two_dispatchers_send_each_once(engine: Engine, there: Receiver) -> None:
    for n in range(60):
        subscribe(engine, f"{there.address}/ok/{n}")
    fire(engine, alert(), alert(2, "inc2"))
    dispatch(engine, NONE_WAITS, dispatchers=2)
    assert len(there.got) == len(set(there.got)) == 120
    assert set(there.taken.values()) == {1}


def test_what_was_taken_is_not_sent_again_by_whoever_comes_later(engine: Engine, there: Receiver) -> None:
    subscribe(engine, there.address + "/ok")
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    with engine.begin() as connection:
        connection.execute(text("UPDATE message SET leased_until = NULL, due_at = '2020-01-01'"))
    dispatch(engine, "SELECT true", dispatchers=2)
    assert len(there.got) == 1


def test_a_digest_is_one_message_and_a_cap_holds_back(engine: Engine, there: Receiver) -> None:
    digest = subscribe(engine, there.address + "/ok/digest", digest_minutes=60)
    capped = subscribe(engine, there.address + "/ok/capped", cap_per_hour=2)
    fire(engine, *(alert(n, f"inc{n}") for n in range(1, 5)))
    with engine.begin() as connection:
        connection.execute(text("UPDATE message SET due_at = now() WHERE digest"))
    dispatch(engine, f"SELECT count(*) = 0 FROM message WHERE state = 'waiting' AND (subscription_id = '{digest}' OR "
             "due_at < now() + interval '1 minute')")  # fmt: skip
    assert len(there.ids("/ok/digest")) == 1
    assert len(there.ids("/ok/capped")) == 2
    assert b'"incident.digest"' in there.bodies[there.ids("/ok/digest")[0]]
    held = f"subscription_id = '{capped}' AND state = 'waiting'"
    waiting = rows(engine, f"SELECT attempts, leased_by FROM message WHERE {held}")
    assert waiting == [(0, None), (0, None)]


def test_pause_keeps_and_resume_sends(engine: Engine, there: Receiver) -> None:
    new, store = subscribe(engine, there.address + "/ok"), Subscriptions(engine, "live")
    fire(engine, alert())
    store.stand(new, Standing.PAUSED)
    fire(engine, alert(2, "inc2"))
    dispatch(engine, "SELECT true")
    assert there.got == []
    store.stand(new, Standing.ACTIVE)
    dispatch(engine, NONE_WAITS)
    assert len(there.got) == 1


def test_a_stream_resumes_after_the_last_number(engine: Engine) -> None:
    store = Subscriptions(engine, "live")
    new = subscribe(engine, channel=Channel.STREAM, filter=Filter(topics=("credit",)))
    fire(engine, alert(1), alert(2, "inc2", topic="fraud"), alert(3, "inc3"))
    assert [found.seq for found in store.after(new, 0)] == [1, 3]
    assert [found.seq for found in store.after(new, 1)] == [3]
    assert store.newest(new) == 3
    assert rows(engine, "SELECT count(*) FROM message") == [(0,)]


def test_a_zone_that_this_machine_does_not_know_is_logged_and_holds_up_nobody(engine: Engine, there: Receiver) -> None:
    night = quiet_hours("Europe/Berlin", "22:00", "07:00", except_critical=False)
    for _ in range(FIRST + 1):
        subscribe(engine, there.address + "/ok", quiet=night)
    with engine.begin() as connection:
        connection.execute(text("UPDATE subscription SET quiet = jsonb_set(quiet, '{zone}', '\"Europe/Atlantis\"')"))
    subscribe(engine, there.address + "/ok")
    fire(engine, alert())
    dispatch(engine, NONE_WAITS)
    assert len(there.ids("/ok")) == 1
    ends = rows(engine, "SELECT state, count(*) FROM message GROUP BY 1 ORDER BY 1")
    assert ends == [("failed", FIRST + 1), ("sent", 1)]
    tried = rows(engine, "SELECT DISTINCT attempt, outcome FROM delivery WHERE detail LIKE '%Atlantis%' ORDER BY 1")
    assert tried == [*((n, "retry") for n in range(1, len(FAST) + 1)), (len(FAST) + 1, "failed")]


def held_then_sent(engine: Engine) -> list[list[tuple[str, str]]]:
    """Holds all that waits until one moment, then sends it: incident and cause, claim by claim."""
    box, claims, now = PostgresOutbox(engine), list[list[tuple[str, str]]](), datetime.now(UTC)
    while found := box.claim("d", 100, {}, 60.0):
        box.record("d", [Result(one, Outcome.HELD, now, Reply(None), now + timedelta(hours=1)) for one in found])
    with engine.begin() as connection:
        connection.execute(text("UPDATE message SET due_at = (SELECT min(due_at) FROM message) - interval '2 hours'"))
    while found := box.claim("d", 100, {}, 60.0):
        claims.append([(one.alerts[0].incident_id, one.alerts[0].cause) for one in found])
        assert box.claim("e", 100, {}, 60.0) == []  # the ends do not go while the beginnings are under way
        box.record("d", [Result(one, Outcome.SENT, now, Reply(200)) for one in found])
    return claims


def test_what_was_held_is_sent_in_its_order_and_no_end_before_its_beginning(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    names = [f"inc{n}" for n in range(6)]
    for n, name in enumerate(names):
        fire(engine, alert(2 * n + 1, name))
        fire(engine, alert(2 * n + 2, name, state="resolved", cause="resolved"))
    assert held_then_sent(engine) == [[(name, cause) for name in names] for cause in ("fired", "resolved")]


def test_under_a_cap_what_is_critical_goes_first_and_the_rest_in_its_order(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/", cap_per_hour=100)
    fire(engine, *(alert(n, f"small{n}") for n in (1, 2)))
    fire(engine, alert(3, "crisis", severity="critical"))
    fire(engine, alert(4, "crisis", severity="critical", state="resolved", cause="resolved"))
    fire(engine, alert(5, "small5"))
    sent = [one for claim in held_then_sent(engine) for one in claim]
    assert sent == [("crisis", "fired"), ("crisis", "resolved"), *((f"small{n}", "fired") for n in (1, 2, 5))]
