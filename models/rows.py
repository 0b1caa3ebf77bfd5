"""One labelled headline, as every part of this package passes it on."""

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A headline and what is known of it.

    `topic` and `sentiment` are labels of the taxonomy, or None where unknown: the loss of that head is then masked.
    `group` keeps rows together in a split (rows of one text, one parallel sentence, one written pattern).
    """

    text: str
    lang: str
    source: str
    topic: str | None = None
    sentiment: str | None = None
    weight: float = 1.0
    group: str = ""

    def label(self, task: str) -> str | None:
        """The label of a task by its name, or None where unknown."""
        value = getattr(self, task, None)
        return value if isinstance(value, str) else None
