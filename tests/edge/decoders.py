"""How clients read server-sent events, where they differ: the decoding loops of SDKs, written after them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openai._streaming import SSEDecoder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Decoder = Callable[[bytes], list[str]]  # the data of each event that the client would parse as JSON


def openai_python(body: bytes) -> list[str]:
    """The package itself. It takes a blank line for an event when an id was seen, whatever stands before it."""
    return [event.data for event in SSEDecoder().iter_bytes(iter([body]))]


def openai_go(body: bytes) -> list[str]:
    """openai-go before 3.43 (packages/ssestream): each blank line is an event, also one with nothing before it."""
    events: list[str] = []
    data = b""
    for line in _go_lines(body):
        name, _, value = line.partition(b":")
        if not line:
            events.append(data.decode())
            data = b""
        elif name == b"data":
            data += value.removeprefix(b" ") + b"\n"
    return [event.removesuffix("\n") for event in events]


def _go_lines(body: bytes) -> Iterator[bytes]:
    """As bufio.ScanLines: a line ends with LF, and one CR before it is dropped."""
    *lines, rest = body.split(b"\n")
    yield from (line.removesuffix(b"\r") for line in lines)
    if rest:
        yield rest.removesuffix(b"\r")


def openai_node(body: bytes) -> list[str]:
    """openai-node (core/streaming): any line end; a blank line is an event if a name or data stands before it."""
    events: list[str] = []
    name, data = "", list[str]()
    for line in re.split("\r\n|\n|\r", body.decode()):
        if not line:
            if name or data:
                events.append("\n".join(data))
            name, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            if field == "event":
                name = value.removeprefix(" ")
            elif field == "data":
                data.append(value.removeprefix(" "))
    return events


def whatwg(body: bytes) -> list[str]:
    """As browsers: a byte order mark is dropped at the very start alone, and an event without data is none."""
    return [
        "\n".join(data)
        for block in re.split("(?:^|(?<=\n))\n", re.sub("\r\n?", "\n", body.decode().removeprefix("\ufeff")))
        if (data := [line[5:].removeprefix(" ") for line in block.split("\n") if line.startswith("data:")])
    ]


def by_blank_lines(body: bytes) -> list[str]:
    """As much home-made code: cut at the blank line that the first event ended with."""
    blank = "\r\n\r\n" if b"\r\n\r\n" in body else "\r\r" if b"\r\r" in body else "\n\n"
    line_end = blank[: len(blank) // 2]
    return [
        line[5:].removeprefix(" ")
        for block in body.decode().split(blank)
        for line in block.split(line_end)
        if line.startswith("data:")
    ]


DECODERS: dict[str, Decoder] = {
    "openai-python": openai_python,
    "openai-go": openai_go,
    "openai-node": openai_node,
    "whatwg": whatwg,
    "by blank lines": by_blank_lines,
}
