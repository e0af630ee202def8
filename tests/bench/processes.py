"""Processor time (in nanoseconds) and memory of a process and its children, read from Linux."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import NamedTuple

TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


class Cpu(NamedTuple):
    """Nanoseconds of user and system time."""

    own: int
    postgres: int

    def __sub__(self, before: Cpu) -> Cpu:
        return Cpu(self.own - before.own, self.postgres - before.postgres)


class _Stat(NamedTuple):
    pid: int
    name: str
    parent: int
    reaped_ns: int  # of children that are gone


def cpu(root: int | None, postgres: int | None = None) -> Cpu:
    """Used so far by `root` and its children, apart from PostgreSQL's; and by PostgreSQL (a child, or on its own)."""
    table = _table()
    own = tree(root, table) if root is not None else []
    servers = [stat for stat in own if _is_postgres(stat)]
    if postgres is not None:
        servers += tree(postgres, table)
    return Cpu(
        sum(cpu_of(stat.pid) for stat in own if not _is_postgres(stat)),
        # Its backends come and go: what the dead ones used is in their parent's account.
        sum(cpu_of(stat.pid) + stat.reaped_ns for stat in servers),
    )


def cpu_of(pid: int) -> int:
    """Of one process with all its threads, gone ones included: its clock as of clock_getcpuclockid(3)."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def busy() -> int:
    """Returns nanoseconds of processor time used by the whole machine, and those that a hypervisor took."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) * TICK_NS


def rss(root: int) -> int:
    """Bytes of resident memory of `root` and its children, apart from PostgreSQL."""
    return sum(_rss_of(stat.pid) for stat in tree(root, _table()) if not _is_postgres(stat))


def tree(root: int, table: list[_Stat] | None = None) -> list[_Stat]:
    found: dict[int, _Stat] = {}
    wanted = {root}
    table = _table() if table is None else table
    while wanted:
        new = [stat for stat in table if stat.pid not in found and (stat.pid in wanted or stat.parent in found)]
        found.update((stat.pid, stat) for stat in new)
        wanted = {stat.pid for stat in new}
    return list(found.values())


def _table() -> list[_Stat]:
    stats = (_stat(path) for path in Path("/proc").iterdir() if path.name.isdigit())
    return [stat for stat in stats if stat is not None]


def _stat(path: Path) -> _Stat | None:
    try:
        text = (path / "stat").read_text()
    except OSError:
        return None  # it has just ended
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return _Stat(int(path.name), name, int(fields[1]), (int(fields[13]) + int(fields[14])) * TICK_NS)


def _rss_of(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0


def _is_postgres(stat: _Stat) -> bool:
    return stat.name.startswith("postgres")
