"""Reads just enough of an ONNX file's protobuf to see whether its tensors lie inside it, and which operators it wants.

No `onnx` package needed. Field numbers are those of onnx.proto: ModelProto.graph is 7 and opset_import 8,
GraphProto.initializer 5, TensorProto.data_location 14, OperatorSetIdProto.domain 1 and version 2.
"""

from collections.abc import Iterator

from crosswind.errors import BundleError

_TENSOR = "tensor"
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: _TENSOR, 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: _TENSOR, 6: "graph", 10: _TENSOR, 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: _TENSOR, 2: _TENSOR},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
_OPSET_IMPORT = 8
_DEEPEST = 64


def external_tensors(raw: memoryview) -> list[str]:
    """Names of the tensors whose data lie outside the file.

    Raises:
        BundleError: this is not a protobuf message, or is cut short.
    """
    return list(_walk(raw, "model", 0))


def opset(raw: memoryview) -> int:
    """Version of the standard operators that the graph wants; 0 where it names none.

    Raises:
        BundleError: this is not a protobuf message, or is cut short.
    """
    newest = 0
    for number, value in _fields(raw):
        if number == _OPSET_IMPORT and isinstance(value, memoryview):
            found = dict(_fields(value))
            domain, version = found.get(1, b""), found.get(2, 0)
            if not isinstance(domain, int) and bytes(domain) in (b"", b"ai.onnx") and isinstance(version, int):
                newest = max(newest, version)
    return newest


def _walk(raw: memoryview, kind: str, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        raise BundleError("nested too deep")
    if kind == _TENSOR:
        yield from _outside(raw)
        return
    for number, value in _fields(raw):
        child = _CHILDREN[kind].get(number)
        if child and isinstance(value, memoryview):
            yield from _walk(value, child, depth + 1)


def _outside(raw: memoryview) -> Iterator[str]:
    fields = list(_fields(raw))
    if any(number == _EXTERNAL_DATA or (number == _DATA_LOCATION and value == 1) for number, value in fields):
        names = [value for number, value in fields if number == _NAME and isinstance(value, memoryview)]
        yield bytes(names[0]).decode("utf-8", "replace") if names else "(no name)"


def _fields(raw: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of one message; long values are not copied."""
    place = 0
    while place < len(raw):
        key, place = _varint(raw, place)
        if key & 7 == 0:
            number, place = _varint(raw, place)
            yield key >> 3, number
            continue
        size = {1: 8, 5: 4}.get(key & 7)
        if key & 7 == 2:
            size, place = _varint(raw, place)
        if size is None or place + size > len(raw):
            raise BundleError("a field is malformed or cut short")
        yield key >> 3, raw[place : place + size]
        place += size


def _varint(raw: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(raw):
            break
        byte = raw[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise BundleError("a field is malformed or cut short")
