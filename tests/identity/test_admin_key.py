"""The first admin's key, from the settings: hard to guess, known without the database, and shown nowhere."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import IdentityUnavailable, NotAuthenticated
from gateway.identity.authenticators import Authenticators
from gateway.identity.key_cache import KeyCache, digest_of, new_secret
from gateway.settings import SettingsError, load
from gateway.settings.table import report
from tests.edge.app import BY_HEADER, hello, house
from tests.identity.test_key_cache import key_of

KEY = "5f0c1d9b7a3e48628c41d0be97f3a15264e8b07d9c2f613a"  # as `openssl rand -hex 24` makes one
CONNECTION_ERRORS = "postgresql://nobody@127.0.0.1:9/none"
ROOT = Path(__file__).resolve().parents[2]


def settings_with(key: str, **more: str) -> Any:
    return load({"GATEWAY_AUTH": "keys", "GATEWAY_ADMIN_KEY": key, **more})


def test_f2_only_the_digest_of_the_key_is_held() -> None:
    settings = settings_with(f" {KEY}\n")
    assert settings.auth.admin_key.reveal() == digest_of(KEY.encode()).hex()
    shown = f"{settings!r}{report(settings)}{settings.auth.admin_key!r}"
    assert KEY not in shown
    assert digest_of(KEY.encode()).hex() not in shown
    assert {row.name: row.value for row in report(settings)}["auth.admin_key"] == "(hidden)"


@pytest.mark.parametrize("size", [24, 32])
def test_f2_what_openssl_and_the_gateway_make_is_taken(size: int) -> None:
    for _ in range(200):
        settings_with(secrets.token_hex(size))
    settings_with(new_secret())
    settings_with(secrets.token_urlsafe(32))


@pytest.mark.parametrize(
    "key",
    [
        "secret",
        KEY[:31],
        "a" * 48,
        "changemechangemechangemechangeme",
        "0123456789abcdef" * 3,
        f"{KEY[:20]} {KEY[20:]}",
        f"{KEY[:20]}.{KEY[20:]}.x",
        f"{KEY}\x00",
        f"Bearer {KEY}",
        "x" * 300,
    ],
)
def test_f2_a_key_that_can_be_guessed_or_sent_by_nobody_is_a_fault_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_with(key)
    assert "GATEWAY_ADMIN_KEY (auth.admin_key)" in str(caught.value)
    assert key not in str(caught.value)


@pytest.mark.parametrize("modes", ["open", "header", "jwt"])
def test_a_key_that_would_not_be_taken_is_a_fault(modes: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY_ADMIN_KEY"):
        load({"GATEWAY_AUTH": modes, "GATEWAY_ADMIN_KEY": KEY})


def test_f2_it_counts_before_the_database_has_been_heard_and_however_it_answers() -> None:
    key_cache = KeyCache(admin=digest_of(KEY.encode()))
    admin = key_cache.principal(KEY.encode())
    assert (admin.user, admin.is_ambient, admin.may_make_keys) == ("admin", False, False)
    assert admin.roles == {"user", "auditor", "admin"}
    with pytest.raises(IdentityUnavailable):
        key_cache.principal(new_secret().encode())
    secret = new_secret()
    key_cache.replace([key_of(secret)])
    assert key_cache.principal(secret.encode()).user == "ada"
    assert key_cache.principal(KEY.encode()).is_admin
    for wrong in (KEY[:-1], f"{KEY}0", KEY.upper(), digest_of(KEY.encode()).hex(), ""):
        with pytest.raises(NotAuthenticated):
            key_cache.principal(wrong.encode())
    with pytest.raises(NotAuthenticated):
        KeyCache().principal(KEY.encode())  # taken out of the settings


def test_it_does_not_travel_to_the_models_side() -> None:
    identity = Authenticators(keys=KeyCache(admin=digest_of(KEY.encode())))
    other = (b"Authorization", b"Bearer sk-of-a-provider")
    bearer = (b"authorization", f"Bearer {KEY}".encode())
    for ours in (bearer, (b"x-api-key", KEY.encode()), (b"Api-Key", KEY.encode()), (b"X-Goog-Api-Key", KEY.encode())):
        assert identity.forwardable((ours, other)) == (other,)


async def test_f2_the_admin_makes_keys_reads_all_and_is_no_user_of_a_company(tmp_path: Path, database: str) -> None:
    env: dict[str, Any] = {**BY_HEADER, "GATEWAY_AUTH": "header, keys", "GATEWAY_ADMIN_KEY": KEY}
    async with house(tmp_path, database, **env, GATEWAY_AUTH_OWN_KEYS_S="60") as it:
        shown: dict[str, Any] = {"by": "", "headers": {"Authorization": f"Bearer {KEY}"}}
        made = await it.ask("/admin/keys", {"user": "ann", "name": "x"}, **shown)
        assert (made.status, made.json()["created_by"]) == (201, "admin")
        await it.chat("Hello!", by="ann")
        [row] = await it.rows(1)
        found = (await it.ask("/live/search", **shown)).json()["data"]
        assert [line["id"] for line in found] == [str(row["id"])]
        assert (await it.ask("/report/figures", **shown)).json()["is_of_everybody"] is True
        assert (await it.ask("/chat", hello(), **shown)).status == 200
        assert [row["user_name"] for row in await it.rows(2)] == ["ann", "admin"]
        # It would outlive the key of the settings.
        assert (await it.ask("/keys", {"name": "x"}, **shown)).status == 403
        listed = await it.fetch("select * from llm_logs.api_keys")
        assert [key["user_name"] for key in listed] == ["ann"]


async def test_f2_it_works_while_postgres_is_away(tmp_path: Path) -> None:
    env: dict[str, Any] = {**dict.fromkeys(BY_HEADER, ""), "GATEWAY_AUTH": "keys", "GATEWAY_DB_CONNECT_S": "0.2"}
    async with house(tmp_path, CONNECTION_ERRORS, **env, GATEWAY_ADMIN_KEY=KEY) as it:
        shown: dict[str, Any] = {"by": "", "headers": {"x-api-key": KEY}}
        assert (await it.ask("/v1/chat/completions", hello(), **shown)).status == 200
        assert (await it.ask("/metrics", **shown)).status == 200
        assert (await it.ask("/v1/models", by="", headers={"x-api-key": new_secret()})).status == 503


def test_f2_check_and_the_log_do_not_show_it(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GATEWAY_AUTH": "keys", "GATEWAY_ADMIN_KEY": KEY}
    command = [sys.executable, "-m", "gateway", "check"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    assert "GATEWAY_ADMIN_KEY" in done.stdout
    assert KEY not in done.stdout + done.stderr
