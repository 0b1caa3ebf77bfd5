"""Where inference runs: execution providers of ONNX Runtime in an order of preference, and never another in silence.

ONNX Runtime falls back to the CPU by itself in three ways, all of which are closed here: when a provider's libraries do
not load, it opens the session without it (the session is asked what it runs on); when opening fails, or a run does, its
Python side retries on the CPU (switched off); and operators that a provider lacks run on the CPU one by one, which is
what int8 graphs are made of (they are refused on anything else). OpenVINO is a runtime of its own, not a provider of
ONNX Runtime, and takes the same place in the order.
"""

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from os import cpu_count
from pathlib import Path
from typing import Any, Protocol

import onnxruntime as ort
import structlog

from crosswind.errors import BundleError, ProviderError, SettingsError
from crosswind.stream.adapters.openvino_session import OPENVINO, OpenVinoSession

CPU = "CPUExecutionProvider"
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": OPENVINO,
}
"""Name in settings -> name in ONNX Runtime, and in logs and metrics."""
ON_CPU_ONLY = "int8"
"""Precision whose operators the other providers hand back to the CPU."""

_log = structlog.get_logger(__name__)


class Session(Protocol):
    """What serving uses of a loaded graph: ONNX Runtime's session, or `OpenVinoSession`."""

    def get_outputs(self) -> Sequence[Any]:
        """Each with `name` and `shape`."""
        ...

    def get_providers(self) -> Sequence[str]:
        """What it runs on, first of all."""
        ...

    def run(self, names: Sequence[str], feed: Mapping[str, Any], /) -> Sequence[Any]:
        """The outputs of that name, in order."""
        ...


def order_of(device: str) -> list[str]:
    """The providers of a `device` setting, e.g. `tensorrt,cuda`, in its order.

    Raises:
        SettingsError: a name is unknown or comes twice.

    >>> order_of("tensorrt, cuda")
    ['TensorrtExecutionProvider', 'CUDAExecutionProvider']
    """
    names = [name.strip() for name in device.split(",")]
    unknown = [name for name in names if name not in PROVIDERS]
    if unknown or len(set(names)) != len(names):
        raise SettingsError(
            f"device {device!r}: expected one or several of {', '.join(PROVIDERS)}, the preferred first, by commas"
        )
    return [PROVIDERS[name] for name in names]


def open_session(
    path: Path, device: str, precision: str, threads: int = 0, trial: Sequence[Sequence[int]] = ()
) -> Session:
    """A session on the first provider of `device` that is there; a log line names each that was passed over, and why.

    Args:
        threads: that will run it at the same time; 0: one per core.
        trial: token ids of texts that OpenVINO is tried on beside ONNX Runtime.

    Raises:
        SettingsError: the order cannot be read.
        ProviderError: none of them is there, or what is there cannot run this precision.
        BundleError: the runtime cannot load the graph.
    """
    wanted = order_of(device)
    reasons: list[str] = []
    for provider in wanted:
        try:
            if provider == OPENVINO:
                session: Session = OpenVinoSession(path, threads or cpu_count() or 1, trial)
            else:
                session = _open(path, provider, precision)
        except ProviderError as error:
            reasons.append(str(error))
            continue
        for reason in reasons:
            _log.warning("provider passed over", wanted=wanted[0], active=provider, reason=reason)
        return session
    raise ProviderError("; ".join(reasons))


def _open(path: Path, provider: str, precision: str) -> ort.InferenceSession:
    if provider not in ort.get_available_providers():
        raise ProviderError(
            f"{provider} is not available; this ONNX Runtime has {ort.get_available_providers()}: "
            "install its wheel (docs/operations.md, Where inference runs) or use --device cpu"
        )
    if provider != CPU and precision == ON_CPU_ONLY:
        raise ProviderError(
            f"{provider} would run this {precision} bundle's products on the CPU: export it with --precision fp16 for "
            "a GPU, or use --device cpu"
        )
    if provider != CPU:
        _load_libraries()
    try:
        session = ort.InferenceSession(
            str(path), _session_options(), providers=_with_options(provider, precision), enable_fallback=0
        )
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise BundleError(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}") from None
    check_active(session.get_providers(), provider)
    return session


def _load_libraries() -> None:
    """Loads CUDA and cuDNN from their wheels, which are on no library path; what is not there is left to the loader."""
    with redirect_stdout(StringIO()):  # it prints what it does not find, and stdout is for logs
        ort.preload_dlls()


def check_active(active: Sequence[str], wanted: str) -> None:
    """Compares what a session runs on with what was asked for.

    Raises:
        ProviderError: ONNX Runtime fell back.
    """
    if active[0] != wanted:
        raise ProviderError(
            f"{wanted} was asked for, ONNX Runtime fell back to {active[0]}: are the libraries of the GPU, the driver "
            "and this ONNX Runtime of versions that fit? Its own log says which one did not load"
        )


def _session_options() -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    return options


def _with_options(provider: str, precision: str) -> list[tuple[str, dict[str, Any]]]:
    """The provider and its options. TF32 would round fp32 products to ten bits. What TensorRT lacks goes to CUDA."""
    cuda = (PROVIDERS["cuda"], {"use_tf32": "0"})
    if provider == PROVIDERS["tensorrt"]:
        return [(provider, {"trt_fp16_enable": str(precision == "fp16")}), cuda]
    return [cuda] if provider == cuda[0] else [(provider, {})]
