"""`/chat` and what belongs to it in the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.completions import COMPLETION, QUESTION, STREAM, spoken, streamed
from gateway.edge.ops.openapi.components import ID, answer, json_body, parameter, schema
from gateway.edge.ops.openapi.errors import OF_BODIES, OF_UPSTREAM, error, refusals
from gateway.model import Outcome, PolicyOutcome

if TYPE_CHECKING:
    from gateway.model import Json

INTERACTION = "01997b3c-64f1-7c2e-9f0a-3d1f6f0b7a55"
_ANSWER: Json = {**COMPLETION, "uuid": INTERACTION, "root_uuid": INTERACTION}
_KEPT: Json = {
    "uuid": INTERACTION,
    "root_uuid": INTERACTION,
    "running": False,
    "outcome": "complete",
    "error": None,
    "model": "demo",
    "started_at": 1760000000.25,
    "policy": {"outcome": "masked", "rules": ["card numbers"]},
    "response": _ANSWER,
}

SCHEMAS: Json = {
    "ChatAnswer": {
        "description": "The model's completion, with the ids under which it is kept.",
        "allOf": [
            schema("ChatCompletion"),
            {
                "type": "object",
                "required": ["uuid", "root_uuid"],
                "properties": {
                    "uuid": ID,
                    "root_uuid": {"type": "string", "description": "The conversation, by its first interaction's id."},
                },
            },
        ],
    },
    "KeptChat": {
        "type": "object",
        "required": list(_KEPT),
        "properties": {
            "uuid": ID,
            "root_uuid": {"type": "string"},
            "running": {"type": "boolean", "description": "It is being made."},
            "outcome": {"enum": [*Outcome, None], "description": "How it ended; null while it is being made."},
            "error": {"type": ["string", "null"]},
            "model": {"type": ["string", "null"]},
            "started_at": {"type": ["number", "null"], "description": "Unix time in seconds."},
            "policy": {
                "type": ["object", "null"],
                "description": "What the company's policy did, and by which rules; null: nothing.",
                "required": ["outcome", "rules"],
                "properties": {
                    "outcome": {"enum": list(PolicyOutcome)},
                    "rules": {"type": "array", "items": {"type": "string"}},
                },
            },
            "response": {"description": "What was said, also where it was cut short; null: nothing."},
        },
    },
    "RunningChats": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "root_id", "model", "started_at", "stream"],
                    "properties": {
                        "id": ID,
                        "root_id": {"type": "string"},
                        "model": {"type": ["string", "null"]},
                        "started_at": {"type": ["number", "null"], "description": "Unix time in seconds."},
                        "stream": {"type": "boolean", "description": "Whether it can be joined."},
                    },
                },
            },
        },
    },
    "Done": {
        "type": "object",
        "required": ["message"],
        "properties": {"message": {"type": "string"}},
    },
}

_ITS_ID: Json = {"id": "$response.header.x-interaction-id"}
_ITS_CONVERSATION: Json = {"root_id": "$response.body#/root_uuid"}
_AFTER_CHAT: Json = {
    "findAnswer": {"operationId": "findAnswer", "requestBody": "$request.body"},
    "getChat": {"operationId": "getChat", "parameters": _ITS_ID},
    "joinAnswer": {"operationId": "joinAnswer", "parameters": _ITS_ID},
    "stopAnswer": {"operationId": "stopAnswer", "parameters": _ITS_ID},
    "setTitle": {"operationId": "setTitle", "requestBody": {**_ITS_CONVERSATION, "convo_title": "Greetings"}},
    "makeTitle": {"operationId": "makeTitle", "requestBody": _ITS_CONVERSATION},
    "makeMetadata": {"operationId": "makeMetadata", "requestBody": _ITS_CONVERSATION},
    "removeConversation": {"operationId": "removeConversation", "requestBody": _ITS_CONVERSATION},
    "restoreConversation": {"operationId": "restoreConversation", "requestBody": _ITS_CONVERSATION},
}

PATHS: Json = {
    "/chat": {
        "post": {
            "operationId": "chat",
            "tags": ["Chat"],
            "summary": "Ask, and have the answer kept whatever happens to the connection",
            "description": "As `/v1/chat/completions`, but the answer is made to its end although the caller leaves, "
            "and belongs to a conversation: send the first answer's `root_uuid` as `root_id` with the next question. A "
            "stream has both ids in its headers `x-interaction-id` and `x-conversation-id`.",
            "parameters": [parameter("x-conversation-id"), parameter("x-request-id")],
            "requestBody": json_body(
                "ChatRequest",
                plain=QUESTION,
                streamed={**QUESTION, "stream": True},
                going_on={
                    "model": "demo",
                    "root_id": INTERACTION,
                    "convo_title": "Greetings",
                    "messages": [
                        {"role": "user", "content": "Hello!"},
                        {"role": "assistant", "content": "Hello there."},
                        {"role": "user", "content": "How are you?"},
                    ],
                },
            ),
            "responses": {
                "200": {
                    **spoken("ChatAnswer", _ANSWER, "ChatEvent", STREAM, "x-conversation-id"),
                    "links": _AFTER_CHAT,
                },
                **refusals(401, *OF_BODIES, *OF_UPSTREAM),
            },
        }
    },
    "/checkchat": {
        "post": {
            "operationId": "findAnswer",
            "tags": ["Chat"],
            "summary": "The answer to a question whose connection was cut",
            "description": "Send the same body as to `/chat`; `root_id` may be left out. There is an answer if the "
            "same caller asked within the last 15 minutes.",
            "requestBody": json_body("ChatRequest", plain=QUESTION),
            "responses": {
                "200": answer("The answer, as `/chat` gives it.", "ChatAnswer", _ANSWER, "x-interaction-id"),
                **refusals(401, *OF_BODIES),
                "404": error(
                    "There is none yet: ask again. The code is `still_running` while it is being made.",
                    "invalid_request_error",
                    "still_running",
                    "the answer is being made; ask again in a second",
                    "Retry-After",
                ),
                "409": error(
                    "It has ended, but not well. The code says how; GET `/chat/{id}` has what was said.",
                    "invalid_request_error",
                    "truncated",
                    f"the answer {INTERACTION} ended as truncated",
                    "x-should-retry",
                ),
            },
        }
    },
    "/chat/running": {
        "get": {
            "operationId": "listRunningChats",
            "tags": ["Chat"],
            "summary": "The caller's answers that are being made, newest first",
            "responses": {
                "200": answer(
                    "Those of the process that is asked.",
                    "RunningChats",
                    {
                        "object": "list",
                        "data": [
                            {
                                "id": INTERACTION,
                                "root_id": INTERACTION,
                                "model": "demo",
                                "started_at": 1760000000.25,
                                "stream": True,
                            }
                        ],
                    },
                ),
                **refusals(401),
            },
        }
    },
    "/chat/{id}": {
        "get": {
            "operationId": "getChat",
            "tags": ["Chat"],
            "summary": "A chat, over or not",
            "description": "Auditors see anybody's.",
            "parameters": [parameter("interaction")],
            "responses": {
                "200": answer("What was said, and how it ended.", "KeptChat", _KEPT),
                **refusals(401, 404),
            },
        }
    },
    "/chat/{id}/stream": {
        "get": {
            "operationId": "joinAnswer",
            "tags": ["Chat"],
            "summary": "Join an answer that is being made",
            "description": "From its beginning, and then as it goes on. When it is over, GET `/chat/{id}` has it.",
            "parameters": [parameter("interaction")],
            "responses": {
                "200": streamed("ChatEvent", STREAM, "x-conversation-id"),
                **refusals(400, 401, 403, 404, 409, 501, 502, 504),
            },
        }
    },
    "/chat/{id}/stop": {
        "post": {
            "operationId": "stopAnswer",
            "tags": ["Chat"],
            "summary": "Stop an answer that is being made",
            "description": "What was said until then is kept. The id is the header `x-interaction-id` of the answer.",
            "parameters": [parameter("interaction")],
            "responses": {
                "200": answer("It ends here.", "Done", {"message": "stopped"}),
                **refusals(401, 404),
            },
        }
    },
}
