"""Digests of what a run starts from: a checkpoint goes on only over the same weights and data."""

import hashlib
from collections.abc import Iterable

import torch

from crosswind.models.network import Network


def of_weights(network: Network) -> str:
    """A digest of every tensor's name, shape, type and bytes, wherever it lies."""
    made = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(network.state_dict().items()):
        made.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        made.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return made.hexdigest()


def of_items(items: Iterable[object]) -> str:
    """A digest of rows, pairs or tasks in their order, every field of them."""
    made = hashlib.blake2b(digest_size=16)
    for item in items:
        made.update(f"{item!r}\n".encode())
    return made.hexdigest()
