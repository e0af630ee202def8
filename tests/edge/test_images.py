"""`/image_gen`: checked, passed on, and on record with what it cost."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge.app import house
from tests.loopback import LoopbackUpstream, error

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("asked", "sent", "cost"),
    [
        ({"prompt": "a cat"}, {"prompt": "a cat", "n": 1, "size": "1024x1024"}, 0.02),
        ({"prompt": "a cat", "n": 3, "size": "256x256"}, {"prompt": "a cat", "n": 3, "size": "256x256"}, 0.048),
        ({"prompt": "a cat", "n": 10, "size": "512x512"}, {"prompt": "a cat", "n": 10, "size": "512x512"}, 0.18),
        (
            {"prompt": "größe \ud83d", "n": 1, "size": "512x512", "model": "dall-e-2", "user": "u"},
            {"prompt": "größe \ud83d", "n": 1, "size": "512x512", "model": "dall-e-2", "user": "u"},
            0.018,
        ),
    ],
)
async def test_images_come_and_their_cost_is_kept(
    tmp_path: Path, database: str, asked: dict[str, Any], sent: dict[str, Any], cost: float
) -> None:
    async with house(tmp_path, database) as it:
        answer = await it.ask("/image_gen", asked, headers={"X-Title": "engineer"})
        assert answer.status == 200
        assert len(answer.json()["data"]) == sent["n"]
        (request,) = it.upstream.requests
        assert request.path == "/v1/images/generations"
        assert json.loads(request.body) == sent
        assert request.header("authorization") == "Bearer sk-upstream-secret"
        (row,) = await it.rows(1, "image_logs")
        assert row["usage_cost"] == pytest.approx(cost)
        assert row["response"] == answer.json()
        assert row["request"]["n"] == sent["n"]
        assert (row["user_name"], row["title"], row["outcome"]) == ("ann", "engineer", "complete")
        assert (row["path"], row["model"]) == ("/image_gen", asked.get("model"))
        assert str(row["id"]) == answer.headers["x-interaction-id"]


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": 7}, "prompt"),
        ({"prompt": "x", "n": 0}, "n"),
        ({"prompt": "x", "n": 11}, "n"),
        ({"prompt": "x", "n": 1.0}, "n"),
        ({"prompt": "x", "n": True}, "n"),
        ({"prompt": "x", "n": None}, "n"),
        ({"prompt": "x", "size": "1x1"}, "size"),
        ({"prompt": "x", "size": 1024}, "size"),
        ({"prompt": "x", "size": None}, "size"),
        ({"prompt": "x", "size": ["256x256"]}, "size"),
    ],
)
async def test_what_has_no_price_is_refused_before_anybody_is_asked(
    tmp_path: Path, database: str, asked: dict[str, Any], param: str
) -> None:
    async with house(tmp_path, database) as it:
        answer = await it.ask("/image_gen", asked)
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)
        assert it.upstream.requests == []


async def test_an_image_that_was_not_made_costs_nothing(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(error(400, message="no such cats", code="content_policy_violation"))
        answer = await it.ask("/image_gen", {"prompt": "a cat"})
        assert (answer.status, answer.code) == (400, "content_policy_violation")
        (row,) = await it.rows(1, "image_logs")
        assert (row["usage_cost"], row["outcome"]) == (None, "upstream_error")


async def test_sizes_and_prices_are_configuration_and_so_is_the_endpoint(tmp_path: Path, database: str) -> None:
    async with LoopbackUpstream() as images:
        endpoint = f"{images.url}/images/generations"
        async with house(tmp_path, database, GATEWAY_IMAGE_PRICES="1792x1024=0.08", LLM_IMG_ENDPOINT=endpoint) as it:
            assert (await it.ask("/image_gen", {"prompt": "x", "size": "256x256"})).status == 400
            assert (await it.ask("/image_gen", {"prompt": "x", "n": 2})).status == 200
            assert it.upstream.requests == []
            assert json.loads(images.requests[0].body)["size"] == "1792x1024"
            (row,) = await it.rows(1, "image_logs")
            assert row["usage_cost"] == pytest.approx(0.16)


async def test_ping_needs_nobody(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        answer = await it.ask("/ping", by="")
        assert (answer.status, answer.json()) == (200, {"message": "pong"})
