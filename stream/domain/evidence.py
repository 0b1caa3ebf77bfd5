"""What a surge rests on: how many sources and headlines, in which languages, and the articles that tell it best."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from crosswind.stream.domain.series import Counting, Mention

TELLING = 5
"""Article ids that an incident carries."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The negative articles of a window, summed up.

    Attributes:
        headlines: distinct ones of what the rule counts: stories, headlines or articles.
        articles: ids of the most negative articles, one for each that is counted, the most telling first.
        model: the bundle that scored most of them.
    """

    sources: int = 0
    headlines: int = 0
    languages: tuple[str, ...] = ()
    articles: tuple[str, ...] = ()
    model: str = ""


NOTHING = Evidence()
"""The evidence of no article."""


def gather(mentions: Sequence[Mention], counting: Counting = Counting.STORIES) -> Evidence:
    """The evidence of some negative articles; their order does not matter. Sources are those of every copy.

    >>> gather([]).headlines
    0
    """
    if not mentions:
        return NOTHING
    best: dict[str, Mention] = {}
    for mention in sorted(mentions, key=lambda m: (-m.negative_ppm, m.minute, m.article_id)):
        best.setdefault(mention.counted_as(counting), mention)
    models = Counter(mention.model for mention in mentions)
    return Evidence(
        sources=len({mention.source for mention in mentions}),
        headlines=len(best),
        languages=tuple(sorted({mention.lang for mention in mentions})),
        articles=tuple(mention.article_id for mention in best.values())[:TELLING],
        model=min(models, key=lambda name: (-models[name], name)),
    )


def corroborated(mentions: Sequence[Mention], counting: Counting = Counting.STORIES) -> float:
    """How many different things the negative articles of a window surely tell.

    Headlines and articles are counted, also those of articles without a story. A story that is told in free
    translations may be taken for several, one for each group of languages. So stories count in full as far as one
    language tells them, and beyond that by half.

    >>> corroborated([])
    0.0
    """
    told: dict[str, set[str]] = {}
    apart = set[str]()
    for mention in mentions:
        if counting is Counting.STORIES and mention.story:
            told.setdefault(mention.lang, set()).add(mention.story)
        else:
            apart.add(mention.counted_as(counting))
    together = len(set[str]().union(*told.values()))
    return len(apart) + (max(map(len, told.values()), default=0) + together) / 2
