"""The live page and the whole log in the document: for auditors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.chat import INTERACTION
from gateway.edge.ops.openapi.completions import COMPLETION, QUESTION
from gateway.edge.ops.openapi.components import ID, answer, event, headers, json_text, parameter, schema
from gateway.edge.ops.openapi.errors import refusals
from gateway.model import Outcome, PolicyOutcome
from gateway.store.audit import ANY

if TYPE_CHECKING:
    from gateway.model import Json

_TEXT: Json = {"type": ["string", "null"]}
_NUMBER: Json = {"type": ["number", "null"]}
_COUNT: Json = {"type": ["integer", "null"]}
_MOMENT: Json = {"type": ["string", "null"], "description": "ISO 8601, UTC; `response_time` does not say so."}
_NEXT: Json = {"type": ["string", "null"], "description": "What the next page's query says; null: there is no more."}

_COMMON: Json = {
    "id": ID,
    "source": {"enum": ["chat", "image", "api"]},
    "response_time": _MOMENT,
    "kind": _TEXT,
    "user_name": _TEXT,
    "title": {**_TEXT, "description": "The user's job title."},
    "conversation": {**_TEXT, "description": "Null: it belongs to none."},
    "convo_title": _TEXT,
    "model": _TEXT,
    "answered_model": {**_TEXT, "description": "The model that says it answered."},
    "outcome": {"type": "string"},
    "status": {**_COUNT, "description": "HTTP status of the model's side; null: it never answered."},
    "error": _TEXT,
    "policy_outcome": {"enum": [*PolicyOutcome, None], "description": "What the policy did; null: nothing."},
    "policy_rules": {"type": ["array", "null"], "items": {"type": "string"}},
    "duration_ms": _NUMBER,
    "prompt_tokens": _COUNT,
    "completion_tokens": _COUNT,
}
_LINE: Json = {
    **_COMMON,
    "asked": {**_TEXT, "description": "How what was asked last begins."},
    "said": {**_TEXT, "description": "How the answer begins."},
}
_TURN: Json = {
    **_COMMON,
    "parent_id": {**_TEXT, "description": "The turn that this one goes on from."},
    "convo_show": {"type": ["boolean", "null"], "description": "False: the user has removed it from the history."},
    "started_at": _MOMENT,
    "upstream": _TEXT,
    "first_token_ms": _NUMBER,
    "path": _TEXT,
    "key_id": _TEXT,
    "request_id": _TEXT,
    "messages": {"type": ["array", "null"], "description": "Those that the turn before does not have."},
    "request": {"description": "A request that has no messages."},
    "response": {"description": "The answer; null: none, or too large to be shown."},
    "request_text": {**_TEXT, "description": "The beginning of one that is no JSON."},
    "response_text": {**_TEXT, "description": "The beginning of one that is no JSON."},
}


def _object(properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


SCHEMAS: Json = {
    "Line": _object(_LINE),
    "Turn": _object(_TURN),
    "Lines": _object({"data": {"type": "array", "items": schema("Line")}, "next_before": _NEXT}),
    "Turns": _object(
        {
            "user": _TEXT,
            "conversation": {**_TEXT, "description": "Null: the interaction belongs to none, and stands by itself."},
            "data": {"type": "array", "items": schema("Turn")},
            "next_after": _NEXT,
        }
    ),
    "Watched": _object({"position": {"type": "integer", "description": "Also the event's id."}}),
    "Underway": _object(
        {
            "now": {"type": "number", "description": "Unix time at the gateway, as are `started_at`."},
            "data": {
                "type": "array",
                "items": _object(
                    {
                        "id": ID,
                        "source": {"enum": ["chat", "image", "api"]},
                        "user_name": {"type": "string"},
                        "title": {"type": "string"},
                        "model": {"type": "string", "description": "Empty: the request does not show it."},
                        "path": {"type": "string"},
                        "started_at": {"type": "number"},
                    }
                ),
            },
        }
    ),
    "Ended": _object({"code": {"type": "string"}, "message": {"type": "string"}}),
    "LiveEvent": event(
        "`interaction`: a line. `begun`, `missed`, `away`, `back` and `passed` have a position; `missed` says that "
        "what came meanwhile must be searched for. `underway`: all that the gateways of this host are answering at the "
        "moment, or the oldest 200 of it. `ended` says why nothing more comes.",
        json_text(schema("Line"), schema("Watched"), schema("Underway"), schema("Ended")),
    ),
}

_KNOWN: Json = {
    "id": INTERACTION,
    "source": "chat",
    "response_time": "2026-10-09T08:53:20.123456",
    "kind": "chat",
    "user_name": "anna@example.com",
    "title": "Analyst",
    "conversation": INTERACTION,
    "convo_title": "Greetings",
    "model": "demo",
    "answered_model": "demo",
    "outcome": "complete",
    "status": 200,
    "error": None,
    "policy_outcome": "masked",
    "policy_rules": ["card numbers"],
    "duration_ms": 812.5,
    "prompt_tokens": 6,
    "completion_tokens": 3,
}
_A_LINE: Json = {**_KNOWN, "asked": "Hello!", "said": "Hello there."}
_A_TURN: Json = {
    **_KNOWN,
    "parent_id": None,
    "convo_show": True,
    "started_at": "2026-10-09T08:53:19.311+00:00",
    "upstream": "demo",
    "first_token_ms": 95.0,
    "path": "/chat",
    "key_id": None,
    "request_id": "req_01997b3c64f1",
    "messages": QUESTION["messages"],
    "request": None,
    "response": COMPLETION,
    "request_text": None,
    "response_text": None,
}
_STREAM = (
    'id: 41\nevent: begun\ndata: {"position":41}\n\n'
    f'id: 42\nevent: interaction\ndata: {{"id":"{INTERACTION}", …}}\n\n'
)


def _query(name: str, description: str, of: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": of}


_NAME: Json = {"type": "string", "maxLength": 512}
_WANTED = [
    _query("user", "Only this user's.", _NAME),
    _query("model", "Only those asked of this model.", _NAME),
    _query("outcome", "Only those that ended so.", {"enum": list(Outcome)}),
    _query("policy", "Only those at which the policy did this.", {"enum": [*PolicyOutcome, ANY]}),
    _query("kind", "Only chats, images or other calls.", {"enum": ["chat", "image", "api"]}),
]

PATHS: Json = {
    "/live": {
        "get": {
            "operationId": "showLive",
            "tags": ["Page"],
            "summary": "Interactions as they happen, to look at",
            "security": [],
            "responses": {
                "200": {"description": "The page.", "headers": headers(), "content": {"text/html": {}}},
                **refusals(),
            },
        }
    },
    "/live/events": {
        "get": {
            "operationId": "watch",
            "tags": ["Audit"],
            "summary": "Interactions as they are kept",
            "description": "Of all processes, each once, in the order of their arrival. `Last-Event-ID` goes on from "
            "there. Only auditors.",
            "parameters": [*_WANTED, parameter("last-event-id")],
            "responses": {
                "200": {
                    "description": "Events, until the watcher leaves, may watch no longer, or the gateway stops.",
                    "headers": headers(),
                    "content": {"text/event-stream": {"schema": schema("LiveEvent"), "example": _STREAM}},
                },
                **refusals(400, 401, 403),
            },
        }
    },
    "/live/search": {
        "get": {
            "operationId": "searchLog",
            "tags": ["Audit"],
            "summary": "Interactions of everybody, newest first",
            "description": "Only auditors. With `q` those chats in which all of its words were said, or words that "
            "begin so; of the last 31 days, unless `from` says otherwise.",
            "parameters": [
                _query("q", "At most eight words.", {"type": "string", "maxLength": 200}),
                *_WANTED,
                _query("from", "Not older than this: ISO 8601, in UTC if it does not say.", {"type": "string"}),
                _query("to", "Older than this.", {"type": "string"}),
                _query("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}),
                _query("before", "`next_before` of the page before this one.", {"type": "string"}),
            ],
            "responses": {
                "200": answer("Lines.", "Lines", {"data": [_A_LINE], "next_before": None}),
                **refusals(400, 401, 403),
            },
        }
    },
    "/live/conversations/{id}": {
        "get": {
            "operationId": "openConversation",
            "tags": ["Audit"],
            "summary": "The whole conversation of an interaction",
            "description": "Oldest first, with what the policy did. An image or another call stands by itself. Only "
            "auditors.",
            "parameters": [
                parameter("interaction"),
                _query("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": 100, "default": 100}),
                _query("after", "`next_after` of the page before this one.", {"type": "string"}),
            ],
            "responses": {
                "200": answer(
                    "Turns.",
                    "Turns",
                    {
                        "user": "anna@example.com",
                        "conversation": INTERACTION,
                        "data": [_A_TURN],
                        "next_after": None,
                    },
                ),
                **refusals(400, 401, 403, 404),
            },
        }
    },
}
