"""Segment files in a journal folder, and positions in them."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SEGMENT_SUFFIX = ".seg"  # a segment that some sink has not received yet
ARCHIVED_SUFFIX = ".kept"  # a segment that every sink has received, see `archive`


class Extent(NamedTuple):
    """The bytes of one frame. Extents sort in the order in which they were written."""

    segment: int
    offset: int
    size: int


class Position(NamedTuple):
    """A point in a journal. Positions sort in the order in which they were written."""

    segment: int
    offset: int


START = Position(0, 0)


def segment_path(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}{SEGMENT_SUFFIX}"


def segment_numbers(folder: Path, *suffixes: str) -> list[int]:
    """Returns the numbers of a folder's segments, oldest first; numbers can be missing.

    Without `suffixes`, archived segments are left out.
    """
    found = {path.stem for suffix in suffixes or (SEGMENT_SUFFIX,) for path in folder.glob("*" + suffix)}
    return sorted(int(stem) for stem in found if stem.isdecimal())


def open_segment(folder: Path, number: int) -> int:
    """Opens a segment for reading, archived or not, and returns its descriptor. Raises FileNotFoundError."""
    path = segment_path(folder, number)
    for candidate in (path, path.with_suffix(ARCHIVED_SUFFIX)):
        with suppress(FileNotFoundError):
            return os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
