"""Which conversation a record belongs to, as far as it can be told on the way, without asking the store. Pure.

The rule is the store's: the id that the caller gave; else the conversation of the longest snapshot that the record's
messages begin with; else one of its own. Where the store looks among all rows of the caller, this looks among the last
few thousand records that came by: that is enough to keep records in order that are under way at the same time, and an
earlier one that has arrived already need not be kept in order with.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.chat import jsontext
from gateway.chat.snapshots import candidates, prefix_hashes, snapshot_hash
from gateway.model import Kind

if TYPE_CHECKING:
    from gateway.model import Record

MOST_REMEMBERED = 32_768  # records; a few megabytes


class Place(NamedTuple):
    """`lane`: records with the same one are delivered in order. `mark`: by which a later record knows this one."""

    lane: str
    mark: str | None


class Marks(NamedTuple):
    """By what a record is known to others: what it may go on from, the likeliest first; and what it is itself."""

    earlier: list[str]
    own: str | None


class Lanes:
    def __init__(self, most: int = MOST_REMEMBERED) -> None:
        self._most = most
        self._lane_of: OrderedDict[str, str] = OrderedDict()  # by mark

    def place(self, record: Record, marks: Marks) -> Place:
        """The record's lane; it is remembered for those that go on from it."""
        interaction = record.interaction
        user = interaction.principal.user
        if interaction.root_id is not None:
            lane = _digest(user, "root", interaction.root_id)
        else:
            known = (self._lane_of[earlier] for earlier in marks.earlier if earlier in self._lane_of)
            lane = next(known, None) or _digest(user, "root", str(interaction.id))
        place = Place(lane, marks.own)
        self.remember(place)
        return place

    def remember(self, place: Place) -> None:
        if place.mark is None:
            return
        self._lane_of[place.mark] = place.lane
        self._lane_of.move_to_end(place.mark)
        while len(self._lane_of) > self._most:
            self._lane_of.popitem(last=False)


def marks_of(record: Record) -> Marks:
    """Reads both bodies: in a thread, please, where they are large."""
    user, kind = record.interaction.principal.user, record.interaction.kind
    if kind is Kind.CHAT:
        messages = _parsed(record.interaction.body).get("messages")
        prefixes = prefix_hashes(messages)
        snapshot = snapshot_hash(prefixes, _first_message(_parsed(record.answer.body)))
        return Marks(
            [_digest(user, "chat", found.hex()) for _, found in candidates(messages, prefixes)],
            _digest(user, "chat", snapshot.hex()) if snapshot else None,
        )
    if kind is Kind.RESPONSE:
        previous = _parsed(record.interaction.body).get("previous_response_id")
        own = _parsed(record.answer.body).get("id")
        return Marks(
            [_digest(user, "response", previous)] if isinstance(previous, str) else [],
            _digest(user, "response", own) if isinstance(own, str) else None,
        )
    return Marks([], None)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        value, _ = jsontext.parse(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _first_message(completion: dict[str, Any]) -> object:
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("message") if isinstance(first, dict) else None


def _digest(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "backslashreplace")
    return sha256(text).hexdigest()[:32]
