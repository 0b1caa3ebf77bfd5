"""A thin typed client of the API, for scripts and for our own command line.

    with Client("http://127.0.0.1:8050") as client:
        for article in client.articles(topics=["credit"], sentiment="negative"):
            print(article.published_at, article.title)
"""

import ipaddress
import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter

from crosswind.dashboard.api import TrendsOut
from crosswind.dashboard.feeds import Feeds
from crosswind.dashboard.orders import Me
from crosswind.dashboard.queries import Article, Incident, Status
from crosswind.dashboard.rules_desk import PreviewOut, RulesOut
from crosswind.dashboard.subscription_models import DeliveryOut, SubscriptionIn, SubscriptionMade, SubscriptionOut
from crosswind.dashboard.versions import Version
from crosswind.dashboard.work_models import BacktestIn, BacktestOut, BundleOut, ModelsOut, RunOut, Wanted
from crosswind.errors import DataError, ServiceError
from crosswind.stream.domain.silence import Silence

T = TypeVar("T")


class Client:
    """Methods block; they raise ServiceError when the dashboard does not answer, DataError when it refuses.

    Args:
        address: of the dashboard, e.g. `http://127.0.0.1:8050`.
        token: `cwt_…`, for subscriptions where people must log in.
        transport: of httpx; tests pass one of their own.
    """

    def __init__(
        self, address: str, token: str = "", *, timeout: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport,
                                  trust_env=not _is_loopback(address))  # fmt: skip

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Closes its connections."""
        self._http.close()

    def healthy(self) -> bool:
        """Whether the dashboard answers. Raises nothing."""
        try:
            return self._http.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    def me(self) -> Me:
        """Who asks, as the dashboard sees it."""
        return self._get("me", Me)

    def status(self) -> Status:
        """How fresh the data is."""
        return self._get("status", Status)

    def trends(self, range: str = "48h", topics: Sequence[str] = (), langs: Sequence[str] = ()) -> TrendsOut:
        """Articles and negative share per topic, in bins of event time."""
        return self._get("trends", TrendsOut, range=range, topic=topics, lang=langs)

    def articles(
        self, *, topics: Sequence[str] = (), langs: Sequence[str] = (), sentiment: str | None = None,
        start: datetime | None = None, end: datetime | None = None, page: int = 200,
    ) -> Iterator[Article]:  # fmt: skip
        """Articles, newest first, fetched page by page as they are read."""
        yield from self._pages("articles", "articles", Article, topic=topics, lang=langs, sentiment=sentiment,
                               start=start, end=end, limit=page)  # fmt: skip

    def incidents(
        self, *, topics: Sequence[str] = (), langs: Sequence[str] = (), start: datetime | None = None,
        end: datetime | None = None,
    ) -> Iterator[Incident]:  # fmt: skip
        """Surges of bad news that were open at some time of the span, newest first."""
        yield from self._pages("incidents", "incidents", Incident, topic=topics, lang=langs, start=start, end=end)

    def acknowledge(self, incident_id: str) -> str:
        """Takes an incident on; returns who has it."""
        return str(self._send("POST", f"incidents/{incident_id}/acknowledge")["acknowledged_by"])

    def silences(self) -> list[Silence]:
        """Silences in force."""
        return self._get("silences", list[Silence])

    def subscriptions(self) -> list[SubscriptionOut]:
        """The caller's subscriptions."""
        return self._get("subscriptions", list[SubscriptionOut])

    def subscribe(self, wanted: SubscriptionIn) -> SubscriptionMade:
        """Makes a subscription; its signing key is shown this once."""
        return _typed(self._send("POST", "subscriptions", wanted.model_dump(mode="json")), SubscriptionMade)

    def test(self, subscription_id: str) -> DeliveryOut:
        """Sends a subscription a test message now."""
        return _typed(self._send("POST", f"subscriptions/{subscription_id}/test"), DeliveryOut)

    def rules(self) -> RulesOut:
        """The rules in use."""
        return self._get("rules", RulesOut)

    def preview(self, text: str, days: int = 30) -> PreviewOut:
        """What rules would have said of the last days."""
        return _typed(self._send("POST", "rules/preview", {"text": text, "days": days}), PreviewOut)

    def save_rules(self, text: str, over: str, checked: str) -> RulesOut:
        """Saves rules that were previewed (`checked`), over those that were read (`over`, their digest)."""
        return _typed(self._send("PUT", "rules", {"text": text, "over": over, "checked": checked}), RulesOut)

    def backtest(self, wanted: BacktestIn) -> BacktestOut:
        """Starts a backtest; `backtest_of` tells how far it is."""
        return _typed(self._send("POST", "backtests", wanted.model_dump(mode="json")), BacktestOut)

    def backtest_of(self, backtest_id: str) -> BacktestOut:
        """One backtest, or how far it is."""
        return self._get(f"backtests/{backtest_id}", BacktestOut)

    def backtests(self) -> Iterator[BacktestOut]:
        """All of them, newest first."""
        yield from self._pages("backtests", "backtests", BacktestOut)

    def runs(self) -> Iterator[RunOut]:
        """Replays whose rows are in the dashboard's database, newest first."""
        yield from self._pages("runs", "runs", RunOut)

    def models(self) -> ModelsOut:
        """Which bundles judge articles, and their history."""
        return self._get("models", ModelsOut)

    def bundles(self) -> list[BundleOut]:
        """Bundles that can be put live, the shipped one first."""
        return self._get("models/bundles", list[BundleOut])

    def deploy(self, bundle: str, over: int | None = None) -> Wanted:
        """Puts a bundle live; refused when there is a newer deployment than `over`."""
        return _typed(self._send("POST", "models/deployments", {"bundle": bundle, "over": over}), Wanted)

    def roll_back(self, to: str = "", over: int | None = None) -> Wanted:
        """Puts live what was live before, or `to`; refused when there is a newer deployment than `over`."""
        return _typed(self._send("POST", "models/rollback", {"to": to, "over": over}), Wanted)

    def feeds(self) -> Feeds:
        """How each source has been delivering lately."""
        return self._get("feeds", Feeds)

    def versions(self, article_id: str, as_of: datetime | None = None) -> list[Version]:
        """What an article said when, oldest first, or as far as it was known at a moment."""
        return self._get(f"articles/{quote(article_id, safe='')}/versions", list[Version], as_of=as_of)

    def _pages(self, path: str, name: str, kind: type[T], **asked: Any) -> Iterator[T]:
        before = ""
        while True:
            answer = self._send("GET", path, None, before=before or None, **asked)
            for row in answer[name]:
                yield _typed(row, kind)
            before = answer["next"] or ""
            if not before:
                return

    def _get(self, path: str, kind: type[T], **asked: Any) -> T:
        return _typed(self._send("GET", path, None, **asked), kind)

    def _send(self, method: str, path: str, body: Any = None, **asked: Any) -> Any:
        query = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in asked.items()
                 if value is not None}  # fmt: skip
        try:
            answer = self._http.request(method, f"/api/v1/{path}", params=query, json=body)
        except httpx.HTTPError as error:
            said = str(error) or type(error).__name__
            raise ServiceError(f"the dashboard at {self._http.base_url} does not answer: {said};"
                               " is `crosswind dashboard` running?") from error  # fmt: skip
        if answer.is_success:
            return answer.json() if answer.content else None
        raise DataError(f"{method} {path}: {_problem(answer)}")


def _is_loopback(address: str) -> bool:
    """Whether that is this machine itself, to which no proxy of the environment leads.

    >>> [_is_loopback(f"http://{host}:8050") for host in ("127.0.0.1", "[::1]", "localhost", "news.example.com")]
    [True, True, True, False]
    """
    host = httpx.URL(address).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _problem(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["detail"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {answer.status_code}"


def _typed(value: Any, kind: type[T]) -> T:
    """The answer as its type; a newer dashboard's further fields are ignored."""
    return TypeAdapter(kind).validate_python(value)
