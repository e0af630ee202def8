"""Creates the data directory of an embedded PostgreSQL, completely or not at all."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from gateway.embedded_postgres.account import GO_ELSEWHERE, EmbeddedPostgresError
from gateway.embedded_postgres.cluster import HALF_MADE, embedded_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.embedded_postgres.cluster import Cluster

SUPERUSER = "postgres"
INITDB_S = 120.0
log = structlog.get_logger()


async def make_data(cluster: Cluster, extra: Sequence[str] = ()) -> None:
    """Run initdb in a folder, then rename that to the data directory; does nothing if the directory exists."""
    if cluster.has_data:
        return
    with embedded_errors(cluster.directory):
        scratch = Path(tempfile.mkdtemp(dir=cluster.directory, prefix=HALF_MADE))
        if not cluster.account.is_own:
            os.chown(scratch, cluster.account.uid, cluster.account.gid)
        try:
            await _initdb(cluster, scratch, extra)
            _rename(scratch, cluster.data)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    log.info("embedded postgres created", directory=str(cluster.directory), version=cluster.binaries.version)


async def _initdb(cluster: Cluster, scratch: Path, extra: Sequence[str]) -> None:
    output = ""
    for locale in _locales(cluster.binaries.major):
        code, output = await _run_initdb(cluster, scratch, [*locale, *extra])
        if code == 0:
            return
        if "invalid locale" not in output:
            break
    reason = "the disk is full" if "No space left on device" in output else f"initdb failed (exit code {code})"
    output = output[-2000:].strip()
    raise EmbeddedPostgresError(
        f"no data directory could be created in {cluster.directory}: {reason}:\n{output}\nCorrect that, {GO_ELSEWHERE}"
    )


async def _run_initdb(cluster: Cluster, scratch: Path, extra: Sequence[str]) -> tuple[int | None, str]:
    arguments = (
        f"--username={SUPERUSER}",
        # The socket's folder (0700) decides who may connect: the kernel lets no other account through it. Peer
        # authentication would add nothing, and needs a name for our user id, which containers often lack.
        "--auth-local=trust",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--data-checksums",
        "--no-instructions",
        *extra,
    )
    with tempfile.TemporaryFile() as output:
        initdb = await asyncio.create_subprocess_exec(
            *cluster.command("initdb", scratch, arguments),
            env=cluster.binaries.environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            code = await asyncio.wait_for(initdb.wait(), INITDB_S)
        except TimeoutError:
            return None, f"not done after {INITDB_S:.0f} s"
        finally:
            if initdb.returncode is None:
                initdb.terminate()
                await initdb.wait()
        output.seek(0)
        return code, output.read().decode(errors="replace")


def _locales(major: int) -> Sequence[Sequence[str]]:
    """The locale options to try: byte order, and case by Unicode; the same on each machine, without ICU."""
    if major >= 17:
        return (("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),)
    return (("--locale=C", "--lc-ctype=C.UTF-8"), ("--locale=C",))


def _rename(scratch: Path, data: Path) -> None:
    """Rename the folder to the data directory, and sync that before a server writes into it."""
    scratch.rename(data)
    descriptor = os.open(data.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
