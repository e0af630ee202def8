"""The sane upstream as a program: its first line of output is its URL; it runs until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path

from tests.loopback.ledger import Ledger
from tests.loopback.server import LoopbackUpstream


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.loopback", description="A sane OpenAI-compatible upstream.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--pace", type=float, default=0.0, metavar="SECONDS", help="between two events of a stream")
    parser.add_argument("--expect-authorization", metavar="VALUE", help="the whole header; anything else gets a 401")
    parser.add_argument(
        "--ledger", type=Path, metavar="PATH", help="append what was received and said, one JSON line each"
    )
    asyncio.run(_serve(parser.parse_args()))


async def _serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger(options.ledger)) if options.ledger else None
        async with LoopbackUpstream(
            port=options.port,
            pace=options.pace,
            expect_authorization=options.expect_authorization,
            ledger=ledger,
            keep_requests=False,
        ) as upstream:
            print(upstream.url, flush=True)
            await stopped.wait()


main()
