"""The outbox after the sending: what waits, and dropping what was delivered long ago, in bounded batches.

What must stay, whatever its age:
 1. Messages that were not delivered, with their log: those that wait, and those that were given up.
 2. What was told of an incident that goes on: its end goes to exactly those who were told, and that is read here.
 3. The rows of streams: nobody says what their subscribers have read, and they resume from any number.
"""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.errors import database

BATCH = 1000
"""Messages per transaction, with what hangs on them: some tens of milliseconds."""

_OLD = """
    FROM message m WHERE m.state = 'sent' AND m.done_at < clock_timestamp() - make_interval(days => :days)
    AND NOT EXISTS (SELECT FROM outbox o JOIN incident i USING (run, incident_id)
                    WHERE o.message_id = m.message_id AND i.state NOT IN ('resolved', 'lapsed'))
"""
_PRUNE = text(f"""
    WITH old AS MATERIALIZED (
        SELECT m.message_id, m.subscription_id {_OLD} LIMIT :batch FOR UPDATE OF m SKIP LOCKED
    ), untold AS (
        DELETE FROM outbox o USING old WHERE o.message_id = old.message_id RETURNING 1
    ), unlogged AS (
        DELETE FROM delivery d USING old
        WHERE d.message_id = old.message_id AND d.subscription_id = old.subscription_id RETURNING 1
    ), gone AS (
        DELETE FROM message m USING old WHERE m.message_id = old.message_id RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) AS messages, (SELECT count(*) FROM untold) AS outbox,
           (SELECT count(*) FROM unlogged) AS deliveries
""")
# Tests that somebody asked for are logged without a message.
_PRUNE_TESTS = text("""
    DELETE FROM delivery WHERE ctid = ANY(ARRAY(
        SELECT d.ctid FROM delivery d WHERE d.at < clock_timestamp() - make_interval(days => :days)
        AND NOT EXISTS (SELECT FROM message m WHERE m.message_id = d.message_id) LIMIT :batch FOR UPDATE SKIP LOCKED))
""")
_WAITING = text("""
    SELECT count(*) AS waiting,
           coalesce(extract(epoch FROM clock_timestamp() - min(m.created_at)), 0) AS oldest,
           coalesce(extract(epoch FROM clock_timestamp() - min(m.due_at)), 0) AS overdue
    FROM message m JOIN subscription s USING (subscription_id) WHERE m.state = 'waiting' AND s.state = 'active'
""")


@dataclass(frozen=True, slots=True)
class Pruned:
    """Rows that were dropped."""

    messages: int = 0
    outbox: int = 0
    deliveries: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        """Both together."""
        return Pruned(
            self.messages + other.messages, self.outbox + other.outbox, self.deliveries + other.deliveries
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Waiting:
    """Messages that wait, of subscriptions that are served.

    Attributes:
        oldest_seconds: since the oldest of them was written: what waits for a digest, a cap or the end of quiet hours
            counts too.
        overdue_seconds: since the first of them could have gone; 0 when none could.
    """

    count: int
    oldest_seconds: float
    overdue_seconds: float


def prune(engine: Engine, days: int, batch: int = BATCH) -> tuple[Pruned, bool]:
    """Drops one batch of what was delivered more than `days` ago; safe beside dispatchers and other calls.

    Returns:
        What was dropped, and whether there may be more.

    Raises:
        DatabaseError: nothing of this batch was dropped; safe to call again.
    """
    values = {"days": days, "batch": batch}
    with database("dropping old deliveries"), engine.begin() as connection:
        row = connection.execute(_PRUNE, values).one()
        tests = int(connection.execute(_PRUNE_TESTS, values).rowcount)
    return Pruned(row.messages, row.outbox, row.deliveries + tests), batch in (row.messages, tests)


def waiting(engine: Engine) -> Waiting:
    """What waits now.

    Raises:
        DatabaseError: the database cannot be asked.
    """
    with database("counting what waits"), engine.connect() as connection:
        row = connection.execute(_WAITING).one()
    return Waiting(row.waiting, float(row.oldest), max(0.0, float(row.overdue)))
