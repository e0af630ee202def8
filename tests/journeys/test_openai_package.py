"""The official `openai` package cannot tell the gateway from its upstream."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tests.journeys.scenes import ASYNC_SCENES, SCENES, answer_by_model, normal

if TYPE_CHECKING:
    from tests.journeys.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Where a stream is refused as badly asked, the gateway asks once more without its own wish for usage.
ASKED_AGAIN = {"refused_with_400_a_stream": 1, "refused_with_422_a_stream": 1}


def play(scene: str, url: str) -> Any:
    with OpenAI(base_url=url, api_key="sk-anything", timeout=20) as client:
        return normal(SCENES[scene](client))


async def play_async(scene: str, url: str) -> Any:
    async with AsyncOpenAI(base_url=url, api_key="sk-anything", timeout=20) as client:
        return normal(await ASYNC_SCENES[scene](client))


@pytest.mark.parametrize("scene", SCENES)
async def test_the_package_sees_what_it_sees_at_the_upstream(stage: Stage, scene: str) -> None:
    stage.upstream.on = answer_by_model
    direct = await asyncio.to_thread(play, scene, stage.upstream.url)
    asked = len(stage.upstream.requests)
    through = await asyncio.to_thread(play, scene, f"{stage.gateway.url}/v1")
    assert through == direct
    assert len(stage.upstream.requests) == 2 * asked + ASKED_AGAIN.get(scene, 0)


@pytest.mark.parametrize("scene", ASYNC_SCENES)
async def test_the_asynchronous_package_sees_what_it_sees_at_the_upstream(stage: Stage, scene: str) -> None:
    stage.upstream.on = answer_by_model
    direct = await play_async(scene, stage.upstream.url)
    through = await play_async(scene, f"{stage.gateway.url}/v1")
    assert through == direct
