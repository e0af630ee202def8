"""The partition key of a record: the conversation it belongs to, found without a query.

The rule is the store's. The id that the caller gave decides; else the conversation of the answer that the record
names, or of the longest snapshot that the record begins with; else the record starts a conversation. The store looks
at all rows of the caller, this module at the last few thousand records. That is enough: only records in flight at the
same time need an order, and an earlier record that has arrived already needs none.
"""

from __future__ import annotations

from collections import OrderedDict
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from gateway.codec import jsontext
from gateway.dialects.dialect import fingerprints_of
from gateway.dialects.fingerprints import NONE
from gateway.journal.disk import in_thread
from gateway.model import Kind

if TYPE_CHECKING:
    from gateway.dialects.fingerprints import Fingerprints
    from gateway.model import Record

MAX_FINGERPRINTS = 32_768  # a few megabytes
LARGE_BYTES = 64 * 1024  # a record from this size on is parsed in a thread
CONVERSATIONS = (Kind.CHAT, Kind.RESPONSE)


class PartitionKey(NamedTuple):
    """`value`: records with the same value are delivered in order. `fingerprints`: digests by which the next record of
    the conversation finds this key."""

    value: str
    fingerprints: tuple[str, ...]


class Ordering:
    """Assigns partition keys; `max_fingerprints` bounds its memory."""

    def __init__(self, max_fingerprints: int = MAX_FINGERPRINTS) -> None:
        self._max_fingerprints = max_fingerprints
        self._values: OrderedDict[str, str] = OrderedDict()  # fingerprint → value of the key

    async def key_of(self, record: Record) -> PartitionKey:
        """Returns the record's key, and remembers it for the records that continue the conversation."""
        if record.size > LARGE_BYTES:
            return self.assign(record, await in_thread(record_fingerprints, record))
        return self.assign(record, record_fingerprints(record))

    def assign(self, record: Record, fingerprints: Fingerprints) -> PartitionKey:
        """Does the same with the record's fingerprints at hand."""
        interaction = record.interaction
        user = interaction.principal.user
        root = interaction.root_id if interaction.root_id is not None else fingerprints.conversation
        if root is not None:
            value = _digest(user, "root", root)
        else:
            earlier = (_digest(user, "mark", each.hex()) for each in fingerprints.earlier)
            found = (self._values[each] for each in earlier if each in self._values)
            value = next(found, None) or _digest(user, "root", str(interaction.id))
        key = PartitionKey(value, tuple(_digest(user, "mark", each.hex()) for each in fingerprints.own))
        self.remember(key)
        return key

    def remember(self, key: PartitionKey) -> None:
        for fingerprint in key.fingerprints:
            self._values[fingerprint] = key.value
            self._values.move_to_end(fingerprint)
        while len(self._values) > self._max_fingerprints:
            self._values.popitem(last=False)


def record_fingerprints(record: Record) -> Fingerprints:
    """Returns the fingerprints of a record. Parses both bodies: run it in a thread if they are large."""
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
