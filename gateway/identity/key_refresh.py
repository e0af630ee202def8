"""Keeps the key cache of each process up to date with the database, and writes the times of use to it."""

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

START_TIMEOUT_S = 5.0  # wait for the database at start, before the keys come from the file
WRITE_USES_INTERVAL_S = 30.0
LAST_WRITE_TIMEOUT_S = 2.0
REVOCATIONS_KEPT_S = 30 * 86_400.0  # after that the file forgets a revocation
log = structlog.get_logger()


class KeySource(Protocol):
    """The keys in the database. All methods raise StoreUnavailable."""

    async def edition(self) -> UUID | None: ...

    async def in_force(self) -> Sequence[ApiKey]: ...

    async def revoked(self, seconds: float) -> Sequence[Revocation]: ...

    async def revoke_again(self, revocations: Sequence[Revocation]) -> None: ...

    async def note_uses(self, uses: Mapping[UUID, float]) -> None: ...


class KeyRefresh:
    """A task that loads changes every few seconds. While the database is down, the loaded keys stay valid."""

    def __init__(
        self,
        cache: KeyCache,
        source: KeySource,
        file: KeyCacheFile,
        *,
        every_s: float,
        start_timeout_s: float = START_TIMEOUT_S,
        write_uses_every_s: float = WRITE_USES_INTERVAL_S,
        last_write_timeout_s: float = LAST_WRITE_TIMEOUT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._source = source
        self._file = file
        self._every_s = every_s
        self._start_timeout_s = start_timeout_s
        self._write_uses_every_s = write_uses_every_s
        self._last_write_timeout_s = last_write_timeout_s
        self._clock = clock
        self._edition: UUID | None = None
        self._revoked: dict[UUID, Revocation] | None = None  # recent ones; None: the file is not read yet
        self._origin: str | None = None
        self._refreshed_at = float("-inf")  # the last successful query
        self._uses_written_at = clock()
        self._fault: str | None = None
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Loads the keys from the database, or else from the file, and starts the task. Never raises."""
        first = asyncio.ensure_future(self.refresh())
        done, _ = await asyncio.wait((first,), timeout=self._start_timeout_s)
        if not done and not self._cache.is_loaded:
            log.warning("the database has not sent the keys yet", waited_s=self._start_timeout_s)
        if not self._cache.is_loaded:
            await self._load_from_file()
        self._task = asyncio.create_task(self._run(first))

    async def refresh(self) -> None:
        """Loads changes now: for a process that has made a change itself. Never raises."""
        await self._log_failure(self._load_changes())

    def state(self) -> dict[str, Any]:
        """State for readiness and metrics. `age_s`: time since the last successful query."""
        age = self._clock() - self._refreshed_at
        return {
            "keys": len(self._cache),
            "origin": self._origin,
            "age_s": round(age, 1) if age != float("inf") else None,
            "fault": self._fault,
        }

    async def aclose(self) -> None:
        """Stops the task, and writes the last uses if the database is fast enough."""
        if self._task is not None:
            await _cancel(self._task)
        last = asyncio.ensure_future(self._log_failure(self._write_uses()))
        await asyncio.wait((last,), timeout=self._last_write_timeout_s)
        await _cancel(last)

    async def _run(self, first: asyncio.Task[None]) -> None:
        try:
            await first
            while True:
                await asyncio.sleep(self._every_s)
                await self.refresh()
                if self._clock() - self._uses_written_at >= self._write_uses_every_s:
                    self._uses_written_at = self._clock()
                    await self._log_failure(self._write_uses())
        finally:
            first.cancel()

    async def _load_changes(self) -> None:
        async with self._lock:
            edition = await self._source.edition()
            self._refreshed_at = self._clock()
            if edition is None or edition != self._edition:
                await self._load(edition)
        self._fault = None

    async def _log_failure(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except StoreUnavailable as error:
            if self._fault is None:
                log.warning("the database tells no changes of keys; known ones stay", error=error.message)
            self._fault = error.message
        except Exception as error:  # outermost level of the task: the next refresh may succeed
            self._fault = type(error).__name__
            log.exception("keys could not be looked after")

    async def _load(self, edition: UUID | None) -> None:
        keys = await self._filter_revoked(await self._source.in_force())
        self._cache.replace(keys)
        self._edition, self._origin = edition, "postgres"
        log.info("keys loaded", keys=len(self._cache))
        try:
            await asyncio.to_thread(self._file.write, keys, list((self._revoked or {}).values()))
        except OSError as error:
            log.warning("keys could not be written for a start without the database", error=str(error))

    async def _filter_revoked(self, keys: Sequence[ApiKey]) -> list[ApiKey]:
        """The keys without revoked ones. Revokes them again in a database that was restored from an older state."""
        if self._revoked is None:
            self._revoked = await asyncio.to_thread(self._read_revoked)
        self._revoked |= {one.key_id: one for one in await self._source.revoked(REVOCATIONS_KEPT_S)}
        oldest = time.time() - REVOCATIONS_KEPT_S
        self._revoked = {key_id: one for key_id, one in self._revoked.items() if one.at > oldest}
        restored = [self._revoked[key.id] for key in keys if key.id in self._revoked]
        if restored:
            self._cache.replace([key for key in keys if key.id not in self._revoked])
            log.error("revoked_keys_were_in_force_again", keys=[str(one.key_id) for one in restored])
            await self._source.revoke_again(restored)
            keys = await self._source.in_force()  # without keys that were created with one of them
        return [key for key in keys if key.id not in self._revoked]

    def _read_revoked(self) -> dict[UUID, Revocation]:
        try:
            return {one.key_id: one for one in self._file.read_revoked()}
        except KeyCacheFileError:
            return {}

    async def _load_from_file(self) -> None:
        try:
            keys = await asyncio.to_thread(self._file.read)
        except KeyCacheFileError as error:
            log.warning("no keys are known until the database is there", error=str(error))
            return
        if not self._cache.is_loaded:  # the database may have answered in the meantime
            self._cache.replace(keys)
            self._origin = "file"
            log.warning("keys taken from the file, as long as the database is away", keys=len(self._cache))

    async def _write_uses(self) -> None:
        uses = self._cache.drain_uses()
        if not uses:
            return
        try:
            await self._source.note_uses(uses)
        except BaseException:
            self._cache.restore_uses(uses)
            raise


async def _cancel(task: asyncio.Task[None]) -> None:
    """Cancels the task; a frozen server delays this by at most one second."""
    task.cancel()
    await asyncio.wait((task,), timeout=1.0)
