"""The README's recipes, word for word, against a gateway with the demo model; only the port is another."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

from tests.gateway_process import ROOT, GatewayProcess

if TYPE_CHECKING:
    from pathlib import Path

BASE_URL = "http://127.0.0.1:8000/v1"
BLOCKS: list[tuple[str, str]] = re.findall(
    r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
)


def recipe(language: str, word: str) -> str:
    """The one block of that language with this word in it."""
    (found,) = [text for kind, text in BLOCKS if kind == language and word in text]
    return found


async def output_of(command: list[str]) -> str:
    env = {"PATH": os.environ["PATH"]}
    done = await asyncio.to_thread(
        subprocess.run, command, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_the_recipes_of_the_readme_work(tmp_path: Path, database: str) -> None:
    env = {"DATABASE_URL": database, "GATEWAY_DEMO_WORDS_PER_SECOND": "1000"}
    async with GatewayProcess(tmp_path, env) as gateway:

        def moved(text: str) -> str:
            assert BASE_URL in text
            return text.replace(BASE_URL, f"{gateway.url}/v1")

        said = await output_of([sys.executable, "-c", moved(recipe("python", "from openai"))])
        assert "**demo model**" in said
        if shutil.which("curl"):
            said = await output_of(["bash", "-c", moved(recipe("sh", "curl"))])
            assert said.endswith("data: [DONE]\n\n")


def test_the_files_for_coding_agents_name_the_gateway() -> None:
    codex = tomllib.loads(recipe("toml", "model_providers"))
    assert codex["model_providers"][codex["model_provider"]]["base_url"] == BASE_URL
    opencode = json.loads(recipe("json", "@ai-sdk"))
    provider, _, model = opencode["model"].partition("/")
    assert opencode["provider"][provider]["options"]["baseURL"] == BASE_URL
    assert model in opencode["provider"][provider]["models"]
