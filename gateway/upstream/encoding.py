"""Content codings that an upstream used although none was asked for (RFC 9110 section 8.4)."""

from __future__ import annotations

import zlib

from gateway.errors import UpstreamGarbled
from gateway.upstream.provider import Ending, Head, Sink

INFLATED_AT_ONCE = 16 * 1024 * 1024  # of one network read; more is a bomb


class InflatingSink(Sink):
    """Stands before a sink and feeds it the decoded bytes. `is_whole` tells whether the coding reached its own end."""

    __slots__ = ("_inflate", "_sink", "fault")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._inflate = zlib.decompressobj(wbits=47)  # gzip or zlib, told by the header
        self.fault: str | None = None

    @property
    def is_full(self) -> bool:
        return self._sink.is_full

    @property
    def is_whole(self) -> bool:
        return self._inflate.eof

    def ending(self, http: Ending) -> Ending:
        """How the decoded body ended, where HTTP saw the encoded one end like this."""
        if self.fault is not None:
            return Ending.GARBLED
        if http in (Ending.WHOLE, Ending.UNPROVED) and not self.is_whole:
            return Ending.CUT
        return http

    def feed(self, data: bytes) -> bool:
        try:
            plain = self._inflate.decompress(data, INFLATED_AT_ONCE)
        except zlib.error as error:
            self.fault = f"the upstream's compressed body is broken: {error}"
            return True
        if self._inflate.unconsumed_tail:
            self.fault = "the upstream's compressed body inflates without measure"
            return True
        return bool(plain) and self._sink.feed(plain)

    async def drained(self) -> None:
        await self._sink.drained()


def decoded(head: Head, sink: Sink) -> InflatingSink | None:
    """The sink to pump into when the body is compressed; None when it is plain. Raises UpstreamGarbled."""
    coding = (head.get(b"content-encoding") or b"identity").strip().lower()
    if coding == b"identity":
        return None
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return InflatingSink(sink)
    raise UpstreamGarbled(f"the upstream used the content coding {coding.decode('latin-1')!r}, which was not asked for")
