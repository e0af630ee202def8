"""A few rules as a company may write them, for gateways of tests that run with a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from msgspec.structs import replace

from gateway.policy.chain import Policy
from gateway.policy.verdicts import ALLOW, Mask, Redirect, Reject, Verdict

if TYPE_CHECKING:
    from gateway.model import ChatRequest, Principal

CARD = b"4111 1111 1111 1111"
MASKED = b"[card number]"
STRANGE = "pépins\r\nx-evil: 1" + "!" * 1000


def _with(request: ChatRequest, raw: bytes) -> ChatRequest:
    body = orjson.loads(raw)
    return replace(request, raw=raw, body=body, model=body["model"])


def card_numbers(request: ChatRequest, caller: Principal) -> Verdict:
    if CARD not in request.raw:
        return ALLOW
    return Mask(_with(request, request.raw.replace(CARD, MASKED)), "card numbers")


def plans_stay_inside(request: ChatRequest, caller: Principal) -> Verdict:
    if b"our plans" not in request.raw:
        return ALLOW
    return Redirect(_with(request, request.raw.replace(request.model.encode(), b"internal")), "plans stay inside")


def no_weapons(request: ChatRequest, caller: Principal) -> Verdict:
    return Reject("Weapons are not talked about here.", "no weapons") if b"weapon" in request.raw else ALLOW


def strangely_named(request: ChatRequest, caller: Principal) -> Verdict:
    return Mask(request, STRANGE) if b"strange" in request.raw else ALLOW


COMPANYS = Policy([card_numbers, plans_stay_inside, no_weapons, strangely_named])
