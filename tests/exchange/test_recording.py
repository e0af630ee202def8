"""The recording of one interaction."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from gateway.errors import JournalFull
from gateway.exchange.observers import Observer, callbacks_of
from gateway.exchange.recording import Recording
from gateway.model import Interaction, Kind, Outcome, Principal
from gateway.transport.call import Head
from tests.fakes import FakeEntry, FakeJournal


def begun() -> tuple[Recording, FakeEntry]:
    journal = FakeJournal()
    interaction = Interaction(uuid4(), Kind.CHAT, time.time(), Principal("ada"), "r-1", "POST", "/v1/chat/completions")
    recording = Recording(journal.begin(interaction))
    return recording, journal.entries[0]


def test_interaction_is_on_record_from_the_start() -> None:
    recording, entry = begun()
    assert entry.interaction is recording.interaction
    assert recording.id == recording.interaction.id


@pytest.mark.stopwatch
def test_answer_has_times_status_and_the_upstreams_id() -> None:
    recording, entry = begun()
    recording.head = Head(429, ((b"x-request-id", b"req_\xff"),))
    recording.first_at = time.perf_counter() + 0.05
    recording.close(Outcome.UPSTREAM_ERROR, body=b"{}", error="no")
    (answer,) = entry.answers
    assert (answer.outcome, answer.status, answer.body, answer.error) == (Outcome.UPSTREAM_ERROR, 429, b"{}", "no")
    assert answer.upstream_request_id == "req_ÿ"
    assert answer.first_token_ms is not None
    assert 40 < answer.first_token_ms < 200
    assert 0 <= answer.duration_ms < 200
    assert abs(answer.finished_at - time.time()) < 5


def test_answer_of_an_upstream_that_never_answered_has_no_status() -> None:
    recording, entry = begun()
    recording.close(Outcome.CLIENT_CANCELLED)
    assert (entry.answers[0].status, entry.answers[0].first_token_ms) == (None, None)


async def test_a_recording_closes_once() -> None:
    recording, entry = begun()
    recording.close(Outcome.COMPLETE)
    recording.close(Outcome.CLIENT_CANCELLED)
    assert [answer.outcome for answer in entry.answers] == [Outcome.COMPLETE]
    await recording.kept()


async def test_kept_raises_if_the_journal_was_full() -> None:
    recording, entry = begun()
    entry.is_full = True
    recording.close(Outcome.COMPLETE)
    assert recording.answer is not None
    with pytest.raises(JournalFull):
        await recording.kept()


def test_parts_go_to_the_record() -> None:
    recording, entry = begun()
    recording.part([b"one ", b"two"])
    assert entry.parts == [b"one two"]


async def test_an_observer_that_raises_costs_neither_the_record_nor_the_other_observers() -> None:
    class Broken(Observer):
        def begun(self, recording: Recording) -> None:
            raise ValueError("begun")

        head = first_token = closed = begun

    seen: list[Outcome] = []

    class Closing(Observer):
        def closed(self, recording: Recording) -> None:
            assert recording.answer is not None
            seen.append(recording.answer.outcome)

    journal = FakeJournal()
    interaction = Interaction(uuid4(), Kind.CHAT, time.time(), Principal("ada"), "r-1", "POST", "/v1/chat/completions")
    with capture_logs() as logs:
        recording = Recording(journal.begin(interaction), callbacks_of([Broken(), Closing()]))
        recording.take_head(Head(200, ()))
        recording.first_token()
        recording.close(Outcome.COMPLETE)
    await recording.kept()
    assert [answer.outcome for answer in journal.entries[0].answers] == seen == [Outcome.COMPLETE]
    assert [line["event"] for line in logs] == ["observer_failed"] * 4
