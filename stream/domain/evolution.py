"""Whether a message's schema may replace an earlier one of the same major version.

Messages stay in topics and files for years, and producers and consumers are upgraded at different times. So a new
schema must read all that the old one allowed, and what is written by it must still mean the same to a reader of the old
one. What is allowed is to add a field that may be absent, and a value to an enumeration that is marked as open.
Anything else is a new major version.
"""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
_BOUNDS = {"minimum": max, "exclusiveMinimum": max, "minLength": max, "minItems": max,
           "maximum": min, "exclusiveMaximum": min, "maxLength": min, "maxItems": min}  # fmt: skip
"""Keyword -> which of two values is the stricter one."""
OPEN = "x-open"
"""Marks an enumeration that may gain values: readers take one that they do not know."""


def breaks(old: Schema, new: Schema) -> list[str]:
    """What of `new` breaks with `old`, one line each, naming the field; empty: it may replace it.

    >>> old = {"properties": {"a": {"type": "string"}}, "required": ["a"]}
    >>> breaks(old, {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]})
    []
    >>> breaks(old, {"properties": {"a": {"type": "integer"}}, "required": []})
    ['a: type was string, is integer', 'a: was always there, may be absent']
    """
    return list(_object(old, new, old, new, ""))


def _object(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, schema in before.items():
        where = f"{path}{name}"
        if name not in after:
            yield f"{where}: is gone"
            continue
        yield from _value(_followed(schema, old_root), _followed(after[name], new_root), old_root, new_root, where)
    needed, now_needed = set(old.get("required", ())), set(new.get("required", ()))
    yield from (f"{path}{name}: was always there, may be absent" for name in sorted(needed - now_needed))
    yield from (f"{path}{name}: may be absent in what is written, is required" for name in sorted(now_needed - needed))
    if old.get("additionalProperties", True) is not False and new.get("additionalProperties", True) is False:
        yield f"{path or 'message'}: unknown fields were ignored, are refused"


def _value(old: Schema, new: Schema, old_root: Schema, new_root: Schema, where: str) -> Iterator[str]:
    if _kinds(old) != _kinds(new):
        yield f"{where}: type was {_named(old)}, is {_named(new)}"
        return
    gone = sorted(set(old.get("enum", ())) - set(new.get("enum", ())))
    more = sorted(set(new.get("enum", ())) - set(old.get("enum", ())))
    if gone or (more and not old.get(OPEN)):
        yield f"{where}: values lost {gone}, gained {more}; readers of before know {sorted(old.get('enum', ()))}"
    for choice in old.get("anyOf", ()):
        for other in new["anyOf"]:
            if _kinds(choice) == _kinds(other):
                yield from _value(choice, other, old_root, new_root, where)
    for keyword in ("const", "pattern", "format", "contentEncoding", "default"):
        if old.get(keyword) != new.get(keyword):
            yield f"{where}: {keyword} was {old.get(keyword)!r}, is {new.get(keyword)!r}"
    for keyword, stricter in _BOUNDS.items():
        was, now = old.get(keyword), new.get(keyword)
        if now is not None and (was is None or (now != was and stricter(was, now) == now)):
            yield f"{where}: {keyword} was {was}, is {now}, which is stricter"
    if "items" in old or "items" in new:
        inner = [_followed(schema.get("items", {}), root) for schema, root in ((old, old_root), (new, new_root))]
        yield from _value(inner[0], inner[1], old_root, new_root, f"{where}[]")
    if "properties" in old or "properties" in new:
        yield from _object(old, new, old_root, new_root, f"{where}.")


def _followed(schema: Schema, root: Schema) -> Schema:
    """The schema that a reference leads to."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Schema = root["$defs"][str(reference).rsplit("/", 1)[-1]]
    return found


def _kinds(schema: Schema) -> frozenset[str]:
    """The types that a value may have; several where there is a choice."""
    if "anyOf" in schema:
        return frozenset().union(*(_kinds(choice) for choice in schema["anyOf"]))
    kinds = schema.get("type", [])
    return frozenset([kinds] if isinstance(kinds, str) else kinds)


def _named(schema: Schema) -> str:
    return " or ".join(sorted(_kinds(schema))) or "anything"
