"""The company's rules, asked one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.codec.text_spans import TextSpan, text_spans
from gateway.edge.http.bodies import parse_chat
from gateway.model import PolicyOutcome, Principal, Ruling
from gateway.policy.decisions import ALLOW, Allow, Mask, Redirect, Reject, Verdict
from gateway.policy.engine import Policy, Review

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.model import ChatRequest

CALLER = Principal("ada")
RAW = b'{"model": "gpt-4o", "messages": [{"role": "user", "content": "call 12"}]}'
ASKED = parse_chat(RAW, 100)
NUMBER = next(span for span in text_spans(RAW) if span.text == "call 12")
MASKED = parse_chat(RAW.replace(b"call 12", b"call **"), 100)
ELSEWHERE = parse_chat(RAW.replace(b"call 12", b"call **").replace(b"gpt-4o", b"internal"), 100)

MASK = Mask({NUMBER: "call **"}, "hide numbers")
REJECT = Reject("No.", "no secrets")
REDIRECT = Redirect("internal", "keep it inside")


def says(verdict: Verdict, seen: list[ChatRequest] | None = None) -> Callable[[ChatRequest, Principal], Verdict]:
    def rule(request: ChatRequest, caller: Principal) -> Verdict:
        assert caller is CALLER
        if seen is not None:
            seen.append(request)
        return verdict

    return rule


def masked(*rules: str) -> Ruling:
    return Ruling(PolicyOutcome.MASKED, rules)


def test_no_rules_allow_everything() -> None:
    assert Policy().review(ASKED, CALLER) == Review(ASKED)


def test_rules_that_allow_change_nothing() -> None:
    assert Policy([says(Allow()), says(ALLOW)]).review(ASKED, CALLER) == Review(ASKED)


def test_each_rule_sees_what_the_one_before_made() -> None:
    seen: list[ChatRequest] = []
    policy = Policy([says(ALLOW, seen), says(MASK, seen), says(REDIRECT, seen), says(ALLOW, seen)])
    assert policy.review(ASKED, CALLER).request == ELSEWHERE
    assert seen == [ASKED, ASKED, MASKED, ELSEWHERE]


def test_first_refusal_ends_the_matter() -> None:
    seen: list[ChatRequest] = []
    policy = Policy([says(MASK), says(REJECT), says(ALLOW, seen)])
    ruling = Ruling(PolicyOutcome.REJECTED, ("hide numbers", "no secrets"))
    assert policy.review(ASKED, CALLER) == Review(MASKED, ruling, "No.")
    assert seen == []


REDIRECTED = RAW.replace(b"gpt-4o", b"internal")
LATER = Mask({next(span for span in text_spans(REDIRECTED) if span.text == "call 12"): "call **"}, "hide numbers")


@pytest.mark.parametrize("verdicts", [(MASK, REDIRECT), (REDIRECT, LATER)])
def test_redirection_outweighs_a_mask_in_either_order(verdicts: tuple[Mask | Redirect, ...]) -> None:
    request, ruling, refusal = Policy([says(verdict) for verdict in verdicts]).review(ASKED, CALLER)
    assert request == ELSEWHERE
    assert ruling == Ruling(PolicyOutcome.REDIRECTED, tuple(verdict.rule for verdict in verdicts))
    assert refusal is None


def test_every_rule_that_masked_is_named_in_order() -> None:
    policy = Policy([says(MASK), says(ALLOW), says(Mask({}, "hide names"))])
    assert policy.review(ASKED, CALLER) == Review(MASKED, masked("hide numbers", "hide names"))


def test_rules_are_taken_when_the_policy_is_made() -> None:
    rules = [says(ALLOW)]
    policy = Policy(rules)
    rules.append(says(REJECT))
    assert policy.review(ASKED, CALLER) == Review(ASKED)


def test_a12_a_mask_is_in_raw_and_body_and_nowhere_else() -> None:
    request = Policy([says(MASK)]).review(ASKED, CALLER).request
    assert request.raw == RAW.replace(b"call 12", b"call **")
    assert request.body["messages"][0]["content"] == "call **"


def test_a12_a_verdict_holds_no_request_that_could_be_changed_in_part() -> None:
    for verdict in (MASK, REDIRECT, REJECT):
        assert not {"request", "raw", "body"} & set(type(verdict).__dataclass_fields__)


@pytest.mark.parametrize("span", [TextSpan((), 1, 8, "model"), TextSpan((), 0, 5, ""), TextSpan((), 2, 9999, "")])
def test_a12_a_mask_of_what_is_no_text_of_the_request_lets_nothing_through(span: TextSpan) -> None:
    with pytest.raises(ValueError, match="no text"):
        Policy([says(Mask({span: "x"}, "wrong"))]).review(ASKED, CALLER)
