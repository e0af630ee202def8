"""The whole OpenAPI document: what all operations share, and the pieces of each resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway import __version__
from gateway.edge.ops.openapi import (
    audit,
    chat,
    completions,
    conversations,
    errors,
    images,
    keys,
    passthrough,
    reports,
    system,
)
from gateway.edge.ops.openapi.components import ID
from gateway.identity.one_time_link import COOKIE
from gateway.model import PolicyOutcome

if TYPE_CHECKING:
    from gateway.model import Json

RESOURCES = (completions, passthrough, chat, conversations, images, reports, audit, keys, system)

_INTRODUCTION = """\
A gateway to language models that keeps every word in your own Postgres.

**Who asks.** Send a key of this gateway or an OpenID token as `Authorization: Bearer …`, `x-api-key: …` or
`api-key: …`. A gateway that runs in `open` mode takes any. Each caller sees and
changes what is their own, and nothing else.

**Errors** are `{"error": {"message", "type", "param", "code"}}`. Those with `x-should-retry: false` stay the same
however often you ask; the others carry `Retry-After`. A status 500 is a fault of the gateway: the log tells more under
its `x-request-id`.

**Streams** are server-sent events, passed on one by one as the model sends them. An answer that breaks off ends with
`data: {"error": …}`, never as if it were whole.

**Ids.** `x-request-id` names a request in the logs; yours is kept if you send one. `x-interaction-id` names the row in
which the exchange is kept.
"""

TAGS: list[Json] = [
    {"name": "OpenAI", "description": "What OpenAI's SDKs call: set their base URL to this gateway's `/v1`."},
    {"name": "Chat", "description": "Chats that are kept and can be found again."},
    {
        "name": "Conversations",
        "description": "What the caller has said before, its titles, and what is derived from it.",
    },
    {"name": "Images", "description": "Images, and what they cost."},
    {"name": "Report", "description": "What is used, by whom, at what cost and how well."},
    {"name": "Audit", "description": "What everybody says, for auditors: as it happens, and in the whole log."},
    {"name": "Keys", "description": "Who may ask."},
    {"name": "Health", "description": "For machines that watch this one."},
    {"name": "Page", "description": "What a browser shows."},
]

SECURITY: Json = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key of this gateway (`sk-gw-…`), or a token of the company's OpenID issuer.",
    },
    "x-api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The same, as Anthropic's SDKs send it.",
    },
    "api-key": {
        "type": "apiKey",
        "in": "header",
        "name": "api-key",
        "description": "The same, as Azure's SDKs send it.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "Of a browser in which a one-time link was opened, where nobody logs in.",
    },
}


def _text_header(description: str, example: str, *, is_always_there: bool = False) -> Json:
    return {"description": description, "required": is_always_there, "schema": {"type": "string"}, "example": example}


HEADERS: Json = {
    "x-request-id": _text_header("Names this request in the logs.", "req_01997b3c64f1", is_always_there=True),
    "x-interaction-id": {
        "description": "The id under which the exchange is kept.",
        "required": True,
        "schema": ID,
        "example": chat.INTERACTION,
    },
    "x-conversation-id": _text_header("The conversation, by its first interaction's id.", chat.INTERACTION),
    "x-policy-outcome": {
        "description": "What the company's policy did with the request; not there when it let it through as it stood.",
        "schema": {"enum": list(PolicyOutcome)},
        "example": "masked",
    },
    "x-policy-rule": _text_header("By which rules, in order; a refusing one is the last.", "card numbers"),
    "x-should-retry": {
        "description": "Asking again changes nothing.",
        "schema": {"const": "false"},
        "example": "false",
    },
    "Link": _text_header(
        'The next page, as `<…>; rel="next"`; not there on the last.', '</history?before=…>; rel="next"'
    ),
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}, "example": 1},
    "WWW-Authenticate": _text_header("How to say who you are.", "Bearer"),
}


def _path(name: str, description: str, example: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": description,
        "schema": schema or {"type": "string", "minLength": 1},
        "example": example,
    }


def _header(name: str, description: str) -> Json:
    """Without an example, which Swagger UI would send along with each try."""
    return {"name": name, "in": "header", "description": description, "schema": {"type": "string"}}


PARAMETERS: Json = {
    "path": _path("path", "The rest of the path; it may hold slashes.", "files"),
    "file": _path("path", "A file's name; it may hold slashes.", "icon.svg"),
    "model": _path("model", "The model's name.", "demo"),
    "interaction": _path("id", "An interaction's id.", chat.INTERACTION, ID),
    "key": _path("id", "A key's id.", chat.INTERACTION, ID),
    "x-request-id": _header(
        "x-request-id",
        "Names this request in the logs, if it is 1 to 128 letters, digits and `._:/+=-`; else the gateway makes one.",
    ),
    "last-event-id": _header("Last-Event-ID", "The last event that was seen."),
    "x-conversation-id": _header(
        "x-conversation-id", "The conversation that this belongs to, as `root_id` in the body."
    ),
}


def document() -> Json:
    """As OpenAPI 3.1 has it. Addresses are relative to where the document lies, so that it holds behind any proxy."""
    return {
        "openapi": "3.1.1",
        "info": {"title": "LLM gateway", "version": __version__, "description": _INTRODUCTION},
        "servers": [{"url": ".", "description": "this gateway"}],
        "security": [{name: []} for name in SECURITY],
        "tags": TAGS,
        "paths": {path: item for resource in RESOURCES for path, item in resource.PATHS.items()},
        "components": {
            "schemas": {
                **errors.SCHEMAS,
                **{name: each for resource in RESOURCES for name, each in resource.SCHEMAS.items()},
            },
            "responses": errors.RESPONSES,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "securitySchemes": SECURITY,
        },
    }
