"""The place of the live scorer: whole batches, nothing closed under a batch, all followed wishes written down."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import BundleError
from crosswind.stream.adapters.swap import SwapScorer
from crosswind.stream.domain.article import PPM, Score, Sentiment
from crosswind.stream.service.deployment import Deployer, Deployment, Event, Kind, Slot

NOW = datetime(2026, 3, 2, tzinfo=UTC)


class FakeScorer:
    provider = "fake"
    remark = ""

    def __init__(self, version: str) -> None:
        self.version = version
        self.closed = 0
        self.inside = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def score(self, texts: Sequence[str]) -> list[Score]:
        self.inside.set()
        self.go_on.wait(10)
        assert not self.closed
        return [Score("other", Sentiment.NEUTRAL, 0, PPM, 0, PPM, False, self.version) for _ in texts]

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeBook:
    wishes: list[Deployment] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    def wanted(self, run: str, slot: Slot) -> Deployment | None:
        return self.wishes[-1] if self.wishes else None

    def record(self, run: str, event: Event) -> None:
        self.events.append(event)

    def wish(self, version: str) -> None:
        self.wishes.append(Deployment(len(self.wishes) + 1, Slot.LIVE, version, "there", PPM, NOW, "deploy"))


def deployer(book: FakeBook, swap: SwapScorer, loaded: list[FakeScorer]) -> Deployer:
    def load(deployment: Deployment) -> FakeScorer:
        if deployment.version.startswith("bad"):
            raise BundleError("altered")
        if deployment.version.startswith("bug"):
            raise ZeroDivisionError("in a library")
        loaded.append(FakeScorer(deployment.version))
        return loaded[-1]

    return Deployer("live", "here", book, swap, load)


def test_a_batch_ends_on_the_bundle_it_began_on_and_only_then_is_that_freed() -> None:
    old, new, newer = FakeScorer("old"), FakeScorer("new"), FakeScorer("newer")
    old.go_on.clear()
    swap, found = SwapScorer(old), []
    batch = threading.Thread(target=lambda: found.extend(swap.score(["a", "b"])))
    batch.start()
    old.inside.wait(10)
    swap.switch(new)
    swap.switch(newer)
    assert old.closed == 0
    assert swap.score(["c"])[0].model == "newer"
    old.go_on.set()
    batch.join()
    assert [score.model for score in found] == ["old", "old"]
    assert (old.closed, new.closed, newer.closed) == (1, 0, 0)


def test_a_rollback_needs_no_loading_while_the_former_is_warm() -> None:
    old, new, loaded = FakeScorer("old"), FakeScorer("new"), []
    swap, book = SwapScorer(old, warm_seconds=60), FakeBook()
    swap.switch(new)
    follower = deployer(book, swap, loaded)
    book.wish("old")
    follower.tick()
    assert (swap.version, loaded) == ("old", [])
    swap.free_former(switched_at=0, now=61)
    assert (new.closed, old.closed) == (1, 0)
    book.wish("new")
    follower.tick()
    assert (swap.version, len(loaded)) == ("new", 1)


def test_a_bad_bundle_is_written_down_once_and_the_old_one_stays() -> None:
    swap, book = SwapScorer(FakeScorer("old")), FakeBook()
    follower = deployer(book, swap, [])
    for version in ("bad", "bug"):
        book.wish(version)
        follower.tick()
        follower.tick()
    assert swap.version == "old"
    assert [(event.kind, event.message) for event in book.events] == [
        (Kind.FAILED, "altered"),
        (Kind.FAILED, "ZeroDivisionError: in a library"),
    ]


@given(st.lists(st.sampled_from(["a", "b", "c", "bad", "bug"]), max_size=12), st.lists(st.booleans(), min_size=12))
def test_the_last_good_wish_that_was_seen_is_live_and_all_others_are_closed_once(
    wishes: list[str], ticks: list[bool]
) -> None:
    first, loaded = FakeScorer("a"), []
    swap, book = SwapScorer(first), FakeBook()
    follower = deployer(book, swap, loaded)
    expected = "a"
    for version, tick in zip(wishes, ticks):
        book.wish(version)
        if tick:
            follower.tick()
            expected = expected if version.startswith("b") and version != "b" else version
        assert swap.version == expected
        assert swap.score(["x"])[0].model == expected
    swap.close()
    assert all(scorer.closed == 1 for scorer in [first, *loaded])


def test_what_is_to_be_said_of_a_bundle_is_in_its_event() -> None:
    book, swap, loaded = FakeBook(), SwapScorer(FakeScorer("old")), list[FakeScorer]()
    follower = deployer(book, swap, loaded)
    book.wish("new")
    FakeScorer.remark = "it tells no stories"
    try:
        follower.tick()
    finally:
        FakeScorer.remark = ""
    assert [(event.kind, event.message) for event in book.events] == [(Kind.ACTIVE, "it tells no stories")]
