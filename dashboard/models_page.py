"""The page of models: what is live, what became of deployments, how far a shadow agrees with what was published."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dash import html
from sqlalchemy import Engine

from crosswind.dashboard.components import NOTHING, per_cent, when
from crosswind.dashboard.forms import button
from crosswind.dashboard.i18n import _
from crosswind.export.bundle import Manifest
from crosswind.stream.adapters.postgres import score_versions
from crosswind.stream.adapters.postgres.deployments import Live, PostgresDeployments
from crosswind.stream.service.deployment import Deployment, Slot

ENTRIES = 50
_PATH = "/api/v1/models"
EXAMPLES = 10


@dataclass(frozen=True, slots=True)
class Models:
    """Everything behind the page.

    Attributes:
        shadow: the bundle that is compared beside the live one; None: none is.
        compared: how far it agrees, per language (`*`: all).
        examples: articles that it judges otherwise.
        wanted: the newest deployment; None: there was none.
        former: version of what a rollback puts live; None: nothing else was live before.
    """

    live: Live | None
    shadow: Deployment | None
    history: list[dict[str, Any]]
    compared: list[dict[str, Any]]
    examples: list[dict[str, Any]]
    wanted: Deployment | None = None
    former: str | None = None

    @property
    def newest(self) -> int:
        """The newest deployment's number, 0: none. Who puts another one live says that they have seen it."""
        return self.wanted.seq if self.wanted else 0


def read(engine: Engine, run: str) -> Models:
    """What the page shows. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    book = PostgresDeployments(engine)
    shadow = book.wanted(run, Slot.SHADOW)
    shadow = shadow if shadow and shadow.version else None
    compared, examples = [], []
    if shadow:
        found = score_versions.compared(engine, run, shadow.version, shadow.at)
        compared = [row for row in found if row["topic"] == "*"]
        examples = score_versions.examples(engine, run, shadow.version, shadow.at, EXAMPLES)
    former, wanted = book.before(run), book.wanted(run, Slot.LIVE)
    return Models(book.live_at(run), shadow, book.history(run, ENTRIES), compared, examples, wanted,
                  former[0] if former else None)  # fmt: skip


def page(found: Models, bundles: Sequence[Manifest] = (), problem: str = "") -> list[Any]:
    """The page's content.

    Args:
        bundles: those that whoever looks may put live, the shipped one first; none: nothing to press.
        problem: why they cannot be listed.
    """
    acting = [_bundles(found, bundles, problem)] if bundles or problem else []
    return [
        html.Section([html.H2(_("Live")), _live(found.live), *_pending(found)], className="panel"),
        *acting,
        html.Section([html.H2(_("In shadow")), *_shadow(found)], className="panel"),
        html.Section([html.H2(_("History")), _history(found.history)], className="panel"),
    ]


def _live(live: Live | None) -> Any:
    if live is None:
        return html.P(_("No worker has started yet."), className="quiet")
    what = [
        html.Code(live.version),
        " ",
        _("since"),
        " ",
        when(live.at),
        " UTC, ",
        _("worker"),
        " ",
        html.Code(live.worker),
    ]
    return html.P([html.Span(_("● live"), className="badge live"), " ", *what])


def _pending(found: Models) -> list[Any]:
    if found.wanted is None or (found.live and found.live.version == found.wanted.version):
        return []
    said = _("is to be live since {at} UTC: workers load it, or the history says why they refused it.",
             at=f"{found.wanted.at:%Y-%m-%d %H:%M}")  # fmt: skip
    return [html.P([html.Code(found.wanted.version), " ", said])]


def _bundles(found: Models, bundles: Sequence[Manifest], problem: str) -> Any:
    columns = (_("Name"), _("Version"), _("Weights"), _("Languages"), "")
    rows = [
        [html.Bdi(bundle.name, dir="auto"), html.Code(bundle.version), bundle.precision, len(bundle.languages),
         _deploy(found, bundle)]
        for bundle in bundles
    ]  # fmt: skip
    head = html.Div([html.H2(_("Bundles")), *_rollback(found)], className="heading")
    broken = [html.P(["✕ ", html.Bdi(problem)], className="problem", role="alert")] if problem else []
    listed = [table(columns, rows, "")] if bundles else []
    return html.Section([head, *broken, *listed], className="panel", id="bundles")


def _deploy(found: Models, bundle: Manifest) -> Any:
    current = found.wanted.version if found.wanted else found.live.version if found.live else ""
    if bundle.version == current:
        return html.Span(_("● chosen"), className="badge live")
    asked = _("Put {name} ({version}) live? It scores every article from then on.", name=bundle.name,
              version=bundle.version)  # fmt: skip
    body = {"bundle": bundle.version, "over": found.newest}
    return button(_("Put live"), f"{_PATH}/deployments", body, asks=asked)


def _rollback(found: Models) -> list[Any]:
    if found.former is None:
        return []
    asked = _("Put {version} live again, which was live before?", version=found.former)
    back = button(_("Roll back"), f"{_PATH}/rollback", {"over": found.newest}, asks=asked)
    return [back, html.Code(found.former)]


def _shadow(found: Models) -> list[Any]:
    if found.shadow is None:
        return [html.P([_("No bundle is compared beside the live one. Start with:"), " ",
                        html.Code("crosswind models shadow")], className="quiet")]  # fmt: skip
    share = per_cent(found.shadow.share_ppm / 1e6)
    said = _("scores {share} of the articles since", share=share)
    head = html.P([html.Code(found.shadow.version), " ", said, " ", when(found.shadow.at)])
    names = (_("Language"), _("Articles"), _("Sentiment differs"), _("Topic differs"), _("Newly negative"))
    columns = (*names, _("No longer negative"))
    rows = [[(_("all") if row["lang"] == "*" else row["lang"]), f"{row['articles']:,}", *_differences(row)]
            for row in found.compared]  # fmt: skip
    return [head, table(columns, rows, _("No article is scored by it yet.")), *_examples(found.examples)]


def _differences(row: dict[str, Any]) -> list[str]:
    shares = [per_cent(row[name] / row["articles"]) for name in ("sentiment_differs", "topic_differs")]
    return [*shares, f"{row['newly_negative']:,}", f"{row['no_longer_negative']:,}"]


def _examples(found: Sequence[dict[str, Any]]) -> list[Any]:
    if not found:
        return []
    rows = [
        [html.Bdi(row["title"], dir="auto"), html.Bdi(row["lang"]), f"{row['topic']}, {row['sentiment']}",
         f"{row['candidate_topic']}, {row['candidate_sentiment']}"]
        for row in found
    ]  # fmt: skip
    return [html.H3(_("Judged otherwise, the largest differences")),
            table((_("Headline"), _("Lang"), _("Published"), _("Shadow")), rows, "")]  # fmt: skip


def _history(entries: Sequence[dict[str, Any]]) -> Any:
    rows = [
        [when(entry["at"]), html.Bdi(entry["slot"]), html.Bdi(entry["what"]), html.Code(entry["version"] or NOTHING),
         html.Bdi(entry["worker"] or NOTHING), html.Bdi(entry["message"])]
        for entry in entries
    ]  # fmt: skip
    return table(
        (_("Time (UTC)"), _("Slot"), _("What"), _("Version"), _("worker"), _("Message")),
        rows,
        _("Nothing was deployed yet."),
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str) -> Any:
    """A plain table that scrolls by itself where the page is narrow."""
    if not rows:
        return html.P(nothing, className="quiet")
    head = html.Thead(html.Tr([html.Th(name, scope="col") if name else html.Td() for name in columns]))
    body = html.Tbody([html.Tr([html.Td(cell) for cell in row]) for row in rows])
    return html.Div(html.Table([head, body], className="plain"), className="scrolls", tabIndex=0)
