"""JSON members and query parameters of the gateway's own endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from gateway.edge.http.app_keys import SETTINGS
from gateway.edge.http.bodies import parse_object, read_body, refuse_ambiguous
from gateway.errors import CallerError, MalformedBody, NotFound, UnsupportedMediaType

if TYPE_CHECKING:
    from collections.abc import Collection

    from aiohttp import web

MOST_CHARACTERS = 512


async def read_object(request: web.Request, names: Collection[str] | None = None) -> dict[str, Any]:
    """The JSON object of a request that changes something; each of `names` (None: each member) occurs at most once.
    Raises CallerError.

    The type must be application/json: a page of another site can make a browser send any text, but with this type only
    after a CORS preflight.
    """
    if request.content_type != "application/json":
        raise UnsupportedMediaType("the body must be application/json")
    settings = request.app[SETTINGS]
    raw = await read_body(request, settings)
    body = parse_object(raw, settings.server.max_depth)
    refuse_ambiguous(raw, names)
    return body


def text_in(body: dict[str, Any], name: str) -> str:
    """A member that must be a string that is not blank. Raises MalformedBody."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip() or len(value) > MOST_CHARACTERS:
        raise MalformedBody(f"`{name}` must be a text of 1 to {MOST_CHARACTERS} characters", param=name)
    return value


def id_in(request: web.Request) -> UUID:
    """The `{id}` of the path. Raises NotFound where it is not a UUID."""
    try:
        return UUID(request.match_info["id"])
    except ValueError as error:
        raise NotFound("there is nothing with this id") from error


def limit_in(request: web.Request, usual: int, most: int) -> int:
    """The query's `limit`. Raises CallerError."""
    given = request.query.get("limit", str(usual))
    if not (given.isascii() and given.isdigit() and len(given) <= 9 and 1 <= int(given) <= most):
        raise CallerError(f"`limit` must be a number from 1 to {most}", param="limit")
    return int(given)


def text_param(request: web.Request, name: str) -> str | None:
    """A string of the query; None where it is empty or missing. Raises CallerError."""
    given = request.query.get(name) or None
    if given is not None and len(given) > MOST_CHARACTERS:
        raise CallerError(f"`{name}` must be at most {MOST_CHARACTERS} characters", param=name)
    return given
