"""Which headers travel on, and which do not."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.transport.call import Head
from gateway.transport.headers import RequestHeaders, as_text, response_fields

# What identity proxies, CDNs, clouds and meshes say of a caller, and what browsers carry.
OF_OTHERS = (
    b"CF-Connecting-IP CF-Connecting-IPv6 Cf-Access-Jwt-Assertion Cf-Access-Authenticated-User-Email "
    b"CF-IPCountry CF-Ray CF-Visitor CF-Worker True-Client-IP Fastly-Client-IP Fastly-SSL Fly-Client-IP "
    b"Fly-Forwarded-Port Akamai-Origin-Hop X-Akamai-Edgescape X-Forwarded-For X-Forwarded-User "
    b"X-Forwarded-Email X-Forwarded-Access-Token X-Forwarded-Groups X-Forwarded-Client-Cert X-Forwarded-Host "
    b"X-Forwarded-Proto Forwarded Via X-Real-IP X-Client-IP X-Cluster-Client-IP X-Original-URL "
    b"X-Original-Forwarded-For X-Auth-Request-Email X-Auth-Request-Access-Token X-Amzn-Oidc-Data "
    b"X-Amzn-Oidc-Identity X-Amzn-Trace-Id X-Amzn-Mtls-Clientcert X-Amz-Cf-Id X-Amz-Security-Token X-Amz-Date "
    b"CloudFront-Viewer-Address X-MS-TOKEN-AAD-ACCESS-TOKEN X-MS-TOKEN-AAD-ID-TOKEN X-MS-CLIENT-PRINCIPAL "
    b"X-MS-CLIENT-PRINCIPAL-NAME X-MS-Client-Principal-Id X-ARR-ClientCert X-Azure-ClientIP X-Azure-FDID "
    b"X-Goog-Authenticated-User-Email X-Goog-Authenticated-User-Id X-Goog-Iap-Jwt-Assertion X-Goog-User-Project "
    b"X-Cloud-Trace-Context X-Serverless-Authorization X-Pomerium-Jwt-Assertion X-Pomerium-Claim-Email "
    b"Tailscale-User-Login Tailscale-User-Name Tailscale-User-Profile-Pic Tailscale-Headers-Info Remote-User "
    b"Remote-Email Remote-Groups Remote-Name X-Remote-User X-Authentik-Username X-Authentik-Email "
    b"X-Authentik-Jwt X-Vouch-User X-Token-Subject X-WEBAUTH-USER X-User X-User-Email X-Userinfo "
    b"X-Consumer-Username X-Consumer-Custom-ID X-Credential-Identifier X-Anonymous-Consumer X-Client-Cert "
    b"SSL-Client-Cert SSL-Client-S-DN SSL-Client-Verify X-SSL-Client-Cert X-SSL-CERT Client-Cert "
    b"Client-Cert-Chain X-Envoy-External-Address X-Envoy-Peer-Metadata X-Envoy-Decorator-Operation X-B3-TraceId "
    b"B3 baggage X-Request-Start X-Teleport-Jwt Teleport-Jwt-Assertion X-Okta-User OIDC-Access-Token "
    b"OIDC-Claim-Email X-Id-Token X-Access-Token X-Auth-Token X-CSRF-Token Cookie Cookie2 Origin Referer "
    b"Sec-Fetch-Site Sec-Ch-Ua Accept-Language DNT From X-Requested-With X-HTTP-Method-Override "
    b"Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version Sec-WebSocket-Extensions "
).split()
KNOWN = (
    b"Accept Content-Type OpenAI-Beta OpenAI-Safety-Identifier User-Agent X-Stainless-Lang X-Stainless-Retry-Count "
    b"Idempotency-Key HTTP-Referer X-Title traceparent tracestate anthropic-version anthropic-beta Range "
    b"x-claude-code-session-id x-app originator session_id session-id thread-id version x-codex-turn-metadata "
    b"X-Session-Affinity x-opencode-session X-Client-Request-Id"
).split()


def sent(
    *raw: tuple[bytes, bytes], is_decoded: bool = True, keep: bool = False, more: tuple[str, ...] = ()
) -> list[bytes]:
    headers = RequestHeaders(more, keep_credentials=keep)
    return [name for name, _ in headers.of(raw, is_decoded=is_decoded)]


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a5_what_others_say_of_a_caller_does_not_travel(name: bytes) -> None:
    for keep in (False, True):
        assert sent((name, b"x"), (name.upper(), b"x"), (b"Accept", b"y"), keep=keep) == [b"Accept"]


@pytest.mark.parametrize("name", KNOWN)
def test_a5_what_means_something_to_the_upstream_travels(name: bytes) -> None:
    assert sent((name, b"x"), (name.upper(), b"x")) == [name, name.upper()]


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=24))
def test_a5_a_name_that_is_in_no_list_does_not_travel(name: str) -> None:
    known = [each.decode().lower() for each in KNOWN]
    families = ("openai-", "anthropic-", "x-stainless-", "x-codex-", "x-claude-", "x-anthropic-")
    if name in known or name.startswith(families):
        return
    assert sent((name.encode(), b"x"), keep=True) in ([], [name.encode()])
    assert sent((f"x-{name}-user".encode(), b"x"), keep=True) == []


@pytest.mark.parametrize(
    "name",
    b"Connection KEEP-ALIVE te Trailer Transfer-Encoding Upgrade Proxy-Authorization Proxy-Connection Cookie Host "
    b"Content-Length Accept-Encoding Expect X-Request-Id X-Conversation-Id".split(),
)
def test_what_is_of_this_hop_or_of_the_gateway_never_travels_on(name: bytes) -> None:
    for keep in (False, True):
        assert sent((name, b"x"), (b"Accept", b"y"), keep=keep, more=(name.decode(), "con*", "coo*")) == [b"Accept"]


def test_a5_a_setting_lets_further_names_travel() -> None:
    raw = ((b"X-Corp-Team", b"1"), (b"x-corp", b"2"), (b"X-TRACE", b"3"), (b"X-Trace-2", b"4"))
    assert sent(*raw, more=("x-corp-*", "x-trace")) == [b"X-Corp-Team", b"X-TRACE"]


@pytest.mark.parametrize("name", [b"OpenAI-Organization", b"openai-project", b"ChatGPT-Account-Id"])
def test_a5_an_account_is_named_only_beside_its_own_credential(name: bytes) -> None:
    account, credential = (name, b"org-1"), (b"Authorization", b"Bearer sk-own")
    assert sent(account, credential) == []
    assert sent(account, keep=True) == []
    assert sent(account, credential, keep=True) == [name, b"Authorization"]
    assert sent(account, credential, (b"Connection", b"authorization"), keep=True) == []


def test_a5_who_asked_for_more_is_told_what_stayed_here() -> None:
    told: list[bytes] = []
    headers = RequestHeaders(on_dropped=told.extend)
    headers.of(((b"Host", b"x"), (b"Authorization", b"x"), (b"Accept", b"x"), (b"Remote-User", b"x")))
    headers.of(((b"Accept", b"x"), (b"OpenAI-Project", b"x")))
    assert told == [b"Remote-User", b"OpenAI-Project"]


@pytest.mark.parametrize("name", [b"Authorization", b"x-api-key", b"API-Key", b"X-Goog-Api-Key"])
def test_credentials_travel_on_only_where_that_is_configured(name: bytes) -> None:
    assert sent((name, b"secret")) == []
    assert sent((name, b"secret"), keep=True) == [name]


def test_decoded_body_travels_without_its_coding() -> None:
    assert sent((b"Content-Encoding", b"gzip")) == []
    assert sent((b"Content-Encoding", b"gzip"), is_decoded=False) == [b"Content-Encoding"]


def test_headers_that_connection_names_stay_here() -> None:
    raw = ((b"OpenAI-Secret", b"1"), (b"coNNection", b"openai-secret , X-App"), (b"x-app", b"2"), (b"Accept", b"3"))
    assert sent(*raw) == [b"Accept"]


def test_order_doubles_case_and_odd_bytes_are_left_as_they_are() -> None:
    raw = ((b"OpenAI-b", b"2"), (b"openai-A", b"\xff\xfe"), (b"OpenAI-b", b""), (b"OpenAI-b", b"2"))
    assert RequestHeaders().of(raw) == raw


@pytest.mark.parametrize(
    "name",
    b"connection transfer-encoding content-length keep-alive set-cookie date server strict-transport-security "
    b"access-control-allow-origin alt-svc x-request-id clear-site-data x-interaction-id x-conversation-id "
    b"x-upstream-content-type www-authenticate login-status sec-session-registration x-litespeed-location "
    b"cdn-cache-control attribution-reporting-register-source".split(),
)
def test_what_is_of_the_upstreams_connection_or_host_stays_there(name: bytes) -> None:
    assert as_text(response_fields(Head(200, ((name, b"x"), (b"x-mine", b"y"))))) == [("x-mine", "y")]


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ((b"public, max-age=60",), [("cache-control", "private")]),
        ((b"no-cache", b"S-MAXAGE=60"), [("cache-control", "private")]),
        ((b"max-age=60",), [("cache-control", "max-age=60")]),
    ],
)
def test_no_cache_in_front_gives_one_callers_answer_to_others(
    given: tuple[bytes, ...], left: list[tuple[str, str]]
) -> None:
    head = Head(200, tuple((b"cache-control", value) for value in given))
    assert as_text(response_fields(head)) == left


def test_headers_that_the_upstreams_connection_names_stay_there() -> None:
    head = Head(200, ((b"connection", b"close, x-hop"), (b"x-hop", b"1"), (b"retry-after", b"7")))
    assert as_text(response_fields(head)) == [("retry-after", "7")]


def test_odd_bytes_of_the_upstream_become_something_that_can_be_sent() -> None:
    ((name, value),) = as_text(response_fields(Head(200, ((b"x-odd", b"a\xffb\xc3\xbc"),))))
    assert (name, value) == ("x-odd", "a\N{REPLACEMENT CHARACTER}bü")
    value.encode()


@pytest.mark.parametrize(
    ("name", "value", "sent_on"),
    [
        (b"retry-after", b"3600", b"60"),
        (b"retry-after", b"61", b"60"),
        (b"retry-after", b"60", None),
        (b"retry-after", b"0", None),
        (b"retry-after", b"1.5", None),
        (b"retry-after", b"1e9", b"60"),
        (b"retry-after", b"3600abc", b"60"),
        (b"retry-after", b"soon", b"60"),
        (b"retry-after", b"Fri, 31 Dec 9999 23:59:59 GMT", b"60"),
        (b"retry-after", b"Fri, 31 Dec 1999 23:59:59 GMT", None),
        (b"retry-after", b"Fri, 99 Dec 9999 23:59:59 GMT", b"60"),
        (b"retry-after-ms", b"3600000", b"60000"),
        (b"retry-after-ms", b"59999.5", None),
    ],
)
def test_c18_nobody_is_told_to_wait_for_more_than_a_minute(name: bytes, value: bytes, sent_on: bytes | None) -> None:
    expected = ((name, value),) if sent_on is None else ((name, sent_on), (b"x-upstream-retry-after", value))
    assert response_fields(Head(429, ((name, value), (b"x-a", b"b")))) == (*expected, (b"x-a", b"b"))


def test_c18_a_date_within_a_minute_is_left_as_it_is() -> None:
    near = formatdate(time.time() + 30, usegmt=True).encode()
    assert response_fields(Head(429, ((b"retry-after", near),))) == ((b"retry-after", near),)
    assert response_fields(Head(429, ((b"x-upstream-retry-after", b"1"),))) == ()
