"""`/readyz`: one word for probes, details for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.edge.app import BY_HEADER, house

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "scraper-7c1f0e"
DETAILS = {"status", "draining", "upstream", "postgres", "journal"}
FAR: dict[str, Any] = {"GATEWAY_METRICS_NETWORKS": "none", "GATEWAY_METRICS_TOKEN": TOKEN}
OPEN: dict[str, Any] = dict.fromkeys(BY_HEADER, "")
PROBES: tuple[dict[str, Any], ...] = (
    {"by": ""},
    {"by": "ann"},
    {"by": "", "headers": {"Authorization": "Bearer wrong"}},
    {"by": "", "headers": {"X-Forwarded-For": "127.0.0.1"}},
)


@pytest.mark.parametrize("auth", ["open", "keys", "header"])
async def test_f10_a_probe_gets_one_word(tmp_path: Path, database: str, auth: str) -> None:
    env = {**(BY_HEADER if auth == "header" else OPEN), **FAR, "GATEWAY_AUTH": auth}
    async with house(tmp_path, database, **env) as it:
        for probe in PROBES:
            answer = await it.ask("/readyz", **probe)
            assert (answer.status, answer.json()) == (200, {"status": "ready"})


async def test_f10_why_requests_are_refused_is_for_operators(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **FAR, GATEWAY_JOURNAL_MIN_FREE_BYTES="1048576GiB") as it:
        answer = await it.ask("/readyz", by="")
        assert (answer.status, answer.json()) == (503, {"status": "not ready"})
        assert (await it.ask("/readyz", by="root/admins")).json()["journal"]["refusal"]


async def test_f10_who_may_read_metrics_gets_the_details(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **FAR) as it:
        for operator in (
            {"by": "", "headers": {"Authorization": f"Bearer {TOKEN}"}},
            {"by": "eve/auditors"},
            {"by": "root/admins"},
        ):
            answer = await it.ask("/readyz", **operator)
            assert answer.json().keys() >= DETAILS
            assert answer.json()["upstream"] == it.upstream.url


async def test_f10_an_operator_on_this_machine_needs_no_credential_where_the_settings_say_so(
    tmp_path: Path, database: str
) -> None:
    async with house(tmp_path, database, **OPEN) as it:
        assert (await it.ask("/readyz", by="")).json() == {"status": "ready"}
    async with house(tmp_path, database, **OPEN, GATEWAY_METRICS_NETWORKS="127.0.0.1") as it:
        assert (await it.ask("/readyz", by="")).json().keys() >= DETAILS
        assert (await it.ask("/readyz", by="", headers={"Via": "1.1 proxy"})).json() == {"status": "ready"}
