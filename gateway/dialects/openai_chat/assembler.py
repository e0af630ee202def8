"""Assembles `chat.completion.chunk` events into one `chat.completion`, complete or as far as they have come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.codec import jsontext
from gateway.dialects.merging import (
    CHOICE,
    ENVELOPE,
    MESSAGE,
    Fragments,
    ObjectMerger,
    ToolCalls,
    Unmerged,
    by_type,
    index_of,
    last_or_union,
)
from gateway.dialects.shapes import error_event, error_in, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.model import Usage

_PADDING = "obfuscation"  # random text that hides the lengths of OpenAI's chunks; no part of the answer
_HEAD: tuple[str, ...] = ("id", "object", "created", "model")


class ChatAssembler:
    """Assembles the payloads of a stream. Never raises, whatever an upstream sends.

    A payload that is not a JSON object goes into `unparsed`; a value that cannot be merged goes into the completion, as
    `unmerged: {path: [value, …]}`.
    """

    __slots__ = (
        "_choice_rest",
        "_choices",
        "_envelope",
        "_is_plain",
        "_last_text",
        "_merged",
        "_message",
        "_unmerged",
        "is_done",
        "unparsed",
    )  # fmt: skip

    def __init__(self) -> None:
        self.is_done = False  # `[DONE]` was seen
        self.unparsed: list[bytes] = []
        self._unmerged = Unmerged()
        self._merged = ObjectMerger("", self._unmerged, ENVELOPE, last_or_union)
        self._choices: dict[int, _Choice] = {}
        self._is_plain = True
        # The previous chunk, without its delta. Most chunks differ from it in their delta alone.
        self._envelope: dict[str, Any] | None = None
        self._choice_rest: dict[str, Any] | None = None  # its only choice; None: the choice had more than a delta
        self._message = ObjectMerger("", self._unmerged, MESSAGE, by_type)  # of that choice
        self._last_text: str | None = None  # the member of the message that the previous chunk extended, and no other

    def feed(self, payloads: Iterable[bytes]) -> None:
        """Add the data of events, in order."""
        for payload in payloads:
            self._last_text = None
            if payload == b"[DONE]":
                self.is_done = True
            elif not self._add_plain(payload):
                self._add_payload(payload)

    def add(self, chunk: dict[str, Any], is_plain: bool) -> None:
        """Add the data of an event as `jsontext.parse` returns it. Changes `chunk`."""
        self._last_text = None
        self._is_plain = self._is_plain and is_plain
        delta = self._delta_of(chunk)
        if delta is None:
            self._add_chunk(chunk)
        else:
            self._message.add(delta)

    def add_texts(self, name: str, texts: Sequence[bytes]) -> bool:
        """Add chunks like the previous one that differ in the text `name` alone, given as JSON strings.

        False: nothing was added, because the previous chunk had more than this text, or orjson cannot read a string.
        """
        if self._last_text != name:
            return False
        try:
            pieces = orjson.loads(b"[%b]" % b",".join(texts))
        except orjson.JSONDecodeError:
            return False
        self._message.fields[name].extend(pieces)
        return True

    def _add_plain(self, payload: bytes) -> bool:
        """Add a chunk that orjson reads without loss; mostly it is one more piece of the same text."""
        try:
            chunk = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return False
        if type(chunk) is not dict:
            return False
        delta = self._delta_of(chunk)
        if delta is not None and len(delta) == 1:
            ((name, text),) = delta.items()
            if type(text) is str and type(pieces := self._message.fields.get(name)) is Fragments:
                pieces.append(text)
                self._last_text = name
                return True
        if not jsontext.is_simple(payload):
            return False
        if delta is None:
            self._add_chunk(chunk)
        else:
            self._message.add(delta)
        return True

    def _delta_of(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """The delta of a chunk that differs from the previous one in its delta alone, else None."""
        choices = chunk.get("choices")
        if type(choices) is not list or len(choices) != 1 or type(choice := choices[0]) is not dict:
            return None
        delta = choice.get("delta")
        if type(delta) is not dict:
            return None
        del chunk["choices"], choice["delta"]
        chunk.pop(_PADDING, None)
        if chunk == self._envelope and choice == self._choice_rest:
            return delta
        chunk["choices"], choice["delta"] = choices, delta
        return None

    def _add_payload(self, payload: bytes) -> None:
        try:
            chunk, is_plain = jsontext.parse(payload)
        except ValueError:
            chunk, is_plain = None, True
        if isinstance(chunk, dict):
            self._is_plain = self._is_plain and is_plain
            self._add_chunk(chunk)
        elif payload.strip() == b"[DONE]":
            self.is_done = True
        elif payload.strip():
            self.unparsed.append(payload)

    def _add_chunk(self, chunk: dict[str, Any]) -> None:
        if "choices" not in chunk and error_in(chunk) is chunk:  # an error without an envelope
            chunk = {"error": chunk}
        choices = chunk.pop("choices", None)
        chunk.pop(_PADDING, None)
        self._merged.add(chunk)
        self._envelope, self._choice_rest = chunk, None
        if isinstance(choices, list):
            for position, choice in enumerate(choices):
                self._add_choice(position, choice, is_only=len(choices) == 1)
        elif choices is not None:
            self._unmerged.keep("choices", choices)

    def _add_choice(self, position: int, piece: Any, *, is_only: bool) -> None:
        if not isinstance(piece, dict):
            self._unmerged.keep(f"choices.{position}", piece)
            return
        index = index_of(piece.get("index"))
        if index is None:
            index = position
            if piece.get("index") is not None:
                self._unmerged.keep_last(f"choices.{position}.index", piece["index"])
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index, self._unmerged)
        choice.add(piece)
        if is_only and piece.get("logprobs") is None and "message" not in piece:
            self._choice_rest, self._message = piece, choice.message

    @property
    def finished(self) -> bool:
        """Whether every choice so far has a `finish_reason`."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    @property
    def has_text(self) -> bool:
        """Whether there is something to read: content or a refusal."""
        return any(choice.has("content") or choice.has("refusal") for choice in self._choices.values())

    @property
    def has_content(self) -> bool:
        """Whether there is anything at all: text, reasoning, a tool call, audio…"""
        return any(choice.has_anything() for choice in self._choices.values())

    @property
    def model(self) -> str | None:
        model = self._merged.fields.get("model")
        return model if model and isinstance(model, str) else None

    @property
    def usage(self) -> Usage | None:
        fields = self._merged.fields
        usage = usage_of(fields.get("usage"))
        groq = fields.get("x_groq")  # Groq counts here, unless it is asked for `stream_options.include_usage`
        return usage_of(groq.get("usage")) if usage is None and isinstance(groq, dict) else usage

    @property
    def error(self) -> Any:
        """The error that the upstream reported within the stream, unchanged; None if it reported none."""
        of_choices = (choice.error for choice in self._choices.values())
        return self._merged.fields.get("error") or next(filter(None, of_choices), None)

    def error_events(self, message: str, type: str, code: str) -> bytes:
        """The gateway's own error, in the event with which this dialect ends a failed stream."""
        return error_event(message, type, code)

    def completion(self) -> dict[str, Any]:
        """The answer so far, in the form of one that was not streamed. Inner values are shared: do not change them."""
        merged = self._merged.result()
        head = {name: merged.pop(name) for name in _HEAD if name in merged} | {"object": "chat.completion"}
        choices = [choice.result() for _, choice in sorted(self._choices.items())]
        result = {**head, "choices": choices, **merged}
        if self._unmerged:
            result["unmerged"] = self._unmerged.copy()
        return result

    def completion_json(self) -> bytes:
        return jsontext.write(self.completion(), is_plain=self._is_plain)


class _Choice:
    """One choice of the answer: its message, and its other fields."""

    __slots__ = ("_index", "_merged", "message")

    def __init__(self, index: int, unmerged: Unmerged) -> None:
        path = f"choices.{index}."
        self._index = index
        self._merged = ObjectMerger(path, unmerged, CHOICE, last_or_union)
        self.message = ObjectMerger(f"{path}message.", unmerged, MESSAGE, by_type)

    def add(self, piece: dict[str, Any]) -> None:
        delta, message = piece.pop("delta", None), piece.get("message")
        if delta is None and isinstance(message, dict) and not self.message.fields:
            delta = message  # the whole message in one event
        elif message is not None:
            self._merged.unmerged.keep_last(f"{self._merged.path}message", message)
        if isinstance(delta, dict):
            self.message.add(delta)
        elif delta is not None:
            self._merged.keep_unmerged("delta", delta)
        self._merged.add(piece)

    @property
    def finish_reason(self) -> Any:
        return self._merged.fields.get("finish_reason")

    @property
    def error(self) -> Any:
        error = self._merged.fields.get("error")
        return error or (self._merged.result() if self.finish_reason == "error" else None)

    def has(self, name: str) -> bool:
        return _is_nonempty(self.message.fields.get(name))

    def has_anything(self) -> bool:
        return any(map(_is_nonempty, self.message.fields.values()))

    def result(self) -> dict[str, Any]:
        message = {"role": None, "content": None, "refusal": None} | self.message.result()
        message["role"] = message["role"] or "assistant"
        head = {"index": self._index, "message": message}
        return {**head, "logprobs": None, "finish_reason": None, **self._merged.result(), **head}


def _is_nonempty(merged: Any) -> bool:
    """Whether a merged field of a message has any content."""
    if isinstance(merged, Fragments):
        return any(merged)
    if isinstance(merged, ObjectMerger):
        return bool(merged.fields)
    return isinstance(merged, ToolCalls | list | dict) and bool(merged)
