"""Signal handlers of a gateway and of its supervisor. No signal cuts an answer."""

from __future__ import annotations

import asyncio
import signal
import sys

import structlog

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
IGNORED = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

log = structlog.get_logger()


def install_signal_handlers(stopping: asyncio.Event) -> None:
    """Sets `stopping` on SIGTERM, SIGINT, SIGQUIT, and on SIGHUP of a closed terminal. Ignores the other signals that
    would end the process, with a line in the log: settings are read at start only."""
    loop = asyncio.get_running_loop()
    for number in STOPS:
        loop.add_signal_handler(number, stopping.set)
    for number in IGNORED:
        loop.add_signal_handler(number, _ignore, number.name)
    if sys.stderr.isatty():
        loop.add_signal_handler(signal.SIGHUP, stopping.set)


def _ignore(name: str) -> None:
    log.warning("signal ignored", signal=name, note="settings are read at the start: restart to change them")
