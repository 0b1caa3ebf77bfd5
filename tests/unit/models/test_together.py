import os
import socket
import subprocess
import sys

from crosswind.models import together

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


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def test_alone_nobody_is_met() -> None:
    assert together.join() == (0, 1)
    assert (together.rank(), together.world()) == (0, 1)


def test_two_processes_average_what_learns_and_stop_together() -> None:
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", CODE], env={**shared, "RANK": str(r)}, stdout=subprocess.PIPE, text=True
        )
        for r in range(2)
    ]
    outputs = [run.communicate(timeout=120)[0].strip() for run in runs]
    assert outputs == ["[2.0, 5.0] [0.0] True 2", "[2.0, 5.0] [1.0] True 2"]
