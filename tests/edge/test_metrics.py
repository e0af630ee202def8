"""`/metrics`: who may read it, and that its figures are what was done."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from tests.edge.app import BY_HEADER, hello, house
from tests.loopback import (
    Fin,
    WaitFor,
    chat_stream,
    cut_after,
    garbage,
    ok_with_error_body,
    rate_limited,
    sse_error_event,
)
from tests.submissions.monitors import LoopbackMonitor, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.edge.app import House
    from tests.postgres import PostgresServer

TOKEN = "scraper-7c1f0e"
NEAR: dict[str, Any] = {"GATEWAY_METRICS_NETWORKS": "127.0.0.0/8"}
OPEN: dict[str, Any] = {**dict.fromkeys(BY_HEADER, ""), "GATEWAY_AUTH": "open"}


class Figures:
    """What was scraped."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = list(parse_text(text))
        self._samples = [sample for family in self.families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the series of this name that have these labels; a name that is not there is a mistake."""
        name = name if name.startswith("process_") else f"llm_gateway_{name}"
        assert any(name.startswith(family.name) for family in self.families), name
        return sum(each.value for each in self._samples if each.name == name and labels.items() <= each.labels.items())


async def scrape(it: House) -> Figures:
    answer = await it.ask("/metrics", by="", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status == 200, answer
    return Figures(answer.body.decode())


async def scraped_until(it: House, name: str, wanted: float, **labels: str) -> Figures:
    """What is shipped shows a moment later."""
    async with asyncio.timeout(10):
        while (found := await scrape(it))(name, **labels) != wanted:
            await asyncio.sleep(0.05)
    return found


@asynccontextmanager
async def watched(folder: Path, dsn: str, **env: Any) -> AsyncIterator[House]:
    async with house(folder, dsn, GATEWAY_METRICS_TOKEN=TOKEN, **env) as it:
        yield it


# ── who may read ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_f2_who_is_on_this_machine_reads_no_figures_unless_the_settings_say_so(
    tmp_path: Path, database: str
) -> None:
    """A proxy on this machine has its address, too, whoever stands behind it."""
    async with house(tmp_path, database, **OPEN) as it:
        answer = await it.ask("/metrics", by="")
        assert (answer.status, answer.code) == (403, "link_needed")
    async with house(tmp_path, database, **OPEN, **NEAR) as it:
        assert (await it.ask("/metrics", by="")).status == 200


@pytest.mark.parametrize("auth", ["open", "keys"])
async def test_what_came_through_a_proxy_on_this_machine_is_not_local(tmp_path: Path, database: str, auth: str) -> None:
    env = OPEN | NEAR | {"GATEWAY_AUTH": auth}
    async with house(tmp_path, database, **env) as it:
        assert (await it.ask("/metrics", by="")).status == 200
        for header in ("Forwarded", "VIA", "x-forwarded-for", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Real-IP"):
            for value in ("127.0.0.1", ""):
                answer = await it.ask("/metrics", by="", headers={header: value})
                assert answer.status == (403 if auth == "open" else 401), header


async def test_a_page_whose_name_was_made_to_point_here_reads_nothing(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database, **OPEN | NEAR | {"GATEWAY_AUTH": "keys"}) as it:
        assert (await it.ask("/metrics", by="", headers={"Host": "evil.example:8000"})).status == 401
        assert (await it.ask("/metrics", by="", headers={"Host": "localhost:8000"})).status == 200


async def test_a_gateway_that_is_open_to_all_is_so_without_its_figures(tmp_path: Path, database: str) -> None:
    env = {**OPEN, "GATEWAY_ALLOW_OPEN": "true", "GATEWAY_METRICS_NETWORKS": "none"}
    async with watched(tmp_path, database, **env) as it:
        assert (await it.ask("/history", by="")).status == 200
        assert (await it.ask("/metrics", by="")).status == 403
        for wrong in (f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", "Bearer \u00ff"):
            assert (await it.ask("/metrics", by="", headers={"Authorization": wrong})).status == 403
        await scrape(it)


async def test_auditors_and_admins_read_them_and_others_do_not(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database, GATEWAY_AUTH="header, keys") as it:
        assert (await it.ask("/metrics", by="")).status == 401
        assert (await it.ask("/metrics", by="ann")).status == 403
        assert (await it.ask("/metrics", by="eve/auditors")).status == 200
        assert (await it.ask("/metrics", by="root/admins")).status == 200
        for roles, expected in (([], 403), (["auditor"], 200), (["admin"], 200)):
            order = {"user": "bob", "name": "a key", "roles": roles}
            key = (await it.ask("/admin/keys", order, by="root/admins")).json()["value"]
            assert (await it.ask("/metrics", by="", headers={"x-api-key": key})).status == expected


async def test_the_scrapers_token_opens_nothing_else(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database, GATEWAY_AUTH="header, keys") as it:
        await scrape(it)
        for path in ("/history", "/admin/keys", "/report/figures", "/v1/models"):
            assert (await it.ask(path, by="", headers={"Authorization": f"Bearer {TOKEN}"})).status == 401


# ── what it tells ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "accept",
    ["application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "text/plain", "", "*/*", "text/plain;version=x"],
)
async def test_both_forms_can_be_read(tmp_path: Path, database: str, accept: str) -> None:
    async with watched(tmp_path, database) as it:
        await it.chat()
        headers = {"Accept": accept, "Authorization": f"Bearer {TOKEN}"}
        answer = await it.ask("/metrics", by="", headers=headers)
        parse = parse_openmetrics if "openmetrics" in answer.headers["Content-Type"] else parse_text
        assert ("openmetrics" in answer.headers["Content-Type"]) == ("openmetrics" in accept)
        families = {family.name: family for family in parse(answer.body.decode())}
        assert len(families) > 30
        for family in families.values():
            assert family.documentation.endswith("."), family.name
            assert all(sample.labels["worker"] == "0" for sample in family.samples), family.name
            assert family.name.startswith(("llm_gateway_", "process_"))


async def test_the_figures_are_what_was_done_and_what_the_rows_say(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database) as it:
        for number in range(3):
            await it.chat(f"{number}")
            await it.ask("/v1/chat/completions", hello(f"{number}", stream=True))
        await it.ask("/v1/responses", {"model": "loopback-2", "input": "hi"})
        await it.ask("/v1/embeddings", {"model": "loopback-2", "input": "hi"})
        await it.ask("/nowhere/ann", {})
        await it.ask("/chat", {"model": 7})
        rows = [*await it.rows(7), *await it.rows(1, "api_logs")]
        figures = await scraped_until(it, "shipped_records_total", 8, sink="postgres")
        done = {"status": "2xx", "outcome": "complete"}
        assert figures("http_requests_total", route="/chat", method="POST", **done) == 3
        assert figures("http_requests_total", route="/v1/chat/completions", method="POST", **done) == 3
        assert figures("http_requests_total", route="/v1/responses", **done) == 1
        assert figures("http_requests_total", route="/v1/{path}", **done) == 1
        assert figures("http_requests_total", route="none", status="4xx", outcome="none") == 1
        assert figures("http_requests_total", route="/chat", status="4xx", outcome="none") == 1
        assert figures("errors_total", code="malformed_body") == figures("errors_total", code="not_found") == 1
        assert figures("errors_total") == 2
        for model in ("loopback-1", "loopback-2"):
            of_model = [row for row in rows if row["model"] == model]
            tokens = sum(row["prompt_tokens"] for row in of_model), sum(row["completion_tokens"] for row in of_model)
            assert figures("tokens_total", model=model, token_type="input") == tokens[0]
            assert figures("tokens_total", model=model, token_type="output") == tokens[1]
            assert figures("operation_duration_seconds_count", model=model) == len(of_model)
            seconds = sum(row["duration_ms"] for row in of_model) / 1000
            assert figures("operation_duration_seconds_sum", model=model) == pytest.approx(seconds)
            first_s = sum(row["first_token_ms"] for row in of_model) / 1000
            assert figures("time_to_first_token_seconds_sum", model=model) == pytest.approx(first_s)
        assert figures("relayed_bytes_total", direction="from_upstream") == sum(row["bytes_in"] for row in rows)
        assert figures("relayed_bytes_total", direction="to_caller") == sum(row["bytes_out"] for row in rows)
        assert figures("waiting_records") == figures("oldest_waiting_seconds") == 0
        assert figures("postgres_up") == figures("sink_up") == figures("journal_accepting") == 1
        assert figures("pool_connections") >= 1
        assert figures("journal_max_bytes") - figures("journal_bytes") >= figures("journal_room_bytes") > 0
        assert figures("process_open_fds") > 0


async def test_faults_of_an_upstream_are_counted_by_their_kind(tmp_path: Path, database: str) -> None:
    scripts: list[tuple[Any, str]] = [
        (rate_limited(), "429"),
        (garbage(), "upstream_garbled"),
        (cut_after(3), "upstream_cut"),
        (sse_error_event(after_chunks=2), "upstream_error"),
        (ok_with_error_body(), "upstream_error"),
    ]
    async with watched(tmp_path, database) as it:
        before = await scrape(it)
        assert before("upstream_errors_total") == 0
        for script, _ in scripts:
            it.upstream.script(script)
            await it.ask("/v1/chat/completions", hello(stream=True))
        figures = await scrape(it)
        assert figures("upstream_errors_total") == len(scripts)
        for kind in {kind for _, kind in scripts}:
            wanted = sum(kind == each for _, each in scripts)
            assert figures("upstream_errors_total", error_type=kind) == wanted, kind


async def test_an_upstream_that_is_not_there_is_counted_as_that(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database, OPENAI_BASE_URL="http://127.0.0.1:9/v1") as it:
        assert (await it.ask("/v1/chat/completions", hello())).status == 502
        figures = await scrape(it)
        assert figures("upstream_errors_total") == 1
        assert figures("upstream_errors_total", error_type="upstream_unreachable") == 1


async def test_models_and_methods_that_callers_invent_get_no_series(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database) as it:
        size = len((await scrape(it)).text)
        for number in range(60):
            await it.ask("/v1/chat/completions", {**hello(), "model": f"rosebud-{number}"})
            await it.ask(f"/v1/rosebud/{number}", method=f"ROSEBUD{number}")
            await it.ask(f"/rosebud/{number}", method=f"ROSEBUD{number}")
            await it.ask("/chat/running", by=f"rosebud-{number}")
        figures = await scrape(it)
        assert len({s.labels["model"] for f in figures.families for s in f.samples if "model" in s.labels}) <= 33
        assert "/rosebud" not in figures.text
        assert "ROSEBUD" not in figures.text
        assert len(figures.text) < size + 150_000


async def test_a_running_stream_shows_and_one_whose_caller_left_is_told_of(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database) as it:
        go = asyncio.Event()
        it.upstream.script(chat_stream("one two three").first(2).then(WaitFor(go), Fin()))
        async with it.open("/v1/chat/completions", hello(stream=True)) as stream:
            await stream.content.readany()
            figures = await scrape(it)
            assert figures("open_streams") == figures("journal_open_records") == 1
            assert figures("requests_in_progress") == 2  # the scrape is the other one
        figures = await scraped_until(it, "open_streams", 0)
        go.set()
        left = {"route": "/v1/chat/completions", "outcome": "client_cancelled"}
        await scraped_until(it, "http_requests_total", 1, status="none", **left)


async def test_postgres_that_is_away_shows_and_so_does_what_waits_for_it(tmp_path: Path) -> None:
    async with watched(tmp_path, "postgresql://nobody@127.0.0.1:9/none", GATEWAY_DB_CONNECT_S="0.3") as it:
        await it.chat()
        figures = await scraped_until(it, "waiting_records", 1, sink="postgres")
        assert figures("postgres_up") == 0
        assert figures("shipped_records_total", sink="postgres") == 0
        await asyncio.sleep(0.3)
        assert (await scrape(it))("oldest_waiting_seconds", sink="postgres") > 0.2


async def test_a_full_journal_shows_with_those_that_it_turned_away(tmp_path: Path, database: str) -> None:
    async with watched(tmp_path, database, GATEWAY_JOURNAL_MIN_FREE_BYTES="1000TiB") as it:
        for _ in range(3):
            assert (await it.ask("/v1/chat/completions", hello())).code == "journal_full"
        figures = await scrape(it)
        assert figures("journal_accepting") == figures("journal_room_bytes") == 0
        assert figures("journal_refusals_total") == figures("errors_total", code="journal_full") == 3


async def test_dead_letters_show_and_are_gone_when_people_have_taken_them_away(tmp_path: Path, database: str) -> None:
    async with LoopbackMonitor() as monitor:
        monitor.mood = lambda told: status(422) if "bad" in str(told["raw_request"]) else None
        env: dict[str, Any] = {"ENABLE_SUBMISSIONS_API": "true", "SUBMISSIONS_API_URL": monitor.url}
        async with watched(tmp_path, database, **env) as it:
            await it.chat("good")
            await it.chat("bad")
            figures = await scraped_until(it, "dead_letters", 1)
            assert figures("submissions_delivered_total") == 1
            assert figures("submissions_failed_total") == 3
            assert figures("monitor_up") == 1
            await scraped_until(it, "shipped_records_total", 2, sink="submissions")
            for letter in (tmp_path / "journal" / "dead_letters").iterdir():
                letter.unlink()
            await scraped_until(it, "dead_letters", 0)
            await monitor.go_away()
            await it.chat("good")
            figures = await scraped_until(it, "monitor_up", 0)
            assert figures("waiting_records", sink="submissions") == 1
            assert figures("sink_up", sink="submissions") == 0
            assert figures("sink_fault", sink="submissions", cause="away") == 1
            assert figures("sink_up", sink="postgres") == 1


async def test_postgres_that_goes_is_told_of_at_the_next_look(tmp_path: Path, postgres: PostgresServer) -> None:
    dsn = postgres.create_database()
    async with watched(tmp_path, dsn) as it:
        assert (await scrape(it))("postgres_up") == 1
        await it.aclose()
        postgres.drop_database(dsn)
        await scraped_until(it, "postgres_up", 0)


async def test_a5_headers_that_stay_here_are_counted_and_a_setting_sends_some_on(tmp_path: Path, database: str) -> None:
    headers = {"Remote-Email": "ann@corp.example", "X-Corp-Team": "blue", "OpenAI-Organization": "org-1"}
    async with house(tmp_path, database, GATEWAY_METRICS_TOKEN=TOKEN, GATEWAY_PASS_HEADERS="X-Corp-*") as it:
        before = (await scrape(it))("dropped_request_headers_total")
        await it.ask("/v1/models", headers=headers)
        (request,) = it.upstream.requests
        assert request.header("x-corp-team") == "blue"
        assert request.header("remote-email") is None
        assert request.header("openai-organization") is None
        assert (await scrape(it))("dropped_request_headers_total") == before + 2
