"""How many messages may be under way to one receiver: few at first, more while it answers, one while it does not."""

from dataclasses import dataclass, field

FIRST, MOST = 8, 512
"""Messages under way to a host that nothing is known of, and to one that has answered all along."""
REMEMBERED = 10_000


@dataclass
class Pace:
    """Additive increase, collapse on failure, per lane (a receiver's host).

    >>> pace = Pace()
    >>> pace.starts("a"); pace.ends("a", well=False); pace.room("a"), pace.room("b")
    (1, 8)
    """

    _caps: dict[str, int] = field(default_factory=dict)
    _under_way: dict[str, int] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, int]:
        """Room per lane, of the lanes whose room is not `FIRST`."""
        return {lane: self.room(lane) for lane in self._caps.keys() | self._under_way.keys()}

    def room(self, lane: str) -> int:
        """How many more may start."""
        return max(0, self._caps.get(lane, FIRST) - self._under_way.get(lane, 0))

    def starts(self, lane: str) -> None:
        """One is under way."""
        self._under_way[lane] = self._under_way.get(lane, 0) + 1

    def ends(self, lane: str, well: bool) -> None:
        """One came back."""
        left = self._under_way.pop(lane, 1) - 1
        if left > 0:
            self._under_way[lane] = left
        self._caps[lane] = min(MOST, self._caps.get(lane, FIRST) + 1) if well else 1
        if len(self._caps) > REMEMBERED:
            self._caps.pop(next(iter(self._caps)))
