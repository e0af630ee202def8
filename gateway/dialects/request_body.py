"""Reads and changes members of a request's JSON, and leaves every other byte as the caller wrote it. Pure."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from gateway.model import Json

OPTIONS = "stream_options"
INCLUDE_USAGE = b'"include_usage":true'
ASK_USAGE = b'"stream_options":{%b}' % INCLUDE_USAGE

# Members of OpenRouter and LiteLLM that list models which the upstream may use instead.
FURTHER_MODELS = ("models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
# Members in which a member `model` is part of the conversation or of a schema, and names no model for the upstream.
_CONTENT_MEMBERS = frozenset(
    (
        "messages",
        "input",
        "prompt",
        "system",
        "instructions",
        "contents",
        "documents",
        "prediction",
        "metadata",
        "functions",
        "response_format",
        "text",
    )
)
# Members that decide how a conversation is handled. Of a repeated name some servers take the first member, some the
# last; some ignore case.
DECIDING = frozenset(
    (
        "model",
        *FURTHER_MODELS,
        "messages",
        "input",
        "instructions",
        "system",
        "prompt",
        "tools",
        "stream",
        OPTIONS,
        "n",
        "store",
        "background",
        "previous_response_id",
        "conversation",
        "root_id",
        "convo_title",
    )
)
DECIDING_WITHIN = {OPTIONS: frozenset(("include_usage",))}

_RAW_VALUES = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BEFORE_VALUE = re.compile(rb'[ \t\n\r]*+,?[ \t\n\r]*+"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\n\r]*+:[ \t\n\r]*+', re.DOTALL)
_SPACE = re.compile(r"[ \t\n\r]*")
# Finds the end of a value. Numbers stay text: they may be of any size.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def further_models(body: Json) -> Iterator[str]:
    """Names of further models that the upstream may use instead of `model` or beside it.

    Such as `session.model`, `extra_body.model` or `tools[0].model`; "" for a model whose name cannot be read.
    """
    for name, value in body.items():
        if name in FURTHER_MODELS and value is not None:
            yield from (one if isinstance(one, str) else "" for one in (value if isinstance(value, list) else [value]))
        elif name == "tools" and isinstance(value, list):  # the deeper members of a tool are a schema
            yield from (
                tool["model"] for tool in value if isinstance(tool, dict) and isinstance(tool.get("model"), str)
            )
        elif name not in _CONTENT_MEMBERS:
            yield from _models_within(value)


def _models_within(value: object) -> Iterator[str]:
    stack = [value]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            for name, inner in node.items():
                if name.casefold() == "model" and isinstance(inner, str):
                    yield inner
                elif name.casefold() in FURTHER_MODELS and inner is not None:
                    yield ""
                else:
                    stack.append(inner)


def may_name_models(name: str, value: bytes) -> bool:
    """Whether `further_models` searches a member with this name and this JSON text."""
    return name in FURTHER_MODELS or (name not in _CONTENT_MEMBERS and value[:1] in (b"{", b"["))


def values_of(raw: bytes) -> dict[str, bytes]:
    """The JSON text of each member's value; of a repeated name the last.

    Raises ValueError for anything but a JSON object, and RecursionError for too deep nesting.
    """
    try:
        return {name: bytes(value) for name, value in _RAW_VALUES.decode(raw).items()}
    except msgspec.DecodeError:  # also for lone surrogates, which are JSON
        text = raw.decode()
        json.loads(text, parse_int=str)
        if not text.lstrip(" \t\r\n").startswith("{"):
            raise ValueError("it is not a JSON object") from None
        return {member.name: text[member.value : member.end].encode() for member in _members(text)}


def ambiguous_member(
    raw: bytes, names: Collection[str] | None, within: Mapping[str, Collection[str]] | None = None
) -> str | None:
    """Return the name of a member of the JSON object `raw` that servers may read in different ways, or None.

    It is one of `names` (in lower case; None: any name) that is repeated, or written in another case or with escapes.
    `within` has the names to check in members that are objects themselves. Raises as `values_of`.

    Costs half as much as parsing: it skips the values, and only names may stand between them.
    """
    if names is not None and _is_plain(raw, names, within):
        return None
    values = values_of(raw)
    if _has_variant(values, names) or not _is_made_of(raw, values.values()):
        seen: set[str] = set()
        for member in _members(raw.decode("utf-8", "replace")):
            folded = member.name.casefold()
            if names is not None and folded not in names:
                continue
            if folded in seen or (names is not None and member.name != folded):
                return folded
            seen.add(folded)
    for name, inner_names in (within or {}).items():
        value = values.get(name, b"")
        if value.startswith(b"{") and ambiguous_member(value, inner_names) is not None:
            return name
    return None


def _has_variant(values: Iterable[str], names: Collection[str] | None) -> bool:
    """Whether a name is written in another case."""
    if names is None:
        folded = [name.casefold() for name in values]
        return len(set(folded)) < len(folded)
    return bool([name for name in values if name not in names and name.casefold() in names])  # `any` costs double


def _is_plain(raw: bytes, names: Collection[str], within: Mapping[str, Collection[str]] | None) -> bool:
    """Whether a compact object has neither a repeated name nor a variant of one, at a third of the full check's cost.

    A repeated name, a space, or an escape in a name makes the object longer than the sum of its members.
    """
    try:
        values = _RAW_VALUES.decode(raw)
    except msgspec.DecodeError:
        return False
    size = 1
    for name, value in values.items():
        if name not in names:
            if name.casefold() in names:
                return False
        elif within is not None and name in within:
            return False
        size += len(name) + len(value) + 4  # two quotation marks, a colon, and a comma or the brace
    return size == len(raw)


def _is_made_of(raw: bytes, values: Iterable[bytes]) -> bool:
    """Whether an object has exactly these values, in this order."""
    at = raw.index(b"{") + 1
    for value in values:
        before = _BEFORE_VALUE.match(raw, at)
        if before is None or not raw.startswith(value, before.end()):
            return False
        at = before.end() + len(value)
    return raw[at:].strip() == b"}"


def with_member(raw: bytes, member: bytes) -> bytes:
    """The JSON object `raw` with one more member (`"name":value`) at its end."""
    head = raw.rstrip()[:-1].rstrip()
    separator = b"" if head.endswith(b"{") else b","
    return b"%b%b%b}" % (head, separator, member)


def without_members(raw: bytes, names: Collection[str]) -> bytes:
    """The JSON object `raw` without all members of these names."""
    text = raw.decode()
    kept = [text[member.start : member.end] for member in _members(text) if member.name not in names]
    return f"{{{','.join(kept)}}}".encode()


def asking_for_usage(raw: bytes, body: Json) -> bytes | None:
    """The request with `stream_options.include_usage` set; None if the caller's own options must not be changed."""
    if OPTIONS not in body:
        return with_member(raw, ASK_USAGE)
    options = body[OPTIONS]
    if options is None:
        return with_member(without_members(raw, (OPTIONS,)), ASK_USAGE)
    if not isinstance(options, dict) or "include_usage" in options:
        return None
    text = raw.decode()
    *_, last = (member for member in _members(text) if member.name == OPTIONS)  # parsers take the last one
    value = with_member(text[last.value : last.end].encode(), INCLUDE_USAGE)
    return b"%b%b%b" % (text[: last.value].encode(), value, text[last.end :].encode())


class _Member(NamedTuple):
    """Offsets of a member: from behind the preceding brace or comma to the following one."""

    name: str
    start: int
    value: int
    end: int


def _members(text: str) -> Iterator[_Member]:
    """The members of a JSON object, repeated names too. `text` must be JSON."""
    start = _skip(text, 0) + 1
    while text[at := _skip(text, start)] != "}":
        name, at = _SCANNER.raw_decode(text, at)
        value = _skip(text, _skip(text, at) + 1)
        _, at = _SCANNER.raw_decode(text, value)
        end = _skip(text, at)
        yield _Member(name, start, value, end)
        if text[end] == "}":
            return
        start = end + 1


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
