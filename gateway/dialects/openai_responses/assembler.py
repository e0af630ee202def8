"""Assembles the events of a Responses API stream into one `response` object: the terminal event's, or the deltas'."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from gateway.codec import jsontext
from gateway.dialects.merging import Fragments, Unmerged, index_of
from gateway.dialects.shapes import error_in, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.model import Usage

_TERMINAL = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class _TextField(NamedTuple):
    """The field of an output item, or of a part of one, to which a type of event adds its text."""

    item: str  # type of an item that was never announced
    field: str
    parts: str | None = None  # the item's list of parts
    part: str = ""  # type of a part that was never announced


_TEXT = "response.output_text"
_TEXT_FIELDS = {
    _TEXT: _TextField("message", "text", "content", "output_text"),
    "response.refusal": _TextField("message", "refusal", "content", "refusal"),
    "response.reasoning_text": _TextField("reasoning", "text", "content", "reasoning_text"),
    "response.reasoning_summary_text": _TextField("reasoning", "text", "summary", "summary_text"),
    "response.function_call_arguments": _TextField("function_call", "arguments"),
    "response.mcp_call_arguments": _TextField("mcp_call", "arguments"),
    "response.custom_tool_call_input": _TextField("custom_tool_call", "input"),
    "response.code_interpreter_call_code": _TextField("code_interpreter_call", "code"),
}
_PART_FIELDS = {
    "response.content_part": _TextField("message", "", "content"),
    "response.reasoning_summary_part": _TextField("reasoning", "", "summary"),
}


class ResponsesAssembler:
    """Assembles the payloads of a stream. Never raises, whatever an upstream sends.

    A payload that is not a JSON object goes into `unparsed`. Events that are not part of the answer go into a partial
    answer, the last of each type, as `unmerged: {type: [event]}`. A terminal event's answer stays unchanged.
    """

    __slots__ = (
        "_base",
        "_error",
        "_is_plain",
        "_items",
        "_next_number",
        "_unmerged",
        "finished",
        "has_content",
        "has_text",
        "is_done",
        "unparsed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_done = False  # a terminal event or `[DONE]` was seen
        self.finished = False  # a terminal event was seen; `status` says whether the answer is complete
        self.has_text = False  # there is something to read: output text or a refusal
        self.has_content = False  # there is anything at all
        self.unparsed: list[bytes] = []
        self._base: dict[str, Any] = {}  # the newest `response` object
        self._items: dict[int | str, _Node] = {}
        self._error: Any = None
        self._unmerged = Unmerged()
        self._is_plain = True
        self._next_number = 0  # the next event's `sequence_number`

    def add_texts(self, name: str, texts: Sequence[bytes]) -> bool:
        """False: events of this API are numbered, so no event is like the previous one."""
        return False

    def feed(self, payloads: Iterable[bytes]) -> None:
        """Add the data of events, in order."""
        for payload in payloads:
            try:
                event, is_plain = jsontext.parse(payload)
            except ValueError:
                event, is_plain = None, True
            if isinstance(event, dict):
                self.add(event, is_plain)
            elif payload.strip() == b"[DONE]":
                self.is_done = True
            elif payload.strip():
                self.unparsed.append(payload)

    def add(self, event: dict[str, Any], is_plain: bool) -> None:
        """Add the data of an event as `jsontext.parse` returns it. Keeps references to `event`."""
        self._is_plain = self._is_plain and is_plain
        kind = event.get("type")
        if not isinstance(kind, str):
            kind = "error" if error_in(event) is not None else ""
        number = event.get("sequence_number")
        if type(number) is int and number >= self._next_number:
            self._next_number = number + 1
        event_name, _, stage = kind.rpartition(".")
        if (target := _TEXT_FIELDS.get(event_name)) and stage in ("delta", "done"):
            self._add_text(event, target, is_final=stage == "done")
        elif (target := _PART_FIELDS.get(event_name)) and isinstance(event.get("part"), dict):
            self._node(event, target).add(event["part"], is_final=stage == "done")
        elif event_name == "response.output_item" and isinstance(event.get("item"), dict):
            self._add_item(event, is_final=stage == "done")
        elif kind == f"{_TEXT}.annotation.added":
            self._node(event, _TEXT_FIELDS[_TEXT]).extend("annotations", [event.get("annotation")])
        elif isinstance(response := event.get("response"), dict):
            self._add_response(response, is_terminal=kind in _TERMINAL)
        elif kind == "error":
            self._error = event.get("error") or event
        elif kind in _TERMINAL:
            self.is_done = self.finished = True  # the event lacks its `response`
        else:
            self._unmerged.keep_last(kind, event)

    def _add_text(self, event: dict[str, Any], target: _TextField, *, is_final: bool) -> None:
        text = event.get(target.field if is_final else "delta")
        if not isinstance(text, str):
            self._unmerged.keep(f"{event.get('type')}", event)
            return
        node = self._node(event, target)
        node.append_text(target.field, text, is_final=is_final)
        if not is_final and isinstance(logprobs := event.get("logprobs"), list):
            node.extend("logprobs", logprobs)
        if text:
            self.has_content = True
            self.has_text = self.has_text or target.item == "message"

    def _add_item(self, event: dict[str, Any], *, is_final: bool) -> None:
        self._item(event, "").add(event["item"], is_final=is_final)
        if is_final:
            self.has_content = True
            self.has_text = self.has_text or _has_text(event["item"])

    def _add_response(self, response: dict[str, Any], *, is_terminal: bool) -> None:
        if self.finished and not is_terminal:
            self._unmerged.keep_last("response", response)
            return
        self._base = response
        if is_terminal:
            self.is_done = self.finished = True
            output = response.get("output")
            items = output if isinstance(output, list) else []
            self.has_content = self.has_content or bool(items)
            self.has_text = self.has_text or any(map(_has_text, items))

    def _item(self, event: dict[str, Any], kind: str) -> _Node:
        index, item_id = index_of(event.get("output_index")), event.get("item_id")
        key: int | str = index if index is not None else f"{item_id}"
        item = self._items.get(key)
        if item is None:
            announced = {"id": item_id, "type": kind} | ({"role": "assistant"} if kind == "message" else {})
            item = self._items[key] = _Node({name: value for name, value in announced.items() if value})
        return item

    def _node(self, event: dict[str, Any], target: _TextField) -> _Node:
        item = self._item(event, target.item)
        if target.parts is None:
            return item
        index = index_of(event.get("content_index" if target.parts == "content" else "summary_index"))
        return item.part(target.parts, index or 0, target.part)

    @property
    def status(self) -> str | None:
        """The status of the newest `response` object: in_progress, completed, incomplete, failed…"""
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
        """The error that the upstream reported, unchanged; None if it reported none."""
        return self._error or self._base.get("error") or None

    def error_events(self, message: str, type: str, code: str) -> bytes:
        """The gateway's own error, in the events with which this dialect ends a failed stream.

        These are `error`, and `response.failed` where the upstream has sent its `response` object. Clients handle one
        of the two: codex reads `response.failed` alone. SDKs raise at the member `error`; the same members beside it
        are the documented form of the event.
        """
        error = {"type": type, "code": code, "message": message, "param": None}
        numbered = {"type": "error", "sequence_number": self._next_number}
        events = _event(numbered | {name: error[name] for name in ("code", "message", "param")} | {"error": error})
        if self._base.get("id"):
            failure = {"status": "failed", "error": {"code": code, "message": message}, "output": []}
            failed = {"type": "response.failed", "sequence_number": self._next_number + 1}
            events += _event(failed | {"response": self._base | failure}, is_plain=self._is_plain)
        return events

    def completion(self) -> dict[str, Any]:
        """The answer so far. Its inner values are shared: do not change them.

        A terminal event without output (a failure; servers that store nothing) gets the output of the events before it.
        """
        result = {"object": "response", "status": "in_progress", **self._base}
        if self._items and not (self.finished and result.get("output")):
            keys = sorted(self._items, key=lambda key: (1, 0) if isinstance(key, str) else (0, key))
            result["output"] = [self._items[key].result() for key in keys]
        result.setdefault("output", [])
        if self._error and not result.get("error"):
            result["error"] = self._error
        if self._unmerged and not self.finished:
            result["unmerged"] = self._unmerged.copy()
        return result

    def completion_json(self) -> bytes:
        return jsontext.write(self.completion(), is_plain=self._is_plain)


def _event(body: dict[str, Any], *, is_plain: bool = True) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (body["type"].encode(), jsontext.write(body, is_plain=is_plain))


class _Node:
    """An output item, or a part of one: its announced fields, the texts that grow, and its own parts."""

    __slots__ = ("_announced", "_parts", "_texts")

    def __init__(self, announced: dict[str, Any]) -> None:
        self._announced = announced
        self._texts: dict[str, Fragments] = {}
        self._parts: dict[str, dict[int, _Node]] = {}

    def add(self, announced: dict[str, Any], *, is_final: bool) -> None:
        """Set the announced fields. A final announcement replaces all earlier pieces."""
        self._announced = announced
        if is_final:
            self._texts.clear()
            self._parts.clear()

    def append_text(self, field: str, text: str, *, is_final: bool) -> None:
        pieces = self._texts.get(field)
        if is_final or pieces is None:
            begun = self._announced.get(field)
            is_begun = isinstance(begun, str) and not is_final
            self._texts[field] = Fragments((begun, text) if is_begun else (text,))
        else:
            pieces.append(text)

    def extend(self, field: str, values: list[Any]) -> None:
        announced = self._announced.get(field)
        if isinstance(announced, list):
            announced.extend(values)
        elif values:
            self._announced[field] = list(values)

    def part(self, name: str, index: int, kind: str) -> _Node:
        parts = self._parts.get(name)
        if parts is None:
            parts = self._parts[name] = {}
        part = parts.get(index)
        if part is None:
            part = parts[index] = _Node({"type": kind} if kind else {})
        return part

    def result(self) -> dict[str, Any]:
        texts = {field: pieces.result() for field, pieces in self._texts.items()}
        parts = {name: [part.result() for _, part in sorted(parts.items())] for name, parts in self._parts.items()}
        return {**self._announced, **texts, **parts}


def _has_text(item: Any) -> bool:
    """Whether an output item has something to read."""
    parts = item.get("content") if isinstance(item, dict) and item.get("type") == "message" else None
    return isinstance(parts, list) and any(
        isinstance(part, dict) and bool(part.get("text") or part.get("refusal")) for part in parts
    )
