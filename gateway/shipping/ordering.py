"""Which conversation a record belongs to, as far as it can be told on the way, without asking the store. Pure.

The rule is the store's: the id that the caller gave; else the conversation of the answer that the record names, or of
the longest snapshot that it begins with; else one of its own. Where the store looks among all rows of the caller, this
looks among the last few thousand records that came by: that is enough to keep records in order that are under way at
the same time, and an earlier one that has arrived already need not be kept in order with.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from gateway.codec import jsontext
from gateway.dialects.fingerprints import NONE, fingerprints_of
from gateway.model import Kind

if TYPE_CHECKING:
    from gateway.dialects.fingerprints import Fingerprints
    from gateway.model import Record

MOST_REMEMBERED = 32_768  # marks; a few megabytes
CONVERSATIONS = (Kind.CHAT, Kind.RESPONSE)


class PartitionKey(NamedTuple):
    """`lane`: records with the same one are delivered in order. `marks`: by which a later record knows this one."""

    lane: str
    marks: tuple[str, ...]


class Ordering:
    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._lane_of: OrderedDict[str, str] = OrderedDict()  # by mark

    def place(self, record: Record, marks: Fingerprints) -> PartitionKey:
        """The record's lane; it is remembered for those that go on from it."""
        interaction = record.interaction
        user = interaction.principal.user
        root = interaction.root_id if interaction.root_id is not None else marks.conversation
        if root is not None:
            lane = _digest(user, "root", root)
        else:
            earlier = (_digest(user, "mark", mark.hex()) for mark in marks.earlier)
            known = (self._lane_of[each] for each in earlier if each in self._lane_of)
            lane = next(known, None) or _digest(user, "root", str(interaction.id))
        place = PartitionKey(lane, tuple(_digest(user, "mark", mark.hex()) for mark in marks.own))
        self.remember(place)
        return place

    def remember(self, place: PartitionKey) -> None:
        for mark in place.marks:
            self._lane_of[mark] = place.lane
            self._lane_of.move_to_end(mark)
        while len(self._lane_of) > self._most:
            self._lane_of.popitem(last=False)


def record_fingerprints(record: Record) -> Fingerprints:
    """Reads both bodies: in a thread, please, where they are large."""
    kind = record.interaction.kind
    if kind not in CONVERSATIONS:
        return NONE
    return fingerprints_of(kind, _parsed(record.interaction.body), _parsed(record.answer.body))


def _parsed(body: bytes) -> object:
    try:
        return jsontext.parse(body)[0]
    except ValueError:
        return None


def _digest(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "backslashreplace")
    return sha256(text).hexdigest()[:32]
