"""What the policy did reaches everybody whom it concerns: the caller, the row, and whoever asks later."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge.app import House, hello, house
from tests.edge.rules import CARD, COMPANYS
from tests.loopback import error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

PAY = f"Pay with {CARD.decode()}"
WAYS = [("/v1/chat/completions", False), ("/v1/chat/completions", True), ("/chat", False), ("/chat", True)]


@asynccontextmanager
async def ruled(folder: Path, dsn: str) -> AsyncIterator[House]:
    async with house(folder, dsn, policy=COMPANYS) as it:
        yield it


def told(answer: Any) -> tuple[str | None, str | None]:
    return answer.headers.get("x-policy-outcome"), answer.headers.get("x-policy-rule")


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_mask_is_told_and_kept(tmp_path: Path, database: str, path: str, is_stream: bool) -> None:
    async with ruled(tmp_path, database) as it:
        answer = await it.ask(path, hello(PAY, stream=is_stream))
        assert (answer.status, *told(answer)) == (200, "masked", "card numbers")
        (row,) = await it.rows(1)
        assert (row["policy_outcome"], row["policy_rules"]) == ("masked", ["card numbers"])
        assert row["request"]["messages"][0]["content"] == "Pay with [card number]"
        assert CARD not in it.upstream.requests[-1].body


async def test_every_rule_that_fired_is_named(tmp_path: Path, database: str) -> None:
    async with ruled(tmp_path, database) as it:
        answer = await it.ask("/chat", hello(f"{PAY} for our plans"))
        assert told(answer) == ("redirected", "card numbers, plans stay inside")
        (row,) = await it.rows(1)
        assert (row["policy_outcome"], row["model"]) == ("redirected", "internal")
        assert row["policy_rules"] == ["card numbers", "plans stay inside"]


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_a_refusal_is_told_and_on_record(tmp_path: Path, database: str, path: str, is_stream: bool) -> None:
    async with ruled(tmp_path, database) as it:
        answer = await it.ask(path, hello("weapons?", stream=is_stream))
        assert (answer.status, answer.code, *told(answer)) == (403, "policy_rejected", "rejected", "no weapons")
        assert answer.headers["x-should-retry"] == "false"
        (row,) = await it.rows(1)
        assert (row["outcome"], row["policy_outcome"], row["policy_rules"]) == (
            "policy_blocked",
            "rejected",
            ["no weapons"],
        )
        assert row["error"] == "Weapons are not talked about here."
        assert it.upstream.requests == []


@pytest.mark.parametrize(("path", "is_stream"), WAYS)
async def test_what_is_allowed_says_nothing(tmp_path: Path, database: str, path: str, is_stream: bool) -> None:
    async with ruled(tmp_path, database) as it:
        assert told(await it.ask(path, hello(stream=is_stream))) == (None, None)
        (row,) = await it.rows(1)
        assert (row["policy_outcome"], row["policy_rules"]) == (None, None)


async def test_a_masked_request_that_the_upstream_fails_still_says_so(tmp_path: Path, database: str) -> None:
    async with ruled(tmp_path, database) as it:
        it.upstream.script(error(429))
        assert told(await it.ask("/chat", hello(PAY))) == ("masked", "card numbers")
        await it.upstream.stop()
        answer = await it.ask("/chat", hello(PAY))
        assert (answer.status, *told(answer)) == (502, "masked", "card numbers")


async def test_an_upstreams_word_on_policy_is_not_passed_on(tmp_path: Path, database: str) -> None:
    async with ruled(tmp_path, database) as it:
        headers = [("x-policy-outcome", "rejected"), ("x-policy-rule", "theirs")]
        it.upstream.script(error(400, headers=headers))
        assert told(await it.ask("/chat", hello())) == (None, None)


async def test_whatever_a_rule_is_called_the_header_is_short_and_plain(tmp_path: Path, database: str) -> None:
    async with ruled(tmp_path, database) as it:
        answer = await it.ask("/chat", hello("strange"))
        rule = answer.headers["x-policy-rule"]
        assert rule.startswith("p?pins??x-evil: 1!!!")
        assert len(rule) == 256
        assert rule.isascii()
        assert "x-evil" not in answer.headers


async def test_who_asks_again_later_is_told_as_well(tmp_path: Path, database: str) -> None:
    wanted = {"outcome": "masked", "rules": ["card numbers"]}
    async with ruled(tmp_path / "here", database) as it:
        uuid = (await it.chat(PAY)).json()["uuid"]
        assert (await it.ask(f"/chat/{uuid}")).json()["policy"] == wanted
        await it.rows(1)
        (row,) = (await it.ask("/history_v2")).json()["Historical_Conversations"]
        assert (row["policy_outcome"], row["policy_rules"]) == ("masked", ["card numbers"])
    async with ruled(tmp_path / "elsewhere", database) as it:  # another process: from Postgres
        assert (await it.ask(f"/chat/{uuid}")).json()["policy"] == wanted


async def test_one_who_joins_is_told_as_well(tmp_path: Path, database: str) -> None:
    async with (
        house(tmp_path, database, policy=COMPANYS, pace=0.05) as it,
        it.open("/chat", hello(PAY, stream=True)) as stream,
        it.open(f"/chat/{stream.headers['x-interaction-id']}/stream") as joined,
    ):
        assert told(joined) == ("masked", "card numbers")
        assert await joined.read() == await stream.read()
