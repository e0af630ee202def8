"""Which headers travel on, and which do not."""

from __future__ import annotations

import pytest

from gateway.upstream.headers import request_headers, response_headers
from gateway.upstream.provider import Head


def sent(*raw: tuple[bytes, bytes], is_decoded: bool = True, keep: bool = False) -> list[bytes]:
    return [name for name, _ in request_headers(raw, is_decoded=is_decoded, keep_credentials=keep)]


@pytest.mark.parametrize(
    "name",
    b"Connection KEEP-ALIVE te Trailer Transfer-Encoding Upgrade Proxy-Authorization Proxy-Connection Cookie Host "
    b"Content-Length Accept-Encoding Expect Forwarded Via X-Forwarded-For x-forwarded-user X-Forwarded-Access-Token "
    b"X-Auth-Request-Email X-Real-IP X-Amzn-Oidc-Data X-Request-Id X-Conversation-Id Origin Referer".split(),
)
def test_what_is_of_this_hop_or_of_the_gateway_never_travels_on(name: bytes) -> None:
    for keep in (False, True):
        assert sent((name, b"x"), (b"X-Mine", b"y"), keep=keep) == [b"X-Mine"]


@pytest.mark.parametrize("name", [b"Authorization", b"x-api-key", b"API-Key", b"X-Goog-Api-Key"])
def test_credentials_travel_on_only_where_that_is_configured(name: bytes) -> None:
    assert sent((name, b"secret")) == []
    assert sent((name, b"secret"), keep=True) == [name]


@pytest.mark.parametrize("name", b"Content-Type OpenAI-Beta User-Agent X-Stainless-Lang Idempotency-Key".split())
def test_what_means_something_to_the_upstream_travels_on(name: bytes) -> None:
    assert sent((name, b"x")) == [name]


def test_decoded_body_travels_without_its_coding() -> None:
    assert sent((b"Content-Encoding", b"gzip")) == []
    assert sent((b"Content-Encoding", b"gzip"), is_decoded=False) == [b"Content-Encoding"]


def test_headers_that_connection_names_stay_here() -> None:
    raw = ((b"X-Secret", b"1"), (b"coNNection", b"x-secret , X-More"), (b"x-more", b"2"), (b"X-Rest", b"3"))
    assert sent(*raw) == [b"X-Rest"]


def test_order_doubles_case_and_odd_bytes_are_left_as_they_are() -> None:
    raw = ((b"X-b", b"2"), (b"x-A", b"\xff\xfe"), (b"X-b", b""), (b"X-b", b"2"))
    assert request_headers(raw, is_decoded=True) == raw


@pytest.mark.parametrize(
    "name",
    b"connection transfer-encoding content-length keep-alive set-cookie date server strict-transport-security "
    b"access-control-allow-origin alt-svc x-request-id clear-site-data".split(),
)
def test_what_is_of_the_upstreams_connection_or_host_stays_there(name: bytes) -> None:
    assert response_headers(Head(200, ((name, b"x"), (b"x-mine", b"y")))) == [("x-mine", "y")]


def test_headers_that_the_upstreams_connection_names_stay_there() -> None:
    head = Head(200, ((b"connection", b"close, x-hop"), (b"x-hop", b"1"), (b"retry-after", b"7")))
    assert response_headers(head) == [("retry-after", "7")]


def test_odd_bytes_of_the_upstream_become_something_that_can_be_sent() -> None:
    ((name, value),) = response_headers(Head(200, ((b"x-odd", b"a\xffb\xc3\xbc"),)))
    assert (name, value) == ("x-odd", "a\N{REPLACEMENT CHARACTER}bü")
    value.encode()
