"""The rest of `/v1` in the document: what SDKs call most, and the one route behind all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import answer, headers, json_body, parameter, schema
from gateway.edge.ops.openapi.errors import OF_UPSTREAM, refusals

if TYPE_CHECKING:
    from gateway.model import Json

_MODEL: Json = {"id": "demo", "object": "model", "created": 1760000000, "owned_by": "llm-gateway"}
_ANYTHING: Json = {
    "description": "The upstream's answer, passed on as it came.",
    "headers": headers("x-interaction-id"),
    "content": {"*/*": {}},
}

SCHEMAS: Json = {
    "Model": {
        "type": "object",
        "required": ["id", "object"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
        },
    },
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": schema("Model")}},
    },
    "EmbeddingRequest": {
        "type": "object",
        "required": ["model", "input"],
        "properties": {
            "model": {"type": "string"},
            "input": {"type": ["string", "array"]},
            "encoding_format": {"enum": ["float", "base64"]},
            "dimensions": {"type": "integer", "minimum": 1},
        },
    },
    "Embeddings": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"type": "object"}},
            "model": {"type": "string"},
            "usage": {"type": "object"},
        },
    },
}

_REFUSALS = refusals(401, 400, 404, 408, 413, *OF_UPSTREAM)


def _any_call(method: str, *, has_body: bool) -> Json:
    operation: Json = {
        "operationId": f"{method}Anything",
        "tags": ["OpenAI"],
        "summary": "Any other call of OpenAI's API",
        "description": "Images, audio, files, batches, and what is not invented yet: passed on to the upstream with "
        "its query and body, and recorded.",
        "responses": {"2XX": _ANYTHING, "3XX": _ANYTHING, **_REFUSALS},
    }
    if method == "get":
        operation["responses"] |= refusals(426)
    if has_body:
        operation["requestBody"] = {
            "content": {
                "application/json": {},
                "multipart/form-data": {"schema": {"type": "object"}},
                "application/octet-stream": {},
            }
        }
    return operation


PATHS: Json = {
    "/v1/models": {
        "get": {
            "operationId": "listModels",
            "tags": ["OpenAI"],
            "summary": "The upstream's models",
            "responses": {
                "200": answer("All of them.", "Models", {"object": "list", "data": [_MODEL]}, "x-interaction-id"),
                **_REFUSALS,
            },
        }
    },
    "/v1/models/{model}": {
        "get": {
            "operationId": "getModel",
            "tags": ["OpenAI"],
            "summary": "One of the upstream's models",
            "parameters": [parameter("model")],
            "responses": {"200": answer("The model.", "Model", _MODEL, "x-interaction-id"), **_REFUSALS},
        }
    },
    "/v1/embeddings": {
        "post": {
            "operationId": "createEmbeddings",
            "tags": ["OpenAI"],
            "summary": "Vectors of texts",
            "requestBody": json_body(
                "EmbeddingRequest", plain={"model": "text-embedding-3-small", "input": ["first text", "second text"]}
            ),
            "responses": {
                "200": answer(
                    "A vector for each text.",
                    "Embeddings",
                    {
                        "object": "list",
                        "data": [{"object": "embedding", "index": 0, "embedding": [0.0123, -0.0456]}],
                        "model": "text-embedding-3-small",
                        "usage": {"prompt_tokens": 4, "total_tokens": 4},
                    },
                    "x-interaction-id",
                ),
                **_REFUSALS,
            },
        }
    },
    "/v1/{path}": {
        "parameters": [parameter("path")],
        "get": _any_call("get", has_body=False),
        "post": _any_call("post", has_body=True),
        "put": _any_call("put", has_body=True),
        "patch": _any_call("patch", has_body=True),
        "delete": _any_call("delete", has_body=False),
    },
}
