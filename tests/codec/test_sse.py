"""Bytes to events, at every cut and at any chunking, against a plain reading of the WHATWG rules."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.codec.sse import Event, EventSplitter, EventTooLong, data_payloads, parse_event, split_events
from gateway.errors import UpstreamGarbled

BOM = b"\xef\xbb\xbf"

PIECES = [
    b"\n",
    b"\r",
    b"\r\n",
    b"data: x",
    b"data",
    b"data:",
    b"event: e",
    b": note",
    b"\xc3\xbc",
    BOM,
    b"\xef",
    b"\xbb",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join)
UNMARKED = st.lists(st.sampled_from([piece for piece in PIECES if piece != BOM]), max_size=14).map(b"".join)
STREAMS = st.builds(lambda mark, text: mark + text, st.sampled_from([b"", BOM]), TEXTS)

CORPUS = """event: greeting
data: {"a": "Grüße 👋"}

: beat

data: one
data:  two
id: 7


data

data: [DONE]

""".encode()


def ends_by_the_book(stream: bytes) -> list[int]:
    """Where each event ends: the standard's own words, one byte at a time."""
    position = len(BOM) if stream.startswith(BOM) else 0
    ends, is_blank = [], True
    while position < len(stream):
        byte = stream[position : position + 1]
        position += 1
        if byte not in (b"\n", b"\r"):
            is_blank = False
            continue
        if byte == b"\r" and stream[position : position + 1] == b"\n":
            position += 1
        if is_blank:
            ends.append(position)
        is_blank = True
    return ends


def events_by_the_book(stream: bytes) -> list[tuple[str, bytes]]:
    """What a client sees: decode, split into lines, dispatch at blank lines."""
    text = stream.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    seen: list[tuple[str, bytes]] = []
    kind, data = b"", list[bytes]()
    for line in text.split(b"\n")[:-1]:
        name, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if data:
                seen.append((kind.decode("utf-8", "replace") or "message", b"\n".join(data)))
            kind, data = b"", []
        elif name == b"data":
            data.append(value)
        elif name == b"event":
            kind = value
    return seen


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted({place % (len(stream) + 1) for place in places}), len(stream)]
    return [stream[start:end] for start, end in pairwise(bounds)]


def seen_through(reads: list[bytes]) -> list[tuple[str, bytes]]:
    splitter = EventSplitter(1 << 20)
    raws = [raw for read in reads for raw in split_events(splitter.feed(read))]
    return [(event.type, event.data) for event in map(parse_event, raws) if event.data is not None]


@settings(max_examples=400, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 200), max_size=8))
def test_after_every_read_exactly_the_events_that_are_whole_were_given_back(stream: bytes, places: list[int]) -> None:
    splitter, read, given_back = EventSplitter(1 << 20), b"", b""
    for data in cut(stream, places):
        read += data
        given_back += splitter.feed(data)
        assert len(given_back) == max(ends_by_the_book(read), default=0)
        assert given_back + splitter.pending == read


@settings(max_examples=200, deadline=None)
@given(STREAMS)
def test_a_block_falls_into_the_events_of_the_book_and_joins_to_itself(stream: bytes) -> None:
    ends = ends_by_the_book(stream)
    events = [stream[start:end] for start, end in pairwise([0, *ends])]
    rest = stream[max(ends, default=0) :]
    assert split_events(stream) == [*events, *([rest] if rest else [])]


@settings(max_examples=200, deadline=None)
@given(UNMARKED, st.lists(st.integers(0, 200), max_size=8))
def test_clients_see_the_same_events_at_any_chunking(text: bytes, places: list[int]) -> None:
    stream = text + b"\n\n"
    assert seen_through(cut(stream, places)) == events_by_the_book(stream)
    assert data_payloads(stream) == [data for _, data in events_by_the_book(stream)]


@pytest.mark.parametrize("mark", [b"", BOM], ids=["plain", "bom"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"], ids=["lf", "cr", "crlf"])
def test_every_single_cut_gives_the_same_events(line_end: bytes, mark: bytes) -> None:
    stream = mark + CORPUS.replace(b"\n", line_end)
    expected = events_by_the_book(stream)
    assert [data for _, data in expected][1:] == [b"one\n two", b"", b"[DONE]"]
    for place in range(len(stream) + 1):
        assert seen_through([stream[:place], stream[place:]]) == expected
    assert seen_through([stream[at : at + 1] for at in range(len(stream))]) == expected


def test_mixed_line_ends_end_an_event_at_the_first_blank_line() -> None:
    line_ends = [b"\n", b"\r", b"\r\n"]
    chooser = random.Random(7)
    for _ in range(200):
        stream = b"".join(part + chooser.choice(line_ends) for part in CORPUS.split(b"\n")[:-1])
        expected = events_by_the_book(stream)
        place = chooser.randrange(len(stream))
        assert seen_through([stream[:place], stream[place:]]) == expected


def test_a_read_that_is_whole_events_is_handed_on_as_the_same_object() -> None:
    splitter, data = EventSplitter(100), b"data: a\n\ndata: b\n\n"
    assert splitter.feed(data) is data


def test_an_event_is_whole_at_the_second_cr_and_the_lf_after_it_starts_no_new_one() -> None:
    splitter = EventSplitter(100)
    assert splitter.feed(b"data: a\r\n\r") == b"data: a\r\n\r"
    assert splitter.feed(b"\n") == b"\n"
    assert splitter.pending == b""
    assert splitter.feed(b"data: b\r\n\r\n") == b"data: b\r\n\r\n"


def test_a_byte_order_mark_in_three_reads_does_not_hide_that_the_first_line_is_blank() -> None:
    splitter = EventSplitter(100)
    assert [splitter.feed(byte) for byte in (b"\xef", b"\xbb", b"\xbf")] == [b"", b"", b""]
    assert splitter.feed(b"\ndata: a\n\n") == BOM + b"\ndata: a\n\n"


def test_an_event_that_outgrows_the_limit_is_an_error_that_keeps_what_was_whole() -> None:
    splitter = EventSplitter(10)
    assert splitter.feed(b"data: 0123") == b""
    with pytest.raises(EventTooLong) as caught:
        splitter.feed(b"\n\ndata: 01234")
    assert isinstance(caught.value, UpstreamGarbled)
    assert caught.value.whole == b"data: 0123\n\n"
    assert splitter.pending == b"data: 01234"


def test_a_whole_event_above_the_limit_passes_for_it_is_not_held() -> None:
    data = b"data: " + b"x" * 100 + b"\n\ndata"
    assert EventSplitter(10).feed(data) == data[:-4]


def test_a_byte_order_mark_before_a_later_event_is_forgiven_so_that_its_words_are_kept() -> None:
    assert data_payloads(b"data: a\n\n" + BOM + b"data: b\n\n") == [b"a", b"b"]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("size", "step"), [(400_000, 1), (8_000_000, 64)])
def test_a_long_event_that_drips_in_costs_no_more_than_its_length(size: int, step: int) -> None:
    event = b"data: " + b"x" * size + b"\n\n"
    splitter = EventSplitter(1 << 30)
    given_back = b"".join(splitter.feed(event[at : at + step]) for at in range(0, len(event), step))
    assert given_back == event


@pytest.mark.parametrize(
    ("raw", "kind", "data"),
    [
        (b"data: x\n\n", "message", b"x"),
        (b"data:x\n\n", "message", b"x"),
        (b"data:  x\n\n", "message", b" x"),
        (b"data: a\ndata: b\n\n", "message", b"a\nb"),
        (b"data\n\n", "message", b""),
        (b"data:\n\n", "message", b""),
        (b": comment\n\n", "message", None),
        (b"id: 4\nretry: 10\n\n", "message", None),
        (b"event: ping\n\n", "ping", None),
        (b"event: ping\ndata: {}\n\n", "ping", b"{}"),
        (b"event:\ndata: {}\n\n", "message", b"{}"),
        (b"event: a\nevent: b\ndata: {}\n\n", "b", b"{}"),
        (b"event: \xff\ndata: {}\n\n", "\ufffd", b"{}"),
        (b" data: x\n\n", "message", None),
        (b"Data: x\n\n", "message", None),
        (b"data: a\x0bb\x85c\n\n", "message", b"a\x0bb\x85c"),
        (b"data: x\r\r", "message", b"x"),
        (b"data: x\r\n\r\n", "message", b"x"),
        (BOM + b"data: x\n\n", "message", b"x"),
        (BOM + b"\ndata: x\n\n", "message", b"x"),
        (b"\n", "message", None),
        (b"data: 1:2\n\n", "message", b"1:2"),
    ],
)
def test_an_event_is_parsed_by_the_rules(raw: bytes, kind: str, data: bytes | None) -> None:
    assert parse_event(raw) == Event(raw, kind, data)


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"data: {}\n\n",
        b'data: {"a":1}\n\ndata: {"b":2}\n\n',
        b"data: a\ndata: b\n\ndata: c\n\n",
        b"data: a\n\n\n\ndata: c\n\n",
        b"data: a\n\n: beat\n\ndata: c\n\n",
        b"data: a\n\ndata: data: \n\n",
        b"data: a\n\ndata:b\n\n",
        b"data: a\nid: 1\n\ndata: c\n\n",
        b"data: a\r\n\r\ndata: c\n\n",
    ],
)
def test_payloads_are_the_data_of_the_events_whichever_way_they_are_found(block: bytes) -> None:
    assert data_payloads(block) == [data for _, data in events_by_the_book(block)]
