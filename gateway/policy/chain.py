"""The company's rules, asked one after the other. Pure: no await, no clock, no network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.policy.verdicts import ALLOW, Allow, Mask, Redirect, Reject, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gateway.model import ChatRequest, Principal

    Rule = Callable[[ChatRequest, Principal], Verdict]


class Policy:
    """Rules in order. The first refusal ends the matter; each mask is what the next rule sees."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = tuple(rules)

    def review(self, request: ChatRequest, caller: Principal) -> tuple[ChatRequest, Verdict]:
        """The request as it may go on, and the weightiest verdict: reject over redirect over mask over allow."""
        said: Verdict = ALLOW
        for rule in self._rules:
            verdict = rule(request, caller)
            match verdict:
                case Allow():
                    continue
                case Reject():
                    return request, verdict
                case Mask():
                    request = verdict.request
                    said = said if isinstance(said, Redirect) else verdict
                case Redirect():
                    request, said = verdict.request, verdict
        return request, said
