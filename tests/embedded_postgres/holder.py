"""A stand-in for the gateway in tests that kill it: holds an embedded PostgreSQL until its standard input ends."""

import asyncio
import json
import sys
from pathlib import Path

import uvloop

from gateway.embedded_postgres.server import EmbeddedPostgres
from tests.postgres import HASTY


async def main(directory: str) -> None:
    async with EmbeddedPostgres(Path(directory), settings=HASTY) as server:
        print(json.dumps({"dsn": server.dsn, "pid": server.pid, "version": server.version}), flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    loop_factory = uvloop.new_event_loop if "uvloop" in sys.argv[2:] else None
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(main(sys.argv[1]))
