"""Inference by OpenVINO in bfloat16, for processors that have units for it: about twice as fast there as int8 on ONNX
Runtime, with the same weights. Needs the packages of `[openvino]`.

A bundle's int8 graph is rewritten when it is loaded (`export/standard.py`), so the bundle stays one file for every
device. Then it is tried beside ONNX Runtime: outputs that are unlike refuse the device, and texts share a run only
where that changes no bit.
"""

import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from crosswind.errors import BundleError, ModelError, ProviderError
from crosswind.export.running import feed_many, open_graph, same_alone

OPENVINO: Final = "OpenVINO"
"""How the provider is called in logs and metrics."""
UNLIKE: Final = 0.04
"""How far an output may be from ONNX Runtime's, as a share of its norm. Seen: 0.01 (bfloat16), and 0.09 or more where
OpenVINO computed an operator wrongly."""
SHAPES: Final = 500
"""Prepared kernels that are kept. OpenVINO's own 5,000 let a process grow by a gigabyte over the lengths there are."""
STEP: Final = 4
"""Texts are padded to a multiple of so many tokens: more of them share a run, and there are fewer shapes. A text's
length alone says how far, so its score still depends on no other. Of 128 texts of 12 to 64 tokens 1,121 ran in a second
so, 872 by eight of one length, 1,046 in steps of eight, 898 by sixteen of one length."""
TOGETHER: Final = 16
"""Texts in one run; 32 were slower."""
LENGTHS: Final = (4, 20, 32)
COMPANY: Final = (2, 3, TOGETHER)
"""Tokens, and texts, of the runs that are tried with and without company: a shape's first run takes 20 ms."""


@dataclass(frozen=True, slots=True)
class Output:
    """Name and shape of an output, `None` for what varies."""

    name: str
    shape: list[int | None]


class OpenVinoSession:
    """What `onnxruntime.InferenceSession` offers, as far as serving uses it. Safe to run from many threads.

    Args:
        path: a bundle's graph, fp32 or of `export/fused.py`.
        threads: runs at the same time, each on a thread of its own.
        trial: token ids of texts that are run here and by ONNX Runtime.

    Attributes:
        together: how many texts of one length, rounded up to `step`, may share a run.
        step: tokens.

    Raises:
        ProviderError: OpenVINO is not installed, this processor has no bfloat16, or it computes something else.
        BundleError: the graph cannot be loaded.
    """

    def __init__(self, path: Path, threads: int, trial: Sequence[Sequence[int]]) -> None:
        core = _core()
        graph = _graph(path)
        options = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            # A second worker would be put on the same cores.
            "ENABLE_CPU_PINNING": False,
            "CPU_RUNTIME_CACHE_CAPACITY": SHAPES,
        }
        try:
            self._model = core.compile_model(core.read_model(graph, b""), "CPU", options)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load {path}: {_last_line(error)}") from None
        self._own = threading.local()
        self._outputs = [_output(port) for port in self._model.outputs]
        self.step = STEP
        self.together = self._try(path, trial)

    def get_outputs(self) -> list[Output]:
        """Names and shapes."""
        return self._outputs

    def get_providers(self) -> list[str]:
        """`OPENVINO`."""
        return [OPENVINO]

    def run(self, names: Sequence[str], feed: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The outputs of that name, in order."""
        request = getattr(self._own, "request", None)
        if request is None:
            request = self._own.request = self._model.create_infer_request()
        found = request.infer(dict(feed), share_inputs=True, share_outputs=True)
        return [np.array(found[name]) for name in names]  # the next run writes over what is shared

    def _try(self, path: Path, trial: Sequence[Sequence[int]]) -> int:
        reference = open_graph(path)
        names = [output.name for output in self._outputs]
        pairs = [(self.run(names, feed_many([ids], STEP)), reference.run(names, feed_many([ids]))) for ids in trial]
        for place, name in enumerate(names):
            own, other = (np.concatenate([outputs[place] for outputs in side]) for side in zip(*pairs, strict=True))
            off = float(np.linalg.norm(own - other) / np.linalg.norm(other))
            if not off <= UNLIKE:
                raise ProviderError(f"OpenVINO {_version()} gives {name!r} of {path} {off:.3f} away from ONNX "
                                    f"Runtime's, allowed is {UNLIKE}: use --device cpu")  # fmt: skip
        shared = [[_cut(trial, start, length - start % STEP) for start in range(rows)]
                  for length in LENGTHS for rows in COMPANY]  # fmt: skip
        return TOGETHER if all(same_alone(self, texts, STEP) for texts in shared) else 1


def _cut(trial: Sequence[Sequence[int]], start: int, length: int) -> list[int]:
    """So many token ids from the texts, as if they were one."""
    joined = [token for ids in trial for token in ids]
    return [joined[(start * length + place) % len(joined)] for place in range(length)]


def _core() -> Any:
    """OpenVINO's entry.

    Raises:
        ProviderError: it is not installed, or would compute in fp32 here.
    """
    # Its import reports each start to a statistics service on the internet; without this module it reports nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError:
        raise ProviderError(
            "OpenVINO is not installed: pip install 'crosswind[openvino]', or use --device cpu"
        ) from None
    core = openvino.Core()
    offers = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in offers:
        raise ProviderError("this processor does not compute in bfloat16, so OpenVINO would be slower here than ONNX "
                            "Runtime: use --device cpu")  # fmt: skip
    return core


def _version() -> str:
    from openvino import __version__

    return str(__version__)


def _graph(path: Path) -> bytes:
    try:
        import onnx

        from crosswind.export.standard import is_fused, standard
    except ImportError as error:
        raise ProviderError(f"--device openvino needs {error.name}, too: pip install 'crosswind[openvino]', or use "
                            "--device cpu") from None  # fmt: skip
    try:
        model = onnx.load(str(path))
        if is_fused(model):
            model = standard(model)
        elif any(node.op_type in ("MatMulInteger", "DynamicQuantizeLinear") for node in model.graph.node):
            raise ProviderError(f"{path} rounds activations for ONNX Runtime: OpenVINO runs fp32 bundles and the int8 "
                                "ones of BERT encoders; use --device cpu")  # fmt: skip
    except ProviderError:
        raise
    except ModelError as error:
        raise ProviderError(f"{path}: {error}; or use --device cpu") from None
    except Exception as error:  # protobuf's DecodeError is no public name
        raise BundleError(f"OpenVINO cannot load {path}: {_last_line(error)}") from None
    return bytes(model.SerializeToString())


def _output(port: Any) -> Output:
    shape = [size.get_length() if size.is_static else None for size in port.partial_shape]
    return Output(port.any_name, shape)


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
