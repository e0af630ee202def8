"""The caller's side over HTTP, where the caller does not behave."""

from __future__ import annotations

from typing import TYPE_CHECKING
from unittest.mock import Mock

from aiohttp.test_utils import make_mocked_request

from gateway.edge.client import HttpClient

if TYPE_CHECKING:
    from aiohttp import web


def client_on(request: web.Request) -> HttpClient:
    return HttpClient(request, {}, heartbeat_s=15, stall_s=30)


def test_a_slow_reader_is_full_and_one_who_has_gone_is_not() -> None:
    """aiohttp's protocol stays paused when its connection is lost; who waits for it to drain would wait in circles."""
    protocol = Mock(writing_paused=True)
    client = client_on(make_mocked_request("POST", "/chat", protocol=protocol))
    assert client.is_full
    protocol.transport = None
    assert not client.is_full
