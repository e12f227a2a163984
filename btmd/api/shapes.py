"""What an answer looks like: a JSON Schema and an example, both made from one example that is written down.

The example tells most of it: an object has these keys, a list elements like these, a value its type, and a text in the
form of a time is one. What an example cannot tell is said where it stands in it (``nullable(3)``).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Struct

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_SCALARS = ((bool, "boolean"), (int, "integer"), (float, "number"))
_SAID_INSIDE = ("title", "description", "default")
"""What msgspec takes from a struct for whoever reads the code."""


class Shape(Struct, frozen=True):
    """An example with a schema of its own; ``optional``: the key under which it stands may be missing."""

    schema: dict[str, Any]
    example: Any
    optional: bool = False


def nullable(shape: Any) -> Shape:
    """It may be null."""
    return Shape(_or_null(schema_of(shape)), example_of(shape))


def null_or(shape: Any) -> Shape:
    """It may be null, and the example shows it so."""
    return Shape(_or_null(schema_of(shape)), None)


def optional(shape: Any) -> Shape:
    """The key may be missing."""
    return Shape(schema_of(shape), example_of(shape), optional=True)


def missing(shape: Any) -> Shape:
    """The key may be missing, and the example is without it."""
    return Shape(schema_of(shape), UNSET, optional=True)


def one_of(example: str, allowed: Iterable[str]) -> Shape:
    """One of these words."""
    return Shape({"type": "string", "enum": list(allowed)}, example)


def no(shape: Any) -> Shape:
    """A list of such elements, of which the example shows none."""
    return Shape(schema_of([shape]), [])


def keyed(examples: Mapping[str, Any]) -> Shape:
    """An object with any keys, and values like these."""
    return Shape({"type": "object", "additionalProperties": _joined(examples.values())}, example_of(dict(examples)))


def keyed_by_nothing(value: Any) -> Shape:
    """As ``keyed``; the example shows it without any key."""
    return Shape(keyed({"": value}).schema, {})


def anything(example: Any) -> Shape:
    """Any JSON."""
    return Shape({}, example)


def either(*shapes: Any) -> Shape:
    """One of these, the first of which is the example."""
    return Shape(_joined(shapes), example_of(shapes[0]))


def typed(struct: type[Struct], example: Mapping[str, Any]) -> dict[str, Any]:
    """What msgspec writes of such a struct. Raises KeyError for an example that is not whole."""
    schema = msgspec.json.schema(struct, schema_hook=_of_object)
    fields = _whole(schema, schema["$defs"])["properties"]
    return {name: Shape(one, example_of(example[name])) for name, one in fields.items()}


def schema_of(shape: Any) -> dict[str, Any]:
    """Raises ValueError for an example that does not tell."""
    match shape:
        case Shape():
            return shape.schema
        case None:
            raise ValueError("null does not say what else it may be")
        case str():
            return {"type": "string", "format": "date-time"} if _TIME.fullmatch(shape) else {"type": "string"}
        case dict():
            needed = [key for key, one in shape.items() if not (isinstance(one, Shape) and one.optional)]
            properties = {key: schema_of(one) for key, one in shape.items()}
            return {"type": "object", "properties": properties, "required": needed}
        case list() | tuple():
            return {"type": "array", "items": _joined(shape)}
    return {"type": next(name for kind, name in _SCALARS if isinstance(shape, kind))}


def example_of(shape: Any) -> Any:
    """The example alone."""
    if isinstance(shape, Shape):
        return shape.example
    if isinstance(shape, dict):
        return {key: found for key, one in shape.items() if (found := example_of(one)) is not UNSET}
    return [example_of(one) for one in shape] if isinstance(shape, list | tuple) else shape


def _joined(shapes: Iterable[Any]) -> dict[str, Any]:
    found: list[dict[str, Any]] = []
    for one in map(schema_of, shapes):
        if one not in found:
            found.append(one)
    if not found:
        raise ValueError("a list without elements does not say what they are")
    return found[0] if len(found) == 1 else {"anyOf": found}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    if isinstance(schema.get("type"), str):
        words = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return {**schema, "type": [schema["type"], "null"], **words}
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


def _of_object(kind: type) -> dict[str, Any]:
    """``object`` is any value; what is empty msgspec takes for no answer."""
    if kind is object:
        return {"description": "any value"}
    raise NotImplementedError


def _whole(schema: Any, named: Mapping[str, Any]) -> Any:
    """msgspec's schema with what it names in its place, and every field needed: all of them are written."""
    if isinstance(schema, list):
        return [_whole(one, named) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _whole(named[schema["$ref"].rpartition("/")[2]], named)
    match schema.get("anyOf"):
        case [one, {"type": "null"}]:
            return _or_null(_whole(one, named))
    found = {key: _whole(one, named) for key, one in schema.items() if key not in ("$defs", *_SAID_INSIDE)}
    if "properties" in schema:
        found["properties"] = {key: _whole(one, named) for key, one in schema["properties"].items()}
        found["required"] = list(schema["properties"])
    return found
