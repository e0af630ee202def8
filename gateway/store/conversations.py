"""Which conversation a row belongs to, and what it goes on from. Pure: rows and what was found in, places out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID
from zlib import crc32

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.store.rows import Row

FIRST_LOOK = 4  # of a row's longest candidates: nearly always the very longest is the one
BUCKETS = 64


class Ask(NamedTuple):
    """Is there a row of this user that is known by this hash, and older than this one?"""

    user: str
    hash: bytes
    row: UUID


class Snapshot(Struct, frozen=True):
    """A row that others can go on from."""

    id: UUID
    root: str
    title: str | None


class ConversationPlace(Struct, frozen=True):
    """Where a row stands: its conversation, what it goes on from, and whether the caller said so."""

    root: str
    parent: UUID | None
    is_inferred: bool
    title: str | None


def buckets(rows: Iterable[Row]) -> list[int]:
    """Locks to take, in the order that all processes take them: two of them never place rows of one user at once, nor
    does one place a row while its conversation is named or removed."""
    return sorted({bucket(row.user) for row in rows})


def bucket(user: str) -> int:
    return crc32(user.encode("utf-8", "backslashreplace")) % BUCKETS


def first_asks(rows: Iterable[Row]) -> list[Ask]:
    return [Ask(row.user, found, row.id) for row in rows for found in row.marks.snapshots[:FIRST_LOOK]]


def other_asks(rows: Iterable[Row], found: Mapping[tuple[UUID, bytes], Snapshot]) -> list[Ask]:
    """The shorter candidates of those rows for which none of the longest was found."""
    return [
        Ask(row.user, other, row.id)
        for row in rows
        if len(row.marks.snapshots) > FIRST_LOOK
        and not any((row.id, known) in found for known in row.marks.snapshots[:FIRST_LOOK])
        for other in row.marks.snapshots[FIRST_LOOK:]
    ]


def named_asks(rows: Iterable[Row]) -> list[Ask]:
    """The answers and items that rows name by their ids."""
    return [Ask(row.user, found, row.id) for row in rows for found in row.marks.named]


def shifted(id_: UUID, milliseconds: int) -> UUID:
    """The same UUIDv7 at another time."""
    return UUID(int=min(max(0, id_.int + (milliseconds << 80)), (1 << 128) - 1)) if milliseconds else id_


def place(rows: Sequence[Row], found: Mapping[tuple[UUID, bytes], Snapshot]) -> list[ConversationPlace]:
    """The rows' places, given what is stored; `rows` are in the order of their ids, so that parents come first."""
    fresh: dict[tuple[str, bytes], Snapshot] = {}  # of the rows before
    places: list[ConversationPlace] = []
    for row in rows:
        parent = _parent(row, found, fresh)
        found_root = parent.root if parent is not None else str(row.id)
        found_title = parent.title if parent is not None else None
        root = row.root_id if row.root_id is not None else found_root
        title = row.convo_title if row.convo_title is not None else found_title
        places.append(ConversationPlace(root, parent.id if parent is not None else None, row.root_id is None, title))
        known = Snapshot(row.id, root, title)
        for mark in row.marks.own:
            fresh[row.user, mark] = known
    return places


def _parent(
    row: Row, found: Mapping[tuple[UUID, bytes], Snapshot], fresh: Mapping[tuple[str, bytes], Snapshot]
) -> Snapshot | None:
    """What it names; else the longest snapshot, and of equals the newest. What is stored wins over the same row in this
    batch."""
    if row.marks.best_parent is None:
        return None
    for wanted in row.marks.earlier:
        stored, new = found.get((row.id, wanted)), fresh.get((row.user, wanted))
        if stored is not None and (new is None or stored.id >= new.id):
            return stored
        if new is not None:
            return new
    return None
