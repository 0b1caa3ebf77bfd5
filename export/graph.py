"""From a torch module to an fp32 ONNX graph, through optimum's lower-level `export`. Needs the extra `[train]`."""

import logging
import warnings
from pathlib import Path
from typing import Any

import onnx
from optimum.exporters.onnx import export
from optimum.exporters.onnx.config import TextEncoderOnnxConfig
from optimum.utils import NormalizedTextConfig

from crosswind.errors import ModelError
from crosswind.export.sources import Exportable

OPSET = 18
INPUTS = ("input_ids", "attention_mask")


def write_graph(module: Exportable, path: Path) -> None:
    """Writes the fp32 graph: `INPUTS` int64 [batch, length]; heads float32 [batch, labels], `embedding` [batch, width].

    Whether it computes the same is not asked here: optimum's own validation runs in a child whose crash passes for
    success, so parity is measured by `parity.py`.

    Raises:
        ModelError: the architecture does not go through the exporter, or needs data outside the file.
    """
    module.eval()
    logging.getLogger("optimum").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the tracer's remarks on constants are about shapes that are fixed here
            export(module, _config_for(module), path, opset=OPSET)
    except Exception as error:  # torch, onnx and optimum share no base
        raise ModelError(f"the model does not go through the ONNX exporter: {str(error).splitlines()[0]}") from error
    if any(extra != path for extra in path.parent.glob(f"{path.name}*")):
        raise ModelError("the graph is larger than 2 GB and would need data outside model.onnx; a bundle has none")
    onnx.checker.check_model(str(path))


def _config_for(module: Exportable) -> Any:
    names = module.outputs()

    class Config(TextEncoderOnnxConfig):  # type: ignore[misc]
        NORMALIZED_CONFIG_CLASS = NormalizedTextConfig

        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            return {name: {0: "batch", 1: "length"} for name in INPUTS}

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {name: {0: "batch"} for name in names}

    return Config(module.config, task="text-classification")
