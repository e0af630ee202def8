"""Published keys: which are taken, and that a key is never used in another way than its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, OctKey, OKPKey

from gateway.identity.jwks import MAX_KEYS, KeySet
from tests.identity.oidc import EC, OKP, OTHER_RSA, RSA, public

ALL = ("EdDSA", "ES256", "RS256")


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    return {**public(key)["keys"][0], **more}


def keys(*listed: Any, algorithms: tuple[str, ...] = ALL) -> KeySet:
    return KeySet({"keys": list(listed)}, algorithms)


def test_each_key_is_found_by_its_name_and_for_its_own_algorithm() -> None:
    found = keys(jwk(RSA), jwk(EC), jwk(OKP))
    assert len(found) == 3
    assert found.find("RS256", "rsa") is not None
    assert found.find("ES256", "ec") is not None
    assert found.find("EdDSA", "okp") is found.find("Ed25519", "okp") is not None
    for algorithm, kid in (("RS256", "ec"), ("ES256", "rsa"), ("RS256", "okp"), ("EdDSA", "rsa"), ("ES256", "okp")):
        assert found.find(algorithm, kid) is None


def test_one_name_for_keys_of_two_kinds_is_no_confusion() -> None:
    found = keys(jwk(RSA, kid="k"), jwk(EC, kid="k"))
    assert type(found.find("RS256", "k")).__name__ == "RSAKey"
    assert type(found.find("ES256", "k")).__name__ == "ECKey"


def test_a_token_without_a_name_is_for_the_only_key_there_is() -> None:
    assert keys(jwk(RSA), jwk(EC)).find("RS256", None) is not None
    assert keys(jwk(RSA), jwk(OTHER_RSA)).find("RS256", None) is None


def test_only_allowed_algorithms_have_keys() -> None:
    found = keys(jwk(RSA), jwk(EC), jwk(OKP), algorithms=("ES256",))
    assert len(found) == 1


@pytest.mark.parametrize(
    "unusable",
    [
        jwk(RSA, use="enc"),
        jwk(RSA, alg="RS512"),
        jwk(RSA, alg="HS256"),
        jwk(RSA, alg=1),
        jwk(EC, key_ops=["sign"]),
        jwk(EC, key_ops="verify"),
        jwk(RSA, kid=7),
        jwk(RSA, kid=""),
        jwk(RSA, n="AQAB"),
        jwk(RSA, n="A" * 400),
        jwk(RSA, n="A" * 9000),
        jwk(RSA, n=None),
        jwk(RSA, e="AQ"),
        jwk(RSA, e="!!"),
        jwk(EC, x="AAAA"),
        jwk(EC, crv="P-384"),
        jwk(EC, crv=["P-256"]),
        jwk(OKP, x="AAAA"),
        jwk(OKP, crv="Ed448"),
        jwk(OKP, crv="X25519"),
        jwk(RSA, kty="EC"),
        jwk(RSA, kty=["RSA"]),
        jwk(ECKey.generate_key("P-384", {"kid": "x"})),
        jwk(OKPKey.generate_key("Ed448", {"kid": "x"})),
        dict(OctKey.generate_key(256, {"kid": "x"}).as_dict(private=True)),
        dict(RSA.as_dict(private=True)),
        dict(OKP.as_dict(private=True)),
        {},
        None,
        "RSA",
        [],
    ],
)
def test_a_key_that_cannot_be_meant_is_left_out(unusable: Any) -> None:
    found = keys(unusable, jwk(OTHER_RSA))
    assert len(found) == 1
    assert found.find("RS256", "rsa2") is not None


def test_a_key_set_is_bounded() -> None:
    assert len(keys(*[jwk(EC, kid=f"k{n}") for n in range(MAX_KEYS * 2)])) == MAX_KEYS


def test_sets_are_equal_when_their_keys_are() -> None:
    assert keys(jwk(RSA), jwk(EC)) == keys(jwk(EC, extra=1), jwk(RSA), {})
    assert keys(jwk(RSA)) != keys(jwk(OTHER_RSA, kid="rsa"))
    assert keys(jwk(RSA)) != keys()


@pytest.mark.parametrize("document", [{}, {"keys": None}, {"keys": {}}, {"keys": "x"}])
def test_what_is_no_key_set_is_said_to_be_none(document: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="keys"):
        KeySet(document, ALL)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8), lambda inner: st.lists(inner, max_size=3)
)
MEMBERS = st.sampled_from(["kty", "crv", "x", "y", "n", "e", "use", "key_ops", "alg", "kid"])


@given(st.sampled_from([RSA, EC, OKP]), st.dictionaries(MEMBERS, JSON, max_size=4))
def test_any_key_is_taken_or_left_out(base: Any, odd: dict[str, Any]) -> None:
    assert len(keys(jwk(base, **odd))) <= 1
