"""Requests that a gate refuses: no upstream hears of them, and they are on record all the same."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge.app import Answer, House, hello, house
from tests.edge.rules import CARD, COMPANYS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from gateway.policy.engine import Policy

CHAT, RESPONSES, EMBEDDINGS = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
KEYS: dict[str, Any] = {"GATEWAY_AUTH": "header, keys"}


class Bound:
    """A gateway, and a key of ann's for the model `small` alone."""

    def __init__(self, it: House, key: str) -> None:
        self.it = it
        self._key = key

    async def ask(self, path: str, body: object = None, **more: Any) -> Answer:
        return await self.it.ask(path, body, by="", headers={"Authorization": f"Bearer {self._key}"}, **more)

    async def refused(self, path: str, body: object) -> dict[str, Any]:
        """The error of a request that must be refused."""
        seen = len(self.it.upstream.requests)
        answer = await self.ask(path, body)
        assert (answer.status, answer.code) == (403, "model_not_allowed"), answer
        assert answer.headers["x-should-retry"] == "false"
        assert len(self.it.upstream.requests) == seen
        error: dict[str, Any] = answer.json()["error"]
        return error


@asynccontextmanager
async def bound(folder: Path, dsn: str, policy: Policy | None = None) -> AsyncIterator[Bound]:
    more: dict[str, Any] = {} if policy is None else {"policy": policy}
    async with house(folder, dsn, **KEYS, **more) as it:
        order = {"user": "ann", "name": "bound", "allowed_models": ["small"]}
        made = await it.ask("/admin/keys", order, by="root/admins")
        assert made.status == 201, made
        yield Bound(it, made.json()["value"])


@pytest.mark.parametrize(
    ("path", "body", "table", "kind"),
    [
        (CHAT, hello(), "chatgpt_logs", "chat"),
        (CHAT, hello(stream=True), "chatgpt_logs", "chat"),
        ("/chat", hello(), "chatgpt_logs", "chat"),
        (RESPONSES, {"model": "large", "input": "Hi"}, "chatgpt_logs", "response"),
        (EMBEDDINGS, {"model": "large", "input": "Hi"}, "api_logs", "other"),
        (EMBEDDINGS, {"input": "Hi"}, "api_logs", "other"),
        ("/v1/images/generations", {"model": "large", "prompt": "Hi"}, "image_logs", "image"),
    ],
)
async def test_a13_a_refused_request_is_on_record(
    tmp_path: Path, database: str, path: str, body: dict[str, Any], table: str, kind: str
) -> None:
    async with bound(tmp_path, database) as it:
        error = await it.refused(path, body)
        (row,) = await it.it.rows(1, table)
        assert (row["outcome"], row["error"]) == ("refused", error["message"])
        assert (row["user_name"], row["request"], row["kind"]) == ("ann", body, kind)
        assert row["model"] == body.get("model")
        for name in ("upstream", "status", "usage_info", "prompt_tokens", "usage_cost", "response", "request_sha256"):
            assert row.get(name) is None, name
        metrics = (await it.it.ask("/metrics", by="eve/auditors")).body.decode()
        assert 'outcome="refused"' in metrics


async def test_a13_a_long_body_is_kept_in_part_and_known_by_its_digest(tmp_path: Path, database: str) -> None:
    async with bound(tmp_path, database) as it:
        body = hello("ü" * 70_000)
        raw = json.dumps(body).encode()
        await it.refused(CHAT, body)
        (row,) = await it.it.rows(1)
        assert (row["request"], row["request_raw"]) == (None, raw[: 64 * 1024])
        assert (row["request_size"], row["request_sha256"]) == (len(raw), sha256(raw).hexdigest())


async def test_a13_what_the_policy_masks_is_masked_in_a_refused_request_too(tmp_path: Path, database: str) -> None:
    async with bound(tmp_path, database, COMPANYS) as it:
        await it.refused(CHAT, hello(f"Pay with {CARD.decode()}"))
        (row,) = await it.it.rows(1)
        assert (row["outcome"], row["policy_outcome"]) == ("refused", "masked")
        assert CARD.decode() not in json.dumps(row["request"])


async def test_a13_who_is_not_known_makes_no_row(tmp_path: Path, database: str) -> None:
    async with bound(tmp_path, database) as it:
        headers = {"Authorization": "Bearer llmgw-nobodys"}
        assert (await it.it.ask(CHAT, hello(model="small"), by="", headers=headers)).status == 401
        assert (await it.ask(CHAT, hello(model="small"))).status == 200
        (row,) = await it.it.rows(1)
        assert row["outcome"] == "complete"


async def test_a13_a_refused_request_neither_joins_nor_tears_a_conversation(tmp_path: Path, database: str) -> None:
    async with bound(tmp_path, database) as it:
        first = (await it.ask("/chat", hello("One", model="small"))).json()
        told = [*hello("One")["messages"], first["choices"][0]["message"], {"role": "user", "content": "Two"}]
        await it.refused(CHAT, {"model": "large", "messages": told})
        await it.refused("/chat", {"model": "large", "messages": told, "root_id": first["root_uuid"]})
        second = (await it.ask(CHAT, {"model": "small", "messages": told})).json()
        more = [*told, second["choices"][0]["message"], {"role": "user", "content": "Three"}]
        assert (await it.ask(CHAT, {"model": "small", "messages": more})).status == 200
        rows = await it.it.rows(5)
        said = [row for row in rows if row["outcome"] == "complete"]
        assert [row["root_gpt_id"] for row in said] == [first["root_uuid"]] * 3
        assert [row["parent_id"] for row in said] == [None, said[0]["id"], said[1]["id"]]
        inferred, named = (row for row in rows if row["outcome"] == "refused")
        assert (inferred["parent_id"], inferred["snapshot_hash"], named["parent_id"]) == (None, None, None)
        assert (inferred["root_gpt_id"], named["root_gpt_id"]) == (str(inferred["id"]), first["root_uuid"])
        history = (await it.ask("/history_v2")).json()["Historical_Conversations"]
        assert [(row["id"], row["outcome"]) for row in history] == [(str(said[2]["id"]), "complete")]


async def test_a13_report_views_and_live_page_count_and_find_refused_requests(tmp_path: Path, database: str) -> None:
    async with bound(tmp_path, database) as it:
        await it.refused(CHAT, hello())
        assert (await it.ask(CHAT, hello(model="small"))).status == 200
        await it.it.rows(2)
        totals = (await it.it.ask("/report/figures", by="eve/auditors")).json()["totals"]
        assert (totals["calls"], totals["complete"], totals["refused"], totals["conversations"]) == (2, 1, 1, 1)
        for view, groups in (("by_day", 1), ("by_day_and_user", 1), ("by_user", 1), ("by_model", 2)):
            found = await it.it.fetch(f"select * from llm_logs.usage_{view}")
            assert len(found) == groups
            assert (sum(row["refused"] for row in found), sum(row["conversations"] for row in found)) == (1, 1)
        of = "select refused, complete, is_internal from llm_logs.usage_by_conversation order by refused"
        assert [tuple(row.values()) for row in await it.it.fetch(of)] == [(0, 1, False), (1, 0, True)]
        lines = (await it.it.ask("/live/search?outcome=refused", by="eve/auditors")).json()["data"]
        assert [line["outcome"] for line in lines] == ["refused"]
