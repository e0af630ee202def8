"""Events of a Responses API stream in, one `response` object out: the terminal event's, or what the deltas said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.codec import jsontext
from gateway.dialects.folding import Fragments, Misfits, index_of
from gateway.dialects.shapes import error_in, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.model import Usage

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class _Place(NamedTuple):
    """Where the text of a kind of event belongs: in a field of an item, or of a part of it."""

    item: str  # type of an item that was never announced
    field: str
    parts: str | None = None  # the item's list of parts
    part: str = ""  # type of a part that was never announced


_TEXT = "response.output_text"
_PLACES = {
    _TEXT: _Place("message", "text", "content", "output_text"),
    "response.refusal": _Place("message", "refusal", "content", "refusal"),
    "response.reasoning_text": _Place("reasoning", "text", "content", "reasoning_text"),
    "response.reasoning_summary_text": _Place("reasoning", "text", "summary", "summary_text"),
    "response.function_call_arguments": _Place("function_call", "arguments"),
    "response.mcp_call_arguments": _Place("mcp_call", "arguments"),
    "response.custom_tool_call_input": _Place("custom_tool_call", "input"),
    "response.code_interpreter_call_code": _Place("code_interpreter_call", "code"),
}
_PARTS = {
    "response.content_part": _Place("message", "", "content"),
    "response.reasoning_summary_part": _Place("reasoning", "", "summary"),
}


class ResponsesAssembler:
    """Folds the payloads of a stream. Never raises, whatever an upstream says.

    A payload that is no JSON object stands in `unparsed`. Of events that say nothing of the answer itself the last one
    of each type stands in a partial answer, as `unmerged: {type: [event]}`. A terminal event's answer stays as it came.
    """

    __slots__ = ("_base", "_error", "_is_plain", "_items", "_misfits", "_next_number", "finished", "has_content",
                 "has_text", "is_done", "unparsed")  # fmt: skip

    def __init__(self) -> None:
        self.is_done = False  # a terminal event or `[DONE]` was seen
        self.finished = False  # a terminal event was seen; `status` says whether the answer is complete
        self.has_text = False  # something to read was said: output text or a refusal
        self.has_content = False  # something was said at all
        self.unparsed: list[bytes] = []
        self._base: dict[str, Any] = {}  # the newest `response` object
        self._items: dict[int | str, _Node] = {}
        self._error: Any = None
        self._misfits = Misfits()
        self._is_plain = True
        self._next_number = 0  # what the next event's `sequence_number` would be

    def take_texts(self, name: str, texts: Sequence[bytes]) -> bool:
        """As of `ChatAssembler`. Events of this API are numbered, so that none is like the one before."""
        return False

    def feed(self, payloads: Iterable[bytes]) -> None:
        """Takes the data of events, in order."""
        for payload in payloads:
            try:
                event, is_plain = jsontext.parse(payload)
            except ValueError:
                event, is_plain = None, True
            if isinstance(event, dict):
                self.take(event, is_plain)
            elif payload.strip() == b"[DONE]":
                self.is_done = True
            elif payload.strip():
                self.unparsed.append(payload)

    def take(self, event: dict[str, Any], is_plain: bool) -> None:
        """Takes the data of an event as `jsontext.parse` gave it, and keeps it."""
        self._is_plain = self._is_plain and is_plain
        kind = event.get("type")
        if not isinstance(kind, str):
            kind = "error" if error_in(event) is not None else ""
        number = event.get("sequence_number")
        if type(number) is int and number >= self._next_number:
            self._next_number = number + 1
        stem, _, verb = kind.rpartition(".")
        if (place := _PLACES.get(stem)) and verb in ("delta", "done"):
            self._take_text(event, place, is_whole=verb == "done")
        elif (place := _PARTS.get(stem)) and isinstance(event.get("part"), dict):
            self._node(event, place).take(event["part"], is_whole=verb == "done")
        elif stem == "response.output_item" and isinstance(event.get("item"), dict):
            self._take_item(event, is_whole=verb == "done")
        elif kind == f"{_TEXT}.annotation.added":
            self._node(event, _PLACES[_TEXT]).extend("annotations", [event.get("annotation")])
        elif isinstance(response := event.get("response"), dict):
            self._take_response(response, is_terminal=kind in _TERMINAL)
        elif kind == "error":
            self._error = event.get("error") or event
        elif kind in _TERMINAL:
            self.is_done = self.finished = True  # it forgot its `response`
        else:
            self._misfits.keep_last(kind, event)

    def _take_text(self, event: dict[str, Any], place: _Place, *, is_whole: bool) -> None:
        text = event.get(place.field if is_whole else "delta")
        if not isinstance(text, str):
            self._misfits.keep(f"{event.get('type')}", event)
            return
        node = self._node(event, place)
        node.say(place.field, text, is_whole=is_whole)
        if not is_whole and isinstance(logprobs := event.get("logprobs"), list):
            node.extend("logprobs", logprobs)
        if text:
            self.has_content = True
            self.has_text = self.has_text or place.item == "message"

    def _take_item(self, event: dict[str, Any], *, is_whole: bool) -> None:
        self._item(event, "").take(event["item"], is_whole=is_whole)
        if is_whole:
            self.has_content = True
            self.has_text = self.has_text or _has_words(event["item"])

    def _take_response(self, response: dict[str, Any], *, is_terminal: bool) -> None:
        if self.finished and not is_terminal:
            self._misfits.keep_last("response", response)
            return
        self._base = response
        if is_terminal:
            self.is_done = self.finished = True
            output = response.get("output")
            items = output if isinstance(output, list) else []
            self.has_content = self.has_content or bool(items)
            self.has_text = self.has_text or any(map(_has_words, items))

    def _item(self, event: dict[str, Any], kind: str) -> _Node:
        index, item_id = index_of(event.get("output_index")), event.get("item_id")
        key: int | str = index if index is not None else f"{item_id}"
        item = self._items.get(key)
        if item is None:
            said = {"id": item_id, "type": kind} | ({"role": "assistant"} if kind == "message" else {})
            item = self._items[key] = _Node({name: value for name, value in said.items() if value})
        return item

    def _node(self, event: dict[str, Any], place: _Place) -> _Node:
        item = self._item(event, place.item)
        if place.parts is None:
            return item
        index = index_of(event.get("content_index" if place.parts == "content" else "summary_index"))
        return item.part(place.parts, index or 0, place.part)

    @property
    def status(self) -> str | None:
        """What the newest `response` object says of itself: in_progress, completed, incomplete, failed…"""
        status = self._base.get("status")
        return status if isinstance(status, str) else None

    @property
    def model(self) -> str | None:
        model = self._base.get("model")
        return model if model and isinstance(model, str) else None

    @property
    def usage(self) -> Usage | None:
        return usage_of(self._base.get("usage"))

    @property
    def error(self) -> Any:
        """The error that the upstream told of, as it said it; None if it told of none."""
        return self._error or self._base.get("error") or None

    def error_events(self, message: str, type: str, code: str) -> bytes:
        """The gateway's own error, as this dialect ends a stream with one: `error`, and `response.failed` where the
        upstream has introduced its response.

        Each client knows one of the two: codex reads `response.failed` alone. SDKs raise at the member `error`, and the
        same members beside it are the documented form of the event.
        """
        error = {"type": type, "code": code, "message": message, "param": None}
        numbered = {"type": "error", "sequence_number": self._next_number}
        events = _event(numbered | {name: error[name] for name in ("code", "message", "param")} | {"error": error})
        if self._base.get("id"):
            failure = {"status": "failed", "error": {"code": code, "message": message}, "output": []}
            told = {"type": "response.failed", "sequence_number": self._next_number + 1}
            events += _event(told | {"response": self._base | failure}, is_plain=self._is_plain)
        return events

    def completion(self) -> dict[str, Any]:
        """The answer so far. Its inner values are shared: do not change them.

        Terminal events that bring no output (a failure; servers that store nothing) get what was said before them.
        """
        whole = {"object": "response", "status": "in_progress", **self._base}
        if self._items and not (self.finished and whole.get("output")):
            keys = sorted(self._items, key=lambda key: (1, 0) if isinstance(key, str) else (0, key))
            whole["output"] = [self._items[key].whole() for key in keys]
        whole.setdefault("output", [])
        if self._error and not whole.get("error"):
            whole["error"] = self._error
        if self._misfits and not self.finished:
            whole["unmerged"] = self._misfits.copy()
        return whole

    def completion_json(self) -> bytes:
        return jsontext.write(self.completion(), is_plain=self._is_plain)


def _event(body: dict[str, Any], *, is_plain: bool = True) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), jsontext.write(body, is_plain=is_plain))


class _Node:
    """An output item, or a part of one: what was announced of it, the texts that grow, and its own parts."""

    __slots__ = ("_parts", "_said", "_texts")

    def __init__(self, said: dict[str, Any]) -> None:
        self._said = said
        self._texts: dict[str, Fragments] = {}
        self._parts: dict[str, dict[int, _Node]] = {}

    def take(self, said: dict[str, Any], *, is_whole: bool) -> None:
        """An announcement; `is_whole` when nothing follows it, so that it stands for all the pieces before."""
        self._said = said
        if is_whole:
            self._texts.clear()
            self._parts.clear()

    def say(self, field: str, text: str, *, is_whole: bool) -> None:
        pieces = self._texts.get(field)
        if is_whole or pieces is None:
            begun = self._said.get(field)
            is_begun = isinstance(begun, str) and not is_whole
            self._texts[field] = Fragments((begun, text) if is_begun else (text,))
        else:
            pieces.append(text)

    def extend(self, field: str, values: list[Any]) -> None:
        said = self._said.get(field)
        if isinstance(said, list):
            said.extend(values)
        elif values:
            self._said[field] = list(values)

    def part(self, name: str, index: int, kind: str) -> _Node:
        parts = self._parts.get(name)
        if parts is None:
            parts = self._parts[name] = {}
        part = parts.get(index)
        if part is None:
            part = parts[index] = _Node({"type": kind} if kind else {})
        return part

    def whole(self) -> dict[str, Any]:
        texts = {field: pieces.whole() for field, pieces in self._texts.items()}
        parts = {name: [part.whole() for _, part in sorted(parts.items())] for name, parts in self._parts.items()}
        return {**self._said, **texts, **parts}


def _has_words(item: Any) -> bool:
    """Whether an output item says something to read."""
    parts = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
    return isinstance(parts, list) and any(
        isinstance(part, dict) and bool(part.get("text") or part.get("refusal")) for part in parts
    )
