"""Keys over HTTP, against a real Postgres: who may do what, and what is never told."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from gateway.edge.admin import keys, own_keys
from gateway.edge.http.app_keys import IDENTITY, IDS, IN_FLIGHT, METRICS, ORIGIN_CHECK, SETTINGS
from gateway.edge.http.middlewares import one_line_per_request
from gateway.edge.http.origin_check import OriginCheck
from gateway.identity.authenticators import Authenticators
from gateway.identity.key_cache import KeyCache
from gateway.identity.key_service import KeyService, KeySpec
from gateway.ids import Ids
from gateway.in_flight.in_flight import InFlight
from gateway.model import Principal
from gateway.settings import Settings, load
from gateway.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.store.keys import Keys

    Client = TestClient[web.Request, web.Application]

# The middleware of the edge keeps its request's id under a plain name.
pytestmark = pytest.mark.filterwarnings("ignore::aiohttp.web_exceptions.NotAppKeyWarning")

ROOT = Principal(user="root", roles=frozenset(("user", "admin")))


class House:
    """The routes under test, and a key for each kind of caller."""

    def __init__(self, client: Client, service: KeyService, keys: dict[str, str]) -> None:
        self.client = client
        self.service = service
        self.keys = keys

    async def ask(
        self,
        who: str | None,
        method: str,
        path: str,
        status: int = 200,
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> Any:
        headers = {**(headers or {}), **({"Authorization": f"Bearer {self.keys[who]}"} if who is not None else {})}
        async with self.client.request(method, path, headers=headers, **more) as response:
            assert response.status == status, await response.text()
            assert response.headers["Content-Type"].startswith("application/json")
            body = await response.json()
            if status >= 400:
                assert set(body["error"]) == {"message", "type", "param", "code"}
                assert not any(key in str(body) for key in self.keys.values())
                return body["error"]
            assert response.headers["Cache-Control"] == "no-store"
            return body


@pytest.fixture
async def house(store: Keys, tmp_path: Path) -> AsyncIterator[House]:
    key_cache, app, ids = KeyCache(), web.Application(middlewares=[one_line_per_request]), Ids()

    async def changed() -> None:
        key_cache.replace(await store.in_force())

    service = KeyService(store, ids, changed)
    app[SETTINGS], app[IDS], app[IN_FLIGHT] = Settings(data_dir=tmp_path), ids, InFlight()
    app[ORIGIN_CHECK], app[METRICS] = OriginCheck(load({"GATEWAY_AUTH": "keys"})), Metrics()
    app[IDENTITY], app[keys.KEY_SERVICE] = Authenticators(keys=key_cache), service
    app.add_routes(
        [
            web.post("/admin/keys", keys.create),
            web.get("/admin/keys", keys.list_all),
            web.delete("/admin/keys/{id}", keys.revoke),
            web.get("/keys", own_keys.list_own),
        ]
    )
    made = {
        who: (await service.create(KeySpec(user=who, name="first", roles=frozenset(roles)), ROOT)).secret.reveal()
        for who, roles in (("ada", ()), ("bob", ()), ("eve", ("auditor",)), ("root", ("admin",)))
    }
    async with TestClient(TestServer(app)) as client:
        yield House(client, service, made)


ORDER = {"user": "carl", "name": "laptop", "title": "Analyst", "roles": ["auditor"], "allowed_models": ["b", "a"]}


async def test_an_admin_makes_a_key_that_works_and_revokes_it(house: House) -> None:
    expires = int(time.time()) + 3600
    made = await house.ask("root", "POST", "/admin/keys", 201, json={**ORDER, "expires_at": expires})
    house.keys["carl"] = made.pop("value")
    assert made == {
        "object": "api_key",
        "id": made["id"],
        "name": "laptop",
        "redacted_value": f"sk-gw-…{house.keys['carl'][-4:]}",
        "user": "carl",
        "title": "Analyst",
        "roles": ["auditor", "user"],
        "allowed_models": ["a", "b"],
        "created_at": made["created_at"],
        "created_by": "root",
        "expires_at": expires,
        "last_used_at": None,
        "revoked_at": None,
        "revoked_by": None,
        "is_own": False,
    }
    assert abs(made["created_at"] - time.time()) < 10
    assert len((await house.ask("carl", "GET", "/admin/keys"))["data"]) == 5
    gone = await house.ask("root", "DELETE", f"/admin/keys/{made['id']}")
    assert gone["revoked_by"] == "root"
    assert (await house.ask("carl", "GET", "/keys", 401))["code"] == "invalid_api_key"
    assert (await house.ask("root", "DELETE", f"/admin/keys/{made['id']}")) == gone


async def test_the_key_itself_is_told_once_only(house: House) -> None:
    await house.ask("root", "POST", "/admin/keys", 201, json=ORDER)
    for who, path in (("root", "/admin/keys"), ("eve", "/admin/keys"), ("ada", "/keys")):
        listed = await house.ask(who, "GET", path)
        assert all("value" not in key and "digest" not in key for key in listed["data"])


@pytest.mark.parametrize("who", [None, "ada", "eve"])
async def test_others_make_and_revoke_nothing(house: House, who: str | None) -> None:
    status = 401 if who is None else 403
    (key,) = await house.service.list_own(Principal(user="bob"))
    before = len(await house.service.list_all(ROOT))
    await house.ask(who, "POST", "/admin/keys", status, json=ORDER)
    await house.ask(who, "POST", "/admin/keys", status, data=b"\xff")
    refused = await house.ask(who, "DELETE", f"/admin/keys/{key.id}", status)
    for path in ("/admin/keys/01890000-0000-7000-8000-000000000000", "/admin/keys/nonsense"):
        assert await house.ask(who, "DELETE", path, status) == refused, "nothing tells whether a key exists"
    assert len(await house.service.list_all(ROOT)) == before
    assert (await house.service.list_own(Principal(user="bob")))[0].revoked_at is None


async def test_everybody_lists_their_own_and_auditors_all(house: House) -> None:
    for who in ("ada", "bob"):
        await house.ask(who, "GET", "/admin/keys", 403)
        assert [key["user"] for key in (await house.ask(who, "GET", "/keys"))["data"]] == [who]
    for who in ("eve", "root"):
        assert {key["user"] for key in (await house.ask(who, "GET", "/admin/keys"))["data"]} == set(house.keys)
        assert [key["user"] for key in (await house.ask(who, "GET", "/keys"))["data"]] == [who]
    assert [key["user"] for key in (await house.ask("eve", "GET", "/admin/keys?user=ada"))["data"]] == ["ada"]
    assert (await house.ask("eve", "GET", "/admin/keys?user=nobody"))["data"] == []
    await house.ask(None, "GET", "/keys", 401)


async def test_lists_come_in_pages(house: House) -> None:
    seen: list[str] = []
    before = ""
    for expected in (3, 1):
        page = await house.ask("root", "GET", f"/admin/keys?limit=3{before}")
        assert len(page["data"]) == expected
        assert page["has_more"] is (expected == 3)
        assert page["last_id"] == page["data"][-1]["id"]
        seen += [key["user"] for key in page["data"]]
        before = f"&before={page['last_id']}"
    assert seen == ["root", "eve", "bob", "ada"]
    nothing = await house.ask("root", "GET", f"/admin/keys?limit=3{before}")
    assert nothing == {"object": "list", "data": [], "last_id": None, "has_more": False}


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"user": None}, "user"),
        ({"user": ""}, "user"),
        ({"user": 7}, "user"),
        ({"user": " carl"}, "user"),
        ({"user": "c\x00"}, "user"),
        ({"user": "c" * 257}, "user"),
        ({"name": None}, "name"),
        ({"title": ""}, "title"),
        ({"title": ["x"]}, "title"),
        ({"roles": ["root"]}, "roles"),
        ({"roles": "admin"}, "roles"),
        ({"roles": [1]}, "roles"),
        ({"allowed_models": []}, "allowed_models"),
        ({"allowed_models": [""]}, "allowed_models"),
        ({"allowed_models": {"a": 1}}, "allowed_models"),
        ({"expires_at": 1}, "expires_at"),
        ({"expires_at": True}, "expires_at"),
        ({"expires_at": "2030-01-01"}, "expires_at"),
        ({"expires_at": 10**30}, "expires_at"),
        ({"expire_at": 4e9}, "expire_at"),
        ({"x" * 9000: 1}, "x" * 100),
    ],
)
async def test_a_wrong_order_names_what_is_wrong(house: House, change: dict[str, Any], param: str) -> None:
    error = await house.ask("root", "POST", "/admin/keys", 400, json={**ORDER, **change})
    assert error["param"] == param


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b"\xff", b'{"\\ud800":1}', b'{"user":"\\ud800","name":"x"}', b"[" * 9999]
)
async def test_a_body_that_is_no_order_is_refused(house: House, raw: bytes) -> None:
    await house.ask("root", "POST", "/admin/keys", 400, data=raw, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/json5"])
async def test_a_body_must_say_that_it_is_json(house: House, kind: str | None) -> None:
    """What a browser sends for a strange site without asking us first never makes a key."""
    headers = {} if kind is None else {"Content-Type": kind}
    skip = {"skip_auto_headers": ["Content-Type"]} if kind is None else {}
    await house.ask("root", "POST", "/admin/keys", 415, data=b'{"user":"x","name":"y"}', headers=headers, **skip)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "limit=-1", "limit=%C2%B2", "before=x", "user=", "user=%00"]
)
async def test_an_odd_query_is_refused(house: House, query: str) -> None:
    await house.ask("root", "GET", f"/admin/keys?{query}", 400)


async def test_strange_bytes_in_a_header_are_a_401(house: House) -> None:
    server = house.client.server
    assert isinstance(server, TestServer)
    for value in (b"Bearer \xff", b"\xff\xfe", b"Bearer sk-gw-" + b"\x80" * 43, b"Bearer a.\xff.c"):
        for name in (b"Authorization", b"x-api-key", b"api-key"):
            answer = await raw_get(server, name + b": " + value)
            assert answer.startswith(b"HTTP/1.1 401 "), answer
            assert value not in answer


async def raw_get(server: TestServer, header: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"GET /keys HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + header + b"\r\n\r\n")
    answer: bytes = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_no_key_is_in_the_log(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    made = await house.ask("root", "POST", "/admin/keys", 201, json=ORDER)
    await house.ask("ada", "GET", "/admin/keys", 403)
    await house.ask(None, "GET", "/keys", 401, headers={"x-api-key": made["value"] + "x"})
    shown = capsys.readouterr()
    for secret in (made["value"], *house.keys.values()):
        assert secret not in shown.out + shown.err
    assert "/admin/keys" in shown.out
