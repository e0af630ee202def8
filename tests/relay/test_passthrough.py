"""Bodies that are held, counted, or streamed through."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.relay.buffered import kept_fields
from gateway.relay.passthrough import BufferSink, Digest, PassthroughSink
from tests.fakes import FakeClient, FakeEntry, head

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PIECES = st.lists(st.binary(min_size=1, max_size=20), max_size=10)


def test_whole_body_is_held_up_to_its_limit() -> None:
    body = BufferSink(10)
    assert not body.feed(b"12345")
    assert not body.feed(b"67890")
    assert (body.body, body.size, body.is_too_large) == (b"1234567890", 10, False)
    assert body.feed(b"x")
    assert (body.body, body.size, body.is_too_large) == (b"1234567890", 11, True)


@given(pieces=PIECES, keep=st.integers(0, 100))
def test_digest_knows_size_and_hash_and_keeps_what_is_small(pieces: list[bytes], keep: int) -> None:
    digest = Digest(keep)
    for piece in pieces:
        digest.update(piece)
    whole = b"".join(pieces)
    assert (digest.size, digest.hexdigest) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert digest.body == (whole if len(whole) <= keep else None)


async def test_digest_counts_what_passes() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    digest = Digest(0)
    assert [part async for part in digest.over(parts())] == [b"one ", b"two"]
    assert (digest.size, digest.hexdigest) == (7, hashlib.sha256(b"one two").hexdigest())


async def test_digest_counts_what_passed_before_a_failure() -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"one "
        raise ConnectionResetError

    digest = Digest(0)
    with pytest.raises(ConnectionResetError):
        [part async for part in digest.over(parts())]
    assert digest.size == 4


@given(pieces=PIECES)
def test_passage_holds_the_last_piece_of_a_body_of_known_length(pieces: list[bytes]) -> None:
    client, whole = FakeClient(), b"".join(pieces)
    passage = PassthroughSink(client, FakeEntry(), Digest(0), len(whole))
    for piece in pieces:
        assert not passage.feed(piece)
        assert client.body != whole
    assert client.body + passage.last == whole
    assert bool(pieces) is bool(passage.last)


def test_passage_of_unknown_length_passes_at_once() -> None:
    client = FakeClient()
    passage = PassthroughSink(client, FakeEntry(), Digest(0), None)
    passage.feed(b"one")
    passage.feed(b"two")
    assert (client.blocks, passage.last) == ([b"one", b"two"], b"")


def test_passage_holds_a_closing_done_until_more_comes() -> None:
    client = FakeClient()
    passage = PassthroughSink(client, FakeEntry(), Digest(0), None)
    passage.feed(b"data: {}\n\ndata: [DONE]\n\n")
    assert (client.body, passage.last) == (b"", b"data: {}\n\ndata: [DONE]\n\n")
    passage.feed(b": more\n\n")
    assert (client.body, passage.last) == (b"data: {}\n\ndata: [DONE]\n\n: more\n\n", b"")


async def test_passage_is_as_full_as_its_caller() -> None:
    client = FakeClient()
    passage = PassthroughSink(client, FakeEntry(), Digest(0), None)
    client.is_full = True
    assert passage.is_full
    await passage.drained()
    assert not passage.is_full


def passed(body: bytes, keep: int = 100, **headers: str) -> dict[str, object]:
    passage = PassthroughSink(FakeClient(), FakeEntry(), Digest(keep), None)
    passage.feed(body)
    return kept_fields(passage.digest, head(**headers), None)


def test_small_text_is_kept_with_its_model_and_usage() -> None:
    body = b'{"model": "e-1", "usage": {"prompt_tokens": 3, "total_tokens": 3}}'
    known = passed(body, content_type="application/json")
    assert (known["body"], known["model"], known["bytes_in"]) == (body, "e-1", len(body))
    assert getattr(known["usage"], "prompt_tokens", None) == 3
    assert "response_sha256" not in known


@pytest.mark.parametrize(("body", "content_type"), [(b"x" * 101, "text/plain"), (b"\xff\xd8", "image/jpeg")])
def test_large_or_binary_body_is_kept_by_size_and_digest(body: bytes, content_type: str) -> None:
    known = passed(body, content_type=content_type)
    assert (known["body"], known["response_size"]) == (b"", len(body))
    assert known["response_sha256"] == hashlib.sha256(body).hexdigest()


def test_upload_is_kept_by_size_and_digest() -> None:
    sent = Digest(0)
    sent.update(b"sound")
    known = kept_fields(Digest(0), head(), sent)
    assert (known["request_size"], known["request_sha256"]) == (5, hashlib.sha256(b"sound").hexdigest())
