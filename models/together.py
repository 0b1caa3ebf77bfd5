"""Several processes of one thread each, training together: local SGD (Stich 2019).

On a busy machine two threads that meet after every operation wait for each other most of the time: with other jobs on
both cores one process of two threads did about 12 rows/s, and two such processes, started minutes later under a load
that was not the same, about 65 together. They train on their own share of the rows and meet every few steps.
"""

import os
from collections.abc import Iterable
from typing import Final

import torch
import torch.distributed as dist
from torch import nn

MEET_EVERY: Final = 8


def join() -> tuple[int, int]:
    """This process's number and how many there are, from RANK and WORLD_SIZE as torchrun sets them; (0, 1) alone."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("gloo", rank=rank, world_size=world)
    return rank, world


def leave() -> None:
    """Parts from the others. Without it an interpreter that ends may abort: the library's threads are still there."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number; 0 alone."""
    return int(dist.get_rank()) if dist.is_initialized() else 0


def world() -> int:
    """How many processes train together; 1 alone."""
    return int(dist.get_world_size()) if dist.is_initialized() else 1


def fewest(number: int) -> int:
    """The smallest of the processes' numbers; alone, the number."""
    if not dist.is_initialized():
        return number
    told = torch.tensor(number)
    dist.all_reduce(told, op=dist.ReduceOp.MIN)
    return int(told)


def as_first(decision: bool) -> bool:
    """The first process's decision, told to all; alone, the decision."""
    if not dist.is_initialized():
        return decision
    told = torch.tensor(int(decision))
    dist.broadcast(told, src=0)
    return bool(told)


@torch.no_grad()
def meet(parameters: Iterable[nn.Parameter], done: bool) -> bool:
    """Average the parameters over the processes, in place.

    Args:
        done: whether this process would stop.

    Returns:
        Whether any would: then all stop, since nobody can be met any more.
    """
    learning = [p for p in parameters if p.requires_grad]
    flat = torch.cat([*(p.detach().reshape(-1) for p in learning), torch.tensor([float(done)])])
    dist.all_reduce(flat)
    at = 0
    for p in learning:
        p.copy_((flat[at : at + p.numel()] / world()).reshape(p.shape))
        at += p.numel()
    return bool(flat[-1] > 0)
