"""The gateway as its user starts it: a process of its own, with what it logs; never one left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

START_S = 60.0
# A test run that is killed leaves nothing behind.
_SETPRIV = shutil.which("setpriv")
ENDS_WITH_PARENT = (_SETPRIV, "--pdeathsig", "KILL") if _SETPRIV else ()
ROOT = Path(__file__).resolve().parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class GatewayProcess:
    """`async with GatewayProcess(folder, env) as gateway`. Port and data directory stay across `kill` and `start`."""

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        arguments: Sequence[str] = ("serve",),
        python: str = sys.executable,
        user: str = "",
        is_bare: bool = False,
    ) -> None:
        """`is_bare`: `env` is its whole environment, and `listening` tells where it is."""
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = folder / "gateway.log"
        self._python = python
        self._user = user or None
        self._arguments = tuple(arguments)
        self._env = (
            dict(env or {})
            if is_bare
            else {
                **{
                    name: value
                    for name, value in os.environ.items()
                    if name in ("PATH", "HOME", "LANG", "TZ", "VIRTUAL_ENV")
                },
                "GATEWAY_DATA_DIR": str(folder / "data"),
                "GATEWAY_LOG_FORMAT": "json",
                "GATEWAY_PORT": str(self.port),
                "GATEWAY_METRICS_NETWORKS": "127.0.0.0/8",
                "PYTHONWARNINGS": "default",
                **(env or {}),
            }
        )
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def upon(cls, folder: Path, upstream_url: str, dsn: str, **env: str) -> Self:
        """One that asks an upstream of ours, keeps its rows in a database of ours."""
        return cls(
            folder,
            {"OPENAI_BASE_URL": upstream_url, "OPENAI_API_KEY": "sk-upstream-secret", "DATABASE_URL": dsn, **env},
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            await self.ended()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def spawn(self) -> None:
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*ENDS_WITH_PARENT, self._python, "-m", "gateway", *self._arguments],
                cwd=ROOT,
                env=self._env,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                user=self._user,
            )

    async def start(self) -> None:
        """Spawn it and wait until it listens; its log is the error when it does not."""
        self.spawn()
        deadline = time.monotonic() + START_S
        while not await self._answers():
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the gateway did not start:\n{self.log_path.read_text()[-4000:]}")
            await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def listening(self) -> None:
        """Wait until it says where it listens, which is its address from then on."""
        line = await self.logged(lambda line: line["event"] == "listening", START_S)
        self.url = line["url"]
        self.port = int(self.url.rpartition(":")[2])

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    async def ended(self) -> int:
        """Wait for its end; the exit status, negative for a signal."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, 60)

    async def kill(self) -> None:
        """End it as a crash would."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> int:
        """End it as an operator would; the exit status."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def open_files(self) -> int:
        """How many files and connections it holds open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Bytes of its own that lie in memory."""
        found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def log(self) -> list[dict[str, Any]]:
        """Its log lines so far that are JSON."""
        return [json.loads(line) for line in self.log_lines() if line.startswith("{")]

    def log_lines(self) -> list[str]:
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        # A path in a line may hold U+2028 and other signs at which `splitlines` would split.
        return [line for line in text.split("\n") if line]

    def complaints(self, since: int = 0) -> list[str]:
        """What its log says from a line on that a healthy one's does not: errors, tracebacks, Python's warnings."""
        return [line for line in self.log_lines()[since:] if _is_complaint(line)]

    async def logged(self, is_it: Callable[[dict[str, Any]], bool], patience_s: float = 5.0) -> dict[str, Any]:
        """The first log line like this, waited for."""
        deadline = time.monotonic() + patience_s
        while True:
            for line in self.log():
                if is_it(line):
                    return line
            if time.monotonic() > deadline or not self.is_running:
                raise AssertionError(f"no such line in the log:\n{self.log_path.read_text()[-4000:]}")
            await asyncio.sleep(0.02)


def _is_complaint(line: str) -> bool:
    if not line.startswith("{"):
        return True
    record = json.loads(line)
    return record["level"] in ("error", "critical") or "exception" in record
