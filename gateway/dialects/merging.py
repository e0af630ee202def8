"""Merges objects that arrive in pieces: a rule for each field of a delta joins its value to the earlier ones.

Nothing here raises, whatever the values are. A value that cannot be merged goes into `Unmerged`, under its path.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

_PLAIN = frozenset((str, int, float, bool, type(None)))


class Unmerged(dict[str, list[Any]]):
    """Values that could not be merged, by path, so that nothing is lost."""

    __slots__ = ()

    def keep(self, path: str, value: Any) -> None:
        """Add a value at this path."""
        self.setdefault(path, []).append(value)

    def keep_last(self, path: str, value: Any) -> None:
        """Replace the values at this path, for fields that some upstreams change in every chunk."""
        self[path] = [value]


class Fragments(list[Any]):
    """A text in pieces, joined at the end (`+=` for each piece would be quadratic).

    A piece that is not a string is a content part: Mistral's reasoning models send lists of parts first, then strings.
    """

    __slots__ = ()

    def result(self) -> str | list[Any]:
        """The joined text, or a list of content parts if there is one among the pieces."""
        try:
            return "".join(self)
        except TypeError:  # there are parts among them
            pass
        parts: list[Any] = []
        for is_text, run in groupby(self, lambda piece: isinstance(piece, str)):
            if not is_text:
                parts.extend(run)
            elif text := "".join(run):
                parts.append({"type": "text", "text": text})
        return parts


class ObjectMerger:
    """Merges the pieces of one object: a named field by its rule in `rules`, all others by `other`."""

    __slots__ = ("_other", "_rules", "fields", "path", "unmerged")

    def __init__(self, path: str, unmerged: Unmerged, rules: Mapping[str, Rule], other: Rule) -> None:
        self.path = path
        self.unmerged = unmerged
        self.fields: dict[str, Any] = {}
        self._rules = rules
        self._other = other

    def add(self, piece: Mapping[str, Any]) -> None:
        """Merge one more piece."""
        fields = self.fields
        for name, value in piece.items():
            if value is None:
                fields.setdefault(name, None)
            else:
                self._rules.get(name, self._other)(self, name, value)

    def keep_unmerged(self, name: str, value: Any) -> None:
        """Keep a value of this field that cannot be merged."""
        self.unmerged.keep(self.path + name, value)

    def result(self) -> dict[str, Any]:
        """The object so far. Its own containers are copies; their contents are shared."""
        return {name: value if type(value) in _PLAIN else _result(value) for name, value in self.fields.items()}


Rule = Callable[[ObjectMerger, str, Any], None]


class ToolCalls:
    """Merges the tool calls of a message. Their key is the index, or the id where an upstream sends no index."""

    __slots__ = ("_by_id", "_by_index", "_last", "_mergers")

    def __init__(self) -> None:
        self._mergers: list[tuple[int, ObjectMerger]] = []
        self._by_index: dict[int, ObjectMerger] = {}
        self._by_id: dict[str, ObjectMerger] = {}
        self._last: ObjectMerger | None = None

    def add(self, piece: dict[str, Any], message: ObjectMerger) -> None:
        index, call_id = index_of(piece.get("index")), piece.get("id")
        if index is not None:
            del piece["index"]  # a complete message has the order instead
        if not isinstance(call_id, str) or not call_id:
            call_id = None
        call = self._find(index, call_id, piece) or self._begin(index, message)
        if call_id is not None:
            self._by_id[call_id] = call
        self._last = call
        call.add(piece)

    def _find(self, index: int | None, call_id: str | None, piece: dict[str, Any]) -> ObjectMerger | None:
        if index is not None:
            call = self._by_index.get(index)
            return None if call is not None and _is_other_call(call, call_id, piece) else call
        if call_id is not None:
            return self._by_id.get(call_id)
        return None if _name_of(piece) else self._last

    def _begin(self, index: int | None, message: ObjectMerger) -> ObjectMerger:
        position = len(self._mergers)
        call = ObjectMerger(f"{message.path}tool_calls.{position}.", message.unmerged, _CALL, by_type)
        self._mergers.append((position if index is None else index, call))
        if index is not None:
            self._by_index[index] = call
        return call

    def __len__(self) -> int:
        return len(self._mergers)

    def result(self) -> list[dict[str, Any]]:
        return [call.result() for _, call in sorted(self._mergers, key=lambda entry: entry[0])]


def index_of(value: Any) -> int | None:
    """The value as an index; None if it is not one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _is_other_call(call: ObjectMerger, call_id: str | None, piece: dict[str, Any]) -> bool:
    """Whether a piece with a known index begins another call: Gemini gave the index 0 to every parallel call.

    Such a piece has its own id and name. An id alone proves nothing: old vLLM made a new one for every piece of a call.
    """
    known_id = call.fields.get("id")
    return bool(call_id and known_id and call_id != known_id and _name_of(piece) and "function" in call.fields)


def _name_of(piece: dict[str, Any]) -> Any:
    function = piece.get("function")
    return function.get("name") if isinstance(function, dict) else None


def once(merger: ObjectMerger, name: str, value: Any) -> None:
    """Keep the first value that is not empty (Azure's first chunk has the id "" and was created at 0)."""
    known = merger.fields.get(name)
    if not known:
        merger.fields[name] = value
    elif value and value != known:
        merger.unmerged.keep_last(merger.path + name, value)


def last(merger: ObjectMerger, name: str, value: Any) -> None:
    """Keep the last value that is not empty."""
    if value != "" or not merger.fields.get(name):
        merger.fields[name] = value


def last_or_union(merger: ObjectMerger, name: str, value: Any) -> None:
    """As `last`, but join the members of objects (Azure's last chunk has an empty `content_filter_results`)."""
    known = merger.fields.get(name)
    if isinstance(known, dict) and isinstance(value, dict):
        merger.fields[name] = known | value
    else:
        last(merger, name, value)


def by_type(merger: ObjectMerger, name: str, value: Any) -> None:
    """Join strings, extend lists, join the members of objects, and keep the last of numbers.

    Where a newer member of an object differs, the newer one wins, and the older object is kept as unmerged.
    """
    known = merger.fields.get(name)
    if known is None:
        merger.fields[name] = Fragments((value,)) if isinstance(value, str) else value
    elif _extend(known, value):
        return
    elif isinstance(known, dict) and isinstance(value, dict):
        if any(member in known and known[member] != newer for member, newer in value.items()):
            merger.keep_unmerged(name, known.copy())
        known.update(value)
    elif isinstance(known, int | float) and isinstance(value, int | float):
        merger.fields[name] = value
    else:
        merger.keep_unmerged(name, value)


def _extend(known: Any, value: Any) -> bool:
    """Extend the known value in place, where both values are of a type that grows."""
    if isinstance(value, str):
        if type(known) is Fragments:
            known.append(value)
            return True
    elif isinstance(value, list) and type(known) is list:
        known.extend(value)
        return True
    return False


def merge_reasoning(merger: ObjectMerger, name: str, value: Any) -> None:
    """Merge reasoning: text, objects, or lists of objects, in any order. A single object stays an object."""
    known = merger.fields.get(name)
    if isinstance(known, dict):
        known = merger.fields[name] = [known]
    if known is None:
        merger.fields[name] = Fragments((value,)) if isinstance(value, str) else value
    elif not isinstance(known, list) or not isinstance(value, str | dict | list):
        merger.keep_unmerged(name, value)
    elif isinstance(value, list):
        known.extend(value)
    elif isinstance(value, dict) or isinstance(known, Fragments):
        known.append(value)
    else:
        merger.fields[name] = Fragments((*known, value))


def merge_content(merger: ObjectMerger, name: str, value: Any) -> None:
    """Merge a message's content: text, lists of parts, or both in any order."""
    if not isinstance(value, str | list):
        merger.keep_unmerged(name, value)
        return
    known = merger.fields.get(name)
    if known is None:
        known = merger.fields[name] = Fragments()
    if isinstance(value, str):
        known.append(value)
    else:
        known.extend({"type": "text", "text": part} if isinstance(part, str) else part for part in value)


def merge_tool_calls(merger: ObjectMerger, name: str, value: Any) -> None:
    """Merge a list of pieces of tool calls."""
    if not isinstance(value, list):
        merger.keep_unmerged(name, value)
        return
    known = merger.fields.get(name)
    if known is None:
        known = merger.fields[name] = ToolCalls()
    for piece in value:
        if isinstance(piece, dict):
            known.add(piece, merger)
        elif piece is not None:
            merger.keep_unmerged(name, piece)


def check_object(merger: ObjectMerger, name: str, value: Any) -> None:
    """Check the `object` of a chunk, which the completion replaces by its own."""
    if value not in ("chat.completion.chunk", "chat.completion", ""):
        merger.unmerged.keep_last(merger.path + name, value)


def keep_reserved(merger: ObjectMerger, name: str, value: Any) -> None:
    """Keep a field under a name that the completion itself uses."""
    merger.unmerged.keep_last(merger.path + name, value)


def ignore(merger: ObjectMerger, name: str, value: Any) -> None:
    """Drop a field that the assembler handles itself."""


def merge_object(rules: Mapping[str, Rule]) -> Rule:
    """The rule for a field that is itself an object in pieces."""

    def join(merger: ObjectMerger, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            merger.keep_unmerged(name, value)
            return
        known = merger.fields.get(name)
        if known is None:
            known = merger.fields[name] = ObjectMerger(f"{merger.path}{name}.", merger.unmerged, rules, by_type)
        known.add(value)

    return join


def _result(value: Any) -> Any:
    if isinstance(value, Fragments | ObjectMerger | ToolCalls):
        return value.result()
    return value.copy() if isinstance(value, list | dict) else value


_FUNCTION = merge_object({"name": once})
_CALL: dict[str, Rule] = {"index": last, "id": once, "type": once, "function": _FUNCTION, "custom": _FUNCTION}

ENVELOPE: dict[str, Rule] = {
    "id": once,
    "object": check_object,
    "created": once,
    "model": once,
    "system_fingerprint": once,
    "service_tier": once,
    "usage": last,
    "error": once,
    "unmerged": keep_reserved,
}
CHOICE: dict[str, Rule] = {
    "index": ignore,
    "message": ignore,
    "finish_reason": last,
    "logprobs": merge_object({}),
}
MESSAGE: dict[str, Rule] = {
    "role": once,
    "name": once,
    "content": merge_content,
    "reasoning": merge_reasoning,
    "reasoning_content": merge_reasoning,
    "reasoning_details": merge_reasoning,
    "thinking": merge_reasoning,
    "tool_calls": merge_tool_calls,
    "function_call": _FUNCTION,
    "audio": merge_object({"id": once, "expires_at": last}),
}
