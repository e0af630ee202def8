"""Errors in the document: one shape, and what each status means here. `edge/http/errors.py` decides the statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import OF_POLICY, headers, schema

if TYPE_CHECKING:
    from gateway.model import Json

SCHEMAS: Json = {
    "Error": {
        "type": "object",
        "description": "OpenAI's form, which its SDKs turn into exceptions.",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string", "description": "For people."},
                    "type": {"type": "string", "description": "Whose fault it is, in OpenAI's words."},
                    "param": {"type": ["string", "null"], "description": "The field at fault, if it is one."},
                    "code": {"type": ["string", "null"], "description": "For programs; does not change."},
                },
            }
        },
    }
}


def error(description: str, kind: str, code: str, message: str, *more_headers: str, param: str | None = None) -> Json:
    """An answer that is an error."""
    example = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return {
        "description": description,
        "headers": headers(*more_headers),
        "content": {"application/json": {"schema": schema("Error"), "example": example}},
    }


_FINAL, _LATER = "x-should-retry", "Retry-After"
_CALLER, _HOUSE, _UPSTREAM = "invalid_request_error", "server_error", "upstream_error"

RESPONSES: Json = {
    "400": error(
        "The request cannot be served as it was sent.",
        _CALLER,
        "malformed_body",
        "`model` must be a string",
        _FINAL,
        param="model",
    ),
    "401": error(
        "No credential, or one that is not known, revoked or expired.",
        "authentication_error",
        "invalid_api_key",
        "this key is not known here; it may have been revoked",
        _FINAL,
        "WWW-Authenticate",
    ),
    "403": error(
        "The caller may not do this, or the company's policy refuses it.",
        "permission_error",
        "not_allowed",
        "only admins make keys",
        _FINAL,
        *OF_POLICY,
    ),
    "404": error(
        "There is no such thing, or it is somebody else's: the two are not told apart.",
        _CALLER,
        "not_found",
        "no such answer is being made",
        _FINAL,
    ),
    "408": error("The body came too slowly.", _CALLER, "body_too_slow", "the body did not arrive within 60 s", _FINAL),
    "409": error(
        "The answer was stopped before it began.",
        "stopped",
        "stopped",
        "the answer was stopped at the caller's wish",
        _FINAL,
    ),
    "413": error("The body is too large.", _CALLER, "body_too_large", "the body is longer than 33554432 bytes", _FINAL),
    "415": error(
        "The body is of a type or coding that is not taken here.",
        _CALLER,
        "unsupported_media_type",
        "the body must be application/json, not text/plain",
        _FINAL,
    ),
    "426": error(
        "WebSocket is not served: use plain HTTP.",
        _CALLER,
        "websocket_not_served",
        "this gateway does not serve WebSocket: use plain HTTP, with `stream` for events",
        _FINAL,
    ),
    "501": error(
        "The configured model's side has no such endpoint.",
        _CALLER,
        "upstream_not_configured",
        "this gateway's upstream is a single endpoint; there is no /responses behind it",
        _FINAL,
    ),
    "502": error(
        "The model's side failed, or its answer broke off.",
        _UPSTREAM,
        "upstream_unreachable",
        "the upstream closed the connection without an answer",
        _LATER,
    ),
    "503": error(
        "The gateway itself cannot do this now: it is shutting down, its journal is full, or its store is away.",
        _HOUSE,
        "shutting_down",
        "the gateway is shutting down",
        _LATER,
    ),
    "504": error(
        "The model's side stayed silent for too long.",
        _UPSTREAM,
        "upstream_timeout",
        "the upstream sent no answer within 300 s",
        _LATER,
    ),
    "4XX": {
        "description": "A refusal by the model's side, passed on with its own status and words. Recorded all the same.",
        "headers": headers(),
        "content": {"*/*": {}},
    },
    "5XX": {
        "description": "A failure of the model's side, passed on with its own status and words. Recorded all the same.",
        "headers": headers(),
        "content": {"*/*": {}},
    },
}


def refusals(*statuses: int | str) -> Json:
    """The errors of one operation. 503 is among those of each."""
    names = sorted({*map(str, statuses), "503"})
    return {name: {"$ref": f"#/components/responses/{name}"} for name in names}


# What can befall whoever sends a JSON body, and whoever talks to a model.
OF_BODIES = (400, 408, 413, 415)
OF_UPSTREAM = (403, 409, 501, 502, 504, "4XX", "5XX")
