"""Keys in a real Postgres: what is kept, who sees it, and that every change is noticed, also one made by hand."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gateway.errors import StoreUnavailable
from gateway.identity.key_cache import new_secret
from gateway.model import ApiKey, Principal
from gateway.settings import StoreSettings
from gateway.store import keys as keys_module
from gateway.store.keys import Keys
from gateway.store.pool import Database
from tests.identity.test_key_cache import key_of

if TYPE_CHECKING:
    from tests.postgres import PostgresServer

ADMIN = Principal(user="root", roles=frozenset(("user", "admin")))
AUDITOR = Principal(user="eve", roles=frozenset(("user", "auditor")))
ADA = Principal(user="ada", roles=frozenset(("user",)))


async def kept(store: Keys, user: str = "ada", **more: object) -> ApiKey:
    key = key_of(new_secret(), user, **more)
    assert await store.add(key, ADMIN)
    return key


async def test_a_key_comes_back_as_it_was_kept(store: Keys) -> None:
    holder = Principal(
        user="ada", title="Prüferin", roles=frozenset(("user", "admin")), allowed_models=frozenset(("a", "b"))
    )
    key = await kept(store, holder=holder, expires_at=4e9, created_at=1.5)
    (found,) = await store.in_force()
    assert found == replace(key, holder=replace(holder, key_id=str(key.id)))
    assert found.digest == key.digest


async def test_only_admins_make_and_revoke(store: Keys) -> None:
    key = key_of(new_secret())
    for somebody in (ADA, AUDITOR):
        assert not await store.add(key, somebody)
    assert await store.in_force() == []
    assert await store.add(key, ADMIN)
    for somebody in (ADA, AUDITOR):
        assert await store.revoke(key.id, somebody, 1.0) is None
    assert len(await store.in_force()) == 1


async def test_everybody_sees_their_own_and_auditors_all(store: Keys) -> None:
    mine, other = await kept(store, "ada"), await kept(store, "bob")
    assert [key.id for key in await store.visible(ADA, limit=9)] == [mine.id]
    assert await store.visible(ADA, limit=9, user="bob") == []
    for principal in (ADMIN, AUDITOR):
        assert [key.id for key in await store.visible(principal, limit=9)] == [other.id, mine.id]
    assert [key.id for key in await store.visible(ADMIN, limit=9, user="ada")] == [mine.id]


async def test_lists_come_in_pages_newest_first(store: Keys) -> None:
    made = [await kept(store) for _ in range(5)]
    first = await store.visible(ADMIN, limit=2)
    rest = await store.visible(ADMIN, limit=9, before=first[-1].id)
    assert [key.id for key in (*first, *rest)] == [key.id for key in reversed(made)]


async def test_a_revoked_key_stays_as_it_was_revoked(store: Keys) -> None:
    key = await kept(store)
    done = await store.revoke(key.id, ADMIN, 100.0)
    again = await store.revoke(key.id, Principal(user="other", roles=ADMIN.roles), 200.0)
    assert done is not None
    assert again == done
    assert (done.revoked_at, done.revoked_by) == (100.0, "root")
    assert await store.in_force() == []
    assert (await store.visible(ADA, limit=9))[0].revoked_at == 100.0


async def test_many_keys_are_read_in_pages(store: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "PAGE", 3)
    made = {(await kept(store)).id for _ in range(7)}
    assert {key.id for key in await store.in_force()} == made


async def test_each_change_has_another_edition(store: Keys) -> None:
    seen = [await store.edition()]
    key = await kept(store)
    seen.append(await store.edition())
    await store.revoke(key.id, ADMIN, 1.0)
    seen.append(await store.edition())
    assert len(set(seen)) == 3
    assert await store.edition() == seen[-1]


async def test_noting_uses_is_no_change(store: Keys) -> None:
    one, two = await kept(store), await kept(store)
    before = await store.edition()
    await store.note_uses({one.id: 50.0, two.id: 60.0, key_of(new_secret()).id: 70.0})
    await store.note_uses({one.id: 40.0})
    assert await store.edition() == before
    assert {key.id: key.last_used_at for key in await store.in_force()} == {one.id: 50.0, two.id: 60.0}


@pytest.mark.parametrize(
    "statement",
    [
        "update llm_logs.api_keys set revoked_at = now()",
        "update llm_logs.api_keys set allowed_models = '{small}'",
        "update llm_logs.api_keys set roles = '{user}'",
        "delete from llm_logs.api_keys",
        "truncate llm_logs.api_keys",
    ],
)
async def test_a_change_by_hand_is_noticed(
    store: Keys, postgres: PostgresServer, database: str, statement: str
) -> None:
    await kept(store)
    before = await store.edition()
    await asyncio.to_thread(postgres.execute, statement, database)
    assert await store.edition() != before


@pytest.mark.parametrize(
    "change",
    ["roles = '{root}'", "roles = '{null}'", "user_name = ''", "allowed_models = '{null}'", "digest = '\\x00'"],
)
async def test_a_row_that_no_gateway_could_read_cannot_be_made(
    store: Keys, postgres: PostgresServer, database: str, change: str
) -> None:
    await kept(store)
    with pytest.raises(Exception, match="check constraint"):
        await asyncio.to_thread(postgres.execute, f"update llm_logs.api_keys set {change}", database)


async def test_no_part_of_a_key_is_in_the_database(store: Keys, postgres: PostgresServer, database: str) -> None:
    secret = new_secret()
    await store.add(key_of(secret), ADMIN)
    rows = await asyncio.to_thread(postgres.fetch, "select k::text from llm_logs.api_keys k", database)
    assert secret[6:-4] not in rows[0]["k"]
    assert secret[6:16] not in rows[0]["k"]


async def test_two_gateways_note_uses_of_the_same_keys_at_once(store: Keys) -> None:
    made = [(await kept(store)).id for _ in range(300)]
    uses = dict.fromkeys(made, 5.0)
    backwards = dict.fromkeys(reversed(made), 6.0)
    await asyncio.gather(*(store.note_uses(each) for each in (uses, backwards) * 20))
    assert {key.last_used_at for key in await store.in_force()} == {6.0}


async def test_a_database_without_the_table_is_unavailable(database: str) -> None:
    bare = Database(database, StoreSettings())
    try:
        for call in (Keys(bare).edition(), Keys(bare).in_force(), Keys(bare).visible(ADMIN, limit=1)):
            with pytest.raises(StoreUnavailable):
                await call
    finally:
        await bare.aclose()
