"""The compose file as it is shipped: callers need a key, and the first one comes from `.env`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from gateway.settings import SettingsError, load
from tests.deploy.test_image import COMPOSE, ROOT, compose_environment, container_environment
from tests.edge.app import BY_HEADER, hello, house

if TYPE_CHECKING:
    from pathlib import Path

KEY = "5f0c1d9b7a3e48628c41d0be97f3a15264e8b07d9c2f613a"
NEIGHBOUR = {"Host": "gateway:8000"}  # as another container of the network calls it


def as_shipped(**env: str) -> dict[str, Any]:
    """The settings of the container that say who may ask."""
    given = container_environment(POSTGRES_PASSWORD="x", **env)
    return {
        **dict.fromkeys(BY_HEADER, ""),
        **{name: given.get(name, "") for name in given if name.startswith("GATEWAY_")},
    }


def test_f2_compose_runs_with_keys() -> None:
    settings = load(container_environment(POSTGRES_PASSWORD="x", GATEWAY_ADMIN_KEY=KEY))
    assert settings.auth.modes == ("keys",)
    assert settings.auth.admin_key is not None
    assert settings.metrics.networks == ()
    assert "GATEWAY_ALLOW_OPEN" not in COMPOSE
    with pytest.raises(SettingsError, match="GATEWAY_ALLOW_OPEN"):
        load(container_environment(POSTGRES_PASSWORD="x", GATEWAY_AUTH="open"))


def test_f2_compose_takes_another_mode_from_the_environment() -> None:
    names = {
        "GATEWAY_AUTH": "header",
        "GATEWAY_AUTH_TRUSTED_NETWORKS": "10.0.0.1",
        "GATEWAY_PUBLIC_URL": "https://llm.corp.example",
        "GATEWAY_ALLOWED_HOSTS": "gateway",
    }
    settings = load(container_environment(POSTGRES_PASSWORD="x", **names))
    assert settings.auth.modes == ("header",)
    assert (settings.server.public_url, settings.server.allowed_hosts) == ("https://llm.corp.example", ("gateway",))


def test_the_recipes_for_a_proxy_and_an_issuer_work_from_the_env_file() -> None:
    chapter = (ROOT / "deploy/docs/identity.md").read_text("utf-8")
    for mode in ("jwt", "header"):
        recipe = re.search(rf"^GATEWAY_AUTH={mode}\n(?:GATEWAY_\w+=.*\n)+", chapter, re.MULTILINE)
        assert recipe is not None
        names = set(re.findall(r"^\w+", recipe[0], re.MULTILINE))
        assert names <= compose_environment("gateway").keys(), mode


def test_f2_no_admin_key_is_committed_and_both_secrets_are_made_by_the_documents() -> None:
    assert compose_environment("gateway")["GATEWAY_ADMIN_KEY"] == "${GATEWAY_ADMIN_KEY:-}"
    chapter = (ROOT / "deploy/docs/install.md").read_text("utf-8")
    for name in ("POSTGRES_PASSWORD", "GATEWAY_ADMIN_KEY"):
        line = f'echo "{name}=$(openssl rand -hex 24)" >> .env'
        assert line in chapter
        assert re.search(rf"^#   {re.escape(line)}$", COMPOSE, re.MULTILINE)


async def test_f2_a_neighbour_container_gets_a_401(tmp_path: Path, database: str) -> None:
    env = {**as_shipped(GATEWAY_ADMIN_KEY=KEY), "GATEWAY_DATA_DIR": str(tmp_path)}
    async with house(tmp_path, database, **env) as it:
        for path in (
            "/v1/models",
            "/history",
            "/history_v2",
            "/live/search",
            "/report/figures",
            "/admin/keys",
            "/metrics",
        ):
            for headers in (NEIGHBOUR, {**NEIGHBOUR, "Authorization": "Bearer sk-any"}):
                assert (await it.ask(path, by="", headers=headers)).status == 401, path
        for path, body in (
            ("/chat", hello()),
            ("/v1/chat/completions", hello()),
            ("/admin/keys", {"user": "x", "name": "x"}),
        ):
            assert (await it.ask(path, body, by="", headers=NEIGHBOUR)).status == 401, path
        assert (await it.ask("/open?token=x", by="", headers=NEIGHBOUR)).status == 404
        assert (await it.ask("/readyz", by="", headers=NEIGHBOUR)).json() == {"status": "ready"}
        assert not it.upstream.requests
        shown = {**NEIGHBOUR, "Authorization": f"Bearer {KEY}"}
        assert (await it.ask("/v1/chat/completions", hello(), by="", headers=shown)).status == 200
        assert (await it.ask("/admin/keys", {"user": "ann", "name": "x"}, by="", headers=shown)).status == 201
