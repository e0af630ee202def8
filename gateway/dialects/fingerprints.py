"""SHA-256 fingerprints that link a turn to its conversation. Pure.

The store finds conversations by them, and the security monitor gets the turns of one conversation in their order.

Each sink computes them when it ships a record, from the bodies that it parses anyway. Computed when the answer closes,
and kept in the journal's meta, they would delay the answer's end on the event loop (4 µs for a short chat, 51 µs for 20
turns, 1.7 ms for 240 turns of 2.4 MB, which the store hashes in a thread) and add 16 kB to it. Records of dead
processes, older segments and other versions' canonical forms would still need this way.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from gateway.codec import jsontext

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_TEXTS = ("text", "input_text", "output_text")  # of messages; the others of the Responses API


class Fingerprints(NamedTuple):
    """Hashes of 32 bytes. They do not name their user, so they hold among the turns of one caller only."""

    named: Sequence[bytes] = ()  # of answers, or items of answers, that the request names by id; the best first
    snapshots: Sequence[bytes] = ()  # of earlier turns that the request may continue; the longest first
    snapshot: bytes | None = None  # of this turn: its request with its answer
    answer: bytes | None = None  # of the answer's id
    item: bytes | None = None  # of the id of the answer's last item that has one
    conversation: str | None = None  # the id of the conversation that the request names

    @property
    def earlier(self) -> Iterator[bytes]:
        """The fingerprints of all turns that this one may continue, the best first."""
        yield from self.named
        yield from self.snapshots

    @property
    def best_parent(self) -> bytes | None:
        """The first of `earlier`."""
        return self.named[0] if self.named else self.snapshots[0] if self.snapshots else None

    @property
    def own(self) -> tuple[bytes, ...]:
        """The fingerprints by which later turns may name this one."""
        if self.answer is None and self.item is None:  # a chat's
            return () if self.snapshot is None else (self.snapshot,)
        return tuple([each for each in (self.snapshot, self.answer, self.item) if each is not None])


NONE = Fingerprints()


def fingerprint_of(kind: str, text: str) -> bytes:
    """The fingerprint of an id; `kind` is the kind of thing that has it."""
    return sha256(f"{kind}\0{text}".encode("utf-8", "backslashreplace")).digest()


# --- the normal form of what clients send again ----------------------------------------------------------------------


def or_empty(value: Any) -> Any:
    """The value, or "" for None."""
    return "" if value is None else value


def normal_content(content: Any) -> Any:
    """Content as one string where it is text: a string, text parts, or nothing. Other content unchanged."""
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return "".join(part["text"] for part in content)
    return or_empty(content)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _TEXTS and isinstance(part.get("text"), str)


def normal_arguments(arguments: Any) -> Any:
    """The arguments of a call with fixed spaces and escapes: frameworks parse them and write them anew."""
    if not isinstance(arguments, str):
        return canonical_json(arguments).decode() if arguments else ""
    try:
        value, _ = jsontext.parse(arguments.encode("utf-8", "surrogatepass"))
    except ValueError:
        return arguments
    return canonical_json(value).decode()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted members. Raises TypeError, ValueError, RecursionError."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
