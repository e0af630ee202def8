"""Keeps the ring as the database has it, in every process, and notes there when keys were used."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from gateway.errors import StoreUnavailable
from gateway.identity.key_cache_file import KeyCacheFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence
    from uuid import UUID

    from gateway.identity.key_cache import KeyCache
    from gateway.identity.key_cache_file import KeyCacheFile
    from gateway.model import ApiKey, Revocation

START_S = 5.0  # how long a start waits for the database before it takes the keys from the file
NOTE_USES_S = 30.0
LAST_NOTE_S = 2.0
REVOKED_S = 30 * 86_400.0  # so long is remembered here that a key was revoked
log = structlog.get_logger()


class KeySource(Protocol):
    """The database's side; its verbs raise StoreUnavailable."""

    async def edition(self) -> UUID | None: ...

    async def in_force(self) -> Sequence[ApiKey]: ...

    async def revoked(self, seconds: float) -> Sequence[Revocation]: ...

    async def revoke_again(self, revocations: Sequence[Revocation]) -> None: ...

    async def note_uses(self, uses: Mapping[UUID, float]) -> None: ...


class KeyRefresh:
    """One task that looks for changes every few seconds. While the database is away the keys stay as they were."""

    def __init__(
        self,
        ring: KeyCache,
        source: KeySource,
        file: KeyCacheFile,
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ring = ring
        self._source = source
        self._file = file
        self._every_s = every_s
        self._clock = clock
        self._edition: UUID | None = None
        self._revoked: dict[UUID, Revocation] | None = None  # of the last time; None: the file was not read yet
        self._origin: str | None = None
        self._seen_at = float("-inf")  # when the database was last asked with success
        self._noted_at = clock()
        self._fault: str | None = None
        self._busy = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Know the keys, from the database or else from the file; then look for changes. Never fails."""
        first = asyncio.ensure_future(self.look())
        done, _ = await asyncio.wait((first,), timeout=START_S)
        if not done and not self._ring.is_loaded:
            log.warning("the database has not told the keys yet", waited_s=START_S)
        if not self._ring.is_loaded:
            await self._take_from_file()
        self._task = asyncio.create_task(self._watch(first))

    async def look(self) -> None:
        """See what has changed, now: for a process that has made a change itself. Never fails."""
        await self._quietly(self._refresh())

    def state(self) -> dict[str, Any]:
        """For readiness and metrics. `age_s`: since the database was last heard."""
        age = self._clock() - self._seen_at
        return {
            "keys": len(self._ring),
            "origin": self._origin,
            "age_s": round(age, 1) if age != float("inf") else None,
            "fault": self._fault,
        }

    async def aclose(self) -> None:
        """Note the last uses, if the database takes them soon."""
        if self._task is not None:
            await _ended(self._task)
        last = asyncio.ensure_future(self._quietly(self._note_uses()))
        await asyncio.wait((last,), timeout=LAST_NOTE_S)
        await _ended(last)

    async def _watch(self, first: asyncio.Task[None]) -> None:
        try:
            await first
            while True:
                await asyncio.sleep(self._every_s)
                await self.look()
                if self._clock() - self._noted_at >= NOTE_USES_S:
                    self._noted_at = self._clock()
                    await self._quietly(self._note_uses())
        finally:
            first.cancel()

    async def _refresh(self) -> None:
        async with self._busy:
            edition = await self._source.edition()
            self._seen_at = self._clock()
            if edition is None or edition != self._edition:
                await self._load(edition)
        self._fault = None

    async def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreUnavailable as error:
            if self._fault is None:
                log.warning("the database tells no changes of keys; known ones stay", error=error.message)
            self._fault = error.message
        except Exception as error:  # the outermost place of the task: the next look may go well
            self._fault = type(error).__name__
            log.exception("keys could not be looked after")

    async def _load(self, edition: UUID | None) -> None:
        keys = await self._without_revoked(await self._source.in_force())
        self._ring.replace(keys)
        self._edition, self._origin = edition, "postgres"
        log.info("keys loaded", keys=len(self._ring))
        try:
            await asyncio.to_thread(self._file.write, keys, list((self._revoked or {}).values()))
        except OSError as error:
            log.warning("keys could not be written for a start without the database", error=str(error))

    async def _without_revoked(self, keys: Sequence[ApiKey]) -> list[ApiKey]:
        """A key that was revoked once stays so: a database that was set back is told again."""
        if self._revoked is None:
            self._revoked = await asyncio.to_thread(self._read_revoked)
        self._revoked |= {one.key_id: one for one in await self._source.revoked(REVOKED_S)}
        oldest = time.time() - REVOKED_S
        self._revoked = {key_id: one for key_id, one in self._revoked.items() if one.at > oldest}
        back = [self._revoked[key.id] for key in keys if key.id in self._revoked]
        if back:
            self._ring.replace([key for key in keys if key.id not in self._revoked])  # whatever happens next
            log.error("revoked_keys_were_in_force_again", keys=[str(one.key_id) for one in back])
            await self._source.revoke_again(back)
            keys = await self._source.in_force()  # without those that were made with one of them
        return [key for key in keys if key.id not in self._revoked]

    def _read_revoked(self) -> dict[UUID, Revocation]:
        try:
            return {one.key_id: one for one in self._file.read_revoked()}
        except KeyCacheFileError:
            return {}

    async def _take_from_file(self) -> None:
        try:
            keys = await asyncio.to_thread(self._file.read)
        except KeyCacheFileError as error:
            log.warning("no keys are known until the database is there", error=str(error))
            return
        if not self._ring.is_loaded:  # the database may have answered meanwhile
            self._ring.replace(keys)
            self._origin = "file"
            log.warning("keys taken from the file, as long as the database is away", keys=len(self._ring))

    async def _note_uses(self) -> None:
        uses = self._ring.take_uses()
        if not uses:
            return
        try:
            await self._source.note_uses(uses)
        except BaseException:
            self._ring.put_back(uses)
            raise


async def _ended(task: asyncio.Task[None]) -> None:
    """Cancel it; a call that a frozen server holds is not waited for longer than this."""
    task.cancel()
    await asyncio.wait((task,), timeout=1.0)
