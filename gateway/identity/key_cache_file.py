"""The key cache on local disk, digests only: a gateway that starts while PostgreSQL is down has its keys."""

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
MAX_BYTES = 256 * 1024 * 1024


class KeyCacheFileError(Exception):
    """The file is missing or not trustworthy; the text gives the reason."""


class KeyCacheFile:
    """One file that only this gateway's account may read or write. All methods block on disk I/O.

    `place` identifies the keys' database: keys of another database are refused.
    """

    def __init__(self, path: Path, database_id: str) -> None:
        self._path = path
        self._database_id = database_id

    def write(self, keys: Iterable[ApiKey], revoked: Iterable[Revocation] = ()) -> None:
        """Replaces the file atomically and durably. Raises OSError."""
        text = orjson.dumps(
            {
                "version": VERSION,
                "place": self._database_id,
                "keys": [_to_json(key) for key in keys],
                "revoked": [{"id": str(one.key_id), "at": one.at, "by": one.by} for one in revoked],
            }
        )
        # As root: the embedded PostgreSQL's account must traverse this directory. The file itself has mode 0600.
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
        """The keys. Raises KeyCacheFileError."""
        return self._read()[0]

    def read_revoked(self) -> list[Revocation]:
        """Recent revocations that the file knows. Raises KeyCacheFileError."""
        return self._read()[1]

    def _read(self) -> tuple[list[ApiKey], list[Revocation]]:
        try:
            document = orjson.loads(self._text())
            if document["version"] != VERSION:
                raise KeyCacheFileError(f"{self._path} is of another version of the gateway")
            if document["place"] != self._database_id:
                raise KeyCacheFileError(f"{self._path} has the keys of another database")
            revoked = document.get("revoked", [])  # missing in files of older gateways
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
            # Another account that can write here could create keys.
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise KeyCacheFileError(
                    f"{self._path} is not private to this account (mode {stat.filemode(found.st_mode)})"
                )
            return file.read(MAX_BYTES)


def _to_json(key: ApiKey) -> dict[str, Any]:
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


def _read(entry: dict[str, Any]) -> ApiKey:
    models = entry["allowed_models"]
    holder = Principal(
        user=entry["user"],
        title=entry["title"],
        key_id=entry["id"],
        roles=frozenset(entry["roles"]),
        allowed_models=None if models is None else frozenset(models),
    )
    return ApiKey(
        id=UUID(entry["id"]),
        digest=bytes.fromhex(entry["digest"]),
        hint="",
        name="",
        holder=holder,
        created_at=0.0,
        created_by="",
        expires_at=entry["expires_at"],
        is_own=entry.get("is_own", True),  # missing in older files: no own keys until the database is loaded
    )
