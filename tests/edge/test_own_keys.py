"""Keys that users make for themselves: for whom, with which rights, for how long, and not for pages of other sites."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from gateway.settings import SettingsError, load
from tests.edge.app import Answer, House, hello, house
from tests.identity.oidc import AUDIENCE, RSA, claims, running_provider, token

if TYPE_CHECKING:
    from pathlib import Path

LIFE_S = 3600
OWN: dict[str, Any] = {"GATEWAY_AUTH": "header, keys", "GATEWAY_AUTH_OWN_KEYS_S": str(LIFE_S)}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def made(it: House, by: str = "ann", **headers: str) -> dict[str, Any]:
    answer = await it.ask("/keys", {"name": "notebook"}, by=by, headers=headers)
    assert answer.status == 201, answer
    assert answer.headers["Cache-Control"] == "no-store"
    key: dict[str, Any] = answer.json()
    return key


async def with_key(it: House, key: str, path: str = "/keys", body: object = None, method: str = "") -> Answer:
    return await it.ask(path, body, by="", method=method, headers=bearer(key))


async def test_a_key_of_ones_own_speaks_for_its_user_and_ends(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OWN) as it:
        key = await made(it, **{"X-Title": "Analyst"})
        assert (key["user"], key["title"], key["name"], key["roles"]) == ("ann", "Analyst", "notebook", ["user"])
        assert (key["created_by"], key["is_own"]) == ("ann", True)
        assert abs(key["expires_at"] - time.time() - LIFE_S) < 10
        assert (await with_key(it, key["value"], "/v1/chat/completions", hello())).status == 200
        [row] = await it.rows(1)
        assert (row["user_name"], row["title"], row["key_id"]) == ("ann", "Analyst", key["id"])
        listed = (await it.ask("/keys")).json()["data"]
        assert [each["id"] for each in listed] == [key["id"]]
        assert "value" not in listed[0]


async def test_an_admins_own_key_is_no_admins(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OWN) as it:
        key = await made(it, by="root/admins")
        assert key["roles"] == ["user"]
        assert (await with_key(it, key["value"], "/admin/keys")).status == 403
        auditors = await made(it, by="eve/auditors")
        assert (await with_key(it, auditors["value"], "/history?user=ann")).status == 403


async def test_it_makes_no_further_keys_and_is_revoked_by_its_user(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OWN) as it:
        key = await made(it)
        assert (await with_key(it, key["value"], body={"name": "another"})).status == 403
        for somebody in ("bob", "root/admins"):
            assert (await it.ask(f"/keys/{key['id']}", by=somebody, method="DELETE")).status == 404
        revoked = await it.ask(f"/keys/{key['id']}", method="DELETE")
        assert (revoked.status, revoked.json()["revoked_by"]) == (200, "ann")
        assert (await with_key(it, key["value"])).status == 401


async def test_what_a_key_makes_has_its_models_and_ends_with_it(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OWN) as it:
        ends = int(time.time()) + 60
        order = {"user": "ann", "name": "laptop", "allowed_models": ["small"], "roles": ["auditor"], "expires_at": ends}
        parent = (await it.ask("/admin/keys", order, by="root/admins")).json()
        child = (await with_key(it, parent["value"], body={"name": "child"})).json()
        assert (child["allowed_models"], child["expires_at"], child["roles"]) == (["small"], ends, ["user"])
        assert (await with_key(it, child["value"])).status == 200
        assert (await it.ask(f"/keys/{parent['id']}", method="DELETE")).status == 404, "an admin made it"
        assert (await it.ask(f"/admin/keys/{parent['id']}", by="root/admins", method="DELETE")).status == 200
        assert (await with_key(it, child["value"])).status == 401
        assert all(each["revoked_by"] == "root" for each in (await it.ask("/keys")).json()["data"])


async def test_what_a_token_makes_ends_with_it(tmp_path: Path, database: str) -> None:
    async with running_provider() as provider:
        env: dict[str, Any] = {
            **OWN,
            "GATEWAY_AUTH": "header, jwt, keys",
            "GATEWAY_AUTH_ISSUER": provider.url,
            "GATEWAY_AUTH_AUDIENCE": AUDIENCE,
            "GATEWAY_AUTH_LEEWAY_S": "1",
        }
        async with house(tmp_path, database, **env) as it:
            ends = int(time.time()) + 60
            shown = token(RSA, claims(provider.url, exp=ends)).decode()
            key = (await it.ask("/keys", {"name": "short"}, by="", headers=bearer(shown))).json()
            assert (key["user"], key["expires_at"]) == ("ada@corp.example", ends + 1)


async def test_nobody_has_more_than_ten_also_when_asking_for_all_at_once(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OWN) as it:
        answers = await asyncio.gather(*(it.ask("/keys", {"name": f"{n}"}) for n in range(14)))
        assert sorted(answer.status for answer in answers) == [201] * 10 + [409] * 4
        assert {answer.code for answer in answers if answer.status == 409} == {"too_many_keys"}
        assert (await it.ask("/keys", {"name": "bob's"}, by="bob")).status == 201
        one = next(answer.json() for answer in answers if answer.status == 201)
        await it.ask(f"/keys/{one['id']}", method="DELETE")
        assert (await it.ask("/keys", {"name": "in its place"})).status == 201
        await it.fetch("update llm_logs.api_keys set revoked_at = now()")
        await it.fetch(
            "insert into llm_logs.api_keys select gen_random_uuid(), sha256(n::text::bytea), hint, name, user_name,"
            " title, roles, allowed_models, created_at, created_by, expires_at, null, now(), 'ann', true, null"
            " from llm_logs.api_keys cross join generate_series(1, 89) as n where id = $1::text::uuid",
            one["id"],
        )
        assert (await it.ask("/keys", {"name": "making and revoking"})).code == "too_many_keys"


async def test_expired_ones_leave_the_ring_a_day_later_and_make_room(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OWN) as it:
        for n in range(10):
            await made(it, **{"X-Request-Id": f"{n}"})
        key = (await it.ask("/keys", {"name": "bob's"}, by="bob")).json()
        for age, told in (("1 hour", "expired_api_key"), ("2 days", "invalid_api_key")):
            await it.fetch(f"update llm_logs.api_keys set expires_at = now() - interval '{age}'")
            async with asyncio.timeout(10):
                while (answer := await with_key(it, key["value"])).status == 200 or answer.code != told:
                    await asyncio.sleep(0.05)
        assert (await it.ask("/keys", {"name": "again"})).status == 201


async def test_none_is_made_unless_it_is_set(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, GATEWAY_AUTH="header, keys") as it:
        answer = await it.ask("/keys", {"name": "mine"})
        assert (answer.status, answer.code) == (403, "not_allowed")
        assert (await it.ask("/page.json")).json()["own_keys_s"] is None


async def test_none_is_made_for_somebody_who_has_not_logged_in(tmp_path: Path, database: str) -> None:
    env = {**OWN, "GATEWAY_AUTH": "open, keys", "GATEWAY_AUTH_TRUSTED_NETWORKS": ""}
    async with house(tmp_path, database, **env) as it:
        answer = await it.ask("/keys", {"name": "mine"}, by="")
        assert (answer.status, answer.code) == (403, "not_allowed")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"name": ""}, "invalid_request"),
        ({"name": 1}, "malformed_body"),
        ({"name": "a\nb"}, "invalid_request"),
        ({"name": "x", "user": "bob"}, "unknown_field"),
        ({"name": "x", "roles": ["admin"]}, "unknown_field"),
        ({"name": "x", "expires_at": 9e9}, "unknown_field"),
    ],
)
async def test_a_body_that_asks_for_more_is_refused(
    tmp_path: Path, database: str, body: dict[str, Any], code: str
) -> None:
    async with house(tmp_path, database, **OWN) as it:
        answer = await it.ask("/keys", body)
        assert (answer.status, answer.code) == (400, code)
        assert await it.fetch("select from llm_logs.api_keys") == []


async def test_a_page_of_another_site_makes_and_revokes_none_though_a_proxy_knows_its_reader(
    tmp_path: Path, database: str
) -> None:
    async with house(tmp_path, database, **OWN, GATEWAY_ALLOWED_ORIGINS="https://chat.example") as it:
        mine = str(it.client.make_url("")).rstrip("/")
        key = await made(it, Origin=mine)
        await made(it, Origin="https://chat.example")
        for origin in ("https://evil.example", "null", "", "https://chat.example.evil.example", f"{mine}1"):
            for path, body, method in (("/keys", {"name": "x"}, "POST"), (f"/keys/{key['id']}", None, "DELETE")):
                answer = await it.ask(path, body, method=method, headers={"Origin": origin})
                assert (answer.status, answer.code) == (403, "cross_origin"), origin
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
            headers = {"X-User": "ann", "Content-Type": kind}
            async with it.client.post("/keys", data=b'{"name": "x"}', headers=headers) as refusal:
                assert refusal.status == 415
        assert len(await it.fetch("select from llm_logs.api_keys where revoked_at is null")) == 2


def test_keys_must_be_taken_where_they_are_made() -> None:
    with pytest.raises(SettingsError, match="GATEWAY_AUTH_OWN_KEYS_S"):
        load({"GATEWAY_AUTH": "open", "GATEWAY_AUTH_OWN_KEYS_S": "60"})
