"""Bodies that came compressed although nobody asked: decoded at any cut, within bounds, never whole if they are not."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamGarbled
from gateway.transport import encoding
from gateway.transport.call import Ending
from gateway.transport.encoding import decoded, plain_head
from tests.dialects.streams import cut
from tests.fakes import Basin, head

TEXT = b"data: Hello there, you.\n\n" * 20
PACKED = {
    "gzip": gzip.compress(TEXT, mtime=0),
    "x-gzip": gzip.compress(TEXT[:100], mtime=0) + gzip.compress(TEXT[100:], mtime=0),  # one behind the other
    "deflate": zlib.compress(TEXT),
}


def inflated(reads: list[bytes], http: Ending = Ending.WHOLE, coding: str = "gzip") -> tuple[bytes, Ending]:
    basin = Basin()
    sink = decoded(head(content_encoding=coding), basin)
    assert sink is not None
    if any(sink.feed(read) for read in reads) and sink.fault is None:
        http = Ending.ENOUGH
    return bytes(basin.body), sink.ending(http)


@pytest.mark.parametrize("coding", list(PACKED))
@given(places=st.lists(st.integers(0, 1 << 16), max_size=20))
def test_body_is_decoded_at_any_cut(coding: str, places: list[int]) -> None:
    reads = [read for read in cut(PACKED[coding], places) if read]
    for http in (Ending.WHOLE, Ending.UNPROVED):
        assert inflated(reads, http, coding) == (TEXT, http)


@pytest.mark.parametrize("coding", list(PACKED))
@given(size=st.integers(1, 1 << 16))
def test_body_that_lacks_its_end_is_cut_whatever_http_says(coding: str, size: int) -> None:
    packed = PACKED[coding]
    lengths = {len(packed), len(gzip.compress(TEXT[:100], mtime=0)) if coding == "x-gzip" else len(packed)}
    size %= len(packed)
    if size in {0, *lengths}:
        return
    for http in (Ending.WHOLE, Ending.UNPROVED, Ending.CUT):
        body, ending = inflated([packed[:size]], http, coding)
        assert ending is Ending.CUT
        assert TEXT.startswith(body)


def test_each_piece_is_decoded_when_it_comes() -> None:
    packer = zlib.compressobj(wbits=31)
    basin = Basin()
    sink = decoded(head(content_encoding="gzip"), basin)
    assert sink is not None
    for piece in (b"data: 1\n\n", b"data: 2\n\n"):
        sink.feed(packer.compress(piece) + packer.flush(zlib.Z_SYNC_FLUSH))
        assert basin.body.endswith(piece)


def test_no_body_at_all_lacks_nothing() -> None:
    assert inflated([]) == (b"", Ending.WHOLE)


@pytest.mark.parametrize("bad", [b"plain text", PACKED["gzip"][:-4] + b"xxxx", PACKED["gzip"] + b"trailing junk"])
def test_broken_body_is_garbled(bad: bytes) -> None:
    assert inflated([bad])[1] is Ending.GARBLED


def test_junk_behind_the_end_does_not_pile_up() -> None:
    sink = decoded(head(content_encoding="gzip"), Basin())
    assert sink is not None
    assert not sink.feed(PACKED["gzip"])
    assert sink.feed(b"junk")
    assert sink.ending(Ending.WHOLE) is Ending.GARBLED


@pytest.mark.parametrize(
    "bomb",
    [
        gzip.compress(b" " * 1_000_000),
        gzip.compress(b" " * 60_000) * 3,
        gzip.compress(b" " * 100_000) + gzip.compress(b"x"),
    ],
)
def test_bomb_is_not_inflated(monkeypatch: pytest.MonkeyPatch, bomb: bytes) -> None:
    monkeypatch.setattr(encoding, "MAX_INFLATED_BYTES", 100_000)
    body, ending = inflated([bomb])
    assert ending is Ending.GARBLED
    assert len(body) <= 100_000


def test_sink_that_has_enough_is_heard() -> None:
    basin = Basin(enough=lambda body: len(body) > 10)
    sink = decoded(head(content_encoding="gzip"), basin)
    assert sink is not None
    assert sink.feed(PACKED["gzip"])
    assert sink.ending(Ending.ENOUGH) is Ending.ENOUGH


async def test_sink_that_is_full_is_waited_for() -> None:
    basin = Basin(room=1)
    sink = decoded(head(content_encoding="gzip"), basin)
    assert sink is not None
    sink.feed(PACKED["gzip"])
    assert sink.is_full
    basin.empty()
    assert not sink.is_full


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, br", "nonsense"])
def test_unknown_coding_is_garbled(coding: str) -> None:
    with pytest.raises(UpstreamGarbled, match=coding):
        decoded(head(content_encoding=coding), Basin())


@pytest.mark.parametrize("coding", [{}, {"content_encoding": "identity"}, {"content_encoding": " Identity "}])
def test_plain_body_needs_no_decoding(coding: dict[str, str]) -> None:
    assert decoded(head(**coding), Basin()) is None


def test_head_of_a_decoded_body_says_nothing_of_its_coding() -> None:
    plain = plain_head(head(429, content_encoding="gzip", content_length="9", retry_after="7"))
    assert (plain.status, plain.headers) == (429, ((b"retry-after", b"7"),))
