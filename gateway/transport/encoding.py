"""Content codings that an upstream used although none was asked for (RFC 9110 section 8.4)."""

from __future__ import annotations

import zlib
from dataclasses import replace

from gateway.errors import UpstreamGarbled
from gateway.transport.call import BodySink, Ending, Head

INFLATED_AT_ONCE = 16 * 1024 * 1024  # of one network read; more is a bomb


class InflatingSink(BodySink):
    """Stands before a sink and feeds it the decoded bytes. `fault` says what is wrong with the coding, if anything."""

    __slots__ = ("_inflate", "_is_begun", "_sink", "fault")

    def __init__(self, sink: BodySink) -> None:
        self._sink = sink
        self._inflate = _inflater()
        self._is_begun = False
        self.fault: str | None = None

    @property
    def is_full(self) -> bool:
        return self._sink.is_full

    @property
    def is_whole(self) -> bool:
        """The coding reached its own end, or there was no body at all."""
        return self._inflate.eof or not self._is_begun

    def ending(self, http: Ending) -> Ending:
        """How the decoded body ended, where HTTP saw the encoded one end like this."""
        if self.fault is not None:
            return Ending.GARBLED
        if http in (Ending.WHOLE, Ending.UNPROVED) and not self.is_whole:
            return Ending.CUT
        return http

    def feed(self, data: bytes) -> bool:
        try:
            plain = self._inflated(data)
        except zlib.error as error:
            self.fault = f"the upstream's compressed body is broken: {error}"
            return True
        if plain is None:
            self.fault = "the upstream's compressed body inflates without measure"
            return True
        return bool(plain) and self._sink.feed(plain)

    def _inflated(self, data: bytes) -> bytes | None:
        """None: a bomb. One gzip may follow another (RFC 1952 section 2.2); what follows and is none is a fault."""
        parts: list[bytes] = []
        left = INFLATED_AT_ONCE
        while data:
            if self._inflate.eof:
                self._inflate = _inflater()
            self._is_begun = True
            parts.append(self._inflate.decompress(data, left))
            left -= len(parts[-1])
            data = self._inflate.unused_data
            if self._inflate.unconsumed_tail or (data and left <= 0):
                return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def drained(self) -> None:
        await self._sink.drained()


def _inflater() -> zlib._Decompress:
    return zlib.decompressobj(wbits=47)  # gzip or zlib, told by the header


def decoded(head: Head, sink: BodySink) -> InflatingSink | None:
    """The sink to pump into when the body is compressed; None when it is plain. Raises UpstreamGarbled."""
    coding = (head.get(b"content-encoding") or b"identity").strip().lower()
    if coding == b"identity":
        return None
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return InflatingSink(sink)
    raise UpstreamGarbled(f"the upstream used the content coding {coding.decode('latin-1')!r}, which was not asked for")


def plain_head(head: Head) -> Head:
    """The head that belongs to the decoded body."""
    headers = tuple(header for header in head.headers if header[0] not in (b"content-encoding", b"content-length"))
    return replace(head, headers=headers)
