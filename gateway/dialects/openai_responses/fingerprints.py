"""Fingerprints of the Responses API: ids that a request names, or a hash for each prefix of the items that it repeats.

The hashes are chained as `openai_chat.fingerprints` chains those of messages. Clients seldom send an item back
unchanged: they add and drop ids, states and annotations, write arguments anew, make a string of a text, and leave out
(or encrypt, or not) what the model did by itself: reasoning, searches, code. So only messages count, and calls of the
client's tools with their outputs, which an id links.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.dialects.fingerprints import (
    Fingerprints,
    canonical_json,
    fingerprint_of,
    normal_arguments,
    normal_content,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gateway.model import Json

MOST_REFERENCES = 8


class _Step(NamedTuple):
    """The hash up to an item, and whether that item is the model's."""

    hash: bytes
    is_answer: bool


class Turn(NamedTuple):
    """Hashes of the prefixes that may be a snapshot, longest first, and of the whole turn with its answer."""

    earlier: list[bytes]
    snapshot: bytes | None


def fingerprints_of_response(request: Json, answer: Json) -> Fingerprints:
    """The fingerprints of a turn of the Responses API.

    The upstream may keep the earlier turns: then the request names the previous answer, or a conversation, and its
    input holds only the new items.
    """
    output = answer.get("output")
    own = Fingerprints(answer=_id_fingerprint("answer", answer.get("id")), item=_last_item(output))
    if conversation := _conversation(request.get("conversation")):
        snapshot = fingerprint_of("conversation", conversation)
        return own._replace(snapshots=[snapshot], snapshot=snapshot, conversation=conversation)
    if (previous := _id_fingerprint("answer", request.get("previous_response_id"))) is not None:
        return own._replace(named=[previous])
    given = request.get("input")
    turn = turn_of(given, output)
    named = [fingerprint_of("item", each) for each in references_in(given)]
    return own._replace(named=named, snapshots=turn.earlier, snapshot=turn.snapshot)


def _conversation(given: object) -> str | None:
    """The conversation's id, given alone or in an object."""
    found = given.get("id") if isinstance(given, dict) else given
    return found if isinstance(found, str) and found else None


def _last_item(output: object) -> bytes | None:
    items = output if isinstance(output, list) else []
    found = (_id_fingerprint("item", item.get("id")) for item in reversed(items) if isinstance(item, dict))
    return next((each for each in found if each is not None), None)


def _id_fingerprint(kind: str, given: object) -> bytes | None:
    return fingerprint_of(kind, given) if isinstance(given, str) and given else None


def turn_of(given: object, output: object) -> Turn:
    """The turn of a request's `input` and a response's `output`; empty for anything that is not made of items."""
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    try:
        steps = list(_steps(b"", items))
        answered = list(_steps(steps[-1].hash, output)) if steps else []
    except (TypeError, ValueError, RecursionError):  # no items, or nested too deep to be written
        return Turn([], None)
    ends = range(len(steps) - 2, -1, -1)  # the whole input is not one of them: it is the present request
    earlier = [steps[end].hash for end in ends if steps[end].is_answer and not steps[end + 1].is_answer]
    return Turn(earlier, answered[-1].hash if answered else None)


def references_in(given: object) -> list[str]:
    """Ids of items that the upstream keeps and the client only names, the last ones first."""
    items = given if isinstance(given, list) else []
    named = (
        item.get("id") for item in reversed(items) if isinstance(item, dict) and item.get("type") == "item_reference"
    )
    return [each for each in named if isinstance(each, str)][:MOST_REFERENCES]


def _steps(so_far: bytes, items: object) -> Iterator[_Step]:
    """Raises TypeError, ValueError, RecursionError for anything that is not made of items."""
    if not isinstance(items, list):
        raise TypeError("no list of items")
    for item in items:
        form = _canonical(item)
        if form is not None:
            so_far = sha256(so_far + canonical_json(form)).digest()
            yield _Step(so_far, _is_answer(item))


def _canonical(item: dict[str, Any]) -> list[Any] | None:
    """None for an item that does not count."""
    if not isinstance(item, dict):
        raise TypeError("no item")
    kind = item.get("type") or "message"
    if kind == "message":
        role, content = item.get("role"), normal_content(item.get("content"))
        return [kind, role, content] if content or role != "assistant" else None
    call_id = item.get("call_id")
    if not isinstance(call_id, str):
        return None
    call = [item.get(name) or "" for name in ("name", "input")]
    return [kind, call_id, *call, normal_arguments(item.get("arguments")), normal_content(item.get("output"))]


def _is_answer(item: dict[str, Any]) -> bool:
    kind = item.get("type") or "message"
    return item.get("role") == "assistant" if kind == "message" else not str(kind).endswith("_output")
