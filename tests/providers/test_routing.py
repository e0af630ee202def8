"""Which provider a configuration gives to what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from gateway.providers.demo.provider import DemoProvider
from gateway.providers.routing import Catalogue
from gateway.settings import load
from gateway.transport.call import Call, Ending
from tests.fakes import Basin

if TYPE_CHECKING:
    from tests.loopback import LoopbackUpstream, Request


async def asked(environ: dict[str, str], upstream: LoopbackUpstream, path: str) -> Request:
    """The request that an upstream sees of a call, with this configuration."""
    catalogue = Catalogue.of(load(environ))
    try:
        provider = catalogue.for_model("m").provider if path.startswith("/chat") else catalogue.for_path(path)
        reply = await provider.open(Call("POST", path, ((b"Content-Type", b"application/json"),), b"{}"))
        assert await reply.pump(Basin()) in (Ending.WHOLE, Ending.ENOUGH)
        reply.close()
    finally:
        await catalogue.aclose()
    return upstream.requests[-1]


async def test_nothing_configured_is_the_demo_model() -> None:
    catalogue = Catalogue.of(load({}))
    assert isinstance(catalogue.for_model("gpt-4o").provider, DemoProvider)
    assert isinstance(catalogue.for_path("/models"), DemoProvider)
    await catalogue.aclose()


async def test_base_url_and_key(upstream: LoopbackUpstream) -> None:
    seen = await asked({"OPENAI_BASE_URL": upstream.url, "OPENAI_API_KEY": "sk-ours"}, upstream, "/chat/completions")
    assert (seen.target, seen.header("authorization")) == ("/v1/chat/completions", "Bearer sk-ours")


async def test_seeds_endpoint_authorization_and_content_type(upstream: LoopbackUpstream) -> None:
    environ = {
        "LLM_ENDPOINT": f"{upstream.origin}/x/v1/chat/completions?api-version=1",
        "LLM_API_AUTHORIZATION": "Basic abc",
        "LLM_API_CONTENT_TYPE": "application/vnd.llm+json",
    }
    seen = await asked(environ, upstream, "/chat/completions")
    assert seen.target == "/x/v1/chat/completions?api-version=1"
    assert (seen.header("authorization"), seen.header("content-type")) == ("Basic abc", "application/vnd.llm+json")
    assert (await asked(environ, upstream, "/embeddings")).target == "/x/v1/embeddings?api-version=1"


async def test_seeds_image_endpoint_takes_images_and_nothing_else(upstream: LoopbackUpstream) -> None:
    environ = {"LLM_IMG_ENDPOINT": f"{upstream.origin}/pictures", "OPENAI_BASE_URL": upstream.url}
    assert (await asked(environ, upstream, "/images/generations")).target == "/pictures"
    assert (await asked(environ, upstream, "/images/edits")).target == "/v1/images/edits"


@pytest.mark.parametrize(
    ("environ", "is_proxied"),
    [
        ({"OPENAI_BASE_URL": "https://api.example/v1"}, True),
        ({"OPENAI_BASE_URL": "http://api.example/v1"}, False),
        ({"OPENAI_BASE_URL": "https://api.example/v1", "NO_PROXY": "example"}, False),
        ({"LLM_ENDPOINT": "https://api.example/generate"}, True),
    ],
)
async def test_proxy_is_taken_by_the_usual_rules(environ: dict[str, str], is_proxied: bool) -> None:
    catalogue = Catalogue.of(load({"HTTPS_PROXY": "http://proxy.example:3128", **environ}))
    provider: Any = catalogue.for_model("m").provider
    assert (provider.proxy is not None) is is_proxied
    await catalogue.aclose()
