"""Objects that arrive in pieces: how one field of a delta joins what the same field has said so far.

Nothing here raises, whatever the values are. What does not fit goes into `Misfits`, under the name of its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

_PLAIN = frozenset((str, int, float, bool, type(None)))


class Misfits(dict[str, list[Any]]):
    """Values that could not be merged, by path: kept, so that nothing said is lost."""

    __slots__ = ()

    def keep(self, path: str, value: Any) -> None:
        """One more value at this place."""
        self.setdefault(path, []).append(value)

    def keep_last(self, path: str, value: Any) -> None:
        """The newest value at this place alone: for what some upstreams change in every chunk."""
        self[path] = [value]


class Fragments(list[Any]):
    """A text in pieces, joined at the end (`+=` for each piece would be quadratic).

    A piece that is no string is a content part: Mistral's reasoning models send lists of parts first, then strings.
    """

    __slots__ = ()

    def whole(self) -> str | list[Any]:
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


class Fold:
    """One object in pieces. `rules` say how a named field joins, `other` does it for all the rest."""

    __slots__ = ("_other", "_rules", "fields", "misfits", "path")

    def __init__(self, path: str, misfits: Misfits, rules: Mapping[str, Rule], other: Rule) -> None:
        self.path = path
        self.misfits = misfits
        self.fields: dict[str, Any] = {}
        self._rules = rules
        self._other = other

    def take(self, piece: Mapping[str, Any]) -> None:
        fields = self.fields
        for name, value in piece.items():
            if value is None:
                fields.setdefault(name, None)
            else:
                self._rules.get(name, self._other)(self, name, value)

    def misfit(self, name: str, value: Any) -> None:
        self.misfits.keep(self.path + name, value)

    def whole(self) -> dict[str, Any]:
        """The object as far as it is known. Its own containers are fresh, what lies in them is shared."""
        return {name: value if type(value) in _PLAIN else _whole(value) for name, value in self.fields.items()}


Rule = Callable[[Fold, str, Any], None]


class Calls:
    """The tool calls of a message, in pieces: told apart by index, or by id where an upstream sends no index."""

    __slots__ = ("_by_id", "_by_index", "_folds", "_last")

    def __init__(self) -> None:
        self._folds: list[tuple[int, Fold]] = []
        self._by_index: dict[int, Fold] = {}
        self._by_id: dict[str, Fold] = {}
        self._last: Fold | None = None

    def take(self, piece: dict[str, Any], message: Fold) -> None:
        index, call_id = index_of(piece.get("index")), piece.get("id")
        if index is not None:
            del piece["index"]  # the order says it; a complete message has none
        if not isinstance(call_id, str) or not call_id:
            call_id = None
        call = self._find(index, call_id, piece) or self._open(index, message)
        if call_id is not None:
            self._by_id[call_id] = call
        self._last = call
        call.take(piece)

    def _find(self, index: int | None, call_id: str | None, piece: dict[str, Any]) -> Fold | None:
        if index is not None:
            call = self._by_index.get(index)
            return None if call is not None and _is_another(call, call_id, piece) else call
        if call_id is not None:
            return self._by_id.get(call_id)
        return None if _name_of(piece) else self._last

    def _open(self, index: int | None, message: Fold) -> Fold:
        place = len(self._folds)
        call = Fold(f"{message.path}tool_calls.{place}.", message.misfits, _CALL, by_kind)
        self._folds.append((place if index is None else index, call))
        if index is not None:
            self._by_index[index] = call
        return call

    def __len__(self) -> int:
        return len(self._folds)

    def whole(self) -> list[dict[str, Any]]:
        return [call.whole() for _, call in sorted(self._folds, key=lambda entry: entry[0])]


def index_of(value: Any) -> int | None:
    """The index that was meant; None if it is none."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _is_another(call: Fold, call_id: str | None, piece: dict[str, Any]) -> bool:
    """Gemini gave every parallel call the index 0, each with its own id and name.

    An id alone proves nothing: old vLLM made a new one for every piece of the same call.
    """
    known_id = call.fields.get("id")
    return bool(call_id and known_id and call_id != known_id and _name_of(piece) and "function" in call.fields)


def _name_of(piece: dict[str, Any]) -> Any:
    function = piece.get("function")
    return function.get("name") if isinstance(function, dict) else None


def once(fold: Fold, name: str, value: Any) -> None:
    """The first value that says something stays (Azure's first chunk has the id "" and was created at 0)."""
    said = fold.fields.get(name)
    if not said:
        fold.fields[name] = value
    elif value and value != said:
        fold.misfits.keep_last(fold.path + name, value)


def last(fold: Fold, name: str, value: Any) -> None:
    """The last value that says something stays."""
    if value != "" or not fold.fields.get(name):
        fold.fields[name] = value


def last_united(fold: Fold, name: str, value: Any) -> None:
    """As `last`, but objects are united (Azure's last chunk brings an empty `content_filter_results`)."""
    said = fold.fields.get(name)
    if isinstance(said, dict) and isinstance(value, dict):
        fold.fields[name] = said | value
    else:
        last(fold, name, value)


def by_kind(fold: Fold, name: str, value: Any) -> None:
    """Strings are joined, lists extended, objects united, of numbers the last one stays. Where a newer member of an
    object wins, what the object was before is a misfit."""
    said = fold.fields.get(name)
    if said is None:
        fold.fields[name] = Fragments((value,)) if isinstance(value, str) else value
    elif _extend(said, value):
        return
    elif isinstance(said, dict) and isinstance(value, dict):
        if any(member in said and said[member] != newer for member, newer in value.items()):
            fold.misfit(name, said.copy())
        said.update(value)
    elif isinstance(said, int | float) and isinstance(value, int | float):
        fold.fields[name] = value
    else:
        fold.misfit(name, value)


def _extend(said: Any, value: Any) -> bool:
    """Extends what was said in place, where both are of a kind that grows."""
    if isinstance(value, str):
        if type(said) is Fragments:
            said.append(value)
            return True
    elif isinstance(value, list) and type(said) is list:
        said.extend(value)
        return True
    return False


def thoughts(fold: Fold, name: str, value: Any) -> None:
    """Reasoning: text, objects, or lists of objects, in turn. An object that stays the only one is kept as it is."""
    said = fold.fields.get(name)
    if isinstance(said, dict):
        said = fold.fields[name] = [said]
    if said is None:
        fold.fields[name] = Fragments((value,)) if isinstance(value, str) else value
    elif not isinstance(said, list) or not isinstance(value, str | dict | list):
        fold.misfit(name, value)
    elif isinstance(value, list):
        said.extend(value)
    elif isinstance(value, dict) or isinstance(said, Fragments):
        said.append(value)
    else:
        fold.fields[name] = Fragments((*said, value))


def content(fold: Fold, name: str, value: Any) -> None:
    """A message's content: text, or a list of parts, or both in turn."""
    if not isinstance(value, str | list):
        fold.misfit(name, value)
        return
    said = fold.fields.get(name)
    if said is None:
        said = fold.fields[name] = Fragments()
    if isinstance(value, str):
        said.append(value)
    else:
        said.extend({"type": "text", "text": part} if isinstance(part, str) else part for part in value)


def calls(fold: Fold, name: str, value: Any) -> None:
    """A list of pieces of tool calls."""
    if not isinstance(value, list):
        fold.misfit(name, value)
        return
    said = fold.fields.get(name)
    if said is None:
        said = fold.fields[name] = Calls()
    for piece in value:
        if isinstance(piece, dict):
            said.take(piece, fold)
        elif piece is not None:
            fold.misfit(name, piece)


def chunk_object(fold: Fold, name: str, value: Any) -> None:
    """What the object is called; the completion has a name of its own."""
    if value not in ("chat.completion.chunk", "chat.completion", ""):
        fold.misfits.keep_last(fold.path + name, value)


def astray(fold: Fold, name: str, value: Any) -> None:
    """A name that the completion uses itself."""
    fold.misfits.keep_last(fold.path + name, value)


def elsewhere(fold: Fold, name: str, value: Any) -> None:
    """A field that has been seen to already."""


def nested(rules: Mapping[str, Rule]) -> Rule:
    """The field is itself an object in pieces."""

    def join(fold: Fold, name: str, value: Any) -> None:
        if not isinstance(value, dict):
            fold.misfit(name, value)
            return
        said = fold.fields.get(name)
        if said is None:
            said = fold.fields[name] = Fold(f"{fold.path}{name}.", fold.misfits, rules, by_kind)
        said.take(value)

    return join


def _whole(value: Any) -> Any:
    if isinstance(value, Fragments | Fold | Calls):
        return value.whole()
    return value.copy() if isinstance(value, list | dict) else value


_FUNCTION = nested({"name": once})
_CALL: dict[str, Rule] = {"index": last, "id": once, "type": once, "function": _FUNCTION, "custom": _FUNCTION}

ENVELOPE: dict[str, Rule] = {
    "id": once,
    "object": chunk_object,
    "created": once,
    "model": once,
    "system_fingerprint": once,
    "service_tier": once,
    "usage": last,
    "error": once,
    "unmerged": astray,
}
CHOICE: dict[str, Rule] = {
    "index": elsewhere,
    "message": elsewhere,
    "finish_reason": last,
    "logprobs": nested({}),
}
MESSAGE: dict[str, Rule] = {
    "role": once,
    "name": once,
    "content": content,
    "reasoning": thoughts,
    "reasoning_content": thoughts,
    "reasoning_details": thoughts,
    "thinking": thoughts,
    "tool_calls": calls,
    "function_call": _FUNCTION,
    "audio": nested({"id": once, "expires_at": last}),
}
