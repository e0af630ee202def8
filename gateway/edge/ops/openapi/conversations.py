"""Conversations in the document: their history, titles and metadata."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.chat import INTERACTION
from gateway.edge.ops.openapi.completions import COMPLETION, QUESTION
from gateway.edge.ops.openapi.components import ID, VISIBLE, answer, json_body, schema
from gateway.edge.ops.openapi.errors import OF_BODIES, refusals
from gateway.model import PolicyOutcome

if TYPE_CHECKING:
    from gateway.model import Json

_MOMENT: Json = {
    "type": ["string", "null"],
    "description": "When the answer ended: ISO 8601, UTC without saying so.",
}
_NEXT: Json = {
    "type": ["string", "null"],
    "description": "The next page's `before`; null: there is nothing more. Only when `limit` or `before` was given.",
}
_ROOT: Json = {
    "type": "string",
    "minLength": 1,
    "maxLength": 512,
    "pattern": VISIBLE,
    "description": "The conversation: `root_uuid` of its answers, `root_gpt_id` of its rows.",
}
_SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_AMOUNT: Json = {"type": "number", "minimum": 0}
_TEXTS: Json = {"type": "array", "items": {"type": "string"}}

_ROW: Json = {
    "id": INTERACTION,
    "request": QUESTION,
    "usage_info": COMPLETION["usage"],
    "user_name": "anna@example.com",
    "title": "Analyst",
    "response_time": "2026-10-09T08:53:20.123456",
    "response": COMPLETION,
    "convo_title": "Greetings",
    "convo_show": True,
    "root_gpt_id": INTERACTION,
    "kind": "chat",
    "model": "demo",
    "outcome": "complete",
    "policy_outcome": None,
    "policy_rules": None,
    "error": None,
    "prompt_tokens": 6,
    "completion_tokens": 3,
}
_METADATA: Json = {
    "chat_summary": "The user greeted the assistant.",
    "description": "Say hello.",
    "llm_deliverables": ["a greeting"],
    "satisfaction_score": 0.9,
    "work_related": False,
    "user_seconds_saved": 0,
    "assistant_seconds_saved": 5,
    "assistant_wage": 20,
    "languages": ["English"],
}
_MARK = f"{_ROW['response_time']}_{INTERACTION}"

SCHEMAS: Json = {
    "Conversation": {
        "type": "object",
        "required": ["root_id"],
        "properties": {"root_id": _ROOT},
    },
    "TitleByHand": {
        "type": "object",
        "required": ["root_id", "convo_title"],
        "properties": {
            "root_id": _ROOT,
            "convo_title": {"type": "string", "minLength": 1, "maxLength": 512, "pattern": VISIBLE},
        },
    },
    "NewTitle": {
        "type": "object",
        "required": ["message", "new_title"],
        "properties": {"message": {"type": "string"}, "new_title": {"type": "string"}},
    },
    "NewMetadata": {
        "type": "object",
        "required": ["message", "metadata"],
        "properties": {"message": {"type": "string"}, "metadata": schema("Metadata")},
    },
    "Metadata": {
        "type": "object",
        "required": list(_METADATA),
        "properties": {
            "chat_summary": {"type": "string"},
            "description": {"type": "string", "description": "What the user wanted."},
            "llm_deliverables": {**_TEXTS, "description": "What the model delivered."},
            "satisfaction_score": _SHARE,
            "work_related": {"type": "boolean"},
            "user_seconds_saved": _AMOUNT,
            "assistant_seconds_saved": _AMOUNT,
            "assistant_wage": {**_AMOUNT, "description": "USD an hour."},
            "languages": _TEXTS,
        },
    },
    "History": {
        "type": "object",
        "required": ["Historical_list"],
        "properties": {
            "Historical_list": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["request", "response_time"],
                    "properties": {"request": {"description": "As it was sent."}, "response_time": _MOMENT},
                },
            },
            "next_before": _NEXT,
        },
    },
    "Conversations": {
        "type": "object",
        "required": ["Historical_Conversations"],
        "properties": {
            "Historical_Conversations": {"type": "array", "items": schema("Row")},
            "next_before": _NEXT,
        },
    },
    "Row": {
        "type": "object",
        "description": "A row of the table `llm_logs.chatgpt_logs`.",
        "required": list(_ROW),
        "properties": {
            "id": ID,
            "request": {"description": "As it was sent."},
            "usage_info": {"description": "The model's own count of tokens."},
            "user_name": {"type": ["string", "null"]},
            "title": {"type": ["string", "null"], "description": "The user's job title."},
            "response_time": _MOMENT,
            "response": {"description": "The answer, put together where it was streamed."},
            "convo_title": {"type": ["string", "null"]},
            "convo_show": {"type": ["boolean", "null"]},
            "root_gpt_id": {"type": "string", "description": "The conversation."},
            "kind": {"type": ["string", "null"]},
            "model": {"type": ["string", "null"]},
            "outcome": {"type": ["string", "null"], "description": "How the answer ended, such as `complete`."},
            "policy_outcome": {"enum": [*PolicyOutcome, None], "description": "What the policy did; null: nothing."},
            "policy_rules": {"type": ["array", "null"], "items": {"type": "string"}},
            "error": {"type": ["string", "null"]},
            "prompt_tokens": {"type": ["integer", "null"]},
            "completion_tokens": {"type": ["integer", "null"]},
        },
    },
}

_LIMIT: Json = {
    "name": "limit",
    "in": "query",
    "description": "How many at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 1000},
}
_BEFORE: Json = {
    "name": "before",
    "in": "query",
    "description": "Go on from there: the `next_before` of the page before.",
    "schema": {"type": "string"},
}
_USER: Json = {
    "name": "user",
    "in": "query",
    "description": "Whose; another than oneself for auditors only.",
    "schema": {"type": "string"},
}
_WORDS: Json = {
    "name": "q",
    "in": "query",
    "description": "Only those in which all of these words were said; each may be the beginning of one.",
    "schema": {"type": "string", "maxLength": 200},
}

_OF_MODELS = (403, 409, 501, 502, 504)


def _change(operation_id: str, summary: str, description: str, body: Json, done: Json, *more_errors: int) -> Json:
    return {
        "operationId": operation_id,
        "tags": ["Conversations"],
        "summary": summary,
        "description": description,
        "requestBody": body,
        "responses": {"200": done, **refusals(401, 404, *OF_BODIES, *more_errors)},
    }


_THIS: Json = json_body("Conversation", plain={"root_id": INTERACTION})
_TITLED: Json = {"message": "the title is set", "new_title": "Greetings"}

PATHS: Json = {
    "/history": {
        "get": {
            "operationId": "listChats",
            "tags": ["Conversations"],
            "summary": "All of the caller's chats, newest first",
            "description": "Also those that are removed from the history. At most 1,000 rows or 16 MiB; `limit` and "
            "`before` give it in pages, and a header `Link` names the next one.",
            "parameters": [_LIMIT, _BEFORE, _USER],
            "responses": {
                "200": answer(
                    "The chats.",
                    "History",
                    {
                        "Historical_list": [{"request": QUESTION, "response_time": _ROW["response_time"]}],
                        "next_before": _MARK,
                    },
                    "Link",
                ),
                **refusals(400, 401, 403),
            },
        }
    },
    "/history_v2": {
        "get": {
            "operationId": "listConversations",
            "tags": ["Conversations"],
            "summary": "The newest row of each conversation, newest first",
            "description": "Without those that are removed from the history. Pages as in `/history`.",
            "parameters": [_WORDS, _LIMIT, _BEFORE, _USER],
            "responses": {
                "200": answer(
                    "The conversations.",
                    "Conversations",
                    {"Historical_Conversations": [_ROW], "next_before": None},
                    "Link",
                ),
                **refusals(400, 401, 403),
            },
        }
    },
    "/update_title": {
        "post": _change(
            "setTitle",
            "Name a conversation",
            "Every row of it gets the title, also those to come.",
            json_body("TitleByHand", plain={"root_id": INTERACTION, "convo_title": "Greetings"}),
            answer("It is named so.", "NewTitle", _TITLED),
        )
    },
    "/update_title_openai": {
        "post": _change(
            "makeTitle",
            "Have a model name a conversation",
            "In at most 49 characters, from what the user wrote. The call is itself kept.",
            _THIS,
            answer("It is named so.", "NewTitle", _TITLED),
            *_OF_MODELS,
        )
    },
    "/metadata_check": {
        "post": _change(
            "makeMetadata",
            "Have a model derive metadata from a conversation",
            "From its newest row. What the model answers is checked, asked for once more where it is wrong, and kept "
            "in `llm_logs.meta_summarizer_log`.",
            _THIS,
            answer("They are kept.", "NewMetadata", {"message": "the metadata are stored", "metadata": _METADATA}),
            *_OF_MODELS,
        )
    },
    "/remove_convo": {
        "post": _change(
            "removeConversation",
            "Remove a conversation from the history",
            "Nothing is deleted. What is said in it from now on shows again.",
            _THIS,
            answer("It shows no more.", "Done", {"message": "the conversation is removed from the history"}),
        )
    },
    "/restore_convo": {
        "post": _change(
            "restoreConversation",
            "Bring a conversation back into the history",
            "The opposite of `/remove_convo`.",
            _THIS,
            answer("It shows again.", "Done", {"message": "the conversation is back in the history"}),
        )
    },
}
