"""The outbox is what the pure rules say, in the transition's transaction; its tables are those of the migrations."""

import random

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres import subscription_tables
from crosswind.stream.adapters.postgres.outbox import enqueue
from crosswind.stream.adapters.postgres.schema import Base
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.subscription import Channel, Filter, over, wants
from tests.notify_helpers import alert, fire, put, rows, subscribe

SEED = 7
TOPICS, LANGS, ENTITIES = ["credit", "fraud", "*"], ["en", "de", "ja", "*"], ["*", "*", "Tesla"]
CAUSES = [("firing", "fired"), ("firing", "repeated"), ("firing", "escalated"), ("resolved", "resolved"),
          ("pending", "opened"), ("no_data", "no_data"), ("lapsed", "lapsed")]  # fmt: skip


def some(rng: random.Random, words: list[str]) -> tuple[str, ...]:
    return tuple(rng.sample([w for w in words if w != "*"], rng.choice([0, 0, 1])))


def random_alert(rng: random.Random, seq: int) -> Alert:
    state, cause = rng.choice(CAUSES)
    number = rng.randrange(18)
    return alert(
        seq, f"inc{number}", state=state, cause=cause, topic=rng.choice(TOPICS), lang=rng.choice(LANGS),
        entity=rng.choice(ENTITIES), severity=rng.choice(["warning", "critical"]), silenced=rng.random() < 0.1,
        group=f"inc{number // 3 * 3}", languages=rng.sample(["en", "de", "ja"], 2),
    )  # fmt: skip


def test_the_outbox_equals_the_oracle(engine: Engine) -> None:
    rng = random.Random(SEED)
    filters = [Filter(some(rng, TOPICS), some(rng, LANGS), some(rng, ENTITIES), rng.choice(["warning", "critical"]))
               for _ in range(40)]  # fmt: skip
    wanted = {subscribe(engine, channel=Channel.STREAM, filter=each): each for each in filters}
    alerts = [random_alert(rng, seq) for seq in range(1, 61)]
    expected: set[tuple[str, int, str]] = set()
    group, ended, muted = {one.incident_id: one.group for one in alerts}, set[str](), 0
    for one in alerts:
        told = {who for incident, _, who in expected if incident == one.incident_id}
        others = {who for incident, _, who in expected
                  if incident not in {one.incident_id, *ended} and group[incident] == one.group}  # fmt: skip
        got = {who for who, each in wanted.items() if wants(each, one, who in told, who in others)}
        muted += sum(wants(each, one, who in told) for who, each in wanted.items()) - len(got)
        expected |= {(one.incident_id, one.seq, who) for who in got}
        ended |= {one.incident_id} if over(one) else set()
    for start in range(0, 60, 7):
        fire(engine, *alerts[start : start + 7])
    found = rows(engine, "SELECT incident_id, seq, subscription_id FROM outbox")
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert 100 < len(expected) < 2000
    assert muted > 100


def test_what_ended_within_the_same_tick_was_open_until_then(engine: Engine) -> None:
    """The incident's row is as it is after the tick; who is told goes by the transitions before each."""
    subscribe(engine, channel=Channel.STREAM)
    follows = {"incident": "inc2", "group": "inc1"}
    fire(
        engine, alert(1), alert(2, **follows), alert(3, state="resolved", cause="resolved"),
        alert(4, **follows, cause="escalated"), alert(5, **follows, cause="repeated"),
    )  # fmt: skip
    assert rows(engine, "SELECT seq FROM outbox ORDER BY seq") == [(1,), (3,), (4,), (5,)]


def test_writing_it_again_changes_nothing(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    subscribe(engine, "http://127.0.0.1:1/", digest_minutes=5)
    fire(engine, alert())
    before = rows(engine, "SELECT * FROM outbox ORDER BY 4") + rows(engine, "SELECT * FROM message WHERE NOT digest")
    with engine.begin() as connection:
        enqueue(connection, "live", [alert()])
    after = rows(engine, "SELECT * FROM outbox ORDER BY 4") + rows(engine, "SELECT * FROM message WHERE NOT digest")
    assert before == after
    assert len(after) == 3


def test_a_transaction_that_fails_leaves_nothing(engine: Engine) -> None:
    subscribe(engine, "http://127.0.0.1:1/")
    with engine.connect() as connection, connection.begin() as transaction:
        put(connection, alert())
        assert connection.execute(text("SELECT count(*) FROM message")).scalar_one() == 1
        transaction.rollback()
    assert rows(engine, "SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM message)") == [(0,)]


def test_another_run_and_a_paused_subscriber_get_nothing(engine: Engine) -> None:
    subscribe(engine, channel=Channel.STREAM)
    with engine.begin() as connection:
        put(connection, alert())
        enqueue(connection, "replay-1", [alert()])
    assert rows(engine, "SELECT run FROM outbox") == [("live",)]


def test_the_migration_makes_the_tables_that_the_code_has(engine: Engine) -> None:
    ours = {row.__tablename__ for row in vars(subscription_tables).values() if hasattr(row, "__tablename__")}
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), Base.metadata)
    assert len(ours) == 5
    assert [each for each in differences if any(name in str(each) for name in ours)] == []
