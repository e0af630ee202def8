"""Signed tokens: good ones make a principal, and every way of faking one that is known is refused."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.errors import NotAuthenticated
from gateway.identity.issuer import Issuer
from gateway.identity.tokens import TokenVerifier
from tests.identity.oidc import (
    EC,
    ISSUER,
    OKP,
    OTHER_RSA,
    RSA,
    FakeFetcher,
    auth,
    b64,
    by_hand,
    claims,
    ed25519,
    public,
    token,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.model import Principal

JWKS = "https://login.example/jwks"


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def tokens_of(
    *keys: Any, clock: Callable[[], float] = time.time, most: int = 100, **more: Any
) -> tuple[TokenVerifier, FakeFetcher]:
    settings = auth(jwks_url=JWKS, **more)
    fetcher = FakeFetcher({JWKS: public(*(keys or (RSA, EC, OKP)))})
    return TokenVerifier(settings, Issuer(settings, fetcher), clock, max_cached=most), fetcher


async def principal(given: bytes, **more: Any) -> Principal:
    return await tokens_of(**more)[0].principal(given)


async def refusal(given: bytes, **more: Any) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as caught:
        await principal(given, **more)
    error = caught.value
    assert given.decode("latin-1")[-20:] not in error.message
    return error


# --- good ones ---


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (OKP, "EdDSA"), (OKP, "Ed25519")])
async def test_a_token_of_the_issuer_is_taken(key: Any, algorithm: str) -> None:
    found = await principal(token(key, claims(title="Analyst", groups=["audit"]), algorithm), auditor_groups=("audit",))
    assert (found.user, found.title, found.key_id) == ("ada@corp.example", "Analyst", None)
    assert found.roles == {"user", "auditor"}


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
async def test_usual_types_are_taken(typ: str | None) -> None:
    assert await principal(token(RSA, claims(), typ=typ))


@pytest.mark.parametrize("aud", ["llm-gateway", ["other", "llm-gateway"], ["second"]])
async def test_one_fitting_audience_is_enough(aud: Any) -> None:
    assert await principal(token(RSA, claims(aud=aud)), audience=("llm-gateway", "second"))


async def test_a_token_without_key_id_fits_the_only_key() -> None:
    assert await principal(token(RSA, claims(), kid=None))


async def test_clocks_may_differ_a_little() -> None:
    now = int(time.time())
    assert await principal(token(RSA, claims(iat=now + 20, nbf=now + 20, exp=now - 20)))
    assert (await refusal(token(RSA, claims(exp=now - 40)))).code == "expired_token"
    assert (await refusal(token(RSA, claims(nbf=now + 40)))).code == "invalid_token"
    assert (await refusal(token(RSA, claims(iat=now + 40)))).code == "invalid_token"


@pytest.mark.parametrize(
    ("groups", "name", "roles"),
    [
        (["LLM admins", "x"], "groups", {"user", "admin"}),
        ("LLM admins", "groups", {"user", "admin"}),
        ({"roles": ["audit", "LLM admins"]}, "groups.roles", {"user", "auditor", "admin"}),
        (["llm admins"], "groups", {"user"}),
        ([["LLM admins"]], "groups", {"user"}),
        ({"LLM admins": True}, "groups", {"user"}),
        (None, "groups", {"user"}),
    ],
)
async def test_groups_give_roles(groups: Any, name: str, roles: set[str]) -> None:
    settings = {"groups_claim": name, "admin_groups": ("LLM admins",), "auditor_groups": ("audit",)}
    assert (await principal(token(RSA, claims(groups=groups)), **settings)).roles == roles


async def test_a_claim_with_dots_in_its_name_is_found_before_a_path() -> None:
    made = {**claims(), "https://corp.example/user": "eve", "a": {"b": "path"}}
    assert (await principal(token(RSA, made), user_claim="https://corp.example/user")).user == "eve"
    assert (await principal(token(RSA, made), user_claim="a.b")).user == "path"
    assert (await principal(token(RSA, made), user_claim="sub")).user == "u-1"


@pytest.mark.parametrize("email", [None, "", 7, ["ada"], "a\x00b", "a" * 257, " ada", "ada\n", "a\ud800"])
async def test_a_user_must_be_named(email: Any) -> None:
    error = await refusal(token(RSA, claims(email=email)))
    assert error.code == "invalid_token"
    assert "GATEWAY_AUTH_USER_CLAIM" in error.message or "signature" in error.message


@pytest.mark.parametrize("verified", [False, "false", 0, None])
async def test_an_address_that_is_not_verified_is_nobody(verified: Any) -> None:
    made = {**claims(), "email_verified": verified}
    assert (await refusal(token(RSA, made))).code == "invalid_token"
    assert (await principal(token(RSA, made), user_claim="sub")).user == "u-1"
    assert await principal(token(RSA, claims(email_verified=True)))


@pytest.mark.parametrize("title", [7, "", "a\x00", "x" * 300, ["Analyst"]])
async def test_an_odd_title_is_none(title: Any) -> None:
    assert (await principal(token(RSA, claims(title=title)))).title is None


# --- what a token must say ---


@pytest.mark.parametrize("iss", [None, "https://evil.example", ISSUER.rstrip("/"), ISSUER.upper(), [ISSUER], 1])
async def test_another_issuer_is_refused(iss: Any) -> None:
    assert (await refusal(token(RSA, claims(iss=iss)))).code == "invalid_token"


@pytest.mark.parametrize("aud", [None, "other", [], ["other"], [["llm-gateway"]], {"llm-gateway": 1}, "llm-gateway "])
async def test_another_audience_is_refused(aud: Any) -> None:
    assert (await refusal(token(RSA, claims(aud=aud)))).code == "invalid_token"


@pytest.mark.parametrize("exp", [None, "never", True, [], {}, float(2**70) * -1, "9999999999"])
async def test_a_token_must_end(exp: Any) -> None:
    assert (await refusal(token(RSA, claims(exp=exp)))).code in ("invalid_token", "expired_token")


@pytest.mark.parametrize("name", ["nbf", "iat"])
@pytest.mark.parametrize("value", ["x", True, [], 10**30])
async def test_odd_times_are_refused(name: str, value: Any) -> None:
    assert (await refusal(token(RSA, claims(**{name: value})))).code == "invalid_token"


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b"1", b'"x"', b"null", b"\xff", b"[" * 5000, b'{"exp":NaN}'])
async def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    assert (await refusal(token(RSA, payload))).code == "invalid_token"


# --- attacks on the signature ---


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda body: hmac.new(secret, body, hashlib.sha256).digest()


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", None, 1, ["RS256"], {"a": 1}])
async def test_an_unsigned_token_is_refused(name: Any) -> None:
    for sign in (lambda _: b"", lambda _: b"x", hs256(b"")):
        assert (await refusal(by_hand({"alg": name, "kid": "rsa"}, claims(), sign))).code == "invalid_token"


@pytest.mark.parametrize("form", ["pem", "pem+newline", "der", "jwk", "n"])
async def test_a_public_key_is_no_shared_secret(form: str) -> None:
    pem = RSA.as_pem(private=False)
    secret = {
        "pem": pem.rstrip(b"\n"),
        "pem+newline": pem,
        "der": RSA.as_der(private=False),
        "jwk": json.dumps(RSA.as_dict(private=False)).encode(),
        "n": str(RSA.as_dict(private=False)["n"]).encode(),
    }[form]
    for name in ("HS256", "hs256", "HS384"):
        assert (await refusal(by_hand({"alg": name, "kid": "rsa"}, claims(), hs256(secret)))).code == "invalid_token"


async def test_a_key_is_not_used_with_the_algorithm_of_another_kind() -> None:
    for key, algorithm, said in ((EC, "ES256", "RS256"), (RSA, "RS256", "ES256"), (OKP, "Ed25519", "ES256")):
        parts = token(key, claims(), algorithm).split(b".")
        parts[0] = b64(json.dumps({"alg": said, "kid": key.kid}).encode())
        assert (await refusal(b".".join(parts))).code == "invalid_token"


@pytest.mark.parametrize("algorithm", ["RS384", "PS256", "HS256"])
async def test_an_algorithm_that_is_not_allowed_is_refused(algorithm: str) -> None:
    if algorithm == "HS256":
        forged = by_hand({"alg": "HS256"}, claims(), hs256(b"secret"))
    else:
        key = RSAKey.import_key({**dict(RSA.as_dict(private=True)), "alg": algorithm})
        forged = token(key, claims(), algorithm)
    assert (await refusal(forged)).code == "invalid_token"


async def test_allowed_algorithms_can_be_fewer() -> None:
    assert await principal(token(EC, claims(), "ES256"), algorithms=("ES256",))
    assert (await refusal(token(RSA, claims()), algorithms=("ES256",))).code == "invalid_token"
    assert (await refusal(token(OKP, claims(), "EdDSA"), algorithms=("ES256", "RS256"))).code == "invalid_token"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_a_signature_by_somebody_else_is_refused(algorithm: str) -> None:
    forger: Any = {
        "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
        "ES256": ECKey.generate_key("P-256", {"kid": "ec"}),
        "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "okp"}),
    }[algorithm]
    assert (await refusal(token(forger, claims(), algorithm))).code == "invalid_token"


async def test_a_key_that_the_token_brings_along_is_not_used() -> None:
    evil = OTHER_RSA.as_dict(private=False)
    for header in (
        {"jwk": evil, "kid": None},
        {"jwk": evil, "kid": "rsa"},
        {"jku": "https://evil.example/jwks"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
    ):
        tokens, fetcher = tokens_of()
        with pytest.raises(NotAuthenticated):
            await tokens.principal(token(OTHER_RSA, claims(), **header))
        assert set(fetcher.asked) == {JWKS}


async def test_zero_signatures_are_refused() -> None:
    for size in (0, 32, 64, 256):
        zeros = b"\0" * size
        forged = by_hand({"alg": "ES256", "kid": "ec"}, claims(), lambda _: zeros)  # noqa: B023
        assert (await refusal(forged)).code == "invalid_token"


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"crit": None},
        {"crit": ["b64"], "b64": False},
        {"b64": False},
        {"b64": True},
        {"typ": "logout+jwt"},
        {"typ": "dpop+jwt"},
        {"typ": 1},
        {"kid": 7},
        {"kid": ["rsa"]},
        {"kid": "x" * 600},
        {"kid": "../../etc/passwd"},
        {"kid": "' or 1=1"},
    ],
)
async def test_a_header_that_is_not_understood_is_refused(header: dict[str, Any]) -> None:
    signed = by_hand({"alg": "EdDSA", "kid": "okp", **header}, claims(), ed25519)
    assert (await refusal(signed)).code == "invalid_token"


async def test_unknown_members_of_the_header_are_no_hindrance() -> None:
    assert await principal(token(RSA, claims(), nonce="x", x5t="y", foo={"bar": 1}))


async def test_the_same_token_in_other_letters_is_refused() -> None:
    good = token(RSA, claims())
    for other in (good + b"=", good + b".", b"." + good, good.replace(b".", b"..", 1), good + b"\n", b" " + good):
        assert (await refusal(other)).code == "invalid_token"


async def test_every_flipped_bit_is_refused() -> None:
    good = token(EC, claims(), "ES256")
    tokens, _ = tokens_of()
    for place in range(0, len(good), 3):
        flipped = good[:place] + bytes((good[place] ^ 1,)) + good[place + 1 :]
        with pytest.raises(NotAuthenticated):
            await tokens.principal(flipped)
    assert await tokens.principal(good)


@pytest.mark.stopwatch
@pytest.mark.parametrize("size", [16_000, 100_000, 3_000_000])
async def test_huge_tokens_are_refused_quickly(size: int) -> None:
    for huge in (
        b"a" * size + b".b.c",
        token(RSA, claims(pad="x" * size)),
        by_hand({"alg": "RS256", "k": "x" * size}, {}),
    ):
        tokens, _ = tokens_of()
        began = time.perf_counter()
        with pytest.raises(NotAuthenticated):
            await tokens.principal(huge)
        assert time.perf_counter() - began < 2


async def test_a_deeply_nested_header_is_refused() -> None:
    for text in (b"[" * 3000, b'{"a":' * 700, b'{"alg":"RS256","kid":"rsa","x":' + b"[" * 990 + b"]" * 990 + b"}"):
        tokens, _ = tokens_of()
        with pytest.raises(NotAuthenticated):
            await tokens.principal(b64(text) + b"." + b64(b"{}") + b"." + b64(b"x"))


# --- remembering ---


async def test_a_token_is_checked_once_until_it_ends() -> None:
    clock = Clock()
    tokens, fetcher = tokens_of(RSA, clock=clock)
    given = token(RSA, claims(exp=int(clock.now) + 60))
    first = await tokens.principal(given)
    assert await tokens.principal(given) is first
    clock.now += 89
    assert await tokens.principal(given) is first
    clock.now += 2
    with pytest.raises(NotAuthenticated) as caught:
        await tokens.principal(given)
    assert caught.value.code == "expired_token"
    assert fetcher.asked == [JWKS]


async def test_only_so_many_tokens_are_remembered_and_no_bad_ones() -> None:
    tokens, _ = tokens_of(OKP, most=3)
    made = [token(OKP, claims(jti=n), "EdDSA") for n in range(5)]
    for each in made:
        await tokens.principal(each)
    assert len(tokens._cache) == 3
    await tokens.principal(made[2])  # the oldest of the three becomes the youngest
    await tokens.principal(token(OKP, claims(jti=9), "EdDSA"))
    assert hashlib.sha256(made[2]).digest() in tokens._cache
    for _ in range(10):
        with pytest.raises(NotAuthenticated):
            await tokens.principal(made[0] + b"x")
    assert len(tokens._cache) == 3
    assert not any(each in repr(tokens._cache).encode() for each in made)


# --- hostile bytes ---

HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c", "cty", "zip"]),
    st.one_of(
        st.sampled_from(["RS256", "ES256", "EdDSA", "rsa", "ec", "okp", "JWT"]), st.integers(), st.none(), st.text()
    ),
)
PARTS = st.one_of(st.binary(max_size=60).map(b64), st.from_regex(rb"[A-Za-z0-9_=+/ -]{0,60}", fullmatch=True))


@checks(deadline=None, max_examples=150)
@given(st.one_of(PARTS, HEADERS.map(lambda header: b64(json.dumps(header).encode()))), PARTS, PARTS)
async def test_any_three_parts_are_refused_in_order(header: bytes, payload: bytes, signature: bytes) -> None:
    with pytest.raises(NotAuthenticated):
        await principal(header + b"." + payload + b"." + signature)


@checks(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "x", "crit"]), st.recursive(st.integers() | st.text(), st.lists)
    )
)
async def test_any_header_that_is_well_signed_is_a_principal_or_a_refusal(header: dict[str, Any]) -> None:
    signed = by_hand({"alg": "EdDSA", "kid": "okp", **header}, claims(), ed25519)
    try:
        assert await principal(signed)
    except NotAuthenticated as error:
        assert error.message.isprintable()
