"""Headers that point somewhere point to a path of ours, or are not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.call import Head
from gateway.transport.origin import Origin
from gateway.transport.redirects import is_redirect, our_path, relocated

BASE = Origin.of_base("http://llm.internal:8080/v1", None)
AZURE = Origin.of_base("https://x.openai.azure.com/openai?api-version=2026-01-01", None)
CHAT_ONLY = Origin.of_endpoint("https://llm.internal/serve/7", None)


@pytest.mark.parametrize(
    ("origin", "given_url", "path"),
    [
        (BASE, "http://llm.internal:8080/v1/embeddings", "/v1/embeddings"),
        (BASE, "http://LLM.internal.:8080/v1/files/a%2Fb?x=1&y=%20", "/v1/files/a%2Fb?x=1&y=%20"),
        (BASE, "https://llm.internal:8080/v1/embeddings", "/v1/embeddings"),
        (BASE, "http://user:pass@llm.internal:8080/v1/embeddings#part", "/v1/embeddings"),
        (BASE, "/v1/files/abc", "/v1/files/abc"),
        (BASE, "//llm.internal:8080/v1/files/abc", "/v1/files/abc"),
        (BASE, "../files/abc", "/v1/files/abc"),
        (BASE, "?page=2", "/v1/embeddings/?page=2"),
        (BASE, "/v1/ü <x>", "/v1/%C3%BC%20%3Cx%3E"),
        (AZURE, "http://x.openai.azure.com/openai/files/a?api-version=2026-01-01&z=1", "/v1/files/a?z=1"),
        (CHAT_ONLY, "https://llm.internal/serve/7", "/v1/chat/completions"),
        (BASE, "http://llm.internal/v1/embeddings", None),
        (BASE, "http://other.internal:8080/v1/embeddings", None),
        (BASE, "http://llm.internal:8080@evil.example/v1/x", None),
        (BASE, "//evil.example/v1/x", None),
        (BASE, "/admin", None),
        (BASE, "/v1evil/x", None),
        (BASE, "/v1/%2e%2e/admin", None),
        (BASE, "javascript:alert(1)", None),
        (BASE, "file:///v1/etc", None),
        (BASE, "http://[::1/v1", None),
        (BASE, "http://llm.internal:99999/v1/x", None),
        (CHAT_ONLY, "https://llm.internal/serve/8", None),
    ],
)
def test_a2_a_url_of_the_upstream_is_a_path_of_ours(origin: Origin, given_url: str, path: str | None) -> None:
    call = "/chat/completions" if origin is CHAT_ONLY else "/embeddings/"
    assert our_path(given_url, origin, call) == path


@given(st.text(max_size=40))
def test_a2_whatever_is_pointed_at_no_other_host_is(reference: str) -> None:
    path = our_path(reference, BASE, "/embeddings/")
    assert path is None or (path.startswith("/v1/") and path.isascii() and path.isprintable() and " " not in path)


def test_a2_no_header_names_the_upstreams_address() -> None:
    url = b"http://llm.internal:8080/v1/jobs/1"
    head = Head(
        201,
        (
            (b"location", url),
            (b"content-location", b"http://other.internal/v1/x"),
            (b"operation-location", url + b"?x=1"),
            (b"azure-asyncoperation", b"http://10.0.0.7/v1/x"),
            (b"link", b"<" + url + b'>; rel="next", </v1/jobs?after=1>; rel="prev"'),
            (b"link", b"<https://internal.example/>; rel=x"),
            (b"link", b'</v1/jobs>; rel=x; anchor="http://llm.internal:8080/"'),
            (b"x-backend", b"see HTTP://LLM.INTERNAL:8080/health"),
            (b"x-docs", b"https://docs.example/"),
            (b"content-type", b"application/json"),
        ),
    )
    assert relocated(head, BASE, "/jobs").headers == (
        (b"location", b"/v1/jobs/1"),
        (b"operation-location", b"/v1/jobs/1?x=1"),
        (b"link", b'</v1/jobs/1>; rel="next", </v1/jobs?after=1>; rel="prev"'),
        (b"x-docs", b"https://docs.example/"),
        (b"content-type", b"application/json"),
    )


def test_a_head_that_points_nowhere_is_left_as_it_is() -> None:
    head = Head(200, ((b"content-type", b"application/json"),))
    assert relocated(head, BASE, "/models") is head


@pytest.mark.parametrize(("status", "expected"), [(301, True), (308, True), (304, False), (201, False), (300, True)])
def test_a_redirect_has_a_place_and_a_status_of_its_kind(status: int, *, expected: bool) -> None:
    assert is_redirect(Head(status, ((b"location", b"/"),))) is expected
    assert not is_redirect(Head(status, ()))
