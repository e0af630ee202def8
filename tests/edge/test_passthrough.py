"""What passes through from an upstream: no address of its own, nothing that a browser runs in our origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.edge.app import hello, house
from tests.loopback import answer, rate_limited

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE = b"<script>fetch('/live/search')</script>"


def is_sandboxed(headers: Mapping[str, str]) -> bool:
    policy = headers.get("Content-Security-Policy", "").split("; ")
    return headers.get("X-Content-Type-Options") == "nosniff" and {"sandbox", "default-src 'none'"} <= set(policy)


def redirect(status: int, location: str, body: bytes = b"") -> Any:
    return answer([body] if body else [], status=status, headers=[("Location", location)], content_type="text/html")


# --- addresses ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a2_a_redirect_within_the_upstream_leads_through_us(tmp_path: Path, database: str, status: int) -> None:
    async with house(tmp_path, database) as it:
        address = it.upstream.origin
        it.upstream.script(redirect(status, f"{it.upstream.url}/embeddings?x=1", f"see {address}".encode()))
        got = await it.ask("/v1/embeddings/", {"model": "m", "input": "x"}, allow_redirects=False)
        assert (got.status, got.headers["Location"], got.body) == (status, "/v1/embeddings?x=1", b"")
        assert address.partition("://")[2] not in str(got.headers)
        (row,) = await it.rows(1, "api_logs")
        assert row["status"] == status


async def test_a2_an_sdk_that_follows_a_redirect_stays_with_us(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(redirect(307, f"{it.upstream.url}/embeddings"))
        got = await it.ask("/v1/embeddings/", {"model": "m", "input": "x"})
        assert (got.status, got.json()["object"]) == (200, "list")
        await it.rows(2, "api_logs")


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("/v1/embeddings", "api_logs"),
        ("/v1/chat/completions", "chatgpt_logs"),
        ("/chat", "chatgpt_logs"),
        ("/image_gen", "image_logs"),
    ],
)
async def test_a2_the_address_of_an_upstream_that_is_not_there_is_in_the_log_alone(
    tmp_path: Path, database: str, path: str, table: str
) -> None:
    async with house(tmp_path, database, OPENAI_BASE_URL="http://127.0.0.3:9/v1") as it:
        with capture_logs() as lines:
            got = await it.ask(path, hello(prompt="cat", input="cat"))
        assert (got.status, got.code) == (502, "upstream_unreachable")
        assert b"127.0.0.3" not in got.body
        (line,) = [line["fields"] for line in lines if line["event"] == "request"]
        assert "no connection to 127.0.0.3:9" in line["error"]
        (row,) = await it.rows(1, table)
        assert "127.0.0.3" not in row["error"]


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/chat/completions", "/image_gen"])
async def test_a2_a_redirect_elsewhere_is_an_error_of_the_upstream(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(redirect(307, "http://secret.internal:9/v1/embeddings?token=t0p", b"secret.internal"))
        with capture_logs() as lines:
            got = await it.ask(path, hello(prompt="cat"), allow_redirects=False)
        assert (got.status, got.code) == (502, "upstream_garbled" if "chat" in path else "upstream_redirect")
        assert b"secret" not in got.body
        assert "secret" not in str(got.headers)
        (line,) = [each for each in lines if each["event"] == "the upstream redirects elsewhere"]
        assert line["host"] == "secret.internal"
        assert "t0p" not in str(lines)
        assert len(it.upstream.requests) == 1


async def test_a2_what_was_made_is_found_through_us(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        made = [("Location", f"{it.upstream.url}/batches/b1"), ("X-Accel-Redirect", "/etc/passwd"), ("Refresh", "0")]
        made += [("Content-Location", "http://secret.internal/x"), ("X-Next", f"{it.upstream.url}/x")]
        it.upstream.script(answer([b"{}"], status=201, headers=made, content_type="application/json"))
        got = await it.ask("/v1/batches", {})
        assert (got.status, got.headers["Location"], got.body) == (201, "/v1/batches/b1", b"{}")
        assert not {"X-Accel-Redirect", "Refresh", "Content-Location", "X-Next"} & got.headers.keys()


# --- browsers ---


@pytest.mark.parametrize(
    ("kind", "disposition", "expected"),
    [
        ("text/html; charset=utf-8", None, "attachment"),
        ("TEXT/HTML", 'inline; filename="a b.html"', 'attachment; filename="a b.html"'),
        ("application/xhtml+xml", None, "attachment"),
        ("image/svg+xml", "inline", "attachment"),
        ("text/xml", None, "attachment"),
        ("application/pdf", "attachment; filename*=UTF-8''x.pdf", "attachment; filename*=UTF-8''x.pdf"),
        ("multipart/x-mixed-replace; boundary=x", None, "attachment"),
        ("application/json, text/html", None, "attachment"),
        ("what/ever", None, "attachment"),
        ("application/json", None, None),
        ("application/problem+json", None, None),
        ("text/plain; charset=utf-8", None, None),
        ("audio/mpeg", "inline; filename=a.mp3", "inline; filename=a.mp3"),
        ("image/png", None, None),
        ("application/octet-stream", None, None),
    ],
)
async def test_f1_what_a_browser_would_run_is_a_download_in_a_sandbox(
    tmp_path: Path, database: str, kind: str, disposition: str | None, expected: str | None
) -> None:
    more = [("Content-Security-Policy", "default-src *"), ("Service-Worker-Allowed", "/"), ("X-Frame-Options", "x")]
    more += [] if disposition is None else [("Content-Disposition", disposition)]
    async with house(tmp_path, database) as it:
        for method in ("GET", "HEAD"):
            it.upstream.script(answer([PAGE], headers=more, content_type=kind))
            got = await it.ask("/v1/files/abc/content", method=method)
            assert got.status == 200
            assert got.body in (PAGE, b"")
            assert got.headers["Content-Type"] == kind
            assert got.headers.get("Content-Disposition") == expected
            assert is_sandboxed(got.headers)
            assert not {"Service-Worker-Allowed", "X-Frame-Options"} & got.headers.keys()


@pytest.mark.parametrize("kind", ["text/javascript", "application/x-javascript", "text/ecmascript", "text/css"])
async def test_f1_what_a_page_could_include_has_lost_its_type(tmp_path: Path, database: str, kind: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(answer([PAGE], content_type=kind))
        got = await it.ask("/v1/files/abc/content")
        assert (got.headers["Content-Type"], got.headers["X-Upstream-Content-Type"]) == (
            "application/octet-stream",
            kind,
        )
        assert got.headers["Content-Disposition"] == "attachment"


async def test_f1_an_answer_of_two_types_has_neither(tmp_path: Path, database: str) -> None:
    two = [("Content-Type", "text/html")]
    async with house(tmp_path, database) as it:
        it.upstream.script(answer([PAGE], headers=two, content_type="application/json"))
        got = await it.ask("/v1/files/abc/content")
        assert [value for name, value in got.headers.items() if name == "Content-Type"] == ["application/octet-stream"]
        assert got.headers["Content-Disposition"] == "attachment"


async def test_f1_every_door_that_an_upstreams_answer_passes_is_sandboxed(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        chats = ("/v1/chat/completions", "/v1/responses", "/chat")
        for path in chats:
            for stream in (False, True):
                got = await it.ask(path, hello(input="x", stream=stream))
                assert (got.status, is_sandboxed(got.headers)) == (200, True), path
                assert "Content-Disposition" not in got.headers
        assert is_sandboxed((await it.ask("/image_gen", {"prompt": "cat"})).headers)
        assert is_sandboxed((await it.ask("/v1/models")).headers)
        for path in (*chats, "/v1/embeddings", "/image_gen"):
            it.upstream.script(answer([PAGE], status=500, content_type="text/html"))
            got = await it.ask(path, hello(input="x", prompt="cat"))
            assert got.status >= 500, path
            if "Content-Security-Policy" in got.headers:
                assert is_sandboxed(got.headers)
            assert got.headers["Content-Type"].startswith("application/json") or is_sandboxed(got.headers)
            assert got.headers["X-Content-Type-Options"] == "nosniff"


async def test_f1_an_answer_without_a_body_is_no_download(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(answer([], status=204, content_type=None))
        got = await it.ask("/v1/files/abc", method="DELETE")
        assert (got.status, "Content-Disposition" in got.headers) == (204, False)


# --- waiting ---


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
async def test_c18_a_long_wait_is_a_minute(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(rate_limited(retry_after="3600"))
        got = await it.ask(path, hello())
        assert got.status == 429
        assert (got.headers["Retry-After"], got.headers["x-upstream-retry-after"]) == ("60", "3600")
