"""A few rules as a company may write them, for gateways of tests that run with a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.codec.text_spans import text_spans
from gateway.policy.decisions import ALLOW, Mask, Redirect, Reject, Verdict
from gateway.policy.engine import Policy

if TYPE_CHECKING:
    from gateway.model import ChatRequest, Principal

CARD = b"4111 1111 1111 1111"
MASKED = b"[card number]"
STRANGE = "pépins\r\nx-evil: 1" + "!" * 1000


def card_numbers(request: ChatRequest, caller: Principal) -> Verdict:
    card, masked = CARD.decode(), MASKED.decode()
    texts = {span: span.text.replace(card, masked) for span in text_spans(request.raw) if card in span.text}
    return Mask(texts, "card numbers") if texts else ALLOW


def plans_stay_inside(request: ChatRequest, caller: Principal) -> Verdict:
    return Redirect("internal", "plans stay inside") if b"our plans" in request.raw else ALLOW


def no_weapons(request: ChatRequest, caller: Principal) -> Verdict:
    return Reject("Weapons are not talked about here.", "no weapons") if b"weapon" in request.raw else ALLOW


def strangely_named(request: ChatRequest, caller: Principal) -> Verdict:
    return Mask({}, STRANGE) if b"strange" in request.raw else ALLOW


COMPANYS = Policy([card_numbers, plans_stay_inside, no_weapons, strangely_named])
