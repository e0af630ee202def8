"""`/v1/chat/completions` and `/v1/responses` in the document, and the forms that `/chat` shares with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import OF_POLICY, event, headers, json_body, json_text, parameter, schema
from gateway.edge.ops.openapi.errors import OF_BODIES, OF_UPSTREAM, refusals

if TYPE_CHECKING:
    from gateway.model import Json

QUESTION: Json = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]}
COMPLETION: Json = {
    "id": "chatcmpl-9f2c",
    "object": "chat.completion",
    "created": 1760000000,
    "model": "demo",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9},
}
_CHUNK = (
    '{"id": "chatcmpl-9f2c", "object": "chat.completion.chunk", "created": 1760000000, "model": "demo", "choices": '
)
STREAM = (
    f'data: {_CHUNK}[{{"index": 0, "delta": {{"role": "assistant", "content": "Hello"}}, "finish_reason": null}}]}}\n\n'
    f'data: {_CHUNK}[{{"index": 0, "delta": {{"content": " there."}}, "finish_reason": null}}]}}\n\n'
    f'data: {_CHUNK}[{{"index": 0, "delta": {{}}, "finish_reason": "stop"}}]}}\n\n'
    "data: [DONE]\n\n"
)
_RESPONSE: Json = {
    "id": "resp_51aa",
    "object": "response",
    "created_at": 1760000000,
    "status": "completed",
    "model": "demo",
    "output": [
        {
            "type": "message",
            "id": "msg_51aa",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Hello there.", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 6, "output_tokens": 3, "total_tokens": 9},
}
_RESPONSE_STREAM = (
    "event: response.output_text.delta\n"
    'data: {"type": "response.output_text.delta", "sequence_number": 4, "item_id": "msg_51aa", "output_index": 0, '
    '"content_index": 0, "delta": "Hello"}\n\n'
    "event: response.completed\n"
    'data: {"type": "response.completed", "sequence_number": 9, "response": {"id": "resp_51aa", "object": "response"}}'
    "\n\n"
)

# The gateway's own fields in a body; they never reach the model.
OWN_FIELDS: Json = {
    "root_id": {
        "type": ["string", "null"],
        "maxLength": 512,
        "description": "The conversation that this belongs to, by its first interaction's id. Never sent to the model.",
    },
    "convo_title": {
        "type": ["string", "null"],
        "maxLength": 512,
        "description": "The conversation's title. Never sent to the model.",
    },
}

SCHEMAS: Json = {
    "ChatRequest": {
        "type": "object",
        "description": "A chat-completions body of OpenAI's API. Fields that are not named here go to the model, too.",
        "required": ["messages"],
        "properties": {
            "model": {"type": "string", "description": "As GET /v1/models lists them."},
            "messages": {"type": "array", "minItems": 1, "items": schema("Message")},
            "stream": {"type": ["boolean", "null"], "description": "Answer as server-sent events, word by word."},
            "stream_options": {
                "type": ["object", "null"],
                "description": "Only with `stream`.",
                "properties": {
                    "include_usage": {"type": "boolean", "description": "One last event with the tokens used."}
                },
            },
            "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
            "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "presence_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
            "frequency_penalty": {"type": ["number", "null"], "minimum": -2, "maximum": 2},
            "max_tokens": {"type": ["integer", "null"], "minimum": 1},
            "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 16, "description": "How many answers."},
            "stop": {"type": ["string", "array", "null"], "items": {"type": "string"}},
            "tools": {"type": "array", "items": {"type": "object"}},
            "response_format": {"type": "object", "description": "As text or JSON; the demo model only writes text."},
            **OWN_FIELDS,
        },
    },
    "Message": {
        "type": "object",
        "required": ["role"],
        "properties": {
            "role": {"enum": ["developer", "system", "user", "assistant", "tool", "function"]},
            "content": {
                "type": ["string", "array", "null"],
                "items": {"type": "object", "description": "Text, an image, …: a part by its `type`."},
            },
        },
    },
    "ChatCompletion": {
        "type": "object",
        "description": "The model's own words, untouched.",
        "required": ["id", "object", "choices"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "message"],
                    "properties": {
                        "index": {"type": "integer"},
                        "message": schema("Message"),
                        "finish_reason": {"type": ["string", "null"]},
                    },
                },
            },
            "usage": schema("Usage"),
        },
    },
    "Usage": {
        "type": ["object", "null"],
        "properties": {
            "prompt_tokens": {"type": "integer"},
            "completion_tokens": {"type": "integer"},
            "total_tokens": {"type": "integer"},
        },
    },
    "ChatEvent": event(
        "One event of a streamed chat completion. The last one of a whole answer is `[DONE]`.",
        {"const": "[DONE]"},
        json_text(schema("ChatChunk"), schema("Error")),
    ),
    "ChatChunk": {
        "type": "object",
        "description": "Some more words of the answer; where the choices are empty, the tokens used.",
        "required": ["object", "choices"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion.chunk"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "delta"],
                    "properties": {
                        "index": {"type": "integer"},
                        "delta": {"type": "object", "properties": {"content": {"type": ["string", "null"]}}},
                        "finish_reason": {"type": ["string", "null"]},
                    },
                },
            },
            "usage": schema("Usage"),
        },
    },
    "ResponseRequest": {
        "type": "object",
        "description": "A body of OpenAI's Responses API. Fields that are not named here go to the model, too.",
        "required": ["input"],
        "properties": {
            "model": {"type": "string"},
            "input": {
                "anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "object"}}],
                "description": "A question, or the items of the conversation so far.",
            },
            "instructions": {"type": ["string", "null"]},
            "stream": {"type": ["boolean", "null"]},
            "max_output_tokens": {"type": ["integer", "null"], "minimum": 1},
            **OWN_FIELDS,
        },
    },
    "Response": {
        "type": "object",
        "required": ["id", "object", "output"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "response"},
            "created_at": {"type": "integer"},
            "status": {"type": "string"},
            "model": {"type": "string"},
            "output": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": ["object", "null"]},
        },
    },
    "ResponseEvent": event(
        "One event of a streamed response. The last one carries the response: `response.completed`, `….incomplete` or "
        "`….failed`.",
        json_text(schema("ResponseStep"), schema("Error")),
    ),
    "ResponseStep": {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"type": "string"}, "sequence_number": {"type": "integer"}},
    },
}


def spoken(name: str, example: Json, event_name: str, stream: str, *more_headers: str) -> Json:
    """An answer of a model: JSON, or server-sent events if the request says `stream`.

    OpenAPI before 3.2 has no word for the items of a stream: by custom the schema is that of each event, and the
    example shows the whole body.
    """
    return {
        "description": "The answer: whole, or as server-sent events when the request says `stream: true`. A stream "
        "ends with its dialect's own last event; one that broke off ends with its dialect's error event instead: "
        "`error`, for responses followed by `response.failed`. Lines that begin with a colon are heartbeats.",
        "headers": headers("x-interaction-id", *OF_POLICY, *more_headers),
        "content": {
            "application/json": {"schema": schema(name), "example": example},
            "text/event-stream": {"schema": schema(event_name), "example": stream},
        },
    }


def streamed(event_name: str, stream: str, *more_headers: str) -> Json:
    """An answer that is a stream, whatever the request says."""
    return {
        "description": "The answer as server-sent events.",
        "headers": headers("x-interaction-id", *OF_POLICY, *more_headers),
        "content": {"text/event-stream": {"schema": schema(event_name), "example": stream}},
    }


PATHS: Json = {
    "/v1/chat/completions": {
        "post": {
            "operationId": "createChatCompletion",
            "tags": ["OpenAI"],
            "summary": "Ask a chat model",
            "description": "What OpenAI's SDKs call. When the caller leaves, the model is stopped at once, and what "
            "was said until then is kept.",
            "parameters": [parameter("x-conversation-id"), parameter("x-request-id")],
            "requestBody": json_body(
                "ChatRequest",
                plain=QUESTION,
                streamed={**QUESTION, "stream": True},
                with_a_system_prompt={
                    "model": "demo",
                    "temperature": 0.2,
                    "max_tokens": 200,
                    "messages": [
                        {"role": "system", "content": "Answer in one sentence."},
                        {"role": "user", "content": "Why is the sky blue?"},
                    ],
                },
            ),
            "responses": {
                "200": spoken("ChatCompletion", COMPLETION, "ChatEvent", STREAM),
                **refusals(401, *OF_BODIES, *OF_UPSTREAM),
            },
        }
    },
    "/v1/responses": {
        "post": {
            "operationId": "createResponse",
            "tags": ["OpenAI"],
            "summary": "Ask a model by the Responses API",
            "parameters": [parameter("x-conversation-id"), parameter("x-request-id")],
            "requestBody": json_body(
                "ResponseRequest",
                plain={"model": "demo", "input": "Hello!"},
                streamed={"model": "demo", "input": "Hello!", "stream": True},
            ),
            "responses": {
                "200": spoken("Response", _RESPONSE, "ResponseEvent", _RESPONSE_STREAM),
                **refusals(401, *OF_BODIES, *OF_UPSTREAM),
            },
        }
    },
}
