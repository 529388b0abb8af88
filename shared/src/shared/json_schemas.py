"""JSON Schemas of our types, as the published documents show them."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema

Document = dict[str, Any]


class PlainSchema(GenerateJsonSchema):
    """Without titles that repeat the name, and defaults that say nothing."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def field_is_required(self, field: Any, total: bool) -> bool:
        # What tells the members of a union apart must be there, though our own code need not name it.
        inner = field["schema"]
        is_tag = inner["type"] == "default" and inner["schema"]["type"] == "literal"
        return is_tag or super().field_is_required(field, total)

    def default_schema(self, schema: Any) -> Document:
        document = super().default_schema(schema)
        if document.get("default") is None or isinstance(document["default"], dict):
            document.pop("default", None)
        return document
