"""The usage of streams, which the gateway asks for: upstreams that refuse it, and who pays for that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.edge.app import Answer, House, hello, house
from tests.loopback import error

if TYPE_CHECKING:
    from pathlib import Path

    from tests.loopback import Script

CHAT = "/v1/chat/completions"


def strict(request: Any) -> Script | None:
    """An upstream that knows no `stream_options`."""
    asked = request.json()
    if "stream_options" in asked:
        return error(400, message="Unrecognized request argument supplied: stream_options")
    return None


def asks(it: House) -> list[bool]:
    """Of each request that the upstream has seen, whether it asked for usage."""
    return ["stream_options" in request.json() for request in it.upstream.requests]


async def stream(it: House, text: str = "Hello!", path: str = CHAT, **more: Any) -> Answer:
    return await it.ask(path, hello(text, stream=True, **more))


@pytest.mark.parametrize("status", [400, 422])
async def test_b1_an_echo_of_a_refused_body_switches_nothing_off(tmp_path: Path, database: str, status: int) -> None:
    def echo(request: Any) -> Script | None:
        if b"refuse me" not in request.body:
            return None
        return error(status, message=f"Unknown: {request.body.decode()}", code="invalid")

    async with house(tmp_path, database) as it:
        it.upstream.on = echo
        refused = await stream(it, "refuse me, stream_options is unsupported")
        assert refused.status == status
        assert b"include_usage" not in refused.body  # the refusal of what the caller wrote
        it.upstream.on = lambda _: None
        assert (await stream(it)).status == 200
        assert asks(it) == [True, False, True]


async def test_b1_a_refusal_of_the_moment_whose_prompt_names_the_member_switches_nothing_off(
    tmp_path: Path, database: str
) -> None:
    async with house(tmp_path, database) as it:
        it.upstream.script(error(400, message="Unknown thing near: why is stream_options unsupported?"))
        assert (await stream(it, "why is stream_options unsupported?")).status == 200  # at the second attempt
        assert (await stream(it)).status == 200
        assert asks(it) == [True, False, True]


async def test_b1_one_model_is_not_asked_again_and_the_others_are(tmp_path: Path, database: str) -> None:
    def one(request: Any) -> Script | None:
        return strict(request) if request.json()["model"] == "old" else None

    async with house(tmp_path, database) as it:
        it.upstream.on = one
        for model in ("old", "old", "new", "new"):
            assert (await stream(it, model=model)).status == 200
        assert asks(it) == [True, False, False, True, True]
        rows = await it.rows(4)
        assert [row["usage_estimated"] for row in rows] == [True, True, False, False]


async def test_c3_our_pages_chats_do_without_usage_and_programs_hear_the_refusal(tmp_path: Path, database: str) -> None:
    options: dict[str, Any] = {"stream_options": {"include_usage": True}}
    async with house(tmp_path, database) as it:
        it.upstream.on = strict
        for _ in range(2):
            answer = await stream(it, path="/chat", **options)
            assert (answer.status, answer.body.endswith(b"data: [DONE]\n\n")) == (200, True)
        assert asks(it) == [True, False, False]
        told = await stream(it, **options)
        assert (told.status, json.loads(told.body)["error"]["message"]) == (
            400,
            "Unrecognized request argument supplied: stream_options",
        )
        rows = await it.rows(3)
        assert [row["outcome"] for row in rows] == ["complete", "complete", "upstream_error"]


async def test_c3_our_pages_chats_have_their_usage_where_it_is_counted(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        answer = await stream(it, path="/chat", stream_options={"include_usage": True})
        assert b'"usage"' in answer.body
        assert asks(it) == [True]
