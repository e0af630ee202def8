"""The demo model's answers: Markdown from a few templates and the question's own words. Pure.

No language model is involved, and every answer says so. The same conversation always gets the same answer.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import orjson

from gateway.dialects.summaries import METADATA_INSTRUCTIONS, TITLE_INSTRUCTIONS, title_of

QUOTE_LENGTH = 160
_WORDS = re.compile(r"[a-z]+")

_OPENINGS = (
    "I am the **demo model** that comes with this gateway. No language model stands behind me: I fill a template with "
    "your words.",
    "Please take this with a smile: I am only the gateway's **demo model**, a template without a language model.",
    "A word of warning: this is the **demo model**. There is no language model here, only a template.",
)

_CONNECT = """\
### Connect a real model

Stop the gateway and start it again with a key:

```sh
OPENAI_API_KEY=sk-... .venv/bin/llm-gateway
```

Any OpenAI-compatible server will do: name it with `OPENAI_BASE_URL=http://localhost:11434/v1`, or give the full \
address of its chat completions in `LLM_ENDPOINT`."""

_SQL = """\
```sql
select response_time, user_name, request, response
from llm_logs.chatgpt_logs
order by response_time desc
limit 5;
```"""

_PYTHON = """\
```python
from openai import OpenAI

# 8000, unless --port or GATEWAY_PORT says otherwise
client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="any")
stream = client.chat.completions.create(
    model="demo",
    messages=[{"role": "user", "content": "Hello!"}],
    stream=True,
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
```"""


class Topic(NamedTuple):
    """One answer: the words of a question that select it, and its parts."""

    words: frozenset[str]
    title: str
    body: str


_GREETING = Topic(
    frozenset({"hello", "hi", "hey", "hallo", "greetings", "morning", "evening", "thanks", "thank"}),
    "Hello, and welcome",
    "You have just used the whole gateway:\n\n"
    "- your message came in as that of any OpenAI client does;\n"
    "- the gateway noted it in its journal before I heard of it;\n"
    "- this answer comes back as a stream, and will be kept whole in Postgres.\n\n"
    "Try the same from Python:\n\n" + _PYTHON,
)
_CONNECTING = Topic(
    frozenset(
        {"connect", "key", "keys", "configure", "configuration", "settings", "endpoint", "ollama", "vllm", "azure"}
    ),
    "From the demo to a real model",
    "Three settings are enough for most servers:\n\n"
    "- `OPENAI_API_KEY` alone: OpenAI's own API;\n"
    "- `OPENAI_BASE_URL`: any other server that speaks the same protocol;\n"
    "- `LLM_ENDPOINT` and `LLM_API_AUTHORIZATION`: one full address and one whole header.\n\n"
    "Nothing else changes: the page, the SDKs and the log stay as they are.",
)
_KEEPING = Topic(
    frozenset(
        {"log", "logs", "logged", "logging", "store", "stored", "keep", "kept", "save", "saved", "record", "recorded"}
        | {"postgres", "postgresql", "database", "sql", "audit", "history", "privacy"}
    ),
    "Where your words are kept",
    "Every interaction becomes one row of your own Postgres:\n\n"
    "1. your request is written to a journal on disk before the model hears of it;\n"
    "2. the answer is put together from its stream, and its end is held back until the journal has it;\n"
    "3. a moment later the row stands in the table `llm_logs.chatgpt_logs`.\n\n"
    "This shows the newest ones:\n\n" + _SQL,
)
_CODING = Topic(
    frozenset(
        {"code", "coding", "python", "sdk", "api", "openai", "curl", "program", "function", "script", "javascript"}
        | {"stream", "streaming", "chunk", "chunks", "sse"}
    ),
    "A few lines of code",
    "I cannot write a program for you, but here is one that works with this gateway. Three things to know:\n\n"
    "- only `base_url` differs from what you would write for OpenAI;\n"
    "- the key may be any word as long as nobody has to log in;\n"
    "- the answer arrives chunk by chunk, exactly as the model sent it.\n\n" + _PYTHON,
)
_ANYTHING = Topic(
    frozenset(),
    "An answer from the demo",
    "So I cannot really help with this one. What you can see is how an answer travels:\n\n"
    "- it comes as a stream, at the pace of a person reading;\n"
    "- *Stop* ends it at once, and the part that was said is kept;\n"
    "- ask again and the whole conversation goes along, as chat clients do.",
)
_TOPICS = (_KEEPING, _CONNECTING, _CODING, _GREETING)


def answer(question: str, earlier: str | None, turn: int, choice: int = 0) -> str:
    """Markdown for the `turn`-th question of a conversation; `earlier` is the question before it."""
    topic = _topic(question)
    opening = _OPENINGS[choice % len(_OPENINGS)]
    parts = [f"## {topic.title}", _context(question, earlier, turn), opening, topic.body, _CONNECT]
    return "\n\n".join(part for part in parts if part)


def own_answer(instructions: str, question: str) -> str | None:
    """The answer to the gateway's own request for a title or metadata of a conversation; None for other requests."""
    if instructions == TITLE_INSTRUCTIONS:
        return title_of(question) or "Untitled"
    return _metadata(question) if instructions == METADATA_INSTRUCTIONS else None


def _metadata(conversation: str) -> str:
    words = len(conversation.split())
    beginning = title_of(conversation.removeprefix("user: "))
    return orjson.dumps(
        {
            "chat_summary": f"A conversation of {words} words with the demo model, which begins: {beginning}",
            "description": "Not known: the demo model cannot read.",
            "llm_deliverables": ["a demonstration of the gateway"],
            "satisfaction_score": 0.5,
            "work_related": True,
            "user_seconds_saved": words,
            "assistant_seconds_saved": words,
            "assistant_wage": 20,
            "languages": ["English"],
        }
    ).decode()


def _topic(question: str) -> Topic:
    words = frozenset(_WORDS.findall(question.lower()))
    ranked = max(_TOPICS, key=lambda topic: len(topic.words & words))  # the first of equals
    return ranked if ranked.words & words else _ANYTHING


def _context(question: str, earlier: str | None, turn: int) -> str:
    asked = quote(question)
    if not asked:
        return ""
    if turn == 1 or earlier is None:
        return f"You wrote: {asked}"
    before = quote(earlier)
    return f"Message {turn} of our conversation: {asked}" + (f". Before it you wrote: {before}" if before else "")


def quote(text: str) -> str:
    """The text as one line of inline code, in which a Markdown renderer follows, loads and runs nothing."""
    visible = "".join(" " if _is_unprintable(char) else char for char in text[: 4 * QUOTE_LENGTH])
    line = " ".join(visible.replace("`", "'").split())
    if not line:
        return ""
    if len(line) > QUOTE_LENGTH:
        line = line[: QUOTE_LENGTH - 1].rstrip() + "…"
    return f"`{line}`"


def _is_unprintable(char: str) -> bool:
    return unicodedata.category(char)[0] in "CZ"  # control, bidi override, lone surrogate; separators become a space
