"""What the workers say of a deployment."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crosswind.errors import ModelError

if TYPE_CHECKING:
    from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
    from crosswind.stream.service.deployment import Deployment

SHOWN = 3
"""Silent workers that are named at most: there is no word of a worker's end, so there may be many."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The last word of each worker that said something, and the names of those that seem to run and did not.

    Attributes:
        heard: kind, worker, message, at; in the order of their first words.
    """

    wished: "Deployment"
    heard: list[dict[str, Any]]
    silent: list[str]

    @property
    def seconds(self) -> float | None:
        """From the wish to the first word; None: there is none yet."""
        return min((row["at"] - self.wished.at).total_seconds() for row in self.heard) if self.heard else None

    @property
    def remark(self) -> str:
        """What a worker that took it up has to say besides; mostly empty."""
        return next((row["message"] for row in self.heard if row["kind"] != "failed" and row["message"]), "")

    def said(self) -> str:
        """For a person, e.g. `active in 2 after 1.8 s`.

        Raises:
            ModelError: a worker refused it.
        """
        refused = [row for row in self.heard if row["kind"] == "failed"]
        taken = [row for row in self.heard if row["kind"] != "failed"]
        if refused and not taken:
            raise ModelError(f"{self.wished.version} was refused, the former bundle stays: {refused[0]['message']}")
        if refused:
            raise ModelError(
                f"{self.wished.version} is {taken[0]['kind']} in {len(taken)}, refused in {len(refused)}: "
                f"{refused[0]['worker']}: {refused[0]['message']}{self._waiting()}; a new deployment or "
                "`crosswind models rollback` makes them alike"
            )
        if not taken:
            return "no worker has taken it up yet"
        many = f" in {len(taken)}" if len(taken) > 1 or self.silent else ""
        remark = f"; {self.remark}" if self.remark else ""
        return f"{taken[0]['kind']}{many} after {self.seconds:.1f} s{self._waiting()}{remark}"

    def _waiting(self) -> str:
        if not self.silent:
            return ""
        more = f" and {len(self.silent) - SHOWN} more" if len(self.silent) > SHOWN else ""
        return f"; no word yet from {', '.join(self.silent[:SHOWN])}{more}"


def answers(book: "PostgresDeployments", run: str, wished: "Deployment", wait: float) -> Answers:
    """Waits until every worker that seems to run has spoken, for `wait` seconds at most.

    Raises:
        DatabaseError: the events cannot be read.
    """
    deadline = time.monotonic() + wait
    while True:
        heard = list({row["worker"]: row for row in book.outcomes(run, wished.seq)}.values())
        silent = book.silent(run, wished)
        if (heard and not silent) or time.monotonic() >= deadline:
            return Answers(wished, heard, silent if heard else [])
        time.sleep(0.1)
