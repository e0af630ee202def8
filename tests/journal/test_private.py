"""Only the gateway's account may read its files, whatever the umask is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from gateway.journal.host_id import this_host
from gateway.journal.lock import JournalFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(
    "make", [lambda journal: this_host(journal, "1"), lambda journal: JournalFolder.new(journal).create()]
)
def test_f2_nobody_else_may_write_to_the_data_directory(make: Callable[[Path], object], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make(tmp_path / "data" / "journal")
    finally:
        os.umask(before)
    assert (tmp_path / "data").stat().st_mode & 0o066 == 0
    assert (tmp_path / "data" / "journal").stat().st_mode & 0o077 == 0
