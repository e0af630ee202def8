"""Conversations recognised without an id: a hash for each prefix of a messages list.

A row's snapshot is its messages plus its answer. When a later request of the same caller begins with the same messages,
it goes on with that conversation. Hashes are chained: h_i = sha256(h_{i-1} || canonical(m_i)), 32 bytes each.

Clients seldom send an answer back as they got it: SDKs add and drop empty fields, frameworks write arguments anew. The
canonical form therefore keeps the role, the content, the tool calls and the id of the call that a message answers.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import orjson

from gateway.codec import jsontext

_TEXTS = ("text", "input_text", "output_text")  # of messages; the others of the Responses API


def prefix_hashes(messages: object) -> list[bytes]:
    """The hash of every prefix, shortest first; none at all for what is not a list of JSON objects."""
    hashes: list[bytes] = []
    so_far = b""
    for message in messages if isinstance(messages, list) else []:
        canonical = _canonical(message)
        if canonical is None:
            return []
        so_far = sha256(so_far + canonical).digest()
        hashes.append(so_far)
    return hashes


def snapshot_hash(prefixes: list[bytes], answer_message: object) -> bytes:
    """The hash of a request's messages plus its answer; b"", which no candidate equals, where there is none."""
    canonical = _canonical(answer_message)
    return sha256(prefixes[-1] + canonical).digest() if prefixes and canonical is not None else b""


def candidates(messages: object, prefixes: list[bytes] | None = None) -> list[tuple[int, bytes]]:
    """Depth and hash of the prefixes that may be a snapshot, longest first: all those that end with an answer.

    The whole list is none of them: it is what is asked now. `prefixes`, where they are known, are those of `messages`.
    """
    if not isinstance(messages, list):
        return []
    hashes = prefix_hashes(messages) if prefixes is None else prefixes
    depths = range(len(hashes) - 1, 0, -1)
    return [(depth, hashes[depth - 1]) for depth in depths if messages[depth - 1].get("role") == "assistant"]


def _canonical(message: object) -> bytes | None:
    if not isinstance(message, dict):
        return None
    role, content, calls = message.get("role"), message.get("content"), message.get("tool_calls")
    form = [
        "" if role is None else role,
        content if isinstance(content, str) else content_form(content),
        _or_empty(message.get("tool_call_id")),
    ]
    try:
        form.append([_call(call) for call in calls] if isinstance(calls, list) else calls or [])
        if message.get("function_call"):
            form.append(_function(message["function_call"]))
        return written(form)
    except (TypeError, ValueError, RecursionError):  # not JSON at all, or nested beyond what can be written
        return None


def _or_empty(value: Any) -> Any:
    return "" if value is None else value


def content_form(content: Any) -> Any:
    """Text however it was sent: as a string, as text parts, or not at all. Other content as it is."""
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return "".join(part["text"] for part in content)
    return _or_empty(content)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _TEXTS and isinstance(part.get("text"), str)


def _call(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    custom = call.get("custom")
    return [_or_empty(call.get("id")), _function(call.get("function")), *([custom] if custom else [])]


def _function(function: Any) -> Any:
    if not isinstance(function, dict):
        return function
    return [_or_empty(function.get("name")), arguments_form(function.get("arguments"))]


def arguments_form(arguments: Any) -> Any:
    """Arguments are JSON in a string; frameworks parse them and write them anew, with other spaces and escapes."""
    if not isinstance(arguments, str):
        return written(arguments).decode() if arguments else ""
    try:
        value, _ = jsontext.parse(arguments.encode("utf-8", "surrogatepass"))
    except ValueError:
        return arguments
    return written(value).decode()


def written(value: Any) -> bytes:
    """JSON, the same however members are ordered. Raises TypeError, ValueError, RecursionError."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a lone surrogate, or an integer of more than 64 bits
        return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
