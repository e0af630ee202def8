"""`/chat` and what belongs to it in the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.openapi.completions import COMPLETION, QUESTION, STREAM, spoken
from gateway.edge.openapi.errors import OF_BODIES, OF_UPSTREAM, refusals
from gateway.edge.openapi.pieces import ID, answer, json_body, parameter, schema

if TYPE_CHECKING:
    from gateway.model import Json

INTERACTION = "01997b3c-64f1-7c2e-9f0a-3d1f6f0b7a55"

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
    "Done": {
        "type": "object",
        "required": ["message"],
        "properties": {"message": {"type": "string"}},
    },
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
                "200": spoken(
                    "ChatAnswer",
                    {**COMPLETION, "uuid": INTERACTION, "root_uuid": INTERACTION},
                    "ChatEvent",
                    STREAM,
                    "x-conversation-id",
                ),
                **refusals(401, *OF_BODIES, *OF_UPSTREAM),
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
