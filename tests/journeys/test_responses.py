"""Conversations of the Responses API with the official package, three turns in each way: all are found in Postgres."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.loopback import json_answer, response_object

if TYPE_CHECKING:
    from openai.types.responses import Response

    from tests.journeys.stage import Row, Stage
    from tests.loopback import Request, Script

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUESTIONS = ("What is the weather?", "And tomorrow?", "Thanks.")
TOOLS: list[Any] = [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}]
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city":"Paris"}'}
THOUGHT = {"type": "reasoning", "summary": [], "encrypted_content": "gAAAA"}


def with_own_ids(request: Request) -> Script | None:
    """As OpenAI does it: every answer and every item has an id of its own. The first answer to who has tools is a call
    of one, and the thought before it."""
    body = request.json()
    if body.get("stream"):
        return None
    number = uuid.uuid4().hex
    said = response_object(f"Answer {number}.", response_id=f"resp_{number}")
    said["output"][0]["id"] = f"msg_{number}"
    if body.get("tools") and "function_call_output" not in json.dumps(body["input"]):
        said["output"] = [{**THOUGHT, "id": f"rs_{number}"}, {**CALL, "id": f"fc_{number}", "status": "completed"}]
    return json_answer(said)


async def conversation(stage: Stage, answers: list[Response]) -> list[Row]:
    """The rows of these answers, in order; each is found by the id that the upstream gave."""
    sql = "select * from llm_logs.chatgpt_logs where response ->> 'id' = $1"
    rows = []
    async with asyncio.timeout(10):
        for answer in answers:
            while not (found := await stage.fetch(sql, answer.id)):
                await asyncio.sleep(0.02)
            rows += found
    assert len(rows) == len(answers)
    return rows


def assert_one_conversation(rows: list[Row], root: str | None = None) -> None:
    assert {row["root_gpt_id"] for row in rows} == {root or str(rows[0]["id"])}
    assert [row["parent_id"] for row in rows] == [None, *(row["id"] for row in rows[:-1])]


async def test_turns_that_name_the_response_before_are_one_conversation(stage: Stage) -> None:
    stage.upstream.on = with_own_ids
    answers: list[Response] = []
    async with stage.openai() as client:
        for question in QUESTIONS:
            more: Any = {"previous_response_id": answers[-1].id} if answers else {}
            answers.append(await client.responses.create(model="m", input=question, **more))
    assert_one_conversation(await conversation(stage, answers))


async def test_turns_of_a_conversation_object_are_one_conversation(stage: Stage) -> None:
    stage.upstream.on = with_own_ids
    name = f"conv_{uuid.uuid4().hex}"
    async with stage.openai() as client:
        answers = [
            await client.responses.create(model="m", input=question, conversation=name) for question in QUESTIONS
        ]
    assert_one_conversation(await conversation(stage, answers), root=name)


async def test_turns_that_send_all_items_again_are_one_conversation_also_with_a_call_of_a_tool(stage: Stage) -> None:
    stage.upstream.on = with_own_ids
    answers: list[Response] = []
    items: list[Any] = [{"role": "user", "content": f"{QUESTIONS[0]} {uuid.uuid4()}"}]
    async with stage.openai() as client:
        for following in (
            {"type": "function_call_output", "call_id": "call_1", "output": "rain"},
            {"role": "user", "content": QUESTIONS[1]},
            {"role": "user", "content": QUESTIONS[2]},
        ):
            answer = await client.responses.create(model="m", input=items, tools=TOOLS, store=False)
            answers.append(answer)
            items = [*items, *answer.output, following]
    assert [item.type for item in answers[0].output] == ["reasoning", "function_call"]
    assert_one_conversation(await conversation(stage, answers))


async def test_streamed_turns_that_send_all_items_again_are_one_conversation(stage: Stage) -> None:
    answers: list[Response] = []
    items: list[Any] = []
    async with stage.openai() as client:
        for question in QUESTIONS:
            items = [*items, {"role": "user", "content": f"{question} {uuid.uuid4()}"}]
            async with client.responses.stream(model="m", input=items) as stream:
                answer = await stream.get_final_response()
            answers.append(answer)
            items += [{"role": "assistant", "content": answer.output_text}]  # the short form, without ids
    assert_one_conversation(await conversation(stage, answers))


async def test_turns_that_refer_to_stored_items_are_one_conversation(stage: Stage) -> None:
    stage.upstream.on = with_own_ids
    answers: list[Response] = []
    items: list[Any] = []
    async with stage.openai() as client:
        for question in QUESTIONS:
            items = [*items, {"role": "user", "content": question}]
            answers.append(await client.responses.create(model="m", input=items))
            items += [{"type": "item_reference", "id": item.id} for item in answers[-1].output]
    assert_one_conversation(await conversation(stage, answers))
