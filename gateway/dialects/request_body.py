"""Small changes to a request's JSON that leave every other byte as the caller wrote it. Pure."""

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

# Members that list models which an upstream may use instead: OpenRouter's, LiteLLM's.
FURTHER_MODELS = ("models", "fallbacks", "context_window_fallbacks", "content_policy_fallbacks")
# Members in which `model` is a word of the conversation or of a schema, not of what is asked of the upstream.
_SAID = frozenset(
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
# Members that decide what is done with a conversation. Of a name that stands there twice some servers take the first,
# some the last; some do not tell upper case from lower.
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
# Finds where a value ends; numbers are not worked out, for they may be larger than anything.
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


def further_models(body: Json) -> Iterator[str]:
    """Names of the models that the upstream may use instead of `model` or beside it, such as `session.model`,
    `extra_body.model` or `tools[0].model`; empty for one that is not named plainly."""
    for name, value in body.items():
        if name in FURTHER_MODELS and value is not None:
            yield from (one if isinstance(one, str) else "" for one in (value if isinstance(value, list) else [value]))
        elif name == "tools" and isinstance(value, list):  # what lies deeper in a tool is a schema
            yield from (
                tool["model"] for tool in value if isinstance(tool, dict) and isinstance(tool.get("model"), str)
            )
        elif name not in _SAID:
            yield from _models_within(value)


def _models_within(value: object) -> Iterator[str]:
    open_ones = [value]
    while open_ones:
        one = open_ones.pop()
        if isinstance(one, list):
            open_ones += one
        elif isinstance(one, dict):
            for name, inner in one.items():
                if name.casefold() == "model" and isinstance(inner, str):
                    yield inner
                elif name.casefold() in FURTHER_MODELS and inner is not None:
                    yield ""
                else:
                    open_ones.append(inner)


def may_name_models(name: str, value: bytes) -> bool:
    """Whether `further_models` looks into a member of this name with this value, as it is written."""
    return name in FURTHER_MODELS or (name not in _SAID and value[:1] in (b"{", b"["))


def values_of(raw: bytes) -> dict[str, bytes]:
    """The value of each member of a JSON object, as it is written; of doubles the last. Raises ValueError for what is
    not a JSON object, and RecursionError for one of great depth."""
    try:
        return {name: bytes(value) for name, value in _RAW_VALUES.decode(raw).items()}
    except msgspec.DecodeError:  # lone surrogates, too, which are JSON
        text = raw.decode()
        json.loads(text, parse_int=str)
        if not text.lstrip(" \t\r\n").startswith("{"):
            raise ValueError("it is not a JSON object") from None
        return {member.name: text[member.value : member.end].encode() for member in _members(text)}


def ambiguous_member(
    raw: bytes, names: Collection[str] | None, within: Mapping[str, Collection[str]] | None = None
) -> str | None:
    """A member of the JSON object `raw` that servers may read in different ways; None where there is none.

    It is one of `names` (None: any), which are in lower case, that stands there twice, or in another case; escapes are
    undone. `within` has the names to look for in members that are objects themselves. Raises as `values_of`.

    Costs half as much as parsing: values are skipped, and what stands between them must be the names and no more.
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
    """Whether a name stands there in another case."""
    if names is None:
        folded = [name.casefold() for name in values]
        return len(set(folded)) < len(folded)
    return bool([name for name in values if name not in names and name.casefold() in names])  # `any` costs twice that


def _is_plain(raw: bytes, names: Collection[str], within: Mapping[str, Collection[str]] | None) -> bool:
    """Whether an object as SDKs write it has neither a double nor a variant of a name: it has its members and not one
    byte more, for a double, a space or an escape in a name adds some. Takes a third of a closer look."""
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
    """Whether an object has these values, in this order, and no other."""
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
    """The JSON object `raw` without some members, however often they stand there."""
    text = raw.decode()
    kept = [text[member.start : member.end] for member in _members(text) if member.name not in names]
    return f"{{{','.join(kept)}}}".encode()


def asking_for_usage(raw: bytes, body: Json) -> bytes | None:
    """The request with `stream_options.include_usage` set; None where the caller's own options forbid to touch it."""
    if OPTIONS not in body:
        return with_member(raw, ASK_USAGE)
    options = body[OPTIONS]
    if options is None:
        return with_member(without_members(raw, (OPTIONS,)), ASK_USAGE)
    if not isinstance(options, dict) or "include_usage" in options:
        return None
    text = raw.decode()
    *_, last = (member for member in _members(text) if member.name == OPTIONS)  # of doubles, parsers take the last
    value = with_member(text[last.value : last.end].encode(), INCLUDE_USAGE)
    return b"%b%b%b" % (text[: last.value].encode(), value, text[last.end :].encode())


class _Member(NamedTuple):
    """A member's place in the text: from behind the brace or comma before it, to before the one behind it."""

    name: str
    start: int
    value: int
    end: int


def _members(text: str) -> Iterator[_Member]:
    """The members of a JSON object, doubles too. The text is known to be JSON."""
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
