"""Fetching an issuer's documents: each error of the HTTP client is a FetchError, and redirects stay at the issuer."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses

from gateway.identity.fetching import HttpFetcher
from gateway.identity.issuer import FetchError

KEYS = "https://issuer.example/keys"


class MockedResponse(aiohttp.ClientResponse):
    """aioresponses 0.7.9 lacks an argument that aiohttp needs since 3.14."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, stream_writer=Mock(output_size=0), **options)


async def fetched(*answers: dict[str, Any], urls: tuple[str, ...] = (KEYS,)) -> dict[str, Any]:
    fetcher = HttpFetcher(lambda url: None)
    try:
        with aioresponses() as mocked:
            for url, answer in zip(urls, answers, strict=True):
                mocked.get(url, **({} if "exception" in answer else {"response_class": MockedResponse}), **answer)
            return await fetcher.get(KEYS)
    finally:
        await fetcher.aclose()


async def test_json_object_is_returned() -> None:
    assert await fetched({"body": b'{"keys": []}'}) == {"keys": []}


@pytest.mark.parametrize(
    "error",
    [
        aiohttp.ServerDisconnectedError(),
        aiohttp.ClientOSError(104, "reset"),
        aiohttp.ConnectionTimeoutError("too long"),
        aiohttp.ClientPayloadError("odd"),
        TimeoutError(),
    ],
)
async def test_each_error_of_the_client_is_a_fetch_error(error: Exception) -> None:
    with pytest.raises(FetchError, match=r"issuer\.example"):
        await fetched({"exception": error})


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"status": 503}, "status 503"),
        ({"body": b"<html>"}, "not JSON"),
        ({"body": b"[]"}, "not a JSON object"),
        ({"status": 302, "headers": {"Location": "https://other.example/keys"}}, "another host"),
    ],
)
async def test_answer_that_is_not_usable_is_a_fetch_error(answer: dict[str, Any], fault: str) -> None:
    with pytest.raises(FetchError, match=fault):
        await fetched(answer)


async def test_redirect_at_the_same_origin_is_followed() -> None:
    moved = {"status": 307, "headers": {"Location": "/moved"}}
    found = await fetched(moved, {"body": b'{"keys": [1]}'}, urls=(KEYS, "https://issuer.example/moved"))
    assert found == {"keys": [1]}
