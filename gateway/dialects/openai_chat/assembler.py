"""Many `chat.completion.chunk` in, one `chat.completion` out; at any moment, with whatever was said so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from gateway.codec import jsontext
from gateway.dialects.folding import (
    CHOICE,
    ENVELOPE,
    MESSAGE,
    Calls,
    Fold,
    Fragments,
    Misfits,
    by_kind,
    index_of,
    last_united,
)
from gateway.dialects.shapes import error_event, error_in, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.model import Usage

_PADDING = "obfuscation"  # random text that hides the lengths of OpenAI's chunks; no part of the answer
_HEAD: tuple[str, ...] = ("id", "object", "created", "model")


class ChatAssembler:
    """Folds the payloads of a stream. Never raises, whatever an upstream says.

    A payload that is no JSON object stands in `unparsed`; a value that cannot be merged stands in the completion, as
    `unmerged: {path: [value, …]}`.
    """

    __slots__ = ("_choices", "_envelope", "_is_plain", "_message", "_misfits", "_rest", "_said", "_text", "is_done",
                 "unparsed")  # fmt: skip

    def __init__(self) -> None:
        self.is_done = False  # `[DONE]` was seen
        self.unparsed: list[bytes] = []
        self._misfits = Misfits()
        self._said = Fold("", self._misfits, ENVELOPE, last_united)
        self._choices: dict[int, _Choice] = {}
        self._is_plain = True
        # The chunk before. The next one mostly differs from it in its delta alone.
        self._envelope: dict[str, Any] | None = None
        self._rest: dict[str, Any] | None = None  # of its only choice; None: that had more to say than its delta
        self._message = Fold("", self._misfits, MESSAGE, by_kind)  # of that choice
        self._text: str | None = None  # the member of it to which the chunk before gave a piece of text, and no more

    def feed(self, payloads: Iterable[bytes]) -> None:
        """Takes the data of events, in order."""
        for payload in payloads:
            self._text = None
            if payload == b"[DONE]":
                self.is_done = True
            elif not self._took_plainly(payload):
                self._take_payload(payload)

    def take(self, chunk: dict[str, Any], is_plain: bool) -> None:
        """Takes the data of an event as `jsontext.parse` gave it, and changes it."""
        self._text = None
        self._is_plain = self._is_plain and is_plain
        delta = self._delta_of(chunk)
        if delta is None:
            self._take_chunk(chunk)
        else:
            self._message.take(delta)

    def take_texts(self, name: str, texts: Sequence[bytes]) -> bool:
        """More chunks like the one before, but for this text, of which they have JSON strings here. False: they must be
        fed one by one, for that one had more to say, or one of these is not a string that orjson reads."""
        if self._text != name:
            return False
        try:
            pieces = orjson.loads(b"[%b]" % b",".join(texts))
        except orjson.JSONDecodeError:
            return False
        self._message.fields[name].extend(pieces)
        return True

    def _took_plainly(self, payload: bytes) -> bool:
        """Takes a chunk that orjson alone reads right; mostly it is one more piece of the same text."""
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
                self._text = name
                return True
        if not jsontext.is_simple(payload):
            return False
        if delta is None:
            self._take_chunk(chunk)
        else:
            self._message.take(delta)
        return True

    def _delta_of(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """The delta, where the chunk differs from the one before in that alone."""
        choices = chunk.get("choices")
        if type(choices) is not list or len(choices) != 1 or type(choice := choices[0]) is not dict:
            return None
        delta = choice.get("delta")
        if type(delta) is not dict:
            return None
        del chunk["choices"], choice["delta"]
        chunk.pop(_PADDING, None)
        if chunk == self._envelope and choice == self._rest:
            return delta
        chunk["choices"], choice["delta"] = choices, delta
        return None

    def _take_payload(self, payload: bytes) -> None:
        try:
            chunk, is_plain = jsontext.parse(payload)
        except ValueError:
            chunk, is_plain = None, True
        if isinstance(chunk, dict):
            self._is_plain = self._is_plain and is_plain
            self._take_chunk(chunk)
        elif payload.strip() == b"[DONE]":
            self.is_done = True
        elif payload.strip():
            self.unparsed.append(payload)

    def _take_chunk(self, chunk: dict[str, Any]) -> None:
        if "choices" not in chunk and error_in(chunk) is chunk:  # an error without an envelope
            chunk = {"error": chunk}
        choices = chunk.pop("choices", None)
        chunk.pop(_PADDING, None)
        self._said.take(chunk)
        self._envelope, self._rest = chunk, None
        if isinstance(choices, list):
            for position, choice in enumerate(choices):
                self._take_choice(position, choice, is_only=len(choices) == 1)
        elif choices is not None:
            self._misfits.keep("choices", choices)

    def _take_choice(self, position: int, piece: Any, *, is_only: bool) -> None:
        if not isinstance(piece, dict):
            self._misfits.keep(f"choices.{position}", piece)
            return
        index = index_of(piece.get("index"))
        if index is None:
            index = position
            if piece.get("index") is not None:
                self._misfits.keep_last(f"choices.{position}.index", piece["index"])
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(index, self._misfits)
        choice.take(piece)
        if is_only and piece.get("logprobs") is None and "message" not in piece:
            self._rest, self._message = piece, choice.message

    @property
    def finished(self) -> bool:
        """Every choice that was begun has said why it ended."""
        return bool(self._choices) and all(choice.finish_reason for choice in self._choices.values())

    @property
    def has_text(self) -> bool:
        """Something to read was said: content or a refusal."""
        return any(choice.says("content") or choice.says("refusal") for choice in self._choices.values())

    @property
    def has_content(self) -> bool:
        """Something was said at all: text, reasoning, a tool call, audio…"""
        return any(choice.says_anything() for choice in self._choices.values())

    @property
    def model(self) -> str | None:
        model = self._said.fields.get("model")
        return model if model and isinstance(model, str) else None

    @property
    def usage(self) -> Usage | None:
        fields = self._said.fields
        usage = usage_of(fields.get("usage"))
        groq = fields.get("x_groq")  # Groq counts here, unless it is asked for `stream_options.include_usage`
        return usage_of(groq.get("usage")) if usage is None and isinstance(groq, dict) else usage

    @property
    def error(self) -> Any:
        """The error that the upstream reported in mid-stream, as it said it; None if it reported none."""
        return self._said.fields.get("error") or next(filter(None, (one.error for one in self._choices.values())), None)

    def error_events(self, message: str, type: str, code: str) -> bytes:
        """The gateway's own error, as this dialect ends a stream with one."""
        return error_event(message, type, code)

    def completion(self) -> dict[str, Any]:
        """The answer so far, in the shape of one that was not streamed. Inner values are shared: do not change them."""
        said = self._said.whole()
        head = {name: said.pop(name) for name in _HEAD if name in said} | {"object": "chat.completion"}
        choices = [choice.whole() for _, choice in sorted(self._choices.items())]
        whole = {**head, "choices": choices, **said}
        if self._misfits:
            whole["unmerged"] = self._misfits.copy()
        return whole

    def completion_json(self) -> bytes:
        return jsontext.write(self.completion(), is_plain=self._is_plain)


class _Choice:
    __slots__ = ("_index", "_said", "message")

    def __init__(self, index: int, misfits: Misfits) -> None:
        path = f"choices.{index}."
        self._index = index
        self._said = Fold(path, misfits, CHOICE, last_united)
        self.message = Fold(f"{path}message.", misfits, MESSAGE, by_kind)

    def take(self, piece: dict[str, Any]) -> None:
        delta, message = piece.pop("delta", None), piece.get("message")
        if delta is None and isinstance(message, dict) and not self.message.fields:
            delta = message  # the whole message in one event
        elif message is not None:
            self._said.misfits.keep_last(f"{self._said.path}message", message)
        if isinstance(delta, dict):
            self.message.take(delta)
        elif delta is not None:
            self._said.misfit("delta", delta)
        self._said.take(piece)

    @property
    def finish_reason(self) -> Any:
        return self._said.fields.get("finish_reason")

    @property
    def error(self) -> Any:
        error = self._said.fields.get("error")
        return error or (self._said.whole() if self.finish_reason == "error" else None)

    def says(self, name: str) -> bool:
        return _is_something(self.message.fields.get(name))

    def says_anything(self) -> bool:
        return any(map(_is_something, self.message.fields.values()))

    def whole(self) -> dict[str, Any]:
        message = {"role": None, "content": None, "refusal": None} | self.message.whole()
        message["role"] = message["role"] or "assistant"
        head = {"index": self._index, "message": message}
        return {**head, "logprobs": None, "finish_reason": None, **self._said.whole(), **head}


def _is_something(said: Any) -> bool:
    if isinstance(said, Fragments):
        return any(said)
    if isinstance(said, Fold):
        return bool(said.fields)
    return isinstance(said, Calls | list | dict) and bool(said)
