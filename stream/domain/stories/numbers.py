"""Stories by their numbers, which are given in order: a list takes a tenth of the room that a dict takes."""

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.stories.story import Story

_SMALLEST = 1024


class Numbers:
    """Numbers to stories; several may be one story's, of those that became a part of it.

    What is over lies nearly all at the beginning, and is cut off there when new numbers come.
    """

    def __init__(self) -> None:
        self._held: list[Story | None] = []
        self._base = self._gone = 0

    def __contains__(self, number: int) -> bool:
        return self.get(number) is not None

    def __getitem__(self, number: int) -> Story:
        found = self.get(number)
        if found is None:
            raise KeyError(number)
        return found

    def get(self, number: int) -> Story | None:
        """The story that has the number; None where it is over."""
        place = number - self._base
        return self._held[place] if 0 <= place < len(self._held) else None

    def begin(self, number: int, story: Story) -> None:
        """Gives a story a number that is higher than all before."""
        if self._gone > max(_SMALLEST, len(self._held) // 2):
            self._cut()
        if not self._held:
            self._base = number
        skipped = number - self._base - len(self._held)
        self._held += [None] * skipped
        self._gone += skipped
        self._held.append(story)

    def give(self, number: int, story: Story) -> None:
        """Gives a number that another story had, and that has just been dropped, to a story."""
        self._gone -= self._held[number - self._base] is None
        self._held[number - self._base] = story

    def drop(self, number: int) -> None:
        """The story that has the number is over."""
        self._held[number - self._base] = None
        self._gone += 1

    def alive(self, numbers: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Which of some numbers [n] are a story's."""
        there = np.fromiter((one is not None for one in self._held), bool, len(self._held))
        places = numbers.astype(np.int64) - self._base
        found = (places >= 0) & (places < len(there))
        found[found] = there[places[found]]
        return found

    def _cut(self) -> None:
        first = next((place for place, one in enumerate(self._held) if one is not None), len(self._held))
        del self._held[:first]
        self._base += first
        self._gone -= first
