"""The table of client dialects. A new dialect is one folder here and one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.dialects.fingerprints import NONE
from gateway.dialects.openai_chat.assembler import ChatAssembler
from gateway.dialects.openai_chat.classifier import ChatClassifier
from gateway.dialects.openai_chat.fingerprints import fingerprints_of_chat
from gateway.dialects.openai_responses.assembler import ResponsesAssembler
from gateway.dialects.openai_responses.classifier import ResponsesClassifier
from gateway.dialects.openai_responses.fingerprints import fingerprints_of_response
from gateway.model import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.dialects.assembler import Assembler
    from gateway.dialects.classifier import EventClassifier
    from gateway.dialects.fingerprints import Fingerprints
    from gateway.model import Json


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of conversation: how the gateway reads its events, answers and turns."""

    kind: Kind
    path: str  # below `/v1`
    classifier: Callable[[bool], EventClassifier]  # True: the gateway asked for the usage event, the caller did not
    assembler: Callable[[], Assembler]
    fingerprints: Callable[[Json, Json], Fingerprints]  # of a request's and an answer's body
    is_answer: Callable[[Json], bool]  # whether a body is an answer, and not an error
    counts_on_request: bool  # a stream has usage only with `stream_options.include_usage`


CHAT = Dialect(
    kind=Kind.CHAT,
    path="/chat/completions",
    classifier=lambda drops_usage: ChatClassifier(drops_usage=drops_usage),
    assembler=ChatAssembler,
    fingerprints=fingerprints_of_chat,
    is_answer=lambda body: isinstance(body.get("choices"), list) and not (body.get("error") and not body["choices"]),
    counts_on_request=True,
)
RESPONSES = Dialect(
    kind=Kind.RESPONSE,
    path="/responses",
    classifier=lambda drops_usage: ResponsesClassifier(),
    assembler=ResponsesAssembler,
    fingerprints=fingerprints_of_response,
    is_answer=lambda body: body.get("object") == "response",
    counts_on_request=False,
)
BY_KIND = {dialect.kind: dialect for dialect in (CHAT, RESPONSES)}


def fingerprints_of(kind: Kind, request: object, answer: object) -> Fingerprints:
    """The fingerprints of a turn, from the parsed bodies of its request and its answer, whatever they are."""
    dialect = BY_KIND.get(kind)
    if dialect is None:
        return NONE
    return dialect.fingerprints(
        request if isinstance(request, dict) else {}, answer if isinstance(answer, dict) else {}
    )
