"""Decides the conversation and the parent of each row, from the rows and the snapshots found for them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID
from zlib import crc32

from msgspec import Struct

from gateway.store.rows import ConversationPlace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gateway.store.rows import Row

FIRST_CANDIDATES = 4  # of a row's longest ones: nearly always the longest is the parent
BUCKETS = 64


class Lookup(NamedTuple):
    """A search for a row of this user with this hash that is older than `row`."""

    user: str
    hash: bytes
    row: UUID


class Snapshot(Struct, frozen=True):
    """A row that others can continue."""

    id: UUID
    root: str
    title: str | None


def buckets(rows: Iterable[Row]) -> list[int]:
    """The locks of the rows' users, in the order in which all processes take them.

    With them, two processes never place rows of one user at once, or a row whose title or removal is being set.
    """
    return sorted({bucket(row.user) for row in rows})


def bucket(user: str) -> int:
    """The number of the lock of this user."""
    return crc32(user.encode("utf-8", "backslashreplace")) % BUCKETS


def first_lookups(rows: Iterable[Row]) -> list[Lookup]:
    """The longest candidates of all rows."""
    return [Lookup(row.user, found, row.id) for row in rows for found in row.fingerprints.snapshots[:FIRST_CANDIDATES]]


def other_lookups(rows: Iterable[Row], found: Mapping[tuple[UUID, bytes], Snapshot]) -> list[Lookup]:
    """The shorter candidates of the rows for which no longest candidate was found."""
    return [
        Lookup(row.user, other, row.id)
        for row in rows
        if len(row.fingerprints.snapshots) > FIRST_CANDIDATES
        and not any((row.id, known) in found for known in row.fingerprints.snapshots[:FIRST_CANDIDATES])
        for other in row.fingerprints.snapshots[FIRST_CANDIDATES:]
    ]


def named_lookups(rows: Iterable[Row]) -> list[Lookup]:
    """The answers and items that rows name by id."""
    return [Lookup(row.user, found, row.id) for row in rows for found in row.fingerprints.named]


def shifted(id_: UUID, milliseconds: int) -> UUID:
    """The UUIDv7 with its time moved."""
    return UUID(int=min(max(0, id_.int + (milliseconds << 80)), (1 << 128) - 1)) if milliseconds else id_


def place(rows: Sequence[Row], found: Mapping[tuple[UUID, bytes], Snapshot]) -> list[ConversationPlace]:
    """The places of rows, from the stored snapshots. `rows` are in the order of ids, so that parents come first."""
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
        for hash_ in row.fingerprints.own:
            fresh[row.user, hash_] = known
    return places


def _parent(
    row: Row, found: Mapping[tuple[UUID, bytes], Snapshot], fresh: Mapping[tuple[str, bytes], Snapshot]
) -> Snapshot | None:
    """The row that it names; else the longest snapshot, and of equals the newest.

    A stored row has precedence over the same row in this batch.
    """
    if row.fingerprints.best_parent is None:
        return None
    for wanted in row.fingerprints.earlier:
        stored, new = found.get((row.id, wanted)), fresh.get((row.user, wanted))
        if stored is not None and (new is None or stored.id >= new.id):
            return stored
        if new is not None:
            return new
    return None
