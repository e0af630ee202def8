"""Applies the company's rules to a request, in order. Pure: no await, no clock, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from gateway.model import PolicyOutcome, Ruling
from gateway.policy.decisions import Allow, Mask, Redirect, Reject, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.model import ChatRequest, Principal

    Rule = Callable[[ChatRequest, Principal], Verdict]


class Review(NamedTuple):
    """Result of all rules: the request as it may pass, the ruling, and the reason if it may not pass."""

    request: ChatRequest
    ruling: Ruling | None = None  # None: every rule allows the request
    refusal: str | None = None  # for the caller


class Policy:
    """Applies rules in order. Each rule sees the changes of those before it; the first rejection ends the review.

    Raises ValueError for a mask of a span that is not a text of the request: nothing passes then.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def review(self, request: ChatRequest, caller: Principal) -> Review:
        """Review a request. The ruling names every rule that changed it, and the strongest outcome: rejected before
        redirected before masked."""
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
