"""Schemas for an OpenAPI document: of our types, and of parameters as FastAPI found them."""

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter

from shared.json_schemas import Document, PlainSchema

_TIME_PATTERN = (
    r"^(19|20|21)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,9})?"
    r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
)


def schemas_of(shapes: Sequence[Any]) -> tuple[list[Document], Document]:
    """A schema for each of `shapes`, and what they refer to."""
    inputs = [
        (index, "validation", TypeAdapter(shape))
        for index, shape in enumerate(shapes)
        if not isinstance(shape, dict)
    ]
    made, definitions = TypeAdapter.json_schemas(
        inputs,  # type: ignore[arg-type] # its keys are Hashable, and lists are invariant
        ref_template="#/components/schemas/{model}",
        schema_generator=PlainSchema,
    )
    return [
        shape if isinstance(shape, dict) else made[index, "validation"] for index, shape in enumerate(shapes)
    ], _with_times(definitions.get("$defs", {}))


def exact(schema: Document) -> Document:
    """A parameter's schema as JSON Schema has it. A parameter is there or not: it is never null."""
    options = [option for option in schema.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        schema = {name: value for name, value in schema.items() if name != "anyOf"} | options[0]
    # Behind a validator written in Python, pydantic calls the bounds by its own names.
    names = {"ge": "minimum", "le": "maximum"}
    named = {names.get(name, name): value for name, value in schema.items() if name != "title"}
    timed: Document = _with_times(named)
    return timed


def _with_times(schema: Any) -> Any:
    """The schema with the times that are taken: years from 1900, and an offset."""
    if isinstance(schema, list):
        return [_with_times(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _with_times(value) for name, value in schema.items()}
    if made.get("format") == "date-time":
        made.setdefault("pattern", _TIME_PATTERN)
    return made
