"""Journals of killed processes, and their takeover."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from gateway.journal.journal import Journal, JournalOptions
from gateway.journal.locations import segment_numbers, segment_path
from gateway.journal.scan import DamagedRange, SegmentScan
from gateway.shipping.shipper import Shipper
from tests.journal.samples import SMALL, Memory

if TYPE_CHECKING:
    from pathlib import Path

    from gateway.journal.frames import Frame


def kill(journal: Journal, directory: Path, *, has_noted: bool = True) -> Path:
    """Copies the journal's folder as a kill of its process would leave it now."""
    if has_noted:  # as it does every second
        journal._segments.write_checkpoint()
    directory.mkdir(exist_ok=True)
    folder = directory / journal.folder.name
    shutil.copytree(journal.folder, folder)
    return folder


async def take_over_all(directory: Path, *sinks: Memory, timeout_s: float = 10) -> Journal:
    """Takes over and ships all dead processes' journals; returns the journal whose process did it."""
    journal = Journal(SMALL, directory, options=JournalOptions(tick_s=0.05))
    shipper = Shipper(journal, sinks)
    await journal.open()
    await shipper.start()
    try:
        async with asyncio.timeout(timeout_s):
            while _others(directory, journal.folder):
                await asyncio.sleep(0.01)
    finally:
        await shipper.aclose(1)
        await journal.aclose()
    return journal


def _others(directory: Path, own: Path) -> bool:
    """Whether some journal has records to ship."""
    found = [path for path in directory.iterdir() if path != own and path.name != "quarantine" and path.is_dir()]
    with suppress(FileNotFoundError):  # it is just going
        return any(segment_numbers(path) or (path / "lock").stat().st_size for path in found)
    return True


def frames_of(folder: Path, number: int) -> list[Frame | DamagedRange]:
    return list(SegmentScan.of_bytes(segment_path(folder, number).read_bytes()))


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)
