"""What users set by hand for their conversations, for a database that is set back: the last of it, in a small file.

It lies in the process's journal folder and stays as long as that does. All functions block, for one small write.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, BinaryIO

import orjson

from gateway.journal import lock
from gateway.model import ConversationEdit

if TYPE_CHECKING:
    from pathlib import Path

FILE = "edits"
MOST = 10_000  # lines; then those whose time is over go, and if need be the oldest
_NEW = ".new"


class Edits:
    """Of this process; `seconds` is how long an edit is kept."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._path = folder / FILE
        self._seconds = seconds
        self._lines = 0

    def add(self, edit: ConversationEdit) -> None:
        """Never raises: the edit is in the database already."""
        if self._seconds <= 0:
            return
        with suppress(OSError):
            if self._lines >= MOST:
                self._forget_old()
            with _open(self._path, os.O_APPEND) as file:
                file.write(orjson.dumps(asdict(edit)) + b"\n")
            self._lines += 1

    def _forget_old(self) -> None:
        oldest = time.time() - self._seconds
        left = [edit for edit in _read(self._path) if edit.at > oldest][-MOST // 2 :]
        new = self._path.with_suffix(_NEW)
        with _open(new, os.O_TRUNC) as file:
            file.writelines(orjson.dumps(asdict(edit)) + b"\n" for edit in left)
        new.rename(self._path)
        self._lines = len(left)


def _open(path: Path, flags: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600), "wb")


def edits_in(directory: Path) -> list[ConversationEdit]:
    """Those of all processes whose journals lie here, in the order in which they were made."""
    found = [edit for folder in lock.journal_folders(directory) for edit in _read(folder / FILE)]
    return sorted(found, key=lambda edit: edit.at)


def _read(path: Path) -> list[ConversationEdit]:
    found = []
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, TypeError):  # torn
                found.append(ConversationEdit(**orjson.loads(line)))
    return found
