"""The monitor's sink: whatever the monitor does, no record is left out, and each conversation arrives in order."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from gateway.errors import StoreUnavailable
from gateway.journal.journal import Journal, JournalOptions
from gateway.model import Principal, Record
from gateway.shipping.circuit_breaker import Backoff
from gateway.shipping.shipper import Shipper
from gateway.submissions.client import MonitorClient, MonitorUnavailable, SubmissionRefused
from gateway.submissions.options import SubmissionsOptions
from gateway.submissions.submissions import Submissions
from tests.journal.samples import SMALL, Memory, answer, interaction
from tests.polling import until
from tests.submissions.monitors import TROUBLES, LoopbackMonitor, slow, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path
    from uuid import UUID

WEEK_S = 604_800.0
QUICK = SubmissionsOptions(
    backoff=Backoff(0.005, 0.05), spool_backoff=Backoff(0.01, 0.05), spool_after_s=0.1, grace_s=0.2, scan_s=0.05
)


class FakeMonitor:
    """Takes what `mood` does not object to."""

    def __init__(self) -> None:
        self.mood: Callable[[dict[str, Any]], Exception | None] = lambda _submission: None
        self.taken: list[str] = []
        self.tries: Counter[str] = Counter()
        self.at_once = 0
        self.most_at_once = 0
        self.delay_s = 0.0

    async def submit(self, id: UUID, payload: bytes) -> None:
        self.tries[str(id)] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.delay_s)
            if error := self.mood(json.loads(payload)):
                raise error
            self.taken.append(str(id))
        finally:
            self.at_once -= 1

    async def aclose(self) -> None:
        pass


def record(root: str | None = None, **more: Any) -> Record:
    return Record(interaction(root_id=root, **more), answer())


def holder(key: str) -> Principal:
    return Principal(user="ann", key_id=key)


def conversations(count: int, turns: int) -> list[Record]:
    """Conversations that go on side by side."""
    return [record(f"talk {number}") for _ in range(turns) for number in range(count)]


def id_of(record: Record) -> str:
    return str(record.interaction.id)


def assert_in_order(records: list[Record], ids: list[str]) -> None:
    """Each is there, and each conversation is in order."""
    assert set(ids) == {id_of(one) for one in records}
    place = {one: number for number, one in reversed(list(enumerate(ids)))}
    conversations: dict[str | None, list[int]] = defaultdict(list)
    for one in records:
        conversations[one.interaction.root_id].append(place[id_of(one)])
    for root, places in conversations.items():
        assert root is None or places == sorted(places), root


@asynccontextmanager
async def submitting(
    directory: Path,
    monitor: Any,
    *,
    calls: int = 8,
    give_up_s: float = WEEK_S,
    options: SubmissionsOptions = QUICK,
) -> AsyncIterator[Submissions]:
    submissions = Submissions(monitor, directory, calls=calls, give_up_s=give_up_s, options=options)
    await submissions.start()
    try:
        yield submissions
    finally:
        await submissions.aclose()


def away(_submission: object) -> Exception:
    return MonitorUnavailable("HTTP 500")


# --- order and pace ---------------------------------------------------------------------------------------------------


async def test_conversations_are_sent_in_parallel_and_each_in_order(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.delay_s = 0.005
    records = conversations(20, 5)
    async with submitting(tmp_path, monitor, calls=4) as submissions:
        await submissions.keep(records)
        assert submissions.state().delivered == 100
    assert_in_order(records, monitor.taken)
    assert monitor.most_at_once == 4


async def test_one_conversation_is_never_sent_twice_at_a_time(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.delay_s = 0.002
    old, new = [record("one") for _ in range(5)], [record("one") for _ in range(5)]
    async with submitting(tmp_path, monitor) as submissions:
        await asyncio.gather(submissions.keep(old), submissions.keep(new))
    assert monitor.taken == [id_of(one) for one in old + new]
    assert monitor.most_at_once == 1


async def test_a_flaky_monitor_gets_everything_in_order(tmp_path: Path) -> None:
    monitor, chance = FakeMonitor(), random.Random(3)
    monitor.mood = lambda _submission: MonitorUnavailable("HTTP 500") if chance.random() < 0.5 else None
    records = conversations(10, 6)
    async with submitting(tmp_path, monitor) as submissions:
        await submissions.keep(records)
        await until(lambda: submissions.state().waiting == 0)
    assert_in_order(records, monitor.taken)
    assert len(monitor.taken) == 60  # and none of them twice
    assert not (tmp_path / "dead_letters").exists()


@pytest.mark.stopwatch
async def test_a_monitor_that_is_down_gets_single_probes(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = away
    options = SubmissionsOptions(backoff=Backoff(0.05, 0.2), spool_after_s=60)
    async with submitting(tmp_path, monitor, options=options) as submissions:
        keeping = asyncio.create_task(submissions.keep(conversations(50, 2)))
        await until(lambda: submissions.state().monitor == "away")
        monitor.most_at_once, before = 0, monitor.tries.total()
        await asyncio.sleep(0.5)
        assert monitor.tries.total() - before < 8
        assert monitor.most_at_once == 1
        assert submissions.state().fault == "HTTP 500"
        assert submissions.state().away_s > 0.4
        monitor.mood = lambda _submission: None
        await keeping
        assert submissions.state().monitor == "ok"
        assert submissions.state().fault is None
    assert len(monitor.taken) == 100


async def test_a_monitor_that_asks_for_a_pause_gets_it(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = lambda _submission: MonitorUnavailable("HTTP 429", 0.4)
    async with submitting(tmp_path, monitor, calls=1) as submissions:
        keeping = asyncio.create_task(submissions.keep(conversations(5, 1)))
        await until(lambda: submissions.state().monitor == "away")
        monitor.mood = lambda _submission: None
        await asyncio.sleep(0.25)
        assert monitor.tries.total() == 1
        await keeping
    assert len(monitor.taken) == 5


@pytest.mark.stopwatch
async def test_many_that_fail_together_count_as_one_failure(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.delay_s = 0.02
    monitor.mood = away
    options = SubmissionsOptions(backoff=Backoff(0.02, 60), spool_after_s=60)
    async with submitting(tmp_path, monitor, calls=50, options=options) as submissions:
        keeping = asyncio.create_task(submissions.keep(conversations(50, 1)))
        await asyncio.sleep(0.1)
        monitor.mood = lambda _submission: None
        async with asyncio.timeout(2):  # if each had counted, the pause would be a minute
            await keeping


# --- what does not get through ----------------------------------------------------------------------------------------


async def test_a_refused_submission_is_a_dead_letter_after_a_few_tries(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    records = conversations(3, 3)
    bad = records[1]
    monitor.mood = lambda told: SubmissionRefused("HTTP 422") if told["interaction_id"] == id_of(bad) else None
    async with submitting(tmp_path, monitor) as submissions:
        await submissions.keep(records)
        assert submissions.state().dead_letters == 1
        assert submissions.state().monitor == "ok"
    assert monitor.tries[id_of(bad)] == 3
    assert_in_order([one for one in records if one is not bad], monitor.taken)
    letter = tmp_path / "dead_letters" / id_of(bad)
    note = json.loads(letter.with_suffix(".json").read_bytes())
    assert (note["id"], note["reason"], note["tries"]) == (id_of(bad), "HTTP 422", 3)
    payload = json.loads(letter.with_suffix(".payload").read_bytes())
    assert payload["raw_request"]["messages"][0]["content"] == "hi"
    assert letter.with_suffix(".payload").stat().st_mode & 0o777 == 0o600
    async with submitting(tmp_path, monitor) as submissions:
        assert submissions.state().dead_letters == 1  # they are not forgotten


@pytest.mark.stopwatch
async def test_a_submission_that_fails_alone_delays_its_own_conversation_only(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    records = conversations(5, 4)
    bad = records[7]  # the second turn of the third conversation
    monitor.mood = lambda told: MonitorUnavailable("HTTP 500") if told["interaction_id"] == id_of(bad) else None
    async with submitting(tmp_path, monitor) as submissions:
        async with asyncio.timeout(5):
            await submissions.keep(records)
        assert submissions.state().waiting == 3
        later = record(bad.interaction.root_id)
        async with asyncio.timeout(1):
            await submissions.keep([later])
        assert submissions.state().waiting == 4
        assert id_of(later) not in monitor.tries
        assert len(monitor.taken) == 17
        monitor.mood = lambda _told: None
        await until(lambda: submissions.state().waiting == 0)
    assert_in_order([*records, later], monitor.taken)
    assert list((tmp_path / "submissions").iterdir()) == []


async def test_many_failing_submissions_go_to_the_spool_and_others_pass(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = lambda told: MonitorUnavailable("HTTP 500") if told["api_token_id"] == "bad" else None
    bad = [record(principal=holder("bad")) for _ in range(20)]
    async with submitting(tmp_path, monitor) as submissions:
        async with asyncio.timeout(20):
            await submissions.keep(bad)
            await submissions.keep([record()])
        assert len(monitor.taken) == 1
        assert submissions.state().waiting == 20
        monitor.mood = lambda _told: None
        await until(lambda: submissions.state().waiting == 0)
    assert len(monitor.taken) == 21


async def test_the_spool_survives_the_process_and_keeps_the_order(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    plain = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    turns = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "?"},
    ]
    first = Record(interaction(plain), answer())
    second = Record(interaction(json.dumps({"model": "m", "messages": turns}).encode()), answer(b"{}"))
    others = [record() for _ in range(3)]
    monitor.mood = lambda told: MonitorUnavailable("HTTP 500") if told["interaction_id"] == id_of(first) else None
    async with submitting(tmp_path, monitor) as submissions:
        await submissions.keep([first, *others])
        assert submissions.state().waiting == 1
    async with submitting(tmp_path, monitor) as submissions:
        assert submissions.state().waiting == 1
        await submissions.keep([second])  # known as the next turn by its messages alone
        assert submissions.state().waiting == 2
        monitor.mood = lambda _told: None
        await until(lambda: submissions.state().waiting == 0)
    assert monitor.taken[-2:] == [id_of(first), id_of(second)]


async def test_one_process_retries_the_spool_and_both_keep_the_order(tmp_path: Path) -> None:
    monitor, second_monitor = FakeMonitor(), FakeMonitor()
    bad, other, later = record("r"), record("other"), record("r")
    monitor.mood = second_monitor.mood = away
    async with submitting(tmp_path, monitor) as one:
        await one.keep([bad])
        async with submitting(tmp_path, second_monitor) as two:
            second_monitor.mood = lambda _told: None
            await two.keep([other, later])
            assert second_monitor.taken == [id_of(other)]
            await until(lambda: one.state().waiting == two.state().waiting == 2)
            monitor.mood = lambda _told: None
            await until(lambda: one.state().waiting == two.state().waiting == 0)
            await two.keep([last := record("r")])
    assert monitor.taken == [id_of(bad), id_of(later)]
    assert second_monitor.taken == [id_of(other), id_of(last)]


async def test_an_outage_fills_the_journal_and_not_the_spool(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = away
    async with submitting(tmp_path, monitor) as submissions:
        keeping = asyncio.create_task(submissions.keep(conversations(100, 1)))
        await asyncio.sleep(1.0)
        assert submissions.state().waiting < 20
        assert not keeping.done()
        monitor.mood = lambda _told: None
        await keeping
        await until(lambda: submissions.state().waiting == 0)
    assert len(monitor.taken) == 100


async def test_when_the_spool_is_full_the_others_wait_in_the_journal(tmp_path: Path) -> None:
    options = replace(QUICK, max_spooled=2, disk_pause_s=0.02)
    monitor = FakeMonitor()
    monitor.mood = lambda told: MonitorUnavailable("HTTP 500") if told["api_token_id"] == "bad" else None
    bad = [record("r", principal=holder("bad")) for _ in range(5)]
    async with submitting(tmp_path, monitor, options=options) as submissions:
        keeping = asyncio.create_task(submissions.keep([*bad, record()]))
        await until(lambda: submissions.state().waiting == 2)
        await asyncio.sleep(0.1)
        assert not keeping.done()
        monitor.mood = lambda _told: None
        await keeping
        await until(lambda: submissions.state().waiting == 0)
    assert_in_order(bad, [one for one in monitor.taken if one in {id_of(each) for each in bad}])


@pytest.mark.stopwatch
async def test_a_disk_that_refuses_the_spool_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "submissions").write_text("in the way")
    (tmp_path / "dead_letters").write_text("this as well")
    monitor = FakeMonitor()
    monitor.mood = away
    async with submitting(tmp_path, monitor, give_up_s=0.1) as submissions:
        keeping = asyncio.create_task(submissions.keep([record()]))
        await asyncio.sleep(0.6)
        assert not keeping.done()
        monitor.mood = lambda _told: None
        await keeping
    assert len(monitor.taken) == 1


async def test_a_damaged_file_of_the_spool_becomes_a_dead_letter(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = away
    async with submitting(tmp_path, monitor) as submissions:
        await submissions.keep([record("a")])
    (letter,) = (tmp_path / "submissions").iterdir()
    letter.write_bytes(b"\x00" * 100)
    (tmp_path / "submissions" / "a note").write_text("not ours")
    async with submitting(tmp_path, monitor) as submissions:
        await until(lambda: submissions.state().dead_letters == 1)
        assert submissions.state().waiting == 0
    (payload,) = (tmp_path / "dead_letters").glob("*.payload")
    assert payload.read_bytes() == b"\x00" * 100


# --- giving up --------------------------------------------------------------------------------------------------------


@pytest.mark.stopwatch
async def test_after_the_configured_time_all_are_dead_letters(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = away
    old = conversations(60, 1)
    async with submitting(tmp_path, monitor, give_up_s=0.5) as submissions:
        async with asyncio.timeout(5):
            await submissions.keep(old)
        await until(lambda: submissions.state().dead_letters == 60)
        assert submissions.state().waiting == 0
        monitor.mood = lambda _told: None
        await submissions.keep([record()])
    assert len(monitor.taken) == 1
    assert len(list((tmp_path / "dead_letters").glob("*.payload"))) == 60


async def test_an_old_record_is_not_given_up_in_a_short_outage(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.mood = away
    old = [Record(interaction(), answer(finished_at=time.time() - 2 * WEEK_S)) for _ in range(10)]
    options = SubmissionsOptions(backoff=Backoff(0.005, 0.02), spool_after_s=60, grace_s=30)
    async with submitting(tmp_path, monitor, options=options) as submissions:
        keeping = asyncio.create_task(submissions.keep(old))
        await asyncio.sleep(0.3)
        monitor.mood = lambda _told: None
        await keeping
        assert submissions.state().dead_letters == 0
    assert len(monitor.taken) == 10


# --- the end ----------------------------------------------------------------------------------------------------------


async def test_a_call_that_hangs_does_not_hang_the_end_and_is_made_again(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    monitor.delay_s = 60
    submissions = Submissions(monitor, tmp_path, calls=1, give_up_s=WEEK_S, options=QUICK)
    await submissions.start()
    keeping = asyncio.create_task(submissions.keep([record(), record()]))
    await asyncio.sleep(0.05)
    submissions.abandon()
    with pytest.raises(StoreUnavailable):
        await keeping
    await submissions.aclose()
    with pytest.raises(StoreUnavailable):
        await submissions.keep([record()])


async def test_an_unexpected_error_loses_nothing(tmp_path: Path) -> None:
    monitor = FakeMonitor()
    broken = [ZeroDivisionError("a bug"), ZeroDivisionError("a bug")]
    monitor.mood = lambda _told: broken.pop() if broken else None
    async with submitting(tmp_path, monitor) as submissions:
        await submissions.keep(records := conversations(2, 2))
    assert_in_order(records, monitor.taken)


async def test_nothing_to_send_is_no_error(tmp_path: Path) -> None:
    async with submitting(tmp_path, FakeMonitor()) as submissions:
        await submissions.keep([])
        assert submissions.state().monitor == "idle"
        await submissions.keep_raw(record())
        assert submissions.state().delivered == 1


# --- over HTTP, behind the journal ------------------------------------------------------------------------------------


@asynccontextmanager
async def behind_a_journal(
    directory: Path, url: str, *sinks: Memory, timeout_s: float = 0.3, options: SubmissionsOptions = QUICK
) -> AsyncIterator[tuple[Journal, Submissions]]:
    submissions = Submissions(
        MonitorClient(url, "Bearer monitor", timeout_s=timeout_s), directory, calls=8, give_up_s=WEEK_S, options=options
    )
    journal = Journal(SMALL, directory, options=JournalOptions(tick_s=0.02))
    shipper = Shipper(journal, [*sinks, submissions])
    await journal.open()
    await submissions.start()
    await shipper.start()
    try:
        yield journal, submissions
    finally:
        await shipper.aclose(0.2)
        await submissions.aclose()
        await journal.aclose()


def said(journal: Journal, records: list[Record]) -> list[Record]:
    entries = [journal.begin(one.interaction) for one in records]
    for entry, one in zip(entries, records, strict=True):
        entry.finish(one.answer)
    return records


@pytest.mark.parametrize("trouble", TROUBLES)
async def test_whatever_the_monitor_does_for_a_while_everything_arrives_in_order(tmp_path: Path, trouble: str) -> None:
    chance = random.Random(trouble)
    async with LoopbackMonitor() as monitor, behind_a_journal(tmp_path, monitor.url) as (journal, submissions):
        monitor.mood = lambda _told: TROUBLES[trouble]() if chance.random() < 0.4 else None
        records = said(journal, conversations(6, 4))
        await until(lambda: len(monitor.asked) > 5)
        monitor.mood = lambda _told: TROUBLES[trouble]()
        records += said(journal, conversations(6, 2))
        await asyncio.sleep(0.5)
        monitor.mood = lambda _told: None
        await until(lambda: len(monitor.ids) == 36, timeout_s=30)
        assert submissions.state().dead_letters == 0
        await until(lambda: submissions.state().waiting == 0)
    assert_in_order(records, monitor.ids)
    assert segments(tmp_path) == []


@pytest.mark.stopwatch
async def test_a_slow_monitor_delays_nobody_and_gets_everything(tmp_path: Path) -> None:
    memory = Memory("postgres")
    async with (
        LoopbackMonitor() as monitor,
        behind_a_journal(tmp_path, monitor.url, memory, timeout_s=10) as (journal, _),
    ):
        monitor.mood = lambda _told: slow(0.2)
        began = time.perf_counter()
        records = said(journal, conversations(10, 3))
        assert time.perf_counter() - began < 1
        await until(lambda: len(memory.records) == 30, timeout_s=1)
        assert len(monitor.ids) < 30
        await until(lambda: len(monitor.ids) == 30)
    assert_in_order(records, monitor.ids)


def holds(memory: Memory, count: int) -> bool:
    return len(memory.records) == count


def segments(directory: Path) -> list[Path]:
    return list(directory.glob("*/*.seg"))


async def test_a_monitor_that_is_away_keeps_the_journal_and_not_the_rows(tmp_path: Path) -> None:
    memory = Memory("postgres")
    monitor = LoopbackMonitor()
    async with monitor:
        url = monitor.url
    records: list[Record] = []
    for _ in range(3):  # the gateway is restarted meanwhile
        async with behind_a_journal(tmp_path, url, memory) as (journal, _):
            records += said(journal, conversations(5, 2))
            wanted = len(records)
            await until(partial(holds, memory, wanted))
        memory.is_abandoned = False
    assert memory.taken == 30
    await monitor.come_back()
    async with behind_a_journal(tmp_path, url, memory) as (journal, _):
        records += said(journal, conversations(5, 1))
        await until(lambda: len(monitor.ids) == 35)
    await monitor.go_away()
    assert_in_order(records, monitor.ids)
    assert segments(tmp_path) == []


async def test_a_monitor_that_refuses_one_gets_the_others(tmp_path: Path) -> None:
    async with LoopbackMonitor() as monitor, behind_a_journal(tmp_path, monitor.url) as (journal, submissions):
        records = conversations(4, 3)
        bad = id_of(records[5])
        monitor.mood = lambda told: status(400) if told["interaction_id"] == bad else None
        said(journal, records)
        await until(lambda: submissions.state().dead_letters == 1 and len(monitor.ids) == 11)
        sent = next(request.body for request in monitor.requests if bad.encode() in request.body)
        assert (tmp_path / "dead_letters" / f"{bad}.payload").read_bytes() == sent
    assert_in_order([one for one in records if id_of(one) != bad], monitor.ids)
