"""What the policy did, as the headers of an answer: nothing where it let the request through as it stood."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.exchange.context import RequestContext

MOST_CHARACTERS = 256  # of all rules' names together


def policy_headers(context: RequestContext | None) -> dict[str, str]:
    """Of a request that is on record; before that no rule has fired."""
    if context is None or context.recording is None or context.recording.interaction.policy is None:
        return {}
    ruling = context.recording.interaction.policy
    return {"x-policy-outcome": ruling.outcome, "x-policy-rule": _told(", ".join(ruling.rules))}


def _told(names: str) -> str:
    """As a header may hold it: whoever writes rules may call them anything."""
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in names[: MOST_CHARACTERS + 1])
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[: MOST_CHARACTERS - 3]}..."
