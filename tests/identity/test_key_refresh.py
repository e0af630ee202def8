"""The ring follows the database, in every process; without a database it knows what it knew."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest

from gateway.errors import IdentityUnavailable, NotAuthenticated, StoreUnavailable
from gateway.identity.credentials import Credentials
from gateway.identity.key_cache import KeyCache, new_secret
from gateway.identity.key_cache_file import KeyCacheFile
from gateway.identity.key_refresh import KeyRefresh
from gateway.identity.key_service import KeyService, KeySpec
from gateway.identity.modes import database_id, open_authentication
from gateway.ids import Ids
from gateway.model import ApiKey, Principal, Revocation
from gateway.resources import resource_folder
from gateway.settings import AuthSettings, Secret, Settings, StoreSettings
from gateway.store.keys import Keys
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from tests.identity.test_key_cache import key_of
from tests.polling import until
from tests.postgres import running_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from gateway.identity.modes import Authentication
    from tests.postgres import PostgresServer

EVERY_S = 0.05
ADMIN = Principal(user="root", roles=frozenset(("user", "admin")))


class FakeSource:
    """Keys in memory; away when told so."""

    def __init__(self, *keys: ApiKey) -> None:
        self.keys = list(keys)
        self.current: UUID | None = uuid4()
        self.is_down = False
        self.loads = 0
        self.noted: dict[UUID, float] = {}
        self.revocations: list[Revocation] = []
        self.revoked_again: list[Revocation] = []
        self.hold: asyncio.Event | None = None

    async def _answer(self) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if self.is_down:
            raise StoreUnavailable("away")

    async def edition(self) -> UUID | None:
        await self._answer()
        return self.current

    async def in_force(self) -> list[ApiKey]:
        await self._answer()
        self.loads += 1
        return list(self.keys)

    async def revoked(self, seconds: float) -> list[Revocation]:
        await self._answer()
        return list(self.revocations)

    async def revoke_again(self, revocations: Sequence[Revocation]) -> None:
        await self._answer()
        self.revoked_again += revocations

    async def note_uses(self, uses: Mapping[UUID, float]) -> None:
        await self._answer()
        self.noted |= uses


@asynccontextmanager
async def watching(source: Any, path: Path, **options: Any) -> AsyncIterator[tuple[KeyCache, KeyRefresh]]:
    cache = KeyCache()
    key_refresh = KeyRefresh(cache, source, KeyCacheFile(path, "db"), every_s=EVERY_S, **options)
    await key_refresh.start()
    try:
        yield cache, key_refresh
    finally:
        await key_refresh.aclose()


def is_known(cache: KeyCache, secret: str) -> bool:
    try:
        return bool(cache.principal(secret.encode()))
    except (NotAuthenticated, IdentityUnavailable):
        return False


# --- with a fake of the database ---


async def test_keys_are_read_again_only_when_they_have_changed(tmp_path: Path) -> None:
    one, two = new_secret(), new_secret()
    source = FakeSource(key_of(one))
    async with watching(source, tmp_path / "k") as (cache, key_refresh):
        assert is_known(cache, one)
        await asyncio.sleep(EVERY_S * 6)
        assert source.loads == 1
        source.keys, source.current = [key_of(two)], uuid4()
        await until(lambda: is_known(cache, two))
        assert not is_known(cache, one)
        assert source.loads == 2
        source.keys = [key_of(one)]
        source.current = uuid4()
        await key_refresh.refresh()
        assert is_known(cache, one)


async def test_a_start_without_the_database_takes_the_keys_from_the_file(tmp_path: Path) -> None:
    one, two = new_secret(), new_secret()
    async with watching(FakeSource(key_of(one)), tmp_path / "k"):
        pass
    source = FakeSource(key_of(two))
    source.is_down = True
    async with watching(source, tmp_path / "k") as (cache, key_refresh):
        assert is_known(cache, one)
        assert key_refresh.state()["origin"] == "file"
        assert key_refresh.state()["age_s"] is None
        source.is_down = False
        await until(lambda: is_known(cache, two))
        assert not is_known(cache, one)
        assert key_refresh.state()["origin"] == "postgres"


async def test_a_start_without_database_and_file_knows_nobody_and_says_why(tmp_path: Path) -> None:
    source = FakeSource(key_of(secret := new_secret()))
    source.is_down = True
    async with watching(source, tmp_path / "k") as (cache, _):
        with pytest.raises(IdentityUnavailable):
            cache.principal(secret.encode())
        source.is_down = False
        await until(lambda: is_known(cache, secret))


@pytest.mark.stopwatch
async def test_a_frozen_database_does_not_hold_up_the_start(tmp_path: Path) -> None:
    one = new_secret()
    async with watching(FakeSource(key_of(one)), tmp_path / "k"):
        pass
    source = FakeSource()
    source.hold = asyncio.Event()
    began = time.monotonic()
    async with watching(source, tmp_path / "k", start_timeout_s=0.1) as (cache, _):
        assert time.monotonic() - began < 5
        assert is_known(cache, one)
        source.hold.set()
        await until(lambda: not is_known(cache, one))


@pytest.mark.stopwatch
async def test_a_frozen_database_does_not_hold_up_the_end(tmp_path: Path) -> None:
    source = FakeSource(key_of(secret := new_secret()))
    async with watching(source, tmp_path / "k", last_write_timeout_s=0.1) as (cache, _):
        assert is_known(cache, secret)
        source.hold = asyncio.Event()
        await asyncio.sleep(EVERY_S * 2)
        began = time.monotonic()
    assert time.monotonic() - began < 5


async def test_keys_stay_while_the_database_is_away(tmp_path: Path) -> None:
    source = FakeSource(key_of(secret := new_secret()))
    async with watching(source, tmp_path / "k") as (cache, key_refresh):
        source.is_down = True
        await until(lambda: key_refresh.state()["fault"] == "away")
        assert is_known(cache, secret)
        source.is_down = False
        await until(lambda: key_refresh.state()["fault"] is None)


async def test_uses_are_written_again_when_the_database_is_back(tmp_path: Path) -> None:
    key = key_of(secret := new_secret())
    source = FakeSource(key)
    async with watching(source, tmp_path / "k", write_uses_every_s=0.0) as (cache, _):
        source.is_down = True
        assert is_known(cache, secret)
        await asyncio.sleep(EVERY_S * 3)
        assert source.noted == {}
        source.is_down = False
        await until(lambda: key.id in source.noted)


async def test_uses_are_written_at_the_end(tmp_path: Path) -> None:
    key = key_of(secret := new_secret())
    source = FakeSource(key)
    async with watching(source, tmp_path / "k", write_uses_every_s=1e9) as (cache, _):
        assert is_known(cache, secret)
    assert key.id in source.noted


async def test_a_disk_that_takes_no_file_changes_nothing_for_callers(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    source = FakeSource(key_of(secret := new_secret()))
    async with watching(source, tmp_path / "k") as (cache, key_refresh):
        assert is_known(cache, secret)
        assert key_refresh.state()["fault"] is None


async def test_an_unknown_edition_means_looking_through_the_keys(tmp_path: Path) -> None:
    source = FakeSource()
    source.current = None
    async with watching(source, tmp_path / "k") as (cache, _):
        source.keys = [key_of(secret := new_secret())]
        await until(lambda: is_known(cache, secret))


async def test_a7_a_key_that_was_revoked_stays_so_when_the_database_has_forgotten_it(tmp_path: Path) -> None:
    key, other = key_of(secret := new_secret()), key_of(fine := new_secret())
    source = FakeSource(key, other)
    async with watching(source, tmp_path / "k") as (cache, key_refresh):
        revocation = Revocation(key.id, time.time(), "root")
        source.keys, source.revocations, source.current = [other], [revocation], uuid4()
        await until(lambda: not is_known(cache, secret))
        source.keys, source.revocations, source.current = [key, other], [], uuid4()  # restored
        await until(lambda: source.revoked_again == [revocation])
        assert not is_known(cache, secret)
        assert is_known(cache, fine)
        assert key_refresh.state()["fault"] is None


async def test_a7_a_process_that_starts_after_the_restore_knows_it_from_the_file(tmp_path: Path) -> None:
    key = key_of(secret := new_secret())
    source = FakeSource()
    source.revocations = [Revocation(key.id, time.time(), "root")]
    async with watching(source, tmp_path / "k"):
        pass
    source.keys, source.revocations = [key], []
    async with watching(source, tmp_path / "k") as (cache, _):
        assert not is_known(cache, secret)
        assert [one.key_id for one in source.revoked_again] == [key.id]


async def test_a_revocation_is_forgotten_after_a_month(tmp_path: Path) -> None:
    key = key_of(secret := new_secret())
    source = FakeSource()
    source.revocations = [Revocation(key.id, time.time() - 31 * 86_400, "root")]
    async with watching(source, tmp_path / "k") as (cache, _):
        source.keys, source.revocations, source.current = [key], [], uuid4()
        await until(lambda: is_known(cache, secret))
        assert source.revoked_again == []


# --- with a real one ---


def settings_of(dsn: str, data_dir: Path) -> Settings:
    return Settings(
        data_dir=data_dir,
        auth=AuthSettings(modes=("keys",), keys_refresh_s=EVERY_S),
        store=StoreSettings(url=Secret(dsn), connect_s=1.0, statement_s=2.0),
    )


@asynccontextmanager
async def gateway(dsn: str, data_dir: Path) -> AsyncIterator[tuple[Authentication, KeyService]]:
    """What one process has of it."""
    settings = settings_of(dsn, data_dir)
    database = Database(dsn, settings.store)
    try:
        async with open_authentication(settings, Keys(database)) as reception:
            yield reception, KeyService(Keys(database), Ids(), reception.keys_changed)
    finally:
        await database.aclose()


async def user_of(reception: Authentication, secret: Secret) -> str | None:
    try:
        headers = ((b"Authorization", f"Bearer {secret.reveal()}".encode()),)
        return (await reception.authenticators.identify(Credentials.of(headers, "127.0.0.1"))).user
    except (NotAuthenticated, IdentityUnavailable):
        return None


async def becomes(reception: Authentication, secret: Secret, user: str | None) -> None:
    deadline = time.monotonic() + 10
    while await user_of(reception, secret) != user:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("opened")
async def test_a_key_is_known_and_revoked_in_every_process(database: str, tmp_path: Path) -> None:
    async with gateway(database, tmp_path / "a") as (here, service), gateway(database, tmp_path / "b") as (there, _):
        made = await service.create(KeySpec(user="ada", name="laptop"), ADMIN)
        assert await user_of(here, made.secret) == "ada", "at once where it was made"
        await becomes(there, made.secret, "ada")
        await service.revoke(made.key.id, ADMIN)
        assert await user_of(here, made.secret) is None
        await becomes(there, made.secret, None)


@pytest.mark.usefixtures("opened")
async def test_a7_a_revoked_key_is_revoked_again_in_a_database_that_was_set_back(
    database: str, tmp_path: Path, postgres: PostgresServer
) -> None:
    async with gateway(database, tmp_path) as (reception, service):
        made = await service.create(KeySpec(user="ada", name="laptop"), ADMIN)
        copy = "create table public.keys as select * from llm_logs.api_keys"
        await asyncio.to_thread(postgres.execute, copy, database)
        await service.revoke(made.key.id, ADMIN)
        restored = "begin; delete from llm_logs.api_keys; insert into llm_logs.api_keys select * from public.keys; end"
        await asyncio.to_thread(postgres.execute, restored, database)
        deadline = time.monotonic() + 10
        state = "select revoked_by from llm_logs.api_keys where revoked_at is not null"
        while not (rows := await asyncio.to_thread(postgres.fetch, state, database)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        assert [row["revoked_by"] for row in rows] == ["root"]
        assert await user_of(reception, made.secret) is None


@pytest.mark.usefixtures("opened")
async def test_uses_reach_the_database(database: str, store: Keys, tmp_path: Path) -> None:
    began = time.time()
    async with gateway(database, tmp_path) as (reception, service):
        made = await service.create(KeySpec(user="ada", name="laptop"), ADMIN)
        assert await user_of(reception, made.secret) == "ada"
    (key,) = await store.in_force()
    assert key.last_used_at is not None
    assert began - 1 <= key.last_used_at <= time.time()


async def test_keys_outlive_a_database_that_goes_and_comes_back(tmp_path: Path) -> None:
    with running_postgres() as server:
        dsn = await asyncio.to_thread(server.create_database)
        settings = settings_of(dsn, tmp_path)
        database = Database(dsn, settings.store)
        await migrate(database, resource_folder("sql"))
        await database.aclose()

        async with gateway(dsn, tmp_path) as (reception, service):
            made = await service.create(KeySpec(user="ada", name="laptop"), ADMIN)
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(EVERY_S * 4)
            assert await user_of(reception, made.secret) == "ada"

        async with gateway(dsn, tmp_path) as (reception, service):  # a start while it is away
            assert await user_of(reception, made.secret) == "ada"
            assert reception.state()["keys"]["origin"] == "file"
            with pytest.raises(StoreUnavailable):
                await service.revoke(made.key.id, ADMIN)
            await asyncio.to_thread(server.start)
            await until(lambda: reception.state()["keys"]["origin"] == "postgres", 20)
            await asyncio.to_thread(server.execute, "update llm_logs.api_keys set revoked_at = now()", dsn)
            await becomes(reception, made.secret, None)


async def test_a_frozen_database_holds_up_nobody(tmp_path: Path) -> None:
    with running_postgres() as server:
        dsn = await asyncio.to_thread(server.create_database)
        database = Database(dsn, settings_of(dsn, tmp_path).store)
        await migrate(database, resource_folder("sql"))
        await database.aclose()
        async with gateway(dsn, tmp_path) as (reception, service):
            made = await service.create(KeySpec(user="ada", name="laptop"), ADMIN)
            await asyncio.to_thread(server.freeze)
            try:
                await asyncio.sleep(EVERY_S * 4)
                assert await user_of(reception, made.secret) == "ada"
            finally:
                await asyncio.to_thread(server.thaw)
            await service.revoke(made.key.id, ADMIN)
            await becomes(reception, made.secret, None)


def test_the_place_of_keys_is_the_database_and_not_its_password(tmp_path: Path) -> None:
    def place(dsn: str | None) -> str:
        store = StoreSettings(url=None if dsn is None else Secret(dsn))
        return database_id(Settings(data_dir=tmp_path, store=store))

    base = place("postgresql://gw:one@db:5432/llm?sslmode=require")
    assert place("postgresql://gw:two@db:5432/llm?sslmode=disable&password=x") == base
    others = [
        "postgresql://db2:5432/llm",
        "postgresql://db:5433/llm",
        "postgresql://db:5432/x",
        "postgresql:///llm?host=/s",
    ]
    places = {base, place(None), *map(place, others)}
    assert len(places) == 6
    assert not any("one" in each for each in places)
