"""The nouns that travel between the rooms: frozen values, no I/O, no clock.

Those that each request makes anew are msgspec's: a frozen dataclass takes three times as long to be made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct
from msgspec.structs import replace

from gateway.codec.text_spans import encoded, text_spans, with_texts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from gateway.codec.text_spans import TextSpan

Json = dict[str, Any]


class Outcome(StrEnum):
    """How an answer ended. The same word stands in the row and in the log line."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"  # the upstream stopped before its own last word
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_CANCELLED = "client_cancelled"
    POLICY_BLOCKED = "policy_blocked"
    REFUSED = "refused"  # by a gate, such as the key's permission for the model: no upstream was asked
    INTERRUPTED = "interrupted"  # the gateway itself went away


class PolicyOutcome(StrEnum):
    """What the company's policy did with a request that it did not let through as it stood."""

    MASKED = "masked"
    REDIRECTED = "redirected"  # to another model, perhaps masked as well
    REJECTED = "rejected"


class Kind(StrEnum):
    """What was asked for; decides the table in which the interaction is kept."""

    CHAT = "chat"  # chat completions
    RESPONSE = "response"  # the Responses API
    IMAGE = "image"
    OTHER = "other"


class Role(StrEnum):
    """What a principal may do besides using models for itself."""

    USER = "user"
    AUDITOR = "auditor"  # reads everybody's rows
    ADMIN = "admin"  # manages keys


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. Every read and write of the store carries one."""

    user: str
    title: str | None = None
    key_id: str | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    allowed_models: frozenset[str] | None = None  # None: every model
    # Of the credential, not of who it is:
    ends_at: float | None = field(default=None, compare=False)  # Unix time; None: never, or not known
    may_make_keys: bool = field(default=False, compare=False)  # for its user; a key that was made so makes no others
    is_ambient: bool = field(default=False, compare=False)  # a browser sends it along, whatever page asks (edge.guard)

    @property
    def is_admin(self) -> bool:
        return Role.ADMIN in self.roles

    @property
    def is_auditor(self) -> bool:
        return Role.AUDITOR in self.roles

    def may_use(self, model: str) -> bool:
        return self.allowed_models is None or model in self.allowed_models


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key of this gateway as it is kept: never the key itself, only the digest by which it is known again."""

    id: UUID
    digest: bytes = field(repr=False)  # SHA-256
    hint: str  # the key's last characters, for people to tell keys apart
    name: str
    holder: Principal  # whom the key stands for
    created_at: float  # Unix time, seconds, as all times here
    created_by: str
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None
    is_own: bool = False  # its holder made it, for a while
    made_with: UUID | None = None  # the key with which it was made, and without which it counts no more


@dataclass(frozen=True, slots=True)
class ConversationEdit:
    """A title, or whether a conversation shows, as its user has set it by hand."""

    user: str
    root: str
    at: float  # Unix time
    title: str | None = None
    is_shown: bool | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """That a key counts no more, for good: a host that knows it says so again to a database that has forgotten it."""

    key_id: UUID
    at: float  # Unix time
    by: str


@dataclass(frozen=True, slots=True)
class Host:
    """This process, as other hosts know it from the table llm_logs.hosts."""

    id: UUID  # of the host: made once, kept in the data directory
    name: str
    process_id: int
    version: str
    started_at: float  # monotonic clock, seconds


class Usage(Struct, frozen=True):
    """Tokens of one interaction, as the upstream counted them, or as we guessed when it did not say."""

    prompt_tokens: int
    completion_tokens: int
    is_estimate: bool = False
    raw: Mapping[str, Any] | None = None  # the upstream's own object, whole

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ChatRequest(Struct, frozen=True):
    """One chat completion as asked for, parsed once at the door.

    `raw` is what goes upstream, byte for byte (the gateway's own fields already taken out); `body` is the same, parsed.
    What they say is changed by `with_texts` and `with_model` alone, so that it is never changed in one of them only.
    """

    raw: bytes
    body: Json
    model: str
    is_stream: bool
    wants_usage: bool
    root_id: str | None = None
    convo_title: str | None = None

    def with_texts(self, texts: Mapping[TextSpan, str]) -> ChatRequest:
        """The request with other texts at these spans of `raw`. Raises ValueError for a span that is not one of it."""
        return self._read_again(with_texts(self.raw, texts)) if texts else self

    def with_model(self, model: str) -> ChatRequest:
        """The request to another model, wherever it names one."""
        named = {span: model for span in text_spans(self.raw) if span.path == ("model",)}
        if named:
            return self.with_texts(named)
        head = self.raw.rstrip()[:-1].rstrip()
        separator = b"" if head.endswith(b"{") else b","
        return self._read_again(b'%b%b"model":%b}' % (head, separator, encoded(model)))

    def _read_again(self, raw: bytes) -> ChatRequest:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:  # a lone surrogate, as an escape
            body = json.loads(raw.decode())
        model = body.get("model", "")
        return replace(self, raw=raw, body=body, model=model if isinstance(model, str) else "")


@dataclass(frozen=True, slots=True)
class Ruling:
    """What the policy did with a request, and the rules by which: all of them, in order. A refusing one is the last."""

    outcome: PolicyOutcome
    rules: tuple[str, ...]


class Interaction(Struct, frozen=True):
    """The first half of a record: what was asked, by whom, when. Written before the upstream hears of it."""

    id: UUID
    kind: Kind
    started_at: float  # Unix time, seconds
    principal: Principal
    request_id: str
    method: str
    path: str  # with query string
    model: str | None = None
    upstream: str | None = None
    is_stream: bool = False
    root_id: str | None = None  # None: found from the messages when the row is shipped
    convo_title: str | None = None
    convo_show: bool = True
    request_type: str | None = None  # Content-Type of the body
    policy: Ruling | None = None  # None: it was let through as it stood
    body: bytes = b""  # empty when it is streamed, and then known by `Answer.request_size` and `.request_sha256`


class Answer(Struct, frozen=True):
    """The second half of a record: what was said, and how it ended."""

    outcome: Outcome
    finished_at: float  # Unix time, seconds
    status: int | None = None  # of the upstream; None: it never answered
    body: bytes = b""  # JSON of the completion, or the upstream's body as it came
    body_type: str | None = None
    model: str | None = None  # the model that says it answered
    usage: Usage | None = None
    usage_cost: float | None = None  # USD, where the price is known
    first_token_ms: float | None = None
    duration_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    error: str | None = None
    upstream_request_id: str | None = None
    response_size: int | None = None  # set with the digest when the body itself is not kept
    response_sha256: str | None = None
    request_size: int | None = None
    request_sha256: str | None = None


class Record(Struct, frozen=True):
    """Both halves of an interaction: what the journal holds and the store keeps as one row."""

    interaction: Interaction
    answer: Answer

    @property
    def size(self) -> int:
        """Bytes of what was said, about."""
        return len(self.interaction.body) + len(self.answer.body)
