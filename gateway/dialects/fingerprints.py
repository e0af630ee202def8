"""By what a turn of a conversation is known: what it goes on from, and what later ones may know it by. Pure.

The store finds conversations by these, and the way to the security monitor keeps them in order by the same.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.dialects.openai_chat.fingerprints import candidates, prefix_hashes, snapshot_hash
from gateway.dialects.openai_responses.fingerprints import references_in, turn_of
from gateway.model import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Fingerprints(NamedTuple):
    """Hashes of 32 bytes; they say nothing of whose they are, so they hold among one caller's turns only."""

    named: Sequence[bytes] = ()  # answers, or items of theirs, that it goes on from by their id; the likeliest first
    snapshots: Sequence[bytes] = ()  # what was said before, which it may go on from; the longest first
    snapshot: bytes | None = None  # its own: what was said with its answer
    answer: bytes | None = None  # its own answer's id
    item: bytes | None = None  # the id of the last item of that which has one
    conversation: str | None = None  # the id of the conversation that the request names

    @property
    def earlier(self) -> Iterator[bytes]:
        """All that it may go on from, the likeliest first."""
        yield from self.named
        yield from self.snapshots

    @property
    def best_parent(self) -> bytes | None:
        """The first of these."""
        return self.named[0] if self.named else self.snapshots[0] if self.snapshots else None

    @property
    def own(self) -> tuple[bytes, ...]:
        if self.answer is None and self.item is None:  # a chat's
            return () if self.snapshot is None else (self.snapshot,)
        return tuple([mark for mark in (self.snapshot, self.answer, self.item) if mark is not None])


NONE = Fingerprints()


def fingerprints_of(kind: Kind, asked: object, answered: object) -> Fingerprints:
    """Of a request's and an answer's parsed bodies, whatever they are."""
    request = asked if isinstance(asked, dict) else {}
    answer = answered if isinstance(answered, dict) else {}
    if kind is Kind.CHAT:
        return _of_chat(request, answer)
    return _of_response(request, answer) if kind is Kind.RESPONSE else NONE


def _of_chat(request: dict[str, Any], answer: dict[str, Any]) -> Fingerprints:
    messages = request.get("messages")
    prefixes = prefix_hashes(messages)
    if not prefixes:
        return NONE
    said = _first_message(answer)
    return Fingerprints(
        snapshots=[found for _, found in candidates(messages, prefixes)],
        snapshot=(snapshot_hash(prefixes, said) or None) if said is not None else None,
    )


def _first_message(completion: dict[str, Any]) -> dict[str, Any] | None:
    """What the model said, also where it was cut short: the caller may go on from there. An error says nothing."""
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict) or not (message.get("content") or message.get("tool_calls")):
        return None
    return message


def _of_response(request: dict[str, Any], answer: dict[str, Any]) -> Fingerprints:
    """The upstream may keep what was said before: then the request names the answer before, or a conversation, and its
    input is only what is new."""
    output = answer.get("output")
    own = Fingerprints(answer=_id_mark("answer", answer.get("id")), item=_last_item(output))
    if conversation := _conversation(request.get("conversation")):
        mark = _mark("conversation", conversation)
        return own._replace(snapshots=[mark], snapshot=mark, conversation=conversation)
    if (previous := _id_mark("answer", request.get("previous_response_id"))) is not None:
        return own._replace(named=[previous])
    asked = request.get("input")
    turn = turn_of(asked, output)
    named = [_mark("item", each) for each in references_in(asked)]
    return own._replace(named=named, snapshots=turn.earlier, snapshot=turn.snapshot)


def _conversation(given: object) -> str | None:
    """It is named by its id, or as an object that has one."""
    found = given.get("id") if isinstance(given, dict) else given
    return found if isinstance(found, str) and found else None


def _last_item(output: object) -> bytes | None:
    items = output if isinstance(output, list) else []
    marks = (_id_mark("item", item.get("id")) for item in reversed(items) if isinstance(item, dict))
    return next((mark for mark in marks if mark is not None), None)


def _id_mark(kind: str, given: object) -> bytes | None:
    return _mark(kind, given) if isinstance(given, str) and given else None


def _mark(kind: str, text: str) -> bytes:
    return sha256(f"{kind}\0{text}".encode("utf-8", "backslashreplace")).digest()
