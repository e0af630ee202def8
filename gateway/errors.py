"""The gateway's errors. Subclasses group them by cause; only `edge.http.errors` maps them to HTTP statuses."""

from __future__ import annotations

import re
from typing import Self

_MOST_LETTERS = 500
# SQLSTATEs whose message names objects, never values. Messages of class 22 and 54 quote values; so does 42601 for a
# text search.
_NAMING_CLASSES = frozenset({"08", "23", "25", "28", "3D", "40", "53", "55", "57", "58"})
_NAMING_STATES = frozenset({"0A000", "3F000", "42501", "42703", "42704", "42883", "42P01", "42P10"})
_OUR_INSERT = "llm_logs.keep"  # stands in the context of every error of an insert
_FUNCTION = re.compile(r"^(?:PL/\w+|SQL) function \"?([\w.$]{1,130})", re.MULTILINE)


class GatewayError(Exception):
    """Root of every error that a caller may see.

    `message` is for people; `code` is a stable slug for programs; `param` names the field at fault, if there is one;
    `detail` replaces `message` in the log, and only there.
    """

    code: str = "internal_error"

    def __init__(
        self, message: str, *, code: str | None = None, param: str | None = None, detail: str | None = None
    ) -> None:
        super().__init__(detail or message)
        self.message = message
        self.detail = detail
        self.param = param
        if code is not None:
            self.code = code


class CallerError(GatewayError):
    """The request cannot be served as it is; sending it again changes nothing."""

    code = "invalid_request"


class MalformedRequest(CallerError):
    """The request breaks the rules of HTTP."""

    code = "malformed_request"


class HeadTooLarge(CallerError):
    code = "head_too_large"


class MalformedBody(CallerError):
    code = "malformed_body"


class BodyTooLarge(CallerError):
    code = "body_too_large"


class BodyTooSlow(CallerError):
    code = "body_too_slow"


class UpgradeRequired(CallerError):
    """The request asks for a protocol that is not served here."""

    code = "websocket_not_served"


class UnsupportedMediaType(CallerError):
    code = "unsupported_media_type"


class NotAuthenticated(CallerError):
    code = "invalid_api_key"


class NotAllowed(CallerError):
    code = "not_allowed"


class TooManyKeys(CallerError):
    """The user has the maximal number of keys."""

    code = "too_many_keys"


class NotFound(CallerError):
    code = "not_found"


class TooBroad(CallerError):
    """The search would have to read too much."""

    code = "too_broad"


class AnswerNotWhole(CallerError):
    """The answer has ended without being complete; the code is its outcome."""


class NoAnswerYet(GatewayError):
    """This process has no answer to the request yet; ask again."""

    code = "not_found"


class StillRunning(NoAnswerYet):
    """The answer is still running."""

    code = "still_running"


class MethodNotAllowed(CallerError):
    code = "method_not_allowed"


class PolicyRejected(GatewayError):
    """The company's policy refuses the interaction; it has been recorded."""

    code = "policy_rejected"


class UpstreamError(GatewayError):
    """The upstream failed."""

    code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """The connection failed, or broke before the answer's head."""

    code = "upstream_unreachable"

    @classmethod
    def at(cls, detail: str) -> Self:
        """The error with a detail for the log. The detail names the upstream's address, which callers must not see."""
        return cls("no connection to the upstream, or it broke before an answer came", detail=detail)


class UpstreamStalled(UpstreamError):
    """The upstream was silent for longer than allowed."""

    code = "upstream_timeout"


class UpstreamCut(UpstreamError):
    """The answer ended before it was complete."""

    code = "upstream_cut"


class UpstreamGarbled(UpstreamError):
    """The upstream broke the protocol."""

    code = "upstream_garbled"


class UpstreamElsewhere(UpstreamError):
    """The upstream redirects to an address that is not its own."""

    code = "upstream_redirect"


class Stopped(GatewayError):
    """The caller stopped the answer."""

    code = "stopped"


class ServiceError(GatewayError):
    """The gateway itself is at fault."""


class NotConfigured(ServiceError):
    code = "upstream_not_configured"


class JournalFull(ServiceError):
    """The journal cannot record, so the gateway may not answer."""

    code = "journal_full"


class StoreUnavailable(ServiceError):
    code = "store_unavailable"


class IdentityUnavailable(ServiceError):
    """The caller cannot be identified now; the credential may be good."""

    code = "identity_unavailable"


class TooManyReaders(ServiceError):
    code = "too_many_watchers"


class StoreUnusable(StoreUnavailable):
    """The database is reachable, but this gateway cannot use its schema; waiting changes nothing."""

    code = "store_unusable"


class StoreSetBack(StoreUnavailable):
    """The database has lost rows that it had confirmed: it was restored, or a standby that was behind took over.

    `found` is its state of the journal's cursor: segment, offset and number of rows; None: it has no cursor.
    """

    code = "store_set_back"

    def __init__(self, found: tuple[int, int, int] | None) -> None:
        super().__init__("Postgres was set back: it does not have what it had confirmed")
        self.found = found


class ShuttingDown(ServiceError):
    code = "shutting_down"


class RecordRefused(ServiceError):
    """The store refuses these records for their own data; trying again changes nothing."""

    code = "record_refused"


class RecordNotAccepted(StoreUnavailable):
    """The store is reachable and refuses these records, not for their own data: they are tried again later.

    `cause` is short and stable, for a metric's label: an SQLSTATE, or the name of an error's class.
    """

    code = "record_not_accepted"

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(message)
        self.cause = cause


def safe_text(error: BaseException) -> str:
    """A text for logs and statuses about any error, without a word of a prompt or an answer.

    For an error of ours: its message. For an error of Postgres: SQLSTATE, names of objects, and the message only if it
    cannot hold a value; never the DETAIL, nor a text that a function of the company's raised.
    """
    if isinstance(error, GatewayError):
        return error.message
    name, value = type(error).__name__, safe_value(error)
    return f"{name}: {value}" if value else name


def safe_value(error: BaseException) -> str:
    """As `safe_text`, without the error's name: the part after it in a traceback."""
    if isinstance(error, GatewayError):
        return error.message
    if getattr(error, "sqlstate", None) is not None:
        return _of_postgres(error)
    if isinstance(error, ValueError | LookupError) and not isinstance(error, OSError):  # a certificate error is both
        return ""  # these quote the value that they could not read
    try:
        return str(error)[:_MOST_LETTERS]
    except Exception:  # noqa: BLE001 - whatever a foreign __str__ does
        return ""


def raised_in(error: BaseException) -> str | None:
    """The function in the database that raised an error of Postgres: mostly a trigger's. Not our own `keep`."""
    names = _FUNCTION.findall(getattr(error, "context", None) or "")
    return next((name for name in names if name != _OUR_INSERT), None)


def _of_postgres(error: BaseException) -> str:
    state = str(getattr(error, "sqlstate", ""))
    if (function := raised_in(error)) is not None:
        return f"SQLSTATE {state}, raised in the function {function}"
    parts = [f"SQLSTATE {state}"]
    if state[:2] in _NAMING_CLASSES or state in _NAMING_STATES:
        parts.append(str(getattr(error, "message", None) or "")[:_MOST_LETTERS])
    names = {label: getattr(error, f"{label}_name", None) for label in ("schema", "table", "column", "constraint")}
    parts += [f"{label} {name}" for label, name in names.items() if name]
    return ", ".join(part for part in parts if part)
