"""The ring of keys in memory: who is known, who is not, and what is said to them."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from gateway.errors import IdentityUnavailable, NotAuthenticated
from gateway.identity import key_cache
from gateway.identity.key_cache import KEY_LENGTH, KeyCache, digest_of, new_secret
from gateway.ids import Ids
from gateway.model import ApiKey, Principal

if TYPE_CHECKING:
    from collections.abc import Callable

IDS = Ids()


def key_of(secret: str, user: str = "ada", **more: object) -> ApiKey:
    key = ApiKey(
        id=IDS.new(),
        digest=digest_of(secret.encode()),
        hint=secret[-4:],
        name="laptop",
        holder=Principal(user=user, title="Analyst", roles=frozenset(("user",))),
        created_at=0.0,
        created_by="root",
    )
    return replace(key, **more)  # type: ignore[arg-type]


def ring_of(*keys: ApiKey, clock: Callable[[], float] = time.time) -> KeyCache:
    key_cache = KeyCache(clock)
    key_cache.replace(keys)
    return key_cache


def refusal(key_cache: KeyCache, secret: bytes) -> NotAuthenticated:
    with pytest.raises(NotAuthenticated) as caught:
        key_cache.principal(secret)
    return caught.value


def test_a_key_has_256_random_bits_and_one_length() -> None:
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert {len(each) for each in made} == {KEY_LENGTH}
    assert all(each.startswith("sk-gw-") and each.isascii() and "." not in each for each in made)


def test_a_key_makes_its_holder_known() -> None:
    secret, other = new_secret(), new_secret()
    key = key_of(secret)
    key_cache = ring_of(key, key_of(other, "bob"))
    principal = key_cache.principal(secret.encode())
    assert (principal.user, principal.title, principal.key_id) == ("ada", "Analyst", str(key.id))
    assert key_cache.principal(other.encode()).user == "bob"


def test_a_key_may_be_bound_to_models() -> None:
    secret = new_secret()
    holder = Principal(user="ada", allowed_models=frozenset(("small",)))
    principal = ring_of(key_of(secret, holder=holder)).principal(secret.encode())
    assert principal.may_use("small")
    assert not principal.may_use("large")


def test_every_near_miss_is_refused_and_never_echoed() -> None:
    secret = new_secret().encode()
    key_cache = ring_of(key_of(secret.decode()))
    misses = [
        secret[:-1],
        secret + b"x",
        secret.upper(),
        b"",
        b"sk-gw-",
        b"\xff" * KEY_LENGTH,
        b"sk-" + secret[3:] * 99,
    ]
    misses += [secret[:i] + bytes((secret[i] ^ 1,)) + secret[i + 1 :] for i in range(len(secret))]
    for miss in misses:
        error = refusal(key_cache, miss)
        assert error.code == "invalid_api_key"
        assert not miss or miss.decode("latin-1") not in error.message or miss == b"sk-gw-"


def test_an_expired_key_says_so_to_its_holder() -> None:
    secret, now = new_secret(), [1000.0]
    key_cache = ring_of(key_of(secret, expires_at=1060.0), clock=lambda: now[0])
    assert key_cache.principal(secret.encode()).user == "ada"
    now[0] = 1060.0
    error = refusal(key_cache, secret.encode())
    assert error.code == "expired_api_key"
    assert "1970-01-01 00:17 UTC" in error.message


def test_a_revoked_key_is_not_known_even_when_it_is_handed_in() -> None:
    secret = new_secret()
    assert refusal(ring_of(key_of(secret, revoked_at=1.0)), secret.encode()).code == "invalid_api_key"


def test_before_the_first_load_nobody_is_called_a_liar() -> None:
    with pytest.raises(IdentityUnavailable):
        KeyCache().principal(new_secret().encode())
    assert refusal(KeyCache(), b"sk-other").code == "invalid_api_key"


def test_the_whole_digest_decides_and_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = new_secret()
    digest = digest_of(secret.encode())
    near = key_of(secret, digest=digest[:31] + bytes((digest[31] ^ 1,)))
    compared: list[tuple[bytes, bytes]] = []

    def noticing(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(key_cache, "compare_digest", noticing)
    assert refusal(ring_of(near), secret.encode()).code == "invalid_api_key"
    assert compared == [(near.digest, digest)]


def test_uses_are_noted_and_taken_once() -> None:
    secret, now = new_secret(), [5.0]
    key = key_of(secret)
    key_cache = ring_of(key, clock=lambda: now[0])
    key_cache.principal(secret.encode())
    now[0] = 7.0
    key_cache.principal(secret.encode())
    refusal(key_cache, b"nothing")
    uses = key_cache.drain_uses()
    assert uses == {key.id: 7.0}
    assert key_cache.drain_uses() == {}
    now[0] = 9.0
    key_cache.principal(secret.encode())
    key_cache.restore_uses({**uses, IDS.new(): 1.0})
    assert key_cache.drain_uses()[key.id] == 9.0


def test_neither_key_nor_digest_is_in_any_text_of_a_key() -> None:
    secret = "sk-gw-" + secrets.token_urlsafe(32)
    key = key_of(secret)
    shown = f"{key!r} {key} {ring_of(key)!r}"
    assert secret not in shown
    assert repr(key.digest) not in shown
    assert key.digest.hex() not in shown
    assert key.digest == sha256(secret.encode()).digest()
