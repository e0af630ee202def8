"""The turns of the Responses API recognised without an id: a hash for each prefix of the items that are sent again.

As `snapshots` does it for messages, and for the same reason: clients seldom send an item back as they got it. They add
and drop ids, states and annotations, write arguments anew, make a string of a text, and leave out (or encrypt, or not)
what the model did by itself: reasoning, searches, code. So only messages count, and calls of the client's tools with
their outputs, which an id holds together.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.dialects.openai_chat.fingerprints import arguments_form, content_form, written

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_REFERENCES = 8


class _Step(NamedTuple):
    """The hash up to an item, and whether that item is the model's."""

    hash: bytes
    is_answer: bool


class Turn(NamedTuple):
    """`earlier`: prefixes that may be a snapshot, longest first. `snapshot`: of what was asked and answered."""

    earlier: list[bytes]
    snapshot: bytes | None


def turn_of(asked: object, output: object) -> Turn:
    """Of a request's `input` and a response's `output`; nothing at all for what is not made of items."""
    items = [{"role": "user", "content": asked}] if isinstance(asked, str) else asked
    try:
        steps = list(_steps(b"", items))
        said = list(_steps(steps[-1].hash, output)) if steps else []
    except (TypeError, ValueError, RecursionError):  # no items, or nested beyond what can be written
        return Turn([], None)
    ends = range(len(steps) - 2, -1, -1)  # the whole input is none of them: it is what is asked now
    earlier = [steps[end].hash for end in ends if steps[end].is_answer and not steps[end + 1].is_answer]
    return Turn(earlier, said[-1].hash if said else None)


def references_in(asked: object) -> list[str]:
    """Ids of items that the upstream keeps and the client only names, the last ones first."""
    items = asked if isinstance(asked, list) else []
    named = (
        item.get("id") for item in reversed(items) if isinstance(item, dict) and item.get("type") == "item_reference"
    )
    return [each for each in named if isinstance(each, str)][:MOST_REFERENCES]


def _steps(so_far: bytes, items: object) -> Iterator[_Step]:
    """Raises TypeError, ValueError, RecursionError for what is not made of items."""
    if not isinstance(items, list):
        raise TypeError("no list of items")
    for item in items:
        form = _canonical(item)
        if form is not None:
            so_far = sha256(so_far + written(form)).digest()
            yield _Step(so_far, _is_answer(item))


def _canonical(item: dict[str, Any]) -> list[Any] | None:
    """None for an item that does not count."""
    if not isinstance(item, dict):
        raise TypeError("no item")
    kind = item.get("type") or "message"
    if kind == "message":
        role, content = item.get("role"), content_form(item.get("content"))
        return [kind, role, content] if content or role != "assistant" else None
    call_id = item.get("call_id")
    if not isinstance(call_id, str):
        return None
    said = [item.get(name) or "" for name in ("name", "input")]
    return [kind, call_id, *said, arguments_form(item.get("arguments")), content_form(item.get("output"))]


def _is_answer(item: dict[str, Any]) -> bool:
    kind = item.get("type") or "message"
    return item.get("role") == "assistant" if kind == "message" else not str(kind).endswith("_output")
