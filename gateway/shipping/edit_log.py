"""A small log of the titles and removals that users set by hand, to apply them again to a database that was set back.

The file is in the process's journal folder and lives as long as the folder. All functions block, for a small write.
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
MAX_LINES = 10_000
_NEW = ".new"


class EditLog:
    """The edits of this process; an edit is kept for `keep_s` seconds.

    At `max_lines` lines the expired ones go, and then the oldest until half of them are left.
    """

    def __init__(self, folder: Path, keep_s: float, *, max_lines: int = MAX_LINES) -> None:
        self._path = folder / FILE
        self._keep_s = keep_s
        self._max_lines = max_lines
        self._lines = 0

    def add(self, edit: ConversationEdit) -> None:
        """Appends an edit that is in the database already. Never raises."""
        if self._keep_s <= 0:
            return
        with suppress(OSError):
            if self._lines >= self._max_lines:
                self._drop_old()
            with _open(self._path, os.O_APPEND) as file:
                file.write(orjson.dumps(asdict(edit)) + b"\n")
            self._lines += 1

    def _drop_old(self) -> None:
        oldest = time.time() - self._keep_s
        left = [edit for edit in _read(self._path) if edit.at > oldest][-self._max_lines // 2 :]
        new = self._path.with_suffix(_NEW)
        with _open(new, os.O_TRUNC) as file:
            file.writelines(orjson.dumps(asdict(edit)) + b"\n" for edit in left)
        new.rename(self._path)
        self._lines = len(left)


def _open(path: Path, flags: int) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | flags, 0o600), "wb")


def read_edits(directory: Path) -> list[ConversationEdit]:
    """Returns the edits of all processes whose journals are in this directory, in the order of their times."""
    found = [edit for folder in lock.journal_folders(directory) for edit in _read(folder / FILE)]
    return sorted(found, key=lambda edit: edit.at)


def _read(path: Path) -> list[ConversationEdit]:
    found = []
    with suppress(OSError):
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, TypeError):  # a torn line
                found.append(ConversationEdit(**orjson.loads(line)))
    return found
