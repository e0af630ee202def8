"""The histories over HTTP: the seed's plain form, and pages beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from gateway.edge.chats import history as module
from tests.edge.app import house

if TYPE_CHECKING:
    from pathlib import Path

    from tests.edge.app import House

LISTS = {"/history": "Historical_list", "/history_v2": "Historical_Conversations"}


async def fill(it: House, count: int, by: str = "ann") -> None:
    await it.fetch(
        """
        insert into llm_logs.chatgpt_logs (request, user_name, response_time, root_gpt_id, convo_title)
        select
            jsonb_build_object('n', n), $2, timestamp '2026-01-01' + n * interval '1 second', 'root ' || n,
            'title ' || n
        from generate_series(0, $1::integer - 1) as n
        """,
        count,
        by,
    )


def numbers(rows: list[dict[str, Any]]) -> list[int]:
    return [row["request"]["n"] for row in rows]


async def test_the_plain_form_is_the_seeds_to_the_letter(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        for path, name in LISTS.items():
            empty = await it.ask(path)
            assert empty.json() == {name: []}
            assert empty.headers["Content-Type"] == "application/json"
            assert empty.headers["Cache-Control"] == "no-store"
        await it.chat("one")
        await it.rows(1)
        (row,) = (await it.ask("/history")).json()["Historical_list"]
        assert row.keys() == {"request", "response_time"}
        (row,) = (await it.ask("/history_v2")).json()["Historical_Conversations"]
        assert row["response"]["choices"][0]["message"]["content"].startswith("You said: one")
        assert (row["user_name"], row["convo_show"], row["outcome"]) == ("ann", True, "complete")


@pytest.mark.parametrize("path", LISTS)
async def test_pages_go_on_where_they_ended(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        await fill(it, 25)
        seen: list[int] = []
        url = f"{path}?limit=10"
        sizes = []
        while True:
            page = await it.ask(url)
            body = page.json()
            rows = body[LISTS[path]]
            seen += numbers(rows)
            sizes.append(len(rows))
            if body["next_before"] is None:
                assert "Link" not in page.headers
                break
            assert page.headers["Link"].endswith('>; rel="next"')
            following = URL(page.headers["Link"][1:].partition(">")[0], encoded=True)
            assert following.query == {"limit": "10", "before": body["next_before"]}
            url = str(following)
        assert seen == list(range(24, -1, -1))
        assert sizes == [10, 10, 5]


@pytest.mark.parametrize("path", LISTS)
async def test_the_plain_form_is_bounded_and_says_where_it_goes_on(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        await fill(it, 1100)
        plain = await it.ask(path)
        assert plain.json().keys() == {LISTS[path]}
        assert numbers(plain.json()[LISTS[path]]) == list(range(1099, 99, -1))
        rest = await it.ask(str(URL(plain.headers["Link"][1:].partition(">")[0], encoded=True)))
        assert numbers(rest.json()[LISTS[path]]) == list(range(99, -1, -1))


@pytest.mark.parametrize("path", LISTS)
async def test_large_rows_make_no_large_answer(
    tmp_path: Path, database: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    async with house(tmp_path, database) as it:
        await fill(it, 30)
        await it.fetch(
            "update llm_logs.chatgpt_logs set request = request || jsonb_build_object('x', repeat('x', 300000))"
        )
        plain = await it.ask(path)
        assert numbers(plain.json()[LISTS[path]]) == [29, 28, 27, 26]
        assert "Link" in plain.headers


async def test_a_search_is_paged_as_well(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        await fill(it, 30)
        page = (await it.ask("/history_v2?q=title&limit=20")).json()
        assert numbers(page["Historical_Conversations"]) == list(range(29, 9, -1))
        rest = await it.ask("/history_v2", params={"q": "title", "limit": "20", "before": page["next_before"]})
        assert numbers(rest.json()["Historical_Conversations"]) == list(range(9, -1, -1))
        assert numbers((await it.ask("/history_v2?q=title 17")).json()["Historical_Conversations"]) == [17]
        assert len((await it.ask("/history_v2?q=")).json()["Historical_Conversations"]) == 30


@pytest.mark.parametrize("path", LISTS)
async def test_only_auditors_name_another_user(tmp_path: Path, database: str, path: str) -> None:
    async with house(tmp_path, database) as it:
        await fill(it, 3, by="bob")
        for by in ("ann", "root/admins"):
            for user in ("bob", "nobody", ""):
                answer = await it.ask(path, params={"user": user}, by=by)
                assert (answer.status, answer.code) == (403, "not_allowed")
        assert (await it.ask(path, by="eve/auditors")).json()[LISTS[path]] == []
        assert numbers((await it.ask(f"{path}?user=bob", by="eve/auditors")).json()[LISTS[path]]) == [2, 1, 0]
        assert numbers((await it.ask(f"{path}?user=bob", by="bob")).json()[LISTS[path]]) == [2, 1, 0]
        assert (await it.ask(f"{path}?user=%00%ff", by="eve/auditors")).status == 200


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=\u0663", "limit"),
        ("limit=", "limit"),
        ("before=yesterday", "before"),
        ("before=", "before"),
        ("before=2026-01-01T00:00:00_x", "before"),
    ],
)
async def test_wrong_pages_are_refused(tmp_path: Path, database: str, path: str, query: str, param: str) -> None:
    async with house(tmp_path, database) as it:
        answer = await it.ask(f"{path}?{query}")
        assert (answer.status, answer.json()["error"]["param"]) == (400, param)


async def test_a_search_for_too_much_is_refused(tmp_path: Path, database: str) -> None:
    async with house(tmp_path, database) as it:
        answer = await it.ask("/history_v2", params={"q": "x" * 201})
        assert (answer.status, answer.json()["error"]["param"]) == (400, "q")
