"""The ring on local disk, digests only: a gateway that starts while Postgres is away still knows its keys."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from gateway.model import ApiKey, Principal, Revocation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VERSION = 1
LARGEST = 256 * 1024 * 1024


class KeyCacheFileError(Exception):
    """The file is not there, or is not to be trusted; the text says why."""


class KeyCacheFile:
    """One file that only this gateway's account may read or write. All verbs block for the time of a disk.

    `place` names the database that the keys are of: those of another one are not taken.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._path = path
        self._place = place

    def write(self, keys: Iterable[ApiKey], revoked: Iterable[Revocation] = ()) -> None:
        """Replace the file as a whole, durably. Raises OSError."""
        text = orjson.dumps(
            {
                "version": VERSION,
                "place": self._place,
                "keys": [_written(key) for key in keys],
                "revoked": [{"id": str(one.key_id), "at": one.at, "by": one.by} for one in revoked],
            }
        )
        # Others may pass through, as the embedded PostgreSQL's account must when we are root; the file is closed.
        self._path.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        scratch = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        scratch.unlink(missing_ok=True)
        try:
            with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(self._path)
        finally:
            scratch.unlink(missing_ok=True)

    def read(self) -> list[ApiKey]:
        """Raises RingFileError."""
        return self._read()[0]

    def read_revoked(self) -> list[Revocation]:
        """Keys that were revoked within the last time, as far as is known here. Raises RingFileError."""
        return self._read()[1]

    def _read(self) -> tuple[list[ApiKey], list[Revocation]]:
        try:
            document = orjson.loads(self._text())
            if document["version"] != VERSION:
                raise KeyCacheFileError(f"{self._path} is of another version of the gateway")
            if document["place"] != self._place:
                raise KeyCacheFileError(f"{self._path} has the keys of another database")
            revoked = document.get("revoked", [])  # older gateways write none
            return (
                [_read(each) for each in document["keys"]],
                [Revocation(UUID(each["id"]), float(each["at"]), str(each["by"])) for each in revoked],
            )
        except OSError as error:
            raise KeyCacheFileError(f"{self._path} cannot be read: {error.strerror or error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise KeyCacheFileError(f"{self._path} is damaged") from error

    def _text(self) -> bytes:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        with os.fdopen(os.open(self._path, flags), "rb") as file:
            found = os.fstat(file.fileno())
            # Whoever can write here can make keys.
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise KeyCacheFileError(
                    f"{self._path} is not this account's alone (mode {stat.filemode(found.st_mode)})"
                )
            return file.read(LARGEST)


def _written(key: ApiKey) -> dict[str, Any]:
    holder = key.holder
    return {
        "id": str(key.id),
        "digest": key.digest.hex(),
        "user": holder.user,
        "title": holder.title,
        "roles": sorted(holder.roles),
        "allowed_models": None if holder.allowed_models is None else sorted(holder.allowed_models),
        "expires_at": key.expires_at,
        "is_own": key.is_own,
    }


def _read(known: dict[str, Any]) -> ApiKey:
    models = known["allowed_models"]
    holder = Principal(
        user=known["user"],
        title=known["title"],
        key_id=known["id"],
        roles=frozenset(known["roles"]),
        allowed_models=None if models is None else frozenset(models),
    )
    return ApiKey(
        id=UUID(known["id"]),
        digest=bytes.fromhex(known["digest"]),
        hint="",
        name="",
        holder=holder,
        created_at=0.0,
        created_by="",
        expires_at=known["expires_at"],
        is_own=known.get("is_own", True),  # an older file does not say it: until the database does, no keys are made
    )
