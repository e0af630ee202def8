"""The values that travel between the packages: frozen, no I/O, no clock.

Values that each request makes are msgspec structs: making a frozen dataclass takes three times as long.
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
    """How an answer ended; the same word in the row and in the log line."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"  # the upstream stopped before the answer was complete
    UPSTREAM_ERROR = "upstream_error"
    CLIENT_CANCELLED = "client_cancelled"
    POLICY_BLOCKED = "policy_blocked"
    REFUSED = "refused"  # by a gate, such as the permission for the model: no upstream was called
    INTERRUPTED = "interrupted"  # the gateway itself stopped


class PolicyOutcome(StrEnum):
    """The policy's decision on a request that may not pass unchanged."""

    MASKED = "masked"
    REDIRECTED = "redirected"  # to another model, perhaps masked as well
    REJECTED = "rejected"


class Kind(StrEnum):
    """The kind of a request; it decides the table of the interaction."""

    CHAT = "chat"  # chat completions
    RESPONSE = "response"  # the Responses API
    IMAGE = "image"
    OTHER = "other"


class Role(StrEnum):
    """A right of a principal beyond using models for itself."""

    USER = "user"
    AUDITOR = "auditor"  # reads all users' rows
    ADMIN = "admin"  # manages keys


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller. Every read and write of the store is scoped to one."""

    user: str
    title: str | None = None
    key_id: str | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    allowed_models: frozenset[str] | None = None  # None: every model
    # Properties of the credential, not of the person:
    ends_at: float | None = field(default=None, compare=False)  # Unix time; None: never, or unknown
    may_make_keys: bool = field(default=False, compare=False)  # for its user; such a key may not make others
    is_ambient: bool = field(default=False, compare=False)  # browsers send it for any page, see origin_check

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
    """A key of this gateway as it is stored: its digest, never the key itself."""

    id: UUID
    digest: bytes = field(repr=False)  # SHA-256
    hint: str  # the key's last characters, so that people can distinguish keys
    name: str
    holder: Principal  # the caller that the key authenticates
    created_at: float  # Unix time, seconds, as all times here
    created_by: str
    expires_at: float | None = None
    last_used_at: float | None = None
    revoked_at: float | None = None
    revoked_by: str | None = None
    is_own: bool = False  # made by its holder, with a limited lifetime
    made_with: UUID | None = None  # the key that made it; if that one is revoked, so is this


@dataclass(frozen=True, slots=True)
class ConversationEdit:
    """A conversation's title or visibility, as its user has set it."""

    user: str
    root: str
    at: float  # Unix time
    title: str | None = None
    is_shown: bool | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """The revocation of a key, which is final. A host writes it again to a database that was restored without it."""

    key_id: UUID
    at: float  # Unix time
    by: str


@dataclass(frozen=True, slots=True)
class Host:
    """This process, as it stands in the table llm_logs.hosts."""

    id: UUID  # of the host: made once, stored in the data directory
    name: str
    process_id: int
    version: str
    started_at: float  # monotonic clock, seconds


class Usage(Struct, frozen=True):
    """Tokens of one interaction, as the upstream counted them or as we estimate them."""

    prompt_tokens: int
    completion_tokens: int
    is_estimate: bool = False
    raw: Mapping[str, Any] | None = None  # the upstream's own object, whole

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ChatRequest(Struct, frozen=True):
    """A request for a chat completion or a response, parsed once at the edge.

    `raw` goes upstream, byte for byte, without the gateway's own fields; `body` is `raw`, parsed. `with_texts` and
    `with_model` are the only ways to change them, so that both always say the same.
    """

    raw: bytes
    body: Json
    model: str
    is_stream: bool
    wants_usage: bool
    root_id: str | None = None
    convo_title: str | None = None

    def with_texts(self, texts: Mapping[TextSpan, str]) -> ChatRequest:
        """The request with other texts at these spans. Raises ValueError for a span that `raw` does not have."""
        return self._parsed_again(with_texts(self.raw, texts)) if texts else self

    def with_model(self, model: str) -> ChatRequest:
        """The request with another model, in every member `model` at its top level."""
        named = {span: model for span in text_spans(self.raw) if span.path == ("model",)}
        if named:
            return self.with_texts(named)
        head = self.raw.rstrip()[:-1].rstrip()
        separator = b"" if head.endswith(b"{") else b","
        return self._parsed_again(b'%b%b"model":%b}' % (head, separator, encoded(model)))

    def _parsed_again(self, raw: bytes) -> ChatRequest:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:  # a lone surrogate, as an escape
            body = json.loads(raw.decode())
        model = body.get("model", "")
        return replace(self, raw=raw, body=body, model=model if isinstance(model, str) else "")


@dataclass(frozen=True, slots=True)
class Ruling:
    """The policy's decision on a request, with all rules that took part, in order. A rule that rejects is the last."""

    outcome: PolicyOutcome
    rules: tuple[str, ...]


class Interaction(Struct, frozen=True):
    """The first half of a record: the request, the caller, the time. It is written before the upstream is called."""

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
    root_id: str | None = None  # None: shipping finds it by the messages
    convo_title: str | None = None
    convo_show: bool = True
    request_type: str | None = None  # Content-Type of the body
    policy: Ruling | None = None  # None: the request passed unchanged
    body: bytes = b""  # empty if it is streamed; then `Answer` has `request_size` and `request_sha256`


class Answer(Struct, frozen=True):
    """The second half of a record: the answer, and how it ended."""

    outcome: Outcome
    finished_at: float  # Unix time, seconds
    status: int | None = None  # of the upstream; None: it did not answer
    body: bytes = b""  # JSON of the completion, or the upstream's body as it came
    body_type: str | None = None
    model: str | None = None  # as the answer names it
    usage: Usage | None = None
    usage_cost: float | None = None  # USD, if the price is known
    first_token_ms: float | None = None
    duration_ms: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    error: str | None = None
    upstream_request_id: str | None = None
    response_size: int | None = None  # set, with the digest, if the body itself is not recorded
    response_sha256: str | None = None
    request_size: int | None = None
    request_sha256: str | None = None


class Record(Struct, frozen=True):
    """Both halves of an interaction: one record of the journal, one row of the store."""

    interaction: Interaction
    answer: Answer

    @property
    def size(self) -> int:
        """Approximate size in bytes."""
        return len(self.interaction.body) + len(self.answer.body)
