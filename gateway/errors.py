"""What can go wrong, in our words. The branch says whose fault it is; HTTP statuses live in `edge.errors` alone."""


class GatewayError(Exception):
    """Root of every error that a caller may be told of.

    `message` is for people; `code` is a stable machine-readable slug; `param` names the offending field, if one is.
    """

    code: str = "internal_error"

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code


class CallerError(GatewayError):
    """The request cannot be served as it was sent; sending it again changes nothing."""

    code = "invalid_request"


class MalformedRequest(CallerError):
    """It breaks the rules of HTTP."""

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
    """Asked for in a protocol that is not served here."""

    code = "websocket_not_served"


class UnsupportedMediaType(CallerError):
    code = "unsupported_media_type"


class NotAuthenticated(CallerError):
    code = "invalid_api_key"


class NotAllowed(CallerError):
    code = "not_allowed"


class TooManyKeys(CallerError):
    """The user has as many as one may have."""

    code = "too_many_keys"


class NotFound(CallerError):
    code = "not_found"


class TooBroad(CallerError):
    """There is too much to look through."""

    code = "too_broad"


class AnswerNotWhole(CallerError):
    """The answer that is asked about has ended, and not well; the code says how, as an outcome."""


class NoAnswerYet(GatewayError):
    """There is no answer to it, as far as this process can tell; ask again."""

    code = "not_found"


class StillRunning(NoAnswerYet):
    """The answer is being made."""

    code = "still_running"


class MethodNotAllowed(CallerError):
    code = "method_not_allowed"


class PolicyRejected(GatewayError):
    """The company's policy refuses the interaction; it has been recorded."""

    code = "policy_rejected"


class UpstreamError(GatewayError):
    """The model's side failed."""

    code = "upstream_error"


class UpstreamUnreachable(UpstreamError):
    """No connection, or it broke before the answer's head."""

    code = "upstream_unreachable"


class UpstreamStalled(UpstreamError):
    """The upstream stayed silent for longer than allowed."""

    code = "upstream_timeout"


class UpstreamCut(UpstreamError):
    """The answer ended before it was whole."""

    code = "upstream_cut"


class UpstreamGarbled(UpstreamError):
    """The upstream said something that is not the protocol."""

    code = "upstream_garbled"


class Stopped(GatewayError):
    """The caller asked for the answer to end here."""

    code = "stopped"


class ServiceError(GatewayError):
    """The gateway's own house is at fault."""


class NotConfigured(ServiceError):
    code = "upstream_not_configured"


class JournalFull(ServiceError):
    """Nothing can be kept, so nothing may be said."""

    code = "journal_full"


class StoreUnavailable(ServiceError):
    code = "store_unavailable"


class IdentityUnavailable(ServiceError):
    """Who asks cannot be told now; it says nothing about the credential."""

    code = "identity_unavailable"


class TooManyWatchers(ServiceError):
    code = "too_many_watchers"


class StoreUnusable(StoreUnavailable):
    """The database is there, but its schema is not one that this gateway can use; waiting changes nothing."""

    code = "store_unusable"


class StoreSetBack(StoreUnavailable):
    """The database has forgotten rows that it had confirmed: it was restored, or a standby took over that was behind.

    `found` is what it knows of the journal now: segment, offset and number of rows; None: nothing.
    """

    code = "store_set_back"

    def __init__(self, found: tuple[int, int, int] | None) -> None:
        super().__init__("Postgres was set back: it does not have what it had confirmed")
        self.found = found


class ShuttingDown(ServiceError):
    code = "shutting_down"


class RecordRefused(ServiceError):
    """The store takes none of these records as they are; trying again changes nothing."""

    code = "record_refused"
