"""Where an upstream lives, and that nothing but what was meant gets into a request to it."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CallerError, GatewayError, NotConfigured
from gateway.transport.call import Call
from gateway.transport.origin import CHAT_PATH, IMAGE_PATH, Origin

OPENAI = Origin.of_base("https://api.openai.com/v1", "Bearer sk-ours")


class Seen:
    """A request as a server's parser reads it."""

    def __init__(self, data: bytes) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_whole = False
        self.count = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(data)
        self.method = parser.get_method()

    def on_message_begin(self) -> None:
        self.count += 1

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_message_complete(self) -> None:
        self.is_whole = True


@pytest.mark.parametrize(
    ("url", "asked", "target", "netloc"),
    [
        ("https://api.openai.com/v1", "/models", "/v1/models", "api.openai.com"),
        ("https://api.openai.com/v1/", "/models?after=x", "/v1/models?after=x", "api.openai.com"),
        ("http://localhost:8080", "/chat/completions", "/chat/completions", "localhost:8080"),
        ("http://localhost:80/a/b", "/x", "/a/b/x", "localhost"),
        ("https://h:443/v1", "/x", "/v1/x", "h"),
        ("https://h:80/v1", "/x", "/v1/x", "h:80"),
        ("http://[::1]:9/v1", "/x", "/v1/x", "[::1]:9"),
        ("https://h/v1?api-version=1", "/x", "/v1/x?api-version=1", "h"),
        ("https://h/v1?api-version=1", "/x?y=2", "/v1/x?api-version=1&y=2", "h"),
        ("https://h/mit%20raum/ä", "/x", "/mit%20raum/%C3%A4/x", "h"),
    ],
)
def test_paths_lie_below_the_base(url: str, asked: str, target: str, netloc: str) -> None:
    origin = Origin.of_base(url, None)
    assert (origin.target(asked), origin.netloc) == (target, netloc)
    assert origin.url(asked) == f"{url.split(':', 1)[0]}://{netloc}{target}"


def test_chat_endpoint_tells_the_base_of_all_others() -> None:
    azure = "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"
    origin = Origin.of_endpoint(azure, None)
    assert origin.url(CHAT_PATH) == azure
    assert origin.target("/embeddings?x=1") == "/openai/deployments/gpt/embeddings?api-version=2024-10-21&x=1"


def test_endpoint_of_another_name_is_all_there_is() -> None:
    origin = Origin.of_endpoint("https://h/llm/generate", None)
    assert origin.target(CHAT_PATH) == "/llm/generate"
    assert origin.target(f"{CHAT_PATH}?a=b") == "/llm/generate?a=b"
    for path in ("/models", IMAGE_PATH, "/responses", "/chat/completions/x"):
        with pytest.raises(NotConfigured, match="single endpoint"):
            origin.target(path)


def test_endpoint_beside_a_known_base_serves_its_path_alone() -> None:
    origin = Origin.of_endpoint("https://h/v1/generate", None, base="https://h/v1")
    assert (origin.target(CHAT_PATH), origin.target("/models")) == ("/v1/generate", "/v1/models")


def test_image_endpoint_takes_images_alone() -> None:
    origin = Origin.of_endpoint("https://h/pictures/new", None, IMAGE_PATH)
    assert origin.target(IMAGE_PATH) == "/pictures/new"
    with pytest.raises(NotConfigured):
        origin.target(CHAT_PATH)
    assert Origin.of_endpoint("https://h", None, IMAGE_PATH).target(IMAGE_PATH) == "/"


# ── nothing else gets into the request ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "path",
    ["/a b", "/a\r\nX: y", "/a\n", "/a\t", "/a\0", "/ä", "/\udcff", "/a#b", "/x?a b", "/x?a\r\nb", "/x?\x7f"],
)
def test_what_no_url_can_hold_is_refused(path: str) -> None:
    with pytest.raises(CallerError) as caught:
        OPENAI.target(path)
    assert caught.value.code == "invalid_path"


@pytest.mark.parametrize(
    "path",
    [
        "/..",
        "/../admin",
        "/a/../../b",
        "/a/..",
        "/%2e%2e/b",
        "/%2E./b",
        "/.%2e",
        "/a/..%2fb",
        "/..%5Cb",
        r"/..\b",
        "/..;x/b",
        "/%2e%2e%2f%2e%2e/b",
    ],
)
def test_no_path_climbs_out_of_the_api(path: str) -> None:
    with pytest.raises(CallerError):
        OPENAI.target(path)


@pytest.mark.parametrize(
    "path",
    [
        "/a..b",
        "/a...",
        "/.../x",
        "/a%2Fb",
        "/x?path=../../y",
        "/a%20b/c",
        "/models/ft:gpt~1",
        "/x?q=%0d%0a",
        "//",
        "/?",
        "/x?",
    ],
)
def test_harmless_path_is_left_as_it_is(path: str) -> None:
    assert OPENAI.target(path) == f"/v1{path}"


@given(path=st.text(max_size=30).map(lambda text: f"/{text}"))
def test_any_path_is_sent_as_it_is_below_the_base_or_not_at_all(path: str) -> None:
    try:
        head = OPENAI.request_head(Call("GET", path), 0)
    except CallerError:
        return
    seen = Seen(head)
    assert seen.target == f"/v1{path}".encode()
    assert (seen.is_whole, seen.count) == (True, 1)
    assert yarl.URL(f"https://h{seen.target.decode()}").path.startswith("/v1/")


FIELDS = st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=12)), max_size=4)
METHODS = st.sampled_from(["GET", "POST", "DELETE"]) | st.text(max_size=6)


@given(headers=FIELDS, method=METHODS, body=st.binary(max_size=5))
def test_any_header_is_sent_as_it_is_or_not_at_all(headers: Any, method: str, body: bytes) -> None:
    try:
        head = OPENAI.request_head(Call(method, "/x", tuple(headers), body), len(body))
    except GatewayError:
        return
    lines = head.split(b"\r\n")
    assert lines[0] == f"{method} /v1/x HTTP/1.1".encode()
    assert lines[1] == b"Host: api.openai.com"
    assert lines[-2:] == [b"", b""]
    assert lines[2 : 2 + len(headers)] == [b"%b: %b" % header for header in headers]
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert not any(name.strip() != name or not name for name, _ in headers)


@pytest.mark.parametrize("header", [(b"X", b"a\r\nY: b"), (b"X\r\nY", b"b"), (b"X Y", b""), (b"", b"x"), (b"X:", b"x")])
def test_headers_that_smuggle_are_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(CallerError) as caught:
        OPENAI.request_head(Call("GET", "/x", (header,)), 0)
    assert caught.value.code == "invalid_header"


@pytest.mark.parametrize("method", ["GET /x HTTP/1.1\r\nHost: evil\r\n\r\nGET", "", "GÉT", "A B"])
def test_methods_that_smuggle_are_refused(method: str) -> None:
    with pytest.raises(CallerError):
        OPENAI.request_head(Call(method, "/x"), 0)


# ── what is added ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_length_is_said_where_a_body_is_expected() -> None:
    assert b"Content-Length" not in OPENAI.request_head(Call("GET", "/x"), 0)
    assert b"Content-Length: 0\r\n" in OPENAI.request_head(Call("POST", "/x"), 0)
    assert b"Content-Length: 5\r\n" in OPENAI.request_head(Call("GET", "/x"), 5)
    assert b"Content-Length: 0\r\n" in OPENAI.request_head(Call("PUT", "/x"), 0)


def test_own_authorization_is_sent_unless_the_callers_is() -> None:
    assert b"Authorization: Bearer sk-ours\r\n" in OPENAI.request_head(Call("GET", "/x"), 0)
    theirs = OPENAI.request_head(Call("GET", "/x", ((b"AUTHORIZATION", b"Bearer sk-theirs"),)), 0)
    assert b"sk-ours" not in theirs
    assert b"sk-theirs" in theirs
    assert b"uthorization" not in Origin.of_base("https://h", None).request_head(Call("GET", "/x"), 0)


def test_configured_content_type_replaces_the_callers_for_chats_and_images() -> None:
    origin = Origin(True, "h", 443, "/v1", content_type="application/x-odd")
    headers = ((b"content-type", b"application/json"),)
    for path in (CHAT_PATH, f"{IMAGE_PATH}?x=1"):
        head = origin.request_head(Call("POST", path, headers, b"{}"), 2)
        assert head.lower().count(b"content-type") == 1
        assert b"application/x-odd" in head
    assert b"application/json" in origin.request_head(Call("POST", "/responses", headers, b"{}"), 2)
