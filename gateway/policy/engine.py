"""The company's rules, asked one after the other. Pure: no await, no clock, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.model import PolicyOutcome, Ruling
from gateway.policy.decisions import Allow, Mask, Redirect, Reject, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.model import ChatRequest, Principal

    Rule = Callable[[ChatRequest, Principal], Verdict]


class Review(NamedTuple):
    """What all rules together say: the request as it may go on, what was done with it, and why it may not go on."""

    request: ChatRequest
    ruling: Ruling | None = None  # None: every rule allows it
    refusal: str | None = None  # for the caller


class Policy:
    """Rules in order. The first refusal ends the matter; each rule sees what the ones before it have changed.

    Raises ValueError for a mask of something that is not a text of the request: nothing is said, then.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def review(self, request: ChatRequest, caller: Principal) -> Review:
        """Of what several rules did, the weightiest counts: reject over redirect over mask; all are named."""
        outcome = PolicyOutcome.MASKED
        fired: list[str] = []
        for rule in self._rules:
            verdict = rule(request, caller)
            match verdict:
                case Allow():
                    continue
                case Reject():
                    ruling = Ruling(PolicyOutcome.REJECTED, (*fired, verdict.rule))
                    return Review(request, ruling, verdict.message)
                case Redirect():
                    outcome = PolicyOutcome.REDIRECTED
                    request = request.with_model(verdict.model)
                case Mask():
                    request = request.with_texts(verdict.texts)
            fired.append(verdict.rule)
        return Review(request, Ruling(outcome, tuple(fired)) if fired else None)
