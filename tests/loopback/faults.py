"""Answers that an upstream should never give, and that every relay must live through."""

from __future__ import annotations

from typing import Literal, Unpack

from tests.loopback.answers import (
    Wire,
    answer,
    chat_completion,
    chat_events,
    chat_stream,
    encode_events,
    error,
    event,
    head,
    http_chunk,
    json_answer,
    stream,
)
from tests.loopback.script import Fin, Flood, Pause, Rst, Script, Send, Stall, Step

TEXT = "Grüße aus dem Loopback 🙂, eine ganze Antwort mit vielen Wörtern, die man gut mitten entzwei schneiden kann."
How = Literal["fin", "rst"]


def html(status: int = 502, *, text: str = "Bad Gateway", **wire: Unpack[Wire]) -> Script:
    """The page of a proxy in between, with any status (200 too)."""
    page = f"<!DOCTYPE html>\n<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>\n"
    wire.setdefault("framing", "length")
    return answer([page.encode()], status=status, content_type="text/html; charset=utf-8", **wire)


def garbage(data: bytes = b"\x16\x03\x01\x02\x00 this is not HTTP\r\n\r\n") -> Script:
    return Script([Send(data), Fin()])


def garbage_body(**wire: Unpack[Wire]) -> Script:
    """Said to be an event stream, but is noise (deterministic, with every byte value)."""
    return stream([bytes(range(256)), bytes(reversed(range(256)))], **wire)


def ok_with_error_body(message: str = "The model is overloaded.", **wire: Unpack[Wire]) -> Script:
    """A 200 of JSON with an error in it, even where a stream was asked for."""
    return json_answer({"error": {"message": message, "type": "server_error", "param": None, "code": None}}, **wire)


def sse_error_event(
    after_chunks: int = 3, *, message: str = "The model broke.", done: bool = False, **wire: Unpack[Wire]
) -> Script:
    """A stream that turns into `data: {"error": …}`; some upstreams still say `[DONE]` after it."""
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    end = ["data: [DONE]\n\n"] if done else []
    return stream(encode_events([*chat_events(TEXT)[:after_chunks], event(body), *end]), **wire)


def big_line(size: int = 1_000_000, **wire: Unpack[Wire]) -> Script:
    """A whole stream with one event of about `size` bytes in it."""
    return chat_stream(["small ", "x" * size, " small"], **wire)


def no_done(*, finish_reason: str | None = "stop", **wire: Unpack[Wire]) -> Script:
    """Ends in good order without `[DONE]`; with `finish_reason=None` nothing says that the answer is whole."""
    return chat_stream(TEXT, done=False, finish_reason=finish_reason, **wire)


def cut_after(count: int, how: How = "fin", *, torn: int = 0, **wire: Unpack[Wire]) -> Script:
    """`count` whole events, `torn` bytes of the next one, and the connection is gone."""
    return _cut_stream(count, torn, wire).then(Fin() if how == "fin" else Rst())


def cut_completion(size: int, how: How = "fin", **wire: Unpack[Wire]) -> Script:
    """The first `size` bytes of a completion that is not streamed, in spite of its Content-Length."""
    wire["split_at"] = size
    return chat_completion(TEXT, **wire).first(1).then(Fin() if how == "fin" else Rst())


def cut_in_head(how: How = "fin") -> Script:
    return Script([Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/ev"), Fin() if how == "fin" else Rst()])


def cut_before_head(how: How = "fin") -> Script:
    """Takes the request and closes without a word."""
    return Script([Fin() if how == "fin" else Rst()])


def stall_before_headers() -> Script:
    return Script([Stall()])


def stall_after(count: int, *, torn: int = 0, **wire: Unpack[Wire]) -> Script:
    """`count` whole events, `torn` bytes of the next one, then silence until the peer closes."""
    return _cut_stream(count, torn, wire).then(Stall())


def slow_headers(pause: float = 0.02, **wire: Unpack[Wire]) -> Script:
    """A good stream whose head comes line by line."""
    first, *rest = chat_stream(TEXT, **wire).steps
    assert isinstance(first, Send)
    lines = first.data.splitlines(keepends=True)
    steps: list[Step] = []
    for line in lines:
        steps += [Send(line), Pause(pause)]
    return Script([*steps, *rest])


def huge_headers(size: int = 60_000, **wire: Unpack[Wire]) -> Script:
    """A good stream with one header field of `size` bytes, as a Content-Security-Policy may be."""
    wire["headers"] = [*wire.get("headers", ()), ("x-huge", "h" * size)]
    return chat_stream(TEXT, **wire)


def endless_headers() -> Script:
    """Header fields that never stop."""
    field = b"x-more: " + b"m" * 1000 + b"\r\n"
    return Script([Send(b"HTTP/1.1 200 OK\r\n"), Flood(field)])


def endless_line() -> Script:
    """An event that never ends."""
    start = Send(head(200, [("content-type", "text/event-stream"), ("transfer-encoding", "chunked")]))
    piece = b"x" * 65_536
    return Script([start, Send(http_chunk(b"data: "), b"data: "), Flood(http_chunk(piece), piece)])


def endless_stream() -> Script:
    """Good chunks for ever, as fast as they are taken: shows whether a reader's slowness comes through."""
    start, role, chunk = chat_stream(["x" * 200]).first(2).steps
    assert isinstance(chunk, Send)
    return Script([start, role, Flood(chunk.data, chunk.says)])


def bad_chunk_size(after: int = 3) -> Script:
    """Broken chunked framing after `after` events."""
    return chat_stream(TEXT).first(after).then(Send(b"zz\r\nnot a chunk\r\n"), Fin())


def gzip_truncated(count: int = 3, **wire: Unpack[Wire]) -> Script:
    """Compressed without being asked, and cut in a way that decompressors take for an end."""
    wire.setdefault("framing", "close")
    wire["gzip"] = True
    return cut_after(count, **wire)


def bad_gzip() -> Script:
    """Says gzip, but is not."""
    events = encode_events(chat_events(TEXT))
    return stream(events, headers=[("content-encoding", "gzip")])


def redirect(status: int = 307, location: str = "http://127.0.0.1:9/v1/chat/completions") -> Script:
    return answer([], status=status, content_type=None, headers=[("location", location)])


def early_hints_103_then_answer(**wire: Unpack[Wire]) -> Script:
    hints = Script([Send(head(103, [("link", "</style.css>; rel=preload")]))])
    return hints + chat_stream(TEXT, **wire)


def extra_bytes_after() -> Script:
    """A whole answer and then bytes that nobody asked for: a reused connection would read them as the next answer."""
    stray = json_answer({"stray": "this belongs to nobody"})
    whole = chat_completion(TEXT)
    return Script([Send(whole.wire + stray.wire, whole.payload)])


def rate_limited(retry_after: str = "7") -> Script:
    headers = [("retry-after", retry_after), ("x-ratelimit-remaining-requests", "0")]
    return error(429, message="Rate limit reached.", code="rate_limit_exceeded", headers=headers)


def _cut_stream(count: int, torn: int, wire: Wire) -> Script:
    events = encode_events(chat_events(TEXT))
    if not torn:
        return stream(events, **wire).first(count)
    pieces = [*events[:count], events[count][:torn], events[count][torn:], *events[count + 1 :]]
    return stream(pieces, **wire).first(count + 1)
