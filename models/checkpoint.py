"""What a killed run goes on from: one file that holds everything the next step depends on."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crosswind.errors import ModelError

NAME: Final = "checkpoint.safetensors"


class Checkpoint:
    """The checkpoint of a run in its folder.

    Args:
        settings: what must be the same for the run to go on: plan, teacher, fingerprints of weights and data.
    """

    def __init__(
        self, folder: Path, network: nn.Module, optimiser: torch.optim.Optimizer, settings: Mapping[str, Any]
    ) -> None:
        self.file, self._network, self._optimiser = folder / NAME, network, optimiser
        self._settings = dict(settings)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the learning weights, the optimiser, the random state and a few plain values."""
        tensors: dict[str, Tensor] = {f"model.{n}": p for n, p in self._network.named_parameters() if p.requires_grad}
        for i, parameter in enumerate(self._learning()):
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"optimiser.{i}.{key}"] = torch.as_tensor(value)
        tensors["rng"] = torch.get_rng_state()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        # The JSON travels in the file's own header, so that one rename changes both.
        header = {"state": json.dumps({**state, "plan": self._settings})}
        save_file({k: v.detach().contiguous().cpu() for k, v in tensors.items()}, partial, header)
        os.replace(partial, self.file)

    def resume(self) -> dict[str, Any] | None:
        """Put back what `save` wrote; its plain values, or None where there is no checkpoint.

        Raises:
            ModelError: it is of other settings, another base or other data.
        """
        if not self.file.is_file():
            return None
        with safe_open(self.file, "pt") as opened:
            state: dict[str, Any] = json.loads(opened.metadata()["state"])
        before, now = state.pop("plan"), self._settings
        if other := [key for key in {**now, **before} if before.get(key) != now.get(key)]:
            raise ModelError(f"{self.file} belongs to a run with other settings ({', '.join(other)}): use another "
                             "--out, or remove it")  # fmt: skip
        tensors = load_file(self.file)
        self._network.load_state_dict(
            {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}, strict=False
        )
        for i, parameter in enumerate(self._learning()):
            mine = f"optimiser.{i}."
            self._optimiser.state[parameter] = {
                k.removeprefix(mine): v.to(parameter.device) for k, v in tensors.items() if k.startswith(mine)
            }
        torch.set_rng_state(tensors["rng"])
        return state

    def _learning(self) -> Iterator[nn.Parameter]:
        for group in self._optimiser.param_groups:
            yield from group["params"]
