"""Fingerprints of chat completions, which have no id of the conversation: a hash for each prefix of the messages.

A turn's snapshot is the hash of its messages plus its answer. A later request of the same caller that begins with the
same messages continues that conversation. Hashes are chained: h_i = sha256(h_{i-1} || canonical(m_i)), 32 bytes each.

Clients seldom send an answer back unchanged: SDKs add and drop empty fields, frameworks write arguments anew. The
canonical form therefore keeps the role, the content, the tool calls and the id of the call that a message answers.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gateway.dialects.fingerprints import (
    NONE,
    Fingerprints,
    canonical_json,
    normal_arguments,
    normal_content,
    or_empty,
)

if TYPE_CHECKING:
    from gateway.model import Json


def fingerprints_of_chat(request: Json, answer: Json) -> Fingerprints:
    """The fingerprints of a chat completion's turn."""
    messages = request.get("messages")
    prefixes = prefix_hashes(messages)
    if not prefixes:
        return NONE
    message = _first_message(answer)
    return Fingerprints(
        snapshots=[found for _, found in candidates(messages, prefixes)],
        snapshot=(snapshot_hash(prefixes, message) or None) if message is not None else None,
    )


def _first_message(completion: Json) -> Json | None:
    """The model's message, also one that was cut short: the caller may continue from there. None for an error."""
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict) or not (message.get("content") or message.get("tool_calls")):
        return None
    return message


def prefix_hashes(messages: object) -> list[bytes]:
    """The hash of every prefix, shortest first; empty for anything but a list of JSON objects."""
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
    """The hash of a request's messages plus its answer; b"", which equals no candidate, if it has no hash."""
    canonical = _canonical(answer_message)
    return sha256(prefixes[-1] + canonical).digest() if prefixes and canonical is not None else b""


def candidates(messages: object, prefixes: list[bytes] | None = None) -> list[tuple[int, bytes]]:
    """Depth and hash of the prefixes that may be a snapshot, longest first: all those that end with an answer.

    The whole list is not one of them: it is the present request. `prefixes` are the hashes of `messages`, if known.
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
        content if isinstance(content, str) else normal_content(content),
        or_empty(message.get("tool_call_id")),
    ]
    try:
        form.append([_call(call) for call in calls] if isinstance(calls, list) else calls or [])
        if message.get("function_call"):
            form.append(_function(message["function_call"]))
        return canonical_json(form)
    except (TypeError, ValueError, RecursionError):  # not JSON at all, or nested beyond what can be written
        return None


def _call(call: Any) -> Any:
    if not isinstance(call, dict):
        return call
    custom = call.get("custom")
    return [or_empty(call.get("id")), _function(call.get("function")), *([custom] if custom else [])]


def _function(function: Any) -> Any:
    if not isinstance(function, dict):
        return function
    return [or_empty(function.get("name")), normal_arguments(function.get("arguments"))]
