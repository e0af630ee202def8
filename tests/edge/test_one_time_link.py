"""Where nobody logs in, an address gives no role: a one-time link opens live page, report and keys in one browser."""

from __future__ import annotations

from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any

from gateway.edge.http.app_keys import LINKS
from gateway.identity.one_time_link import COOKIE, SESSION_S
from tests.edge.app import BY_HEADER, Answer, hello, house

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edge.app import House

OPEN: dict[str, Any] = {**dict.fromkeys(BY_HEADER, ""), "GATEWAY_AUTH": "open"}
GUARDED = ("/live/search", "/live/events", "/admin/keys", "/history?user=ann", "/history_v2?user=ann", "/metrics")
PAGE = {"Accept": "text/html,*/*;q=0.8"}


async def ask(it: House, path: str, body: object = None, **headers: str) -> Answer:
    return await it.ask(path, body, by="", headers=headers, allow_redirects=False)


def link_of(it: House) -> str:
    """A new one, as a path of this gateway."""
    url = str(it.client.make_url("")).rstrip("/")
    return it.app[LINKS].make(url).removeprefix(url)


async def session_of(it: House) -> str:
    """The Cookie header of a browser in which a link was opened."""
    answer = await ask(it, link_of(it), **PAGE)
    assert (answer.status, answer.headers["Location"]) == (303, "live")
    morsel = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    it.client.session.cookie_jar.clear()
    return f"{COOKIE}={morsel.value}"


async def test_f2_by_address_nobody_is_auditor_or_admin(tmp_path: Path, database: str) -> None:
    for allow in ("false", "true"):
        async with house(tmp_path, database, **OPEN, GATEWAY_ALLOW_OPEN=allow) as it:
            for path in GUARDED:
                answer = await ask(it, path)
                assert (answer.status, answer.code) == (403, "link_needed"), path
            made = await ask(it, "/admin/keys", {"user": "x", "name": "x", "roles": ["admin"]})
            assert (made.status, made.code) == (403, "link_needed")
            revoked = await it.ask(f"/admin/keys/{'0' * 8}-0000-0000-0000-{'0' * 12}", by="", method="DELETE")
            assert (revoked.status, revoked.code) == (403, "link_needed")
            assert (await ask(it, "/readyz")).json() == {"status": "ready"}
            figures = (await ask(it, "/report/figures")).json()
            assert figures["is_of_everybody"] is False
            assert (await ask(it, "/history")).status == 200


async def test_f2_the_link_opens_live_report_and_keys_in_one_browser(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OPEN) as it:
        await it.chat("Hello!", by="")
        [row] = await it.rows(1)
        cookie = await session_of(it)
        found = await ask(it, "/live/search", Cookie=cookie)
        assert [line["id"] for line in found.json()["data"]] == [str(row["id"])]
        assert (await ask(it, "/report/figures", Cookie=cookie)).json()["is_of_everybody"] is True
        assert (await ask(it, "/history?user=ann", Cookie=cookie)).status == 200
        assert (await ask(it, "/metrics", Cookie=cookie)).status == 200
        assert (await ask(it, "/readyz", Cookie=cookie)).json()["postgres"] == "ok"
        made = await ask(it, "/admin/keys", {"user": "x", "name": "x"}, Cookie=cookie)
        assert (made.status, made.json()["created_by"]) == (201, "local")
        for path in GUARDED:
            assert (await ask(it, path)).status == 403, "without the cookie"
            assert (await ask(it, path, Cookie=cookie[:-1] + "!")).status == 403


async def test_f2_the_cookie_is_for_this_site_alone_and_no_script_reads_it(tmp_path: Path, database: str) -> None:
    for public, is_secure in (("", False), ("http://127.0.0.1:1", False), ("https://llm.example/gateway", True)):
        async with house(tmp_path, database, **OPEN, GATEWAY_PUBLIC_URL=public) as it:
            answer = await ask(it, link_of(it), **PAGE)
            morsel = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
            assert (morsel["httponly"], morsel["samesite"], morsel["path"]) == (True, "Strict", "/")
            assert (morsel["domain"], morsel["max-age"], bool(morsel["secure"])) == ("", str(int(SESSION_S)), is_secure)
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_f2_pages_of_other_sites_have_nothing_of_the_cookie(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OPEN) as it:
        cookie = await session_of(it)
        port = it.client.port or 0
        for headers in (
            {"Host": f"evil.example:{port}"},
            {"Origin": f"http://127.0.0.1:{port + 1}"},
            {"Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"},
            {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "iframe"},
        ):
            for path in (*GUARDED, "/report/figures", "/v1/models"):
                if path != "/metrics" or "Host" not in headers:
                    assert (await ask(it, path, Cookie=cookie, **headers)).status == 403, (path, headers)
            assert (await ask(it, "/admin/keys", {"user": "x", "name": "x"}, Cookie=cookie, **headers)).status == 403
            assert (await ask(it, "/chat", hello(), Cookie=cookie, **headers)).status == 403
        for path in ("/chat", "/v1/embeddings"):
            async with it.client.post(
                path, data=b"{}", headers={"Cookie": cookie, "Content-Type": "text/plain"}
            ) as it_is:
                assert it_is.status == 415
        assert not it.upstream.requests


async def test_f2_a_link_that_was_used_says_what_to_do(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OPEN) as it:
        link = link_of(it)
        assert (await it.client.head(link)).status == 405, "who only looks uses no link"
        assert (await ask(it, link, Host="evil.example")).code == "misdirected"
        assert (await ask(it, link, **PAGE)).status == 303
        for path in (link, link[:-1], "/open?token=", "/open", "/open?token=../link"):
            it.client.session.cookie_jar.clear()
            answer = await ask(it, path, **PAGE)
            assert answer.status == 403
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
            assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
            assert "llm-gateway open" in answer.body.decode()
            assert "Set-Cookie" not in answer.headers
            assert (await ask(it, path)).code == "link_used"  # a program reads no page


async def test_f2_where_callers_log_in_there_is_no_link(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_AUTH="header, keys") as it:
        answer = await ask(it, link_of(it), **PAGE)
        assert (answer.status, answer.code) == (404, "not_found")


async def test_f2_a_session_makes_nobody_else_an_auditor(tmp_path: Path, database: str) -> None:
    """Beside other modes it counts for the local user alone."""
    async with house(tmp_path, database, **{**OPEN, "GATEWAY_AUTH": "open, keys"}) as it:
        cookie = await session_of(it)
        key = (await ask(it, "/admin/keys", {"user": "ann", "name": "x"}, Cookie=cookie)).json()["value"]
        assert (await ask(it, "/live/search", Cookie=cookie)).status == 200
        assert (await ask(it, "/live/search", Cookie=cookie, Authorization=f"Bearer {key}")).status == 403
        assert (await ask(it, "/live/search", Cookie=cookie, Authorization="Bearer wrong")).status == 401
