"""Authentication of callers by the modes of GATEWAY_AUTH, in their order of precedence."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import NotAuthenticated
from gateway.identity.credentials import CREDENTIAL_HEADERS as ACCEPTED_HEADERS
from gateway.identity.jws import looks_like_token
from gateway.identity.key_cache import PREFIX
from gateway.model import Principal, Role

if TYPE_CHECKING:
    from gateway.identity.credentials import Credentials, RawHeaders
    from gateway.identity.key_cache import KeyCache
    from gateway.identity.proxies import TrustedProxies
    from gateway.identity.tokens import TokenVerifier

# Headers in which a caller may send a key: those accepted here, and Google's.
CREDENTIAL_HEADERS = ACCEPTED_HEADERS | {b"x-goog-api-key"}
LOCAL_USER = Principal(user="local", roles=frozenset((Role.USER,)), is_ambient=True)
LOCAL_ADMIN = replace(LOCAL_USER, roles=frozenset(Role))  # the local user, after a one-time link


class Authenticators:
    """Finds the principal of a request.

    A trusted proxy's header comes first, then a key or token. `open` applies only to callers without any credential who
    do not come through a trusted proxy: beside other modes, it never accepts an invalid credential. If `open` is the
    only mode, credentials are ignored, because SDKs always send some key.
    """

    __slots__ = ("_is_open", "_keys", "_lengths", "_private_names", "_proxies", "_tokens")

    def __init__(
        self,
        *,
        is_open: bool = False,
        keys: KeyCache | None = None,
        tokens: TokenVerifier | None = None,
        proxies: TrustedProxies | None = None,
    ) -> None:
        self._is_open = is_open
        self._keys = keys
        self._tokens = tokens
        self._proxies = proxies
        self._private_names = proxies.headers if proxies is not None else frozenset()
        # Of names: most headers need no other comparison.
        self._lengths = frozenset(map(len, CREDENTIAL_HEADERS | self._private_names))

    @property
    def is_open_only(self) -> bool:
        """Whether every caller is the local user, whatever credentials it sends."""
        return self._is_open and self._keys is None and self._tokens is None and self._proxies is None

    async def identify(self, credentials: Credentials) -> Principal:
        """The principal of the caller. Raises NotAuthenticated; IdentityUnavailable if it cannot be found out now."""
        if self.is_open_only:
            return LOCAL_USER
        if self._proxies is not None:
            principal = self._proxies.principal(credentials)
            if principal is not None:
                return principal
        first_error: NotAuthenticated | None = None
        for credential in credentials.candidates():
            try:
                return await self._principal_of(credential)
            except NotAuthenticated as error:
                first_error = first_error or error
        if first_error is not None:
            raise first_error
        if self._is_open and self._is_local(credentials):
            return LOCAL_USER
        raise self._missing(credentials)

    @property
    def reads_proxy_headers(self) -> bool:
        """Whether a proxy's headers name the caller; they are never forwarded."""
        return bool(self._private_names)

    def forwardable(self, headers: RawHeaders) -> RawHeaders:
        """The headers without this gateway's keys, the tokens that it accepts, and the trusted proxies' headers: for an
        upstream that may see the caller's other credentials."""
        lengths = self._lengths
        return tuple([each for each in headers if len(each[0]) not in lengths or not self._is_private(*each)])

    def _is_private(self, name: bytes, value: bytes) -> bool:
        name = name.lower()
        if name in CREDENTIAL_HEADERS:
            if PREFIX in value or (self._tokens is not None and looks_like_token(value)):
                return True
            return self._keys is not None and any(self._keys.is_admin_key(word) for word in value.split())
        return name in self._private_names

    async def _principal_of(self, credential: bytes) -> Principal:
        if self._tokens is not None and (self._keys is None or looks_like_token(credential)):
            return await self._tokens.principal(credential)
        if self._keys is not None:
            return self._keys.principal(credential)
        raise NotAuthenticated("this gateway accepts no keys: send none")

    def _is_local(self, credentials: Credentials) -> bool:
        if credentials.has_credential:  # even an empty one, or one of an unknown form
            return False
        proxies = self._proxies
        return proxies is None or not (proxies.is_trusted(credentials.peer) or proxies.has_user_header(credentials))

    def _missing(self, credentials: Credentials) -> NotAuthenticated:
        proxies = self._proxies
        if proxies is not None and not proxies.is_trusted(credentials.peer) and proxies.has_user_header(credentials):
            return NotAuthenticated(
                f"{proxies.user_header} is accepted from trusted proxies only, and this address is not one",
                code="untrusted_proxy",
            )
        if self._keys is None and self._tokens is None:
            return NotAuthenticated("log in through the company's proxy", code="missing_credentials")
        accepted = [name for name, mode in (("a key", self._keys), ("a token", self._tokens)) if mode is not None]
        return NotAuthenticated(
            f"{' or '.join(accepted)} is needed: send it as `Authorization: Bearer …`, or as x-api-key or api-key",
            code="missing_api_key",
        )
