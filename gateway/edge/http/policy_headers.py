"""Response headers that report the policy's ruling; none if the policy let the request pass unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.exchange.context import RequestContext

MOST_CHARACTERS = 256  # of the names of all rules together


def policy_headers(context: RequestContext | None) -> dict[str, str]:
    """The headers for a request that is on record; none before that."""
    if context is None or context.recording is None or context.recording.interaction.policy is None:
        return {}
    ruling = context.recording.interaction.policy
    return {"x-policy-outcome": ruling.outcome, "x-policy-rule": _printable(", ".join(ruling.rules))}


def _printable(names: str) -> str:
    """Rules' names as a header may hold them: printable ASCII, at most MOST_CHARACTERS."""
    shown = "".join(letter if " " <= letter <= "~" else "?" for letter in names[: MOST_CHARACTERS + 1])
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[: MOST_CHARACTERS - 3]}..."
