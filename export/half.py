"""fp16 for GPUs: weights and products in half precision, inputs and outputs as they were. Needs `onnx`.

On a CPU such a graph runs too, ONNX Runtime puts casts around what it has no half-precision kernel for; it is slower
there than fp32, and of use only to check the conversion.
"""

from pathlib import Path

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from crosswind.errors import ModelError

LARGEST = 1e4
"""What is larger is cut, far beyond any activation of these models; an attention mask's -3e38 would be infinite."""

KEEP = ("LayerNormalization", "Softmax", "ReduceMean", "ReduceSum", "Pow", "Sqrt", "Div")
"""Sums and norms over many numbers stay fp32: in half precision they lose a third of their digits, or overflow."""


def to_fp16(fp32: Path, fp16: Path) -> None:
    """Writes the fp16 graph: same inputs and outputs, float32, as the fp32 one.

    Raises:
        ModelError: the graph does not go through the converter.
    """
    model = onnx.load(str(fp32))
    try:
        half = convert_float_to_float16(
            model, min_positive_val=1e-7, max_finite_val=LARGEST, keep_io_types=True, op_block_list=list(KEEP)
        )
        OnnxModel(half).topological_sort()  # the converter appends its casts at the end
        onnx.checker.check_model(half)
    except Exception as error:  # the converter raises whatever it meets
        raise ModelError(f"the graph does not go through the fp16 converter: {str(error).splitlines()[0]}") from error
    onnx.save(half, str(fp16))
