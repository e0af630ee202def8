"""Flipped bits and missing files in the journals of killed gateways: the records that are hit are reported."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import orjson
import pytest

from gateway.journal.frames import HEADER_SIZE, MARKER_SIZE, NO_POSITION, SEGMENT_HEADER_SIZE, Frame, FrameKind
from gateway.journal.locations import segment_numbers, segment_path
from gateway.journal.scan import SegmentScan
from tests.faults.ledgers import Load, compare, rows_of
from tests.gateway_process import GatewayProcess
from tests.loopback import LoopbackUpstream
from tests.postgres import running_postgres

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.ledgers import Verdict

SMALL = {"GATEWAY_JOURNAL_SEGMENT_BYTES": "64KiB", "GATEWAY_JOURNAL_MAX_BYTES": "1GiB"}
LONG_ROUNDS = 12
AT_ONCE = 6  # flips in one journal

# Where in a frame, or in a segment, a bit is flipped: from and to, the latter counted from the end if it is negative.
FRAME_REGIONS = {
    "marker": (0, MARKER_SIZE),
    "length": (8, 12),
    "payload's checksum": (12, 16),
    "kind": (16, 17),
    "id": (17, 33),
    "place of the begin": (33, 45),
    "number of the part": (45, 49),
    "header's checksum": (49, HEADER_SIZE),
    "length of the meta": (HEADER_SIZE, HEADER_SIZE + 4),
    "payload": (HEADER_SIZE + 4, 0),
}


@dataclass(frozen=True, slots=True)
class Flip:
    """One flipped bit, and what it touches."""

    region: str
    where: tuple[str, int, int] | None  # the folder, segment and offset that must be reported; None: nothing is lost
    marker: str | None  # of the interaction


async def killed(gateway: GatewayProcess, load: Load, answers: int) -> Path:
    """Kill it after so many more answers; the folder of its journal."""
    wanted = sum(one.saw_end for one in load.seen) + answers
    while sum(one.saw_end for one in load.seen) < wanted:
        await asyncio.sleep(0.01)
    await gateway.kill()
    return max(path.parent for path in (gateway.folder / "data" / "journal").glob("*/lock"))


async def all_adopted(gateway: GatewayProcess) -> None:
    """Wait until all that the dead have left is shipped."""
    own = max(path.parent for path in (gateway.folder / "data" / "journal").glob("*/lock"))
    async with asyncio.timeout(60):
        while any(path.parent != own for path in (gateway.folder / "data" / "journal").glob("*/*.seg")):
            await asyncio.sleep(0.05)


def read(folder: Path) -> dict[int, list[Frame]]:
    """The frames of each segment that has any."""
    found = {
        number: list(SegmentScan.of_bytes(segment_path(folder, number).read_bytes()))
        for number in segment_numbers(folder)
    }
    return {number: [one for one in frames if isinstance(one, Frame)] for number, frames in found.items() if frames}


def markers(segments: dict[int, list[Frame]]) -> dict[bytes, str]:
    """What was asked in each record, by its key."""
    begun = [frame for frames in segments.values() for frame in frames if frame.kind is FrameKind.BEGUN]
    return {frame.key: str(orjson.loads(frame.split()[1])["messages"][0]["content"]) for frame in begun}


def flip_some(folder: Path, regions: list[str], chance: random.Random) -> list[Flip]:
    """A bit in each of these regions, in frames that are not neighbours."""
    segments = read(folder)
    asked = markers(segments)
    places = [(number, at) for number, frames in segments.items() for at in range(0, len(frames) - 2, 2)]
    chosen = chance.sample(places, len(regions))
    return [
        _flip_one(folder, region, chance, segments[number], number, at, asked)
        for region, (number, at) in zip(regions, chosen, strict=True)
    ]


def _flip_one(
    folder: Path,
    region: str,
    chance: random.Random,
    frames: list[Frame],
    number: int,
    nth: int,
    asked: dict[bytes, str],
) -> Flip:
    path, frame, end = segment_path(folder, number), frames[nth], frames[-1].end
    if region == "segment's header":
        _flip(path, chance.randrange(SEGMENT_HEADER_SIZE), chance)
        return Flip(region, (folder.name, number, 0), None)
    if region == "reserve":
        _flip(path, end + chance.randrange(5000), chance)
        return Flip(region, (folder.name, number, end), None)
    first, last = FRAME_REGIONS[region]
    _flip(path, frame.start + chance.randrange(first, last or frame.end - frame.start), chance)
    if region == "marker":
        return Flip(region, None, None)
    return Flip(region, (folder.name, number, frame.start), asked[frame.key])


def _flip(path: Path, at: int, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data += bytes(max(0, at + 1 - len(data)))  # a file that is full has no reserve
    data[at] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def keys_in(frames: list[Frame], kind: FrameKind = FrameKind.BEGUN) -> set[bytes]:
    """Of records that begin, or end, here; without those that were only moved."""
    found = [frame for frame in frames if frame.kind is kind]
    return {frame.key for frame in found if kind is not FrameKind.BEGUN or frame.header.begun == NO_POSITION}


def touched_by(verdict: Verdict) -> set[str]:
    """The interactions for which a promise is broken."""
    return {*verdict.lost, *(one.partition(": ")[0] for one in verdict.wrong)}


async def journal_state(gateway: GatewayProcess) -> dict[str, object]:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.url}/readyz") as response:
        found = await response.json()
        return dict(found["checks"]["journal"] if "checks" in found else found["journal"])


@pytest.mark.timeout(600)
async def test_e5_bits_flipped_in_every_region_cost_the_records_that_they_touch_and_are_reported(
    tmp_path: Path, is_long: bool
) -> None:
    chance = random.Random(5)
    regions = [*FRAME_REGIONS, "segment's header", "reserve"] * (LONG_ROUNDS if is_long else 1)
    flips = []
    with running_postgres() as server:
        async with LoopbackUpstream(pace=0.002) as upstream:
            gateway = GatewayProcess.upon(tmp_path, upstream.url, server.dsn, **SMALL)
            async with gateway:
                await asyncio.to_thread(server.stop)  # before anything is shipped: all frames are still needed
                async with Load(gateway.url, 16) as load:
                    for at in range(0, len(regions), AT_ONCE):
                        folder = await killed(gateway, load, chance.randrange(30, 60))
                        flips += await asyncio.to_thread(flip_some, folder, regions[at : at + AT_ONCE], chance)
                        await gateway.start()
                    await asyncio.to_thread(server.start)
                    await load.stop()
                    await all_adopted(gateway)
                    assert await gateway.stop() == 0
                    rows = await rows_of(server.dsn)
            verdict = compare(load.seen, upstream, rows)
            damaged = [line for line in gateway.log() if line["event"] == "journal_damaged"]
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows, {len(flips)} flips")
        assert verdict.twice == []
        assert touched_by(verdict) <= {one.marker for one in flips if one.marker}, verdict
        reported = {(line["folder"], line["segment"], line["offset"]) for line in damaged}
        assert reported == {one.where for one in flips if one.where}
        assert verdict.whole >= 30 * len(regions) / AT_ONCE


@pytest.mark.timeout(300)
async def test_e6_a_missing_segment_is_reported_with_its_records_and_nothing_else_is_lost(
    tmp_path: Path, is_long: bool
) -> None:
    chance = random.Random(6)
    expected = {}
    gone: set[str] = set()
    with running_postgres() as server:
        async with LoopbackUpstream(pace=0.002) as upstream:
            gateway = GatewayProcess.upon(tmp_path, upstream.url, server.dsn, **SMALL)
            async with gateway:
                await asyncio.to_thread(server.stop)  # before anything is shipped: all frames are still needed
                async with Load(gateway.url, 16) as load:
                    for _ in range(LONG_ROUNDS if is_long else 2):
                        folder = await killed(gateway, load, chance.randrange(60, 100))
                        segments = await asyncio.to_thread(read, folder)
                        number = chance.choice(
                            [number for number in list(segments)[:-1] if len(keys_in(segments[number])) > 3]
                        )
                        begun, finished = (
                            keys_in(segments[number], kind) for kind in (FrameKind.BEGUN, FrameKind.FINISHED)
                        )
                        gone |= {markers(segments)[frame.key] for frame in segments[number]}
                        expected[folder.name] = ((number,), max(len(begun), len(finished)))
                        segment_path(folder, number).unlink()
                        await gateway.start()
                    await asyncio.to_thread(server.start)
                    await load.stop()
                    await all_adopted(gateway)
                    state = await journal_state(gateway)
                    assert await gateway.stop() == 0
                    rows = await rows_of(server.dsn)
            verdict = compare(load.seen, upstream, rows)
            lines = [line for line in gateway.log() if line["event"] == "journal_segment_missing"]
        print(f"\n{verdict.asked} asked, {verdict.whole} seen whole, {verdict.rows} rows, lost {expected}")
        assert verdict.twice == []
        assert touched_by(verdict) <= gone, verdict
        for line in lines:
            assert (tuple(line["segments"]), line["records"]) == expected[line["folder"]]
        assert {line["folder"] for line in lines} == expected.keys()
        assert state["loss"] is not None
        assert state["lost_records"]
