"""Decodes content codings of upstreams that compress without being asked to (RFC 9110 section 8.4)."""

from __future__ import annotations

import zlib
from dataclasses import replace

from gateway.errors import UpstreamGarbled
from gateway.transport.call import BodySink, Ending, Head

MAX_INFLATED_BYTES = 16 * 1024 * 1024  # of one network read; more is a decompression bomb


class InflatingSink(BodySink):
    """Feeds another sink with the decoded bytes. `fault` is the error in the coding, if there is one."""

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
        """Whether the coding reached its own end, or there was no body at all."""
        return self._inflate.eof or not self._is_begun

    def ending(self, http: Ending) -> Ending:
        """The ending of the decoded body, from the ending of the encoded one."""
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
            self.fault = "the upstream's compressed body inflates beyond all limits"
            return True
        return bool(plain) and self._sink.feed(plain)

    def _inflated(self, data: bytes) -> bytes | None:
        """The decoded bytes; None for a decompression bomb.

        One gzip member may follow another (RFC 1952 section 2.2). Any other bytes behind a member are a fault.
        """
        parts: list[bytes] = []
        left = MAX_INFLATED_BYTES
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
    return zlib.decompressobj(wbits=47)  # gzip or zlib, detected by its header


def decoded(head: Head, sink: BodySink) -> InflatingSink | None:
    """A sink that decodes a compressed body into `sink`; None if the body is plain. Raises UpstreamGarbled."""
    coding = (head.get(b"content-encoding") or b"identity").strip().lower()
    if coding == b"identity":
        return None
    if coding in (b"gzip", b"x-gzip", b"deflate"):
        return InflatingSink(sink)
    raise UpstreamGarbled(
        f"the upstream used the content coding {coding.decode('latin-1')!r}, which the gateway did not ask for"
    )


def plain_head(head: Head) -> Head:
    """The head of the decoded body."""
    headers = tuple(header for header in head.headers if header[0] not in (b"content-encoding", b"content-length"))
    return replace(head, headers=headers)
