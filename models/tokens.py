"""The knobs of a run, and texts made ready for the layers that learn.

The lowest layers can stay frozen. They then never change, so each text passes them once, before the first step, and
the loop starts from their remembered output: with 4 of 12 layers frozen that is two thirds of the arithmetic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from crosswind.models.encoder import embed, layers_of, run_layers
from crosswind.models.network import Network


@dataclass(frozen=True)
class Plan:
    """The knobs of a run; `out` receives the checkpoint while it goes and the MODEL_DIR of the best epoch.

    `minutes` bounds the training time (0: no bound): the learning rate then falls with the clock where that is faster,
    and the run ends, in the middle of an epoch if need be, with the weights it has. Only runs without it repeat
    exactly.
    """

    out: Path
    epochs: int = 3
    batch: int = 32
    max_tokens: int = 96
    rate: float = 8e-5
    head_rate: float = 8e-4
    decay: float = 0.01
    warm_up: float = 0.06
    freeze: int = 4
    align_every: int = 6
    align_batch: int = 24
    align_kl: float = 1.0
    align_vector: float = 2.0
    caps: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    checkpoint_seconds: float = 240.0
    patience: int = 3
    minutes: float = 0.0
    device: str = "cpu"
    half: bool = True
    learn_embeddings: bool = False


class Tokens:
    """Texts ready for the trainable layers: token ids, or the remembered output of the frozen layers below them."""

    def __init__(self, ids: list[NDArray[np.int32]], network: Network, plan: Plan, title: str) -> None:
        self.lengths = [len(x) for x in ids]
        self._ids = ids
        self._pad = int(network.encoder.config.pad_token_id or 0)
        self._start = np.concatenate([[0], np.cumsum(self.lengths)])
        self._network, self._plan = network, plan
        self._remembered: Tensor | None = None
        if plan.freeze > 0:
            self._remembered = self._run_frozen(title)

    def batch(self, positions: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Hidden states [batch, tokens, width] that enter the first trainable layer, and the mask [batch, tokens]."""
        lengths = [self.lengths[i] for i in positions]
        mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
        if self._remembered is None:
            ids = torch.full(mask.shape, self._pad, dtype=torch.long)
            for row, i in enumerate(positions):
                ids[row, : lengths[row]] = torch.from_numpy(self._ids[i].astype(np.int64))
            mask = mask.to(self._plan.device)
            return embed(self._network.encoder, ids.to(self._plan.device)), mask
        hidden = self._remembered.new_zeros((*mask.shape, self._remembered.shape[1]))
        for row, i in enumerate(positions):
            hidden[row, : lengths[row]] = self._remembered[self._start[i] : self._start[i + 1]]
        return hidden.to(self._plan.device).float(), mask.to(self._plan.device)

    @torch.no_grad()
    def _run_frozen(self, title: str) -> Tensor:
        encoder, device = self._network.encoder, self._plan.device
        encoder.train(False)
        store = torch.empty((int(self._start[-1]), encoder.config.hidden_size), dtype=torch.bfloat16)
        order = sorted(range(len(self._ids)), key=lambda i: self.lengths[i])
        for at in tqdm(range(0, len(order), 128), desc=title, unit_scale=128, mininterval=5):
            chunk = order[at : at + 128]
            ids = torch.full((len(chunk), self.lengths[chunk[-1]]), self._pad, dtype=torch.long)
            for row, i in enumerate(chunk):
                ids[row, : self.lengths[i]] = torch.from_numpy(self._ids[i].astype(np.int64))
            mask = torch.arange(ids.shape[1])[None, :] < torch.tensor([self.lengths[i] for i in chunk])[:, None]
            with autocast(self._plan):
                hidden = run_layers(encoder, embed(encoder, ids.to(device)), mask.to(device), 0, self._plan.freeze)
            for row, i in enumerate(chunk):
                store[self._start[i] : self._start[i + 1]] = hidden[row, : self.lengths[i]].to("cpu", torch.bfloat16)
        return store


def predict(network: Network, tokens: Tokens, plan: Plan, batch: int = 64) -> dict[str, NDArray[np.float32]]:
    """Logits per task, float32 [rows, labels], in the rows' order."""
    return judge(network, tokens, plan, batch)[0]


@torch.no_grad()
def judge(
    network: Network, tokens: Tokens, plan: Plan, batch: int = 64, title: str = "", depths: Sequence[int] = ()
) -> tuple[dict[str, NDArray[np.float32]], dict[int, NDArray[np.float16]]]:
    """Logits per task, float32 [rows, labels], and pooled vectors per depth, float16 [rows, width], in the rows' order.

    Args:
        title: of a progress bar; none is shown without one.
        depths: after how many layers vectors are asked for beside those after all.
    """
    network.eval()
    order = sorted(range(len(tokens.lengths)), key=lambda i: tokens.lengths[i])
    found = {t.name: np.zeros((len(order), len(t.labels)), dtype=np.float32) for t in network.tasks}
    vectors: dict[int, NDArray[np.float16]] = {
        depth: np.zeros((len(order), int(network.encoder.config.hidden_size)), dtype=np.float16)
        for depth in (*depths, len(layers_of(network.encoder)))
    }
    for at in tqdm(range(0, len(order), batch), desc=title, unit=f" × {batch} texts", mininterval=5, disable=not title):
        chosen = order[at : at + batch]
        with autocast(plan):
            pools = network.pools_from(*tokens.batch(chosen), plan.freeze, depths)
            logits = network.classify(pools[max(pools)])
        for depth, pooled in pools.items():
            vectors[depth][chosen] = pooled.half().cpu().numpy()
        for name, values in logits.items():
            found[name][chosen] = values.float().cpu().numpy()
    return found, vectors


def autocast(plan: Plan) -> torch.autocast:
    """bf16 arithmetic where the plan asks for it."""
    return torch.autocast(plan.device.split(":")[0], dtype=torch.bfloat16, enabled=plan.half)
