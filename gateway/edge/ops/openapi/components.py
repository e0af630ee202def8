"""The few forms that the document repeats: references, bodies, answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.model import Json

ID = {"type": "string", "format": "uuid", "description": "UUIDv7: ids sort by time."}
VISIBLE = r"[^\s\x1c-\x1f\x85]"  # something but white space, as Python sees it: these five are no space in ECMAScript
OF_POLICY = ("x-policy-outcome", "x-policy-rule")
MOMENT = {"type": "integer", "description": "Unix time in seconds."}


def schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


def headers(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("x-request-id", *names)}


def json_body(name: str, **examples: Json) -> Json:
    """A request's JSON body; the examples' names become their titles."""
    return {"required": True, "content": {"application/json": {"schema": schema(name), "examples": _titled(examples)}}}


def answer(description: str, name: str, example: object, *more_headers: str) -> Json:
    """A JSON answer."""
    return {
        "description": description,
        "headers": headers(*more_headers),
        "content": {"application/json": {"schema": schema(name), "example": example}},
    }


def json_text(*schemas: Json) -> Json:
    """A text that is itself JSON, of one of these schemas."""
    return {"contentMediaType": "application/json", "contentSchema": {"anyOf": list(schemas)}}


def event(description: str, *data: Json) -> Json:
    """A server-sent event, by what its data may be."""
    return {
        "type": "object",
        "description": description,
        "required": ["data"],
        "properties": {"event": {"type": "string"}, "data": {"type": "string", "anyOf": list(data)}},
    }


def _titled(examples: dict[str, Json]) -> Json:
    return {name: {"summary": name.replace("_", " "), "value": value} for name, value in examples.items()}
