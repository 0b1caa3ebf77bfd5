import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from transformers import PreTrainedTokenizerFast

from crosswind.models import together
from crosswind.models.network import Manifest, Network, save_model
from crosswind.models.rows import Row
from tests.processes import PATIENCE
from tests.unit.models.tiny import TASKS

CODE = """
import torch
from crosswind.models import together
rank, world = together.join()
weight = torch.nn.Parameter(torch.tensor([1.0 + 2 * rank, 5.0]))
still = torch.nn.Parameter(torch.tensor([float(rank)]), requires_grad=False)
stop = together.meet([weight, still], done=rank == 1)
together.leave()
print(weight.tolist(), still.tolist(), stop, world)
"""

TRAIN = """
import sys
from pathlib import Path
import msgspec
from crosswind.models import together
from crosswind.models.network import load_model
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.training import Trainer
folder, learned, changes = Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
rank, _ = together.join()
rows = msgspec.json.decode((folder / "rows.json").read_bytes(), type=list[Row])
plan = Plan(folder / "run", **{"batch": 8, "freeze": 1, "align_every": 0, "half": False, "patience": 99, **changes})

def trainer():
    network, tokenizer, manifest = load_model(folder)
    return Trainer(network, tokenizer, rows[:learned], rows[learned:], [], plan, manifest)

def second_is_late(running):
    if rank == 1 and plan.minutes:
        running._since -= 120 * plan.minutes

first, again = trainer(), trainer()
first.run(second_is_late)
again.run()
together.leave()
print(first.step, first.epoch, again.step, again.epoch)
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def both(code: str, *arguments: str) -> list[str]:
    """What each of two processes that train together printed."""
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
              "OMP_NUM_THREADS": "1"}  # fmt: skip
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, *arguments], env={**shared, "RANK": str(r)}, stdout=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    try:
        return [run.communicate(timeout=120 * PATIENCE)[0].strip() for run in runs]
    finally:
        for run in runs:
            run.kill()


def test_alone_nobody_is_met() -> None:
    assert together.join() == (0, 1)
    assert (together.rank(), together.world()) == (0, 1)


def test_two_processes_average_what_learns_and_stop_together() -> None:
    assert both(CODE) == ["[2.0, 5.0] [0.0] True 2", "[2.0, 5.0] [1.0] True 2"]


@pytest.mark.parametrize(
    ("learned", "changes", "expected"),
    [
        (33, {"epochs": 6}, "12 6 12 6"),  # 17 and 16 rows: three steps and two, in batches of 8
        (32, {"epochs": 6, "patience": 1, "rate": 0.0, "head_rate": 0.0}, "4 2 4 2"),
        (32, {"epochs": 9, "minutes": 60}, "8 4 8 4"),  # the second's hour is over at once, which they say at step 8
    ],
    ids=["steps", "patience", "minutes"],
)
def test_two_processes_end_together_and_stay_so(
    network: Network, tokenizer: PreTrainedTokenizerFast, rows: list[Row], tmp_path: Path,
    learned: int, changes: dict[str, float], expected: str,
) -> None:  # fmt: skip
    save_model(tmp_path, network, tokenizer, Manifest(base="tiny", tasks=TASKS))
    (tmp_path / "rows.json").write_bytes(msgspec.json.encode(rows))
    assert both(TRAIN, str(tmp_path), str(learned), repr(changes)) == [expected, expected]
