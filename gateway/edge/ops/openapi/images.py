"""`/image_gen` in the document."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import VISIBLE, answer, json_body
from gateway.edge.ops.openapi.errors import OF_BODIES, OF_UPSTREAM, refusals

if TYPE_CHECKING:
    from gateway.model import Json

SCHEMAS: Json = {
    "ImageRequest": {
        "type": "object",
        "description": "Fields that are not named here go to the model, too.",
        "required": ["prompt"],
        "properties": {
            "prompt": {"type": "string", "pattern": VISIBLE},
            "n": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1, "description": "How many."},
            "size": {
                "type": "string",
                "pattern": r"^[0-9]+x[0-9]+$",
                "default": "1024x1024",
                "description": "One that has a price here: 256x256, 512x512, 1024x1024, unless configured otherwise.",
            },
        },
    },
    "Images": {
        "type": "object",
        "description": "The image endpoint's own answer.",
        "properties": {
            "created": {"type": "integer"},
            "data": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"url": {"type": "string"}, "b64_json": {"type": "string"}},
                },
            },
        },
    },
}

PATHS: Json = {
    "/image_gen": {
        "post": {
            "operationId": "generateImages",
            "tags": ["Images"],
            "summary": "Have images made",
            "description": "Kept in `llm_logs.image_logs` with what they cost.",
            "requestBody": json_body("ImageRequest", plain={"prompt": "A quiet harbour", "n": 1, "size": "512x512"}),
            "responses": {
                "200": answer(
                    "The images.",
                    "Images",
                    {"created": 1760000000, "data": [{"url": "https://images.example/1.png"}]},
                    "x-interaction-id",
                ),
                **refusals(401, *OF_BODIES, *OF_UPSTREAM),
            },
        }
    },
}
