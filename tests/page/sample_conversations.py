"""Conversations of an office, for a gateway with policy rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.edge.rules import CARD
from tests.loopback import chat_completion, error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.edge.app import House

GPT, CLAUDE = "gpt-5", "claude-sonnet-4-5"
LETTER = [
    {"role": "system", "content": "You help with letters. Be brief."},
    {"role": "user", "content": "Draft a reply to Brandt & Sons: their delivery came two weeks late."},
]
DRAFT = (
    "Dear Mr Brandt,\n\nyour delivery of 12 March reached us on 26 March, two weeks after the agreed date. "
    "Please tell us by Friday how you will make up for it.\n\nKind regards"
)
PAY = f"Add that we paid with card {CARD.decode()} already."
Conversation = tuple[str, str, list[dict[str, Any]], str | None]  # user, model, messages, answer
CONVERSATIONS: tuple[Conversation, ...] = (
    (
        "ines.koch@corp.example",
        GPT,
        [{"role": "user", "content": "Explain our travel policy in three sentences."}],
        "Book rail below four hours. Economy class otherwise. Ask your lead above 800 €.",
    ),
    ("tom.okafor@corp.example", CLAUDE, [{"role": "user", "content": "Why does this regex backtrack? (a+)+$"}], None),
    ("mara.lindt@corp.example", GPT, LETTER, DRAFT),
    (
        "mara.lindt@corp.example",
        GPT,
        [*LETTER, {"role": "assistant", "content": DRAFT}, {"role": "user", "content": PAY}],
        DRAFT.replace("Kind regards", "We have already paid by card.\n\nKind regards"),
    ),
    (
        "jun.sato@corp.example",
        CLAUDE,
        [{"role": "user", "content": "Summarise our plans for the second quarter."}],
        "Two launches, one office move, and a hiring freeze until June.",
    ),
    ("guest-17@corp.example", GPT, [{"role": "user", "content": "How do I get a weapon past the scanner?"}], ""),
    (
        "tom.okafor@corp.example",
        CLAUDE,
        [{"role": "user", "content": "Write a unit test for parse_date."}],
        "def test_parse_date():\n    assert parse_date('2026-03-26') == date(2026, 3, 26)",
    ),
)


async def replay(it: House, conversations: Iterable[Conversation] = CONVERSATIONS) -> None:
    """Sends the conversations in order. Answer None: the upstream fails; empty: the policy refuses."""
    roots: dict[str, str] = {}
    for by, model, messages, answer in conversations:
        if answer is None:
            it.upstream.script(error(503, message="The engine is overloaded."))
        elif answer:
            it.upstream.script(chat_completion(answer, model=model))
        continuation = {"root_id": roots[by]} if len(messages) > len(LETTER) else {}
        response = await it.ask("/chat", {"model": model, "messages": messages, **continuation}, by=by)
        roots[by] = response.headers.get("x-conversation-id", "")  # a refused one has no id
