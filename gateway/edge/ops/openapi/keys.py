"""Keys in the document: `/admin/keys` and `/keys`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.edge.ops.openapi.components import ID, MOMENT, answer, json_body, parameter, schema
from gateway.edge.ops.openapi.errors import OF_BODIES, refusals

if TYPE_CHECKING:
    from gateway.model import Json

_NAME: Json = {"type": "string", "minLength": 1, "maxLength": 256, "pattern": r"^\S(.*\S)?$"}
_NO_MOMENT: Json = {**MOMENT, "type": ["integer", "null"]}
_ROLES: Json = {
    "type": "array",
    "items": {"enum": ["user", "auditor", "admin"]},
    "description": "Auditors read everybody's rows, admins manage keys.",
}
_KEY: Json = {
    "object": "api_key",
    "id": "01997b3c-64f1-7c2e-9f0a-3d1f6f0b7a55",
    "name": "laptop",
    "redacted_value": "sk-gw-…9xQe",
    "user": "anna@example.com",
    "title": "Analyst",
    "roles": ["user"],
    "allowed_models": None,
    "created_at": 1760000000,
    "created_by": "root@example.com",
    "expires_at": 1791536000,
    "last_used_at": None,
    "revoked_at": None,
    "revoked_by": None,
    "is_own": False,
}
_OWN: Json = {
    **_KEY,
    "name": "notebook",
    "title": None,
    "created_by": "anna@example.com",
    "expires_at": 1760043200,
    "is_own": True,
}
_LIST: Json = {"object": "list", "data": [_KEY], "last_id": _KEY["id"], "has_more": False}

SCHEMAS: Json = {
    "Key": {
        "type": "object",
        "description": "What is known of a key. The key itself is not: its hash is kept, no more.",
        "required": list(_KEY),
        "properties": {
            "object": {"const": "api_key"},
            "id": ID,
            "name": {"type": "string", "description": "What it is for."},
            "redacted_value": {"type": "string"},
            "user": {"type": "string", "description": "Whom it stands for."},
            "title": {"type": ["string", "null"], "description": "The user's job title."},
            "roles": _ROLES,
            "allowed_models": {
                "type": ["array", "null"],
                "items": {"type": "string"},
                "description": "The models that it may use; null: all.",
            },
            "created_at": MOMENT,
            "created_by": {"type": "string"},
            "expires_at": _NO_MOMENT,
            "last_used_at": _NO_MOMENT,
            "revoked_at": _NO_MOMENT,
            "revoked_by": {"type": ["string", "null"]},
            "is_own": {"type": "boolean", "description": "Its user made it, for a while; it makes no keys."},
        },
    },
    "NewKey": {
        "allOf": [
            schema("Key"),
            {
                "type": "object",
                "required": ["value"],
                "properties": {"value": {"type": "string", "description": "The key itself, shown this once."}},
            },
        ],
    },
    "KeyOrder": {
        "type": "object",
        "required": ["user", "name"],
        "additionalProperties": False,
        "properties": {
            "user": {**_NAME, "description": "Whom it stands for, such as an email address. Printable signs only."},
            "name": {**_NAME, "description": "What it is for. Printable signs only."},
            "title": {**_NAME, "type": ["string", "null"], "description": "The user's job title."},
            "roles": {**_ROLES, "type": ["array", "null"]},
            "expires_at": {
                "type": ["number", "null"],
                "maximum": 253402300799,
                "description": "Unix time in seconds, in the future; null: never.",
            },
            "allowed_models": {
                "type": ["array", "null"],
                "minItems": 1,
                "maxItems": 1000,
                "items": _NAME,
                "description": "The models that it may use; null: all.",
            },
        },
    },
    "OwnKeyOrder": {
        "type": "object",
        "required": ["name"],
        "additionalProperties": False,
        "properties": {"name": {**_NAME, "description": "What it is for. Printable signs only."}},
    },
    "Keys": {
        "type": "object",
        "required": ["object", "data", "last_id", "has_more"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": schema("Key")},
            "last_id": {**ID, "type": ["string", "null"], "description": "The next page's `before`."},
            "has_more": {"type": "boolean"},
        },
    },
}

_LIMIT: Json = {
    "name": "limit",
    "in": "query",
    "description": "How many at most.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
}
_BEFORE: Json = {
    "name": "before",
    "in": "query",
    "description": "Only keys made before this one: the `last_id` of the page before.",
    "schema": {"type": "string", "format": "uuid"},
}
_USER: Json = {"name": "user", "in": "query", "description": "Only this user's.", "schema": _NAME}

PATHS: Json = {
    "/admin/keys": {
        "post": {
            "operationId": "createKey",
            "tags": ["Keys"],
            "summary": "Make a key",
            "description": "Admins only.",
            "requestBody": json_body(
                "KeyOrder",
                plain={"user": "anna@example.com", "name": "laptop"},
                restricted={
                    "user": "ben@example.com",
                    "name": "nightly report",
                    "title": "Analyst",
                    "roles": ["auditor"],
                    "expires_at": 4102444800,
                    "allowed_models": ["gpt-4o-mini"],
                },
            ),
            "responses": {
                "201": answer("The key. Nobody can show it again.", "NewKey", {**_KEY, "value": "sk-gw-…"}),
                **refusals(401, 403, *OF_BODIES),
            },
        },
        "get": {
            "operationId": "listKeys",
            "tags": ["Keys"],
            "summary": "Everybody's keys, newest first",
            "description": "Admins and auditors only.",
            "parameters": [_LIMIT, _BEFORE, _USER],
            "responses": {"200": answer("A page of them.", "Keys", _LIST), **refusals(400, 401, 403)},
        },
    },
    "/admin/keys/{id}": {
        "delete": {
            "operationId": "revokeKey",
            "tags": ["Keys"],
            "summary": "Revoke a key",
            "description": "Admins only. It counts no more in any gateway within seconds, and stays in the list.",
            "parameters": [parameter("key")],
            "responses": {
                "200": answer(
                    "The key, revoked.",
                    "Key",
                    {**_KEY, "revoked_at": 1760003600, "revoked_by": "root@example.com"},
                ),
                **refusals(401, 403, 404),
            },
        }
    },
    "/keys": {
        "get": {
            "operationId": "listOwnKeys",
            "tags": ["Keys"],
            "summary": "The caller's own keys, newest first",
            "parameters": [_LIMIT, _BEFORE],
            "responses": {"200": answer("A page of them.", "Keys", _LIST), **refusals(400, 401)},
        },
        "post": {
            "operationId": "createOwnKey",
            "tags": ["Keys"],
            "summary": "Make a key for oneself, for a while",
            "description": "Where the setting `auth.own_keys_s` says how long it lasts. It has its user's models and "
            "no role but `user`, ends with the credential that it is made with, and makes no keys itself. Not for "
            "pages of other sites.",
            "requestBody": json_body("OwnKeyOrder", plain={"name": "notebook"}),
            "responses": {
                "201": answer("The key. Nobody can show it again.", "NewKey", {**_OWN, "value": "sk-gw-…"}),
                **refusals(401, 403, 409, *OF_BODIES),
            },
        },
    },
    "/keys/{id}": {
        "delete": {
            "operationId": "revokeOwnKey",
            "tags": ["Keys"],
            "summary": "Revoke a key that one has made",
            "parameters": [parameter("key")],
            "responses": {
                "200": answer(
                    "The key, revoked.",
                    "Key",
                    {**_OWN, "revoked_at": 1760003600, "revoked_by": "anna@example.com"},
                ),
                **refusals(401, 403, 404),
            },
        }
    },
}
