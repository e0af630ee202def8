"""The company's rules, asked one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from gateway.model import ChatRequest, PolicyOutcome, Principal, Ruling
from gateway.policy.chain import Policy, Review
from gateway.policy.verdicts import ALLOW, Allow, Mask, Redirect, Reject, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

CALLER = Principal("ada")
ASKED = ChatRequest(b"{}", {}, "gpt-4o", is_stream=False, wants_usage=False)
MASKED = replace(ASKED, raw=b'{"masked":1}')
ELSEWHERE = replace(ASKED, model="internal")

MASK = Mask(MASKED, "hide numbers")
REJECT = Reject("No.", "no secrets")
REDIRECT = Redirect(ELSEWHERE, "keep it inside")


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


@pytest.mark.parametrize("verdicts", [(MASK, REDIRECT), (REDIRECT, MASK)])
def test_redirection_outweighs_a_mask_in_either_order(verdicts: tuple[Mask | Redirect, ...]) -> None:
    request, ruling, refusal = Policy([says(verdict) for verdict in verdicts]).review(ASKED, CALLER)
    assert request == verdicts[-1].request
    assert ruling == Ruling(PolicyOutcome.REDIRECTED, tuple(verdict.rule for verdict in verdicts))
    assert refusal is None


def test_every_rule_that_masked_is_named_in_order() -> None:
    policy = Policy([says(MASK), says(ALLOW), says(Mask(ASKED, "hide names"))])
    assert policy.review(ASKED, CALLER) == Review(ASKED, masked("hide numbers", "hide names"))


def test_rules_are_taken_when_the_policy_is_made() -> None:
    rules = [says(ALLOW)]
    policy = Policy(rules)
    rules.append(says(REJECT))
    assert policy.review(ASKED, CALLER) == Review(ASKED)
