"""Schemathesis reads /openapi.json and asks the real gateway thousands of questions that follow from it, right ones and
wrong ones: no answer may be a server error, or other than the document says it is."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gateway.edge.ops.openapi import document
from gateway.resources import resource_folder
from gateway.settings import load
from gateway.store.migrations import migrate
from gateway.store.pool import Database
from tests.gateway_process import GatewayProcess
from tests.identity.oidc import AUDIENCE, RSA, claims, running_provider, token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.postgres import PostgresServer

CONFIG = Path(__file__).with_name("schemathesis.toml")
ANNA = "anna@example.com"
EXAMPLES = 40
EXAMPLES_LONG = 600
# These have nothing to find: no answer is being made when they ask, and the demo model only chats.
FRUITLESS = {"POST /chat/{id}/stop", "GET /chat/{id}/stream", "POST /image_gen", "POST /v1/embeddings", "GET /open"}
FRUITLESS |= {f"{method} /v1/{{path}}" for method in ("GET", "POST", "PUT", "PATCH", "DELETE")}
ENDLESS = {"GET /live/events"}  # left out in the configuration

# A chat as a seed system kept it, under the id that the document has in its examples: so there is something to find.
_CHAT = document()["paths"]["/chat"]["post"]
_QUESTION = _CHAT["requestBody"]["content"]["application/json"]["examples"]["plain"]["value"]
_ANSWER = _CHAT["responses"]["200"]["content"]["application/json"]["example"]
KEPT = f"""
insert into llm_logs.chatgpt_logs
    (id, request, usage_info, user_name, title, response, convo_title, root_gpt_id)
values (
    '{_ANSWER["uuid"]}', '{json.dumps(_QUESTION)}', '{json.dumps(_ANSWER["usage"])}', '{ANNA}', 'Analyst',
    '{json.dumps(_ANSWER)}', 'Greetings', '{_ANSWER["uuid"]}'
)
"""


def admins_token(issuer: str) -> str:
    """Of someone who may do everything. A token, for a key might be revoked on the way: there is a call for that."""
    what = claims(issuer, email=ANNA, groups=["admins"], exp=int(time.time()) + 7200)
    return token(RSA, what).decode()


async def schemathesis(folder: Path, url: str, credential: str, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what it said, and its report."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run", f"{url}/openapi.json"]
    process = await asyncio.create_subprocess_exec(
        *(*command, "--no-color", "--report", "json", "--report-json-path", str(report), *options),
        cwd=folder,
        env={**os.environ, "GATEWAY_TOKEN": credential},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, said.decode(), json.loads(report.read_bytes()) if report.exists() else {}


async def bring_up(dsn: str) -> None:
    """The schema in an empty database, before a gateway sees it."""
    database = Database(dsn, load({"DATABASE_URL": dsn}).store)
    try:
        await migrate(database, resource_folder("sql"))
    finally:
        await database.aclose()


def accepted(rates: Mapping[str, Mapping[str, Mapping[str, int]]]) -> dict[str, int]:
    """How often each operation answered well."""
    return {name: sum(phase["accepted"] for phase in phases.values()) for name, phases in rates.items()}


@pytest.mark.timeout(1200)
async def test_every_answer_is_as_the_document_says(
    tmp_path: Path, postgres: PostgresServer, database: str, is_long: bool
) -> None:
    await bring_up(database)
    postgres.execute(KEPT, database)
    env = {
        "DATABASE_URL": database,
        "GATEWAY_AUTH": "keys,jwt",
        "GATEWAY_AUTH_OWN_KEYS_S": "3600",
        "GATEWAY_AUTH_AUDIENCE": AUDIENCE,
        "GATEWAY_AUTH_ADMIN_GROUPS": "admins",
        "GATEWAY_AUTH_AUDITOR_GROUPS": "admins",
        "GATEWAY_DEMO_WORDS_PER_SECOND": "1000000",
    }
    # The short run asks the same each time; the long one looks further, and names its seed when it finds something.
    effort = ("-n", str(EXAMPLES_LONG)) if is_long else ("-n", str(EXAMPLES), "--generation-deterministic")
    async with (
        running_provider() as issuer,
        GatewayProcess(tmp_path, {**env, "GATEWAY_AUTH_ISSUER": issuer.url}) as gateway,
    ):
        status, said, report = await schemathesis(tmp_path, gateway.url, admins_token(issuer.url), *effort)
        failures = [line for line in gateway.log() if line["event"] == "request failed"]
        assert status == 0, f"{said[-20_000:]}\n{failures[:3]}"
        assert failures == []
        assert gateway.is_running
    assert report["operations"]["tested"] == report["operations"]["total"] - len(ENDLESS) > 30
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}
    fruitless = {name for name, times in accepted(report["valid_rates"]).items() if not times}
    assert fruitless == FRUITLESS
