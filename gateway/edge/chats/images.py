"""`/image_gen`: images at the configured prices."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.codec import jsontext
from gateway.dialects.request_body import FURTHER_MODELS, further_models
from gateway.edge.http.app_keys import EXCHANGE, SETTINGS
from gateway.edge.http.callers import client_of, open_context
from gateway.edge.http.params import read_object
from gateway.errors import MalformedBody
from gateway.exchange.context import PassthroughRequest
from gateway.model import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

PATH = "/images/generations"
MOST_IMAGES = 10
USUAL_SIZE = "1024x1024"
DECIDING = frozenset(("model", *FURTHER_MODELS, "prompt", "n", "size"))


async def image_gen(request: web.Request) -> web.StreamResponse:
    """POST /image_gen `{prompt, n, size}`: returns the upstream's answer. `n` is 1 to 10, by default 1; `size` is one
    that has a price, by default 1024x1024. Other members are passed on unchanged."""
    context = await open_context(request)
    body = await read_object(request, DECIDING)
    prices = dict(request.app[SETTINGS].images.prices)
    size, count = _size(body, prices), _count(body)
    if not isinstance(body.get("prompt"), str) or not body["prompt"].strip():
        raise MalformedBody("`prompt` must be a text", param="prompt")
    raw = jsontext.write({**body, "n": count, "size": size}, is_plain=False)
    model = body.get("model")
    upload = PassthroughRequest(
        raw,
        len(raw),
        model if isinstance(model, str) else None,
        further_models=tuple(further_models(body)),
        cost=prices[size] * count,
    )
    client = client_of(request, context)
    await request.app[EXCHANGE].pass_through(context, Kind.IMAGE, PATH, upload, client)
    return client.answered()


def _size(body: Mapping[str, Any], prices: Mapping[str, float]) -> str:
    size = body.get("size", USUAL_SIZE if USUAL_SIZE in prices else next(iter(prices), ""))
    if not isinstance(size, str) or size not in prices:
        raise MalformedBody(f"`size` must be one of {', '.join(prices)}", param="size")
    return size


def _count(body: Mapping[str, Any]) -> int:
    count = body.get("n", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_IMAGES:
        raise MalformedBody(f"`n` must be a number from 1 to {MOST_IMAGES}", param="n")
    return count
