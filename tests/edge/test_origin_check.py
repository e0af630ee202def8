"""Pages of other sites use no gateway that knows its callers by what their browsers or addresses carry unasked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from gateway.edge.http.origin_check import OriginCheck
from gateway.errors import NotAllowed
from gateway.settings import SettingsError, load
from tests.edge.app import BY_HEADER, Answer, hello, house

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.edge.app import House

PUBLIC = {"GATEWAY_PUBLIC_URL": "https://LLM.example:8443/path"}
OPEN_TO_ALL = {"GATEWAY_HOST": "0.0.0.0", "GATEWAY_ALLOW_OPEN": "true"}
BEHIND_A_PROXY = {"GATEWAY_AUTH": "header", "GATEWAY_AUTH_TRUSTED_NETWORKS": "127.0.0.1"}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}
FETCH = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
OPEN: dict[str, Any] = {**dict.fromkeys(BY_HEADER, ""), "GATEWAY_AUTH": "open"}
EVIL = "https://evil.example"


def check(environ: Mapping[str, str], headers: Mapping[str, str] | None = None, **more: str) -> None:
    headers = {"Host": "localhost:8000", **(headers or {}), **more}
    OriginCheck(load({"HOME": "/x", **environ})).check(
        make_mocked_request("POST", "/v1/chat/completions", headers=headers)
    )


def code(environ: Mapping[str, str], headers: Mapping[str, str] | None = None, **more: str) -> str:
    """Of the refusal."""
    with pytest.raises(NotAllowed) as caught:
        check(environ, headers, **more)
    return caught.value.code


# ── the name that was called ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000", "127.8.9.1", "gw.localhost", "localhost."]
)
def test_loopback_names_are_ours(host: str) -> None:
    for mode in ({}, OPEN_TO_ALL, BEHIND_A_PROXY):
        check(mode, Host=host)
        check(mode, Host=host, Origin=f"http://{host}")


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil",
        "2130706433",
        "127.1",
        "x:1:2",
        "localhost:8000:9",
        "[::1].evil.example",
        "[::1]evil",
        "[::1",
        "[[::1]]",
        "::1",
        "localhost:x",
    ],
)
@pytest.mark.parametrize("mode", [{}, OPEN_TO_ALL, BEHIND_A_PROXY, {**OPEN_TO_ALL, **PUBLIC}])
def test_f2_a_name_that_was_made_to_point_here_is_refused(host: str, mode: dict[str, str]) -> None:
    assert code(mode, Host=host) == "misdirected"
    assert code(mode, FETCH, Host=host, Origin=f"http://{host}") == "misdirected"


@pytest.mark.parametrize("host", ["10.0.0.1:8000", "[fd00::2]", "0.0.0.0:8000"])
def test_f2_an_address_is_nobodys_name_but_it_leads_here_only_where_others_are_let_in(host: str) -> None:
    check(OPEN_TO_ALL, Host=host)
    check(BEHIND_A_PROXY, Host=host)
    assert code({}, Host=host) == "misdirected"


def test_f2_names_that_the_settings_know_are_ours() -> None:
    known = {"GATEWAY_ALLOWED_HOSTS": "LLM.lan, gateway", **PUBLIC}
    for mode in ({}, OPEN_TO_ALL, BEHIND_A_PROXY):
        for host in ("llm.lan:8000", "GATEWAY", "llm.example"):
            check({**mode, **known}, Host=host)
        assert code({**mode, **known}, Host="other.lan") == "misdirected"


@pytest.mark.parametrize("given", ["http://llm.lan", "llm.lan:8000", "*", "llm.lan/x"])
def test_a_host_is_allowed_by_its_name_alone(given: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_ALLOWED_HOSTS"):
        load({"GATEWAY_ALLOWED_HOSTS": given})


# ── where the page is ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "",
        "garbage",
        "http://localhost.evil.example:8000",
        "http://localhost",  # another port
        "http://localhost:8001",
        "http://127.0.0.1:8000",  # another name
        "app://localhost:8000",  # another scheme
        "http://localhost:8000@evil.example",
        "http://[",
    ],
)
@pytest.mark.parametrize("mode", [{}, OPEN_TO_ALL, BEHIND_A_PROXY])
def test_f3_pages_of_other_origins_are_refused(origin: str, mode: dict[str, str]) -> None:
    assert code(mode, Origin=origin) == "cross_origin"
    assert code(mode, {**CROSS_SITE, "Origin": origin}) == "cross_origin"
    assert code(mode, {"Sec-Fetch-Site": "none", "Origin": origin}) == "cross_origin"


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
@pytest.mark.parametrize("headers", [{}, {"Origin": "http://localhost:8000"}, {"Referer": "http://localhost:8000/"}])
def test_f3_what_a_browser_says_of_the_site_needs_no_origin(site: str, headers: dict[str, str]) -> None:
    """A read sends no Origin, a page on another port is of the same site."""
    assert code({}, {"Sec-Fetch-Site": site, **headers}) == "cross_origin"


def test_f3_a_browser_that_tells_neither_is_known_by_the_referer() -> None:
    check({}, Referer="http://localhost:8000/live?q=http://evil.example/")
    for other in ("https://evil.example/x", "https://evil.example/http://localhost:8000/", "about:blank", ""):
        assert code({}, Referer=other) == "cross_origin"


def test_f3_programs_say_nothing_of_it_and_are_let_in() -> None:
    check({})
    check({}, {"Sec-Fetch-Mode": "cors"})  # Node's own fetch
    OriginCheck(load({"HOME": "/x"})).check(make_mocked_request("GET", "/v1/models"))  # HTTP/1.0 names no host


def test_f3_our_own_page_is_known_though_a_proxy_changes_the_host() -> None:
    changed = {"Host": "127.0.0.1:8000", "Origin": "https://llm.example:8443"}
    check(BEHIND_A_PROXY, {**changed, **FETCH})  # by its browser
    check({**BEHIND_A_PROXY, **PUBLIC}, changed)  # by the settings
    assert code(BEHIND_A_PROXY, changed) == "cross_origin"
    for other in ("http://llm.example:8443", "https://llm.example", "https://llm.example:8444"):
        assert code({**BEHIND_A_PROXY, **PUBLIC}, {**changed, "Origin": other}) == "cross_origin"


@pytest.mark.parametrize("host", ["llm.example", "llm.example:443"])
def test_f3_a_port_that_the_scheme_implies_may_be_left_out(host: str) -> None:
    known = {**BEHIND_A_PROXY, "GATEWAY_ALLOWED_HOSTS": "llm.example"}
    check(known, Host=host, Origin="https://llm.example")
    assert code(known, Host=host, Origin="https://llm.example:80") == "cross_origin"


def test_f3_a_page_that_the_settings_name_is_let_in() -> None:
    named = {"GATEWAY_ALLOWED_ORIGINS": "https://chat.example"}
    check(named, {**CROSS_SITE, "Sec-Fetch-Mode": "cors", "Origin": "https://chat.example"})
    assert code(named, {**CROSS_SITE, "Origin": "https://chat.example.evil.example"}) == "cross_origin"


@pytest.mark.parametrize("dest", ["document", "iframe", "frame", "object", "embed", "script", "image", "serviceworker"])
@pytest.mark.parametrize("site", ["same-origin", "none", "cross-site"])
def test_f1_a_navigation_and_an_element_open_no_api(dest: str, site: str) -> None:
    """An answer of the model's side would be a page, a script or a worker of this origin."""
    named = {"GATEWAY_ALLOWED_ORIGINS": "https://chat.example"}
    shown = {"Sec-Fetch-Dest": dest, "Sec-Fetch-Site": site, "Origin": "https://chat.example"}
    for mode in ({}, OPEN_TO_ALL, BEHIND_A_PROXY):
        assert code({**mode, **named}, shown) == "navigation"
    assert code({}, {"Sec-Fetch-Mode": "navigate"}) == "navigation"


# ── a whole gateway ──────────────────────────────────────────────────────────────────────────────────────────────────

COSTING: tuple[tuple[str, Any], ...] = (
    ("/chat", hello()),
    ("/v1/chat/completions", hello()),
    ("/v1/responses", {"model": "m", "input": "hi"}),
    ("/v1/embeddings", {"model": "m", "input": "hi"}),
    ("/v1/images/generations", {"prompt": "x"}),
    ("/image_gen", {"prompt": "x"}),
    ("/keys", {"name": "x"}),
    ("/admin/keys", {"user": "x", "name": "x"}),
    ("/update_title", {"root_id": "x", "convo_title": "x"}),
    ("/remove_convo", {"root_id": "x"}),
    ("/chat/00000000-0000-0000-0000-000000000000/stop", {}),
)
READ = ("/history", "/history_v2", "/live/search", "/report/figures", "/keys", "/v1/models", "/chat/running")


async def post(it: House, path: str, body: object, headers: Mapping[str, str], by: str = "ann") -> Answer:
    """As it is said, without a type that is not."""
    headers = {**({"X-User": by} if by else {}), **headers}
    skip = {"Content-Type"} - headers.keys()
    data = json.dumps(body).encode()
    async with it.client.post(path, data=data, headers=headers, skip_auto_headers=skip) as response:
        return Answer(response.status, response.headers, await response.read())


@pytest.mark.parametrize("env", [{}, OPEN], ids=["header", "open"])
async def test_f3_no_page_of_another_site_spends_changes_or_reads(
    tmp_path: Path, database: str, env: dict[str, Any]
) -> None:
    async with house(tmp_path, database, **env) as it:
        for headers in ({"Origin": EVIL}, CROSS_SITE, {"Referer": f"{EVIL}/"}, {"Host": "evil.example:8000"}):
            for path, body in COSTING:
                for kind in ("text/plain", "application/json"):
                    answer = await post(it, path, body, {**headers, "Content-Type": kind}, by="root")
                    assert (answer.status, answer.code) in ((403, "cross_origin"), (403, "misdirected")), path
            for path in READ:
                assert (await it.ask(path, headers=headers)).status == 403, path
        for path in READ:
            assert (await it.ask(path, headers={"Sec-Fetch-Dest": "document"})).code == "navigation", path
        assert not it.upstream.requests
        for page in ("/", "/live", "/report", "/docs", "/page.json", "/openapi.json", "/healthz"):
            arriving = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
            assert (await it.ask(page, by="", headers=arriving)).status == 200, page


@pytest.mark.parametrize("env", [{}, OPEN], ids=["header", "open"])
async def test_f3_a_body_whose_type_any_page_could_send_is_refused(
    tmp_path: Path, database: str, env: dict[str, Any]
) -> None:
    async with house(tmp_path, database, **env) as it:
        kinds: list[dict[str, str]] = [
            {},
            {"Content-Type": ""},
            {"Content-Type": "text/plain;charset=UTF-8"},
            {"Content-Type": "application/x-www-form-urlencoded"},
        ]
        for path, body in COSTING[:4]:
            for kind in kinds:
                assert (await post(it, path, body, kind)).status == 415, (path, kind)
            assert not it.upstream.requests
            assert (await post(it, path, body, {"Content-Type": "application/json; charset=utf-8"})).status == 200
            it.upstream.forget()
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        await post(it, "/v1/files", "--x--", form)
        assert it.upstream.requests  # no model takes that for JSON


async def test_f3_programs_with_a_key_may_leave_the_type_out(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_AUTH="header, keys") as it:
        order = {"user": "ann", "name": "a key"}
        key = (await it.ask("/admin/keys", order, by="root/admins")).json()["value"]
        for shown in ({"Authorization": f"Bearer {key}"}, {"x-api-key": key}, {"api-key": key}):
            for path, body in COSTING[:4]:
                assert (await post(it, path, body, {**shown, "Origin": EVIL}, by="")).status == 200, path
        # What a proxy adds, or a browser by itself, is no sign of a program.
        for shown in ({"Authorization": f"Bearer {key}"}, {"Authorization": "Basic YTpi"}):
            assert (await post(it, "/chat", hello(), shown)).status == 415
    async with house(tmp_path / "open", database, **OPEN) as it:
        for path, body in COSTING[:4]:
            assert (await post(it, path, body, {"Authorization": "Bearer sk-any"}, by="")).status == 200, path
        assert (await post(it, "/chat", hello(), {"Authorization": "Basic YTpi"}, by="")).status == 415


@pytest.mark.parametrize("second", [EVIL, "http://localhost:8000"])
def test_f3_two_origins_are_none_of_ours(second: str) -> None:
    headers = CIMultiDict([("Host", "localhost:8000"), ("Origin", "http://localhost:8000"), ("Origin", second)])
    with pytest.raises(NotAllowed):
        OriginCheck(load({"HOME": "/x"})).check(make_mocked_request("POST", "/v1/chat/completions", headers=headers))


async def test_f3_our_own_page_asks_as_ever(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        mine = str(it.client.make_url("")).rstrip("/")
        for headers in (FETCH, {"Origin": mine}, {**FETCH, "Origin": mine}):
            assert (await it.ask("/chat", hello(), headers=headers)).status == 200
            assert (await it.ask("/history_v2", headers=headers)).status == 200


async def test_where_a_credential_is_wanted_any_name_will_do(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **{**OPEN, "GATEWAY_AUTH": "keys"}) as it:
        answer = await it.ask("/history", by="", headers={"Host": "gateway.example", "Origin": EVIL})
        assert answer.status == 401
