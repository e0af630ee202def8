"""Who is asking: the modes that are set, in the order in which they count."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.errors import NotAuthenticated
from gateway.identity.credentials import CREDENTIALS as TAKEN
from gateway.identity.jws import looks_like_token
from gateway.identity.key_cache import PREFIX
from gateway.model import Principal, Role

if TYPE_CHECKING:
    from gateway.identity.credentials import Credentials, RawHeaders
    from gateway.identity.key_cache import KeyCache
    from gateway.identity.proxies import Proxies
    from gateway.identity.tokens import Tokens

# In which a caller may send a key: those that are taken here, and Google's, which travels with them.
CREDENTIALS = TAKEN | {b"x-goog-api-key"}
LOCAL_USER = Principal(user="local", roles=frozenset((Role.USER,)), is_ambient=True)
LOCAL_ADMIN = replace(LOCAL_USER, roles=frozenset(Role))  # the same, by a one-time link


class Authenticators:
    """Makes a principal of what a request shows.

    A trusted proxy's word comes first, then a key or token. `open` is for callers who show nothing at all and do not
    come through a trusted proxy: with other modes beside it, it never mends a credential that is wrong. Where `open` is
    the only mode, nothing is looked at, for the SDKs insist on sending some key.
    """

    __slots__ = ("_is_open", "_keys", "_lengths", "_private", "_proxies", "_tokens")

    def __init__(
        self,
        *,
        is_open: bool = False,
        keys: KeyCache | None = None,
        tokens: Tokens | None = None,
        proxies: Proxies | None = None,
    ) -> None:
        self._is_open = is_open
        self._keys = keys
        self._tokens = tokens
        self._proxies = proxies
        self._private = proxies.headers if proxies is not None else frozenset()
        self._lengths = frozenset(map(len, CREDENTIALS | self._private))  # of names; most are told apart by this alone

    @property
    def asks_nobody(self) -> bool:
        """Everybody is the one local user, whatever they show."""
        return self._is_open and self._keys is None and self._tokens is None and self._proxies is None

    async def identify(self, evidence: Credentials) -> Principal:
        """Raises NotAuthenticated; IdentityUnavailable when it cannot be told now."""
        if self.asks_nobody:
            return LOCAL_USER
        if self._proxies is not None:
            principal = self._proxies.principal(evidence)
            if principal is not None:
                return principal
        refusal: NotAuthenticated | None = None
        for credential in evidence.credentials():
            try:
                return await self._holder(credential)
            except NotAuthenticated as error:
                refusal = refusal or error
        if refusal is not None:
            raise refusal
        if self._is_open and self._is_local(evidence):
            return LOCAL_USER
        raise self._missing(evidence)

    @property
    def hears_proxies(self) -> bool:
        """Whether headers, of any name, tell who asks: those never travel on."""
        return bool(self._private)

    def travelling(self, headers: RawHeaders) -> RawHeaders:
        """The headers without what is between the caller and this gateway alone: its keys, the tokens that it takes,
        and the proxies' word. For an upstream that may see the caller's other credentials."""
        lengths = self._lengths
        return tuple([each for each in headers if len(each[0]) not in lengths or not self._is_private(*each)])

    def _is_private(self, name: bytes, value: bytes) -> bool:
        name = name.lower()
        if name in CREDENTIALS:
            if PREFIX in value or (self._tokens is not None and looks_like_token(value)):
                return True
            return self._keys is not None and any(self._keys.is_admin_key(word) for word in value.split())
        return name in self._private

    async def _holder(self, credential: bytes) -> Principal:
        if self._tokens is not None and (self._keys is None or looks_like_token(credential)):
            return await self._tokens.principal(credential)
        if self._keys is not None:
            return self._keys.principal(credential)
        raise NotAuthenticated("this gateway takes no keys: leave yours out")

    def _is_local(self, evidence: Credentials) -> bool:
        if evidence.has_credential:  # though it was empty, or of no known form
            return False
        proxies = self._proxies
        return proxies is None or not (proxies.is_trusted(evidence.peer) or proxies.is_claimed(evidence))

    def _missing(self, evidence: Credentials) -> NotAuthenticated:
        proxies = self._proxies
        if proxies is not None and not proxies.is_trusted(evidence.peer) and proxies.is_claimed(evidence):
            return NotAuthenticated(
                f"{proxies.user_header} is believed from the trusted proxies only, and this came from elsewhere",
                code="untrusted_proxy",
            )
        if self._keys is None and self._tokens is None:
            return NotAuthenticated("log in through the company's proxy", code="missing_credentials")
        wanted = [name for name, mode in (("a key", self._keys), ("a token", self._tokens)) if mode is not None]
        return NotAuthenticated(
            f"{' or '.join(wanted)} is needed: send it as `Authorization: Bearer …`, or as x-api-key or api-key",
            code="missing_api_key",
        )
