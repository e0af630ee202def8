"""The running account of one interaction."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from gateway.errors import JournalFull
from gateway.exchange.recording import Account
from gateway.model import Interaction, Kind, Outcome, Principal
from gateway.transport.call import Head
from tests.fakes import FakeEntry, FakeRecorder


def begun() -> tuple[Account, FakeEntry]:
    recorder = FakeRecorder()
    interaction = Interaction(uuid4(), Kind.CHAT, time.time(), Principal("ada"), "r-1", "POST", "/v1/chat/completions")
    account = Account(recorder, interaction)
    return account, recorder.entries[0]


def test_interaction_is_on_record_from_the_start() -> None:
    account, entry = begun()
    assert entry.interaction is account.interaction
    assert account.id == account.interaction.id


@pytest.mark.stopwatch
def test_answer_has_times_status_and_the_upstreams_id() -> None:
    account, entry = begun()
    account.head = Head(429, ((b"x-request-id", b"req_\xff"),))
    account.first_at = time.perf_counter() + 0.05
    account.close(Outcome.UPSTREAM_ERROR, body=b"{}", error="no")
    (answer,) = entry.answers
    assert (answer.outcome, answer.status, answer.body, answer.error) == (Outcome.UPSTREAM_ERROR, 429, b"{}", "no")
    assert answer.upstream_request_id == "req_ÿ"
    assert answer.first_token_ms is not None
    assert 40 < answer.first_token_ms < 200
    assert 0 <= answer.duration_ms < 200
    assert abs(answer.finished_at - time.time()) < 5


def test_answer_of_an_upstream_that_never_answered_has_no_status() -> None:
    account, entry = begun()
    account.close(Outcome.CLIENT_CANCELLED)
    assert (entry.answers[0].status, entry.answers[0].first_token_ms) == (None, None)


async def test_account_is_closed_once() -> None:
    account, entry = begun()
    account.close(Outcome.COMPLETE)
    account.close(Outcome.CLIENT_CANCELLED)
    assert [answer.outcome for answer in entry.answers] == [Outcome.COMPLETE]
    await account.kept()


async def test_full_journal_is_told_where_it_is_waited_for() -> None:
    account, entry = begun()
    entry.is_full = True
    account.close(Outcome.COMPLETE)
    assert account.answer is not None
    with pytest.raises(JournalFull):
        await account.kept()


def test_parts_go_to_the_record() -> None:
    account, entry = begun()
    account.part([b"one ", b"two"])
    assert entry.parts == [b"one two"]
