"""Nobody reads another's words: every route of the router, for every kind of stranger.

A route that stands in none of the tables below makes `test_every_route_is_accounted_for` fail: whoever adds one says
here whom it belongs to.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from gateway.app import build_app
from gateway.settings import load
from tests.edge.app import Answer, House, hello, house
from tests.loopback import Fin, WaitFor, chat_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

SECRET = "rosebud"
VICTIM = "ann-the-victim"


@dataclass(frozen=True, slots=True)
class Target:
    """What a stranger may be after: somebody's things, or things that do not exist."""

    user: str
    interaction: str
    running: str
    root: str
    key: str
    own_key: str
    asked: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Where a stranger has an answer to a form of it at all, `status` is that answer's."""

    path: str
    body: object = None
    status: int = 404


Table = dict[tuple[str, str], "Callable[[Target], Ask]"]


def public(path: str) -> Callable[[Target], Ask]:
    """Answers anybody, and the same."""
    return lambda _: Ask(path, status=200)


def of_conversation(path: str) -> Callable[[Target], Ask]:
    return lambda target: Ask(path, {"root_id": target.root, "convo_title": "Stolen"})


# Nothing of anybody is in these, so nobody has to say who they are.
PUBLIC: Table = {
    ("GET", "/"): public("/"),
    ("GET", "/page.json"): public("/page.json"),
    ("GET", "/report"): public("/report"),
    ("GET", "/live"): public("/live"),
    ("GET", "/docs"): public("/docs"),
    ("GET", "/openapi.json"): public("/openapi.json"),
    ("GET", "/static/{path}"): public("/static/index.html"),
    ("GET", "/ping"): public("/ping"),
    ("GET", "/healthz"): public("/healthz"),
    ("GET", "/readyz"): public("/readyz"),
    ("GET", "/open"): lambda _: Ask("/open?token=x", status=404),
}
# They reach for something that belongs to one user; another cannot tell it from nothing.
REACHING: Table = {
    ("GET", "/chat/{id}"): lambda target: Ask(f"/chat/{target.interaction}"),
    ("GET", "/chat/{id}/stream"): lambda target: Ask(f"/chat/{target.running}/stream"),
    ("POST", "/chat/{id}/stop"): lambda target: Ask(f"/chat/{target.running}/stop", {}),
    ("POST", "/checkchat"): lambda target: Ask("/checkchat", target.asked),
    ("POST", "/update_title"): of_conversation("/update_title"),
    ("POST", "/update_title_openai"): of_conversation("/update_title_openai"),
    ("POST", "/metadata_check"): of_conversation("/metadata_check"),
    ("POST", "/remove_convo"): of_conversation("/remove_convo"),
    ("POST", "/restore_convo"): of_conversation("/restore_convo"),
    ("GET", "/history"): lambda target: Ask(f"/history?user={target.user}", status=403),
    ("GET", "/history_v2"): lambda target: Ask(f"/history_v2?q={SECRET}&user={target.user}", status=403),
    ("GET", "/report/figures"): lambda target: Ask(f"/report/figures?user={target.user}", status=200),
    ("GET", "/live/events"): lambda target: Ask(f"/live/events?user={target.user}", status=403),
    ("GET", "/live/search"): lambda target: Ask(f"/live/search?q={SECRET}&user={target.user}", status=403),
    ("GET", "/live/conversations/{id}"): lambda target: Ask(f"/live/conversations/{target.interaction}", status=403),
    ("GET", "/metrics"): lambda _: Ask("/metrics", status=403),
    ("GET", "/admin/keys"): lambda target: Ask(f"/admin/keys?user={target.user}", status=403),
    ("POST", "/admin/keys"): lambda target: Ask("/admin/keys", {"user": target.user, "name": "mine"}, status=403),
    ("DELETE", "/admin/keys/{id}"): lambda target: Ask(f"/admin/keys/{target.key}", status=403),
    ("DELETE", "/keys/{id}"): lambda target: Ask(f"/keys/{target.own_key}"),
}
# They show what is the caller's own.
LISTING = {
    ("GET", "/history"): Ask("/history", status=200),
    ("GET", "/history_v2"): Ask(f"/history_v2?q={SECRET}", status=200),
    ("GET", "/chat/running"): Ask("/chat/running", status=200),
    ("GET", "/report/figures"): Ask("/report/figures", status=200),
    ("GET", "/keys"): Ask("/keys", status=200),
    ("POST", "/keys"): Ask("/keys", {"name": "mine"}, status=201),
}
# They ask a model for the caller, and keep it as the caller's.
ASKING: Table = {
    ("POST", "/chat"): lambda target: Ask("/chat", {**hello("mine"), "root_id": target.root}),
    ("POST", "/v1/chat/completions"): lambda target: Ask(
        "/v1/chat/completions", {**target.asked, "root_id": target.root}
    ),
    ("POST", "/v1/responses"): lambda target: Ask("/v1/responses", {"model": "m", "input": "mine"}),
    ("POST", "/image_gen"): lambda target: Ask("/image_gen", {"prompt": "mine"}),
    ("POST", "/v1/{path}"): lambda target: Ask("/v1/embeddings", {"model": "m", "input": "mine"}),
    ("GET", "/v1/{path}"): lambda target: Ask("/v1/models"),
    **{(method, "/v1/{path}"): lambda target: Ask("/v1/echo") for method in ("PUT", "PATCH", "DELETE", "OPTIONS", "*")},
}
NOBODY = Target("nobody", str(uuid4()), str(uuid4()), str(uuid4()), str(uuid4()), str(uuid4()), hello("never asked"))


def routes(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Method and path of every route; HEAD comes with GET."""
    app = build_app(load({"GATEWAY_DATA_DIR": str(tmp_path), "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none"}))
    for resource in app.router.resources():
        for route in resource:
            if route.method != "HEAD":
                yield route.method, resource.canonical


def test_every_route_is_accounted_for(tmp_path: Path) -> None:
    known = PUBLIC.keys() | REACHING.keys() | LISTING.keys() | ASKING.keys()
    there_are = set(routes(tmp_path))
    assert there_are - known == set(), "say in the tables above whom these belong to"
    assert known - there_are == set(), "these routes do not exist"


@asynccontextmanager
async def inhabited(folder: Path, dsn: str) -> AsyncIterator[tuple[House, Target, str]]:
    """A house in which the victim has a conversation, a running answer and a key; and another user's key."""
    async with house(folder, dsn, GATEWAY_AUTH="header, keys", GATEWAY_AUTH_OWN_KEYS_S="60") as it:
        asked = hello(f"my secret is {SECRET}")
        chat = (await it.chat(f"my secret is {SECRET}", by=VICTIM)).json()
        await it.rows(1)
        await it.ask("/update_title", {"root_id": chat["root_uuid"], "convo_title": SECRET}, by=VICTIM)
        its_key, strangers = [
            (await it.ask("/admin/keys", {"user": user, "name": name}, by="root/admins")).json()
            for user, name in ((VICTIM, SECRET), ("mallory", "a key"))
        ]
        own_key = (await it.ask("/keys", {"name": SECRET}, by=VICTIM)).json()["id"]
        go = asyncio.Event()
        it.upstream.script(chat_stream(f"{SECRET} {SECRET}").first(2).then(WaitFor(go), Fin()))
        async with it.open("/chat", {**asked, "stream": True}, by=VICTIM) as stream:
            running = stream.headers["x-interaction-id"]
            target = Target(VICTIM, chat["uuid"], running, chat["root_uuid"], its_key["id"], own_key, asked)
            try:
                yield it, target, strangers["value"]
                still = (await it.ask("/chat/running", by=VICTIM)).json()["data"]
                assert [one["id"] for one in still] == [running], "somebody has stopped it"
            finally:
                go.set()
                await stream.read()


async def strange(it: House, method: str, ask: Ask, **headers: str) -> Answer:
    """What a stranger is told; the victim's words must not be in it, wherever they come from."""
    answer = await it.ask(ask.path, ask.body, by="", method="GET" if method == "*" else method, headers=headers)
    told = answer.body.decode("utf-8", "replace") + json.dumps(dict(answer.headers))
    assert SECRET not in told, (method, ask.path)
    assert VICTIM not in told, (method, ask.path)
    return answer


def as_bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def test_nothing_is_told_without_a_credential_or_with_a_wrong_one(tmp_path: Path, database: str) -> None:
    async with inhabited(tmp_path, database) as (it, target, key):
        calls_before = len(it.upstream.requests)
        last = "a" if key[-1] != "a" else "b"
        strangers = [
            {},
            as_bearer(key[:-1] + last),
            as_bearer(target.key),
            {"x-api-key": "sk-guessed"},
            {"api-key": "\u00ff".encode("latin-1").decode("latin-1")},
            {"Authorization": "Basic YW5uOmFubg=="},
            {"X-Groups": "admins,auditors"},
            {"X-Forwarded-User": VICTIM},
        ]
        for (method, path), asks in {**REACHING, **ASKING}.items():
            for headers in strangers:
                theirs = await strange(it, method, asks(target), **headers)
                nobodys = await strange(it, method, asks(NOBODY), **headers)
                assert theirs.status == nobodys.status == 401, (method, path, headers)
                assert theirs.body == nobodys.body, (method, path, headers)
        for (method, _), ask in LISTING.items():
            for headers in strangers:
                assert (await strange(it, method, ask, **headers)).status == 401
        for (method, _), asks in PUBLIC.items():
            assert (await strange(it, method, asks(target))).status == asks(target).status
        assert len(it.upstream.requests) == calls_before
        assert len(await it.fetch("select from llm_logs.chatgpt_logs")) == 1


async def test_another_user_cannot_tell_somebodys_things_from_nothing(tmp_path: Path, database: str) -> None:
    async with inhabited(tmp_path, database) as (it, target, key):
        before = await it.fetch("select * from llm_logs.chatgpt_logs")
        for (method, path), asks in REACHING.items():
            theirs = await strange(it, method, asks(target), **as_bearer(key))
            nobodys = await strange(it, method, asks(NOBODY), **as_bearer(key))
            assert theirs.status == nobodys.status == asks(target).status, (method, path)
            assert theirs.body == nobodys.body, (method, path)
            assert theirs.headers.keys() == nobodys.headers.keys(), (method, path)
        for (method, _), ask in LISTING.items():
            assert (await strange(it, method, ask, **as_bearer(key))).status == ask.status
        assert await it.fetch("select * from llm_logs.chatgpt_logs") == before
        assert {row["user_name"] for row in await it.fetch("select * from llm_logs.conversation_settings")} == {VICTIM}
        assert {row["revoked_at"] for row in await it.fetch("select * from llm_logs.api_keys")} == {None}


async def test_what_a_stranger_says_in_somebodys_conversation_is_the_strangers_own(
    tmp_path: Path, database: str
) -> None:
    async with inhabited(tmp_path, database) as (it, target, key):
        said = hello(f"my secret is {SECRET}")["messages"]
        for (method, path), asks in ASKING.items():
            if method in ("*", "OPTIONS"):
                continue
            ask = asks(target)
            answer = await it.ask(ask.path, ask.body, by="", method=method, headers=as_bearer(key))
            assert answer.status == 200, (method, path, answer)
        guess = {"model": "loopback-1", "messages": [*said, {"role": "assistant", "content": "?"}, *said]}
        await it.ask("/v1/chat/completions", guess, by="", headers=as_bearer(key))
        strangers = 0
        async with asyncio.timeout(10):
            while strangers < 4:
                rows = await it.fetch("select * from llm_logs.chatgpt_logs where user_name = 'mallory'")
                strangers = len(rows)
        assert all(row["convo_title"] is None and row["parent_id"] is None for row in rows)
        shown = (await it.ask("/history_v2", by=VICTIM)).json()["Historical_Conversations"]
        assert [row["id"] for row in shown] == [target.interaction]
        assert all("mallory" not in json.dumps(row) for row in shown)


async def test_an_auditor_reads_all_and_changes_nothing(tmp_path: Path, database: str) -> None:
    async with inhabited(tmp_path, database) as (it, target, _):
        for path, name in (("/history", "Historical_list"), ("/history_v2", "Historical_Conversations")):
            rows = (await it.ask(f"{path}?user={VICTIM}", by="eve/auditors")).json()[name]
            assert SECRET in json.dumps(rows)
        assert (await it.ask(f"/chat/{target.interaction}", by="eve/auditors")).status == 200
        keys = (await it.ask("/admin/keys", by="eve/auditors")).json()["data"]
        assert VICTIM in {key["user"] for key in keys}
        for (method, path), asks in REACHING.items():
            if method != "GET" and path != "/checkchat":
                ask = asks(target)
                answer = await it.ask(ask.path, ask.body, by="eve/auditors", method=method)
                assert answer.status in (403, 404), (method, path)
        assert [row["convo_title"] for row in await it.fetch("select * from llm_logs.chatgpt_logs")] == [SECRET]


async def test_who_asks_is_not_told_to_the_upstream(tmp_path: Path, database: str) -> None:
    async with inhabited(tmp_path, database) as (it, target, key):
        for (method, _), asks in ASKING.items():
            if method in ("*", "OPTIONS"):
                continue
            ask = asks(target)
            await it.ask(ask.path, ask.body, by="bob/auditors", method=method)
            await it.ask(ask.path, ask.body, by="", method=method, headers=as_bearer(key))
        for request in it.upstream.requests:
            values = b"\n".join(value for _, value in request.headers)
            for private in (b"bob", b"auditors", b"mallory", key.encode(), target.root.encode(), VICTIM.encode()):
                assert private not in values, (request.path, private)
            assert b"root_id" not in request.body
