"""What tokens cost: the company's own prices, else the providers' list prices, which come with a library and are looked
up without a network. A model whose price is not known costs nothing that could be said, which is not the same as 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genai_prices import Usage as ListUsage
from genai_prices import calc_price

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.model import Record, Usage

A_FEW = 1000  # tokens; prices of very long requests may be higher
MILLION = 1_000_000
MOST_REMEMBERED = 1024
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a token."""

    prompt: float
    cached: float  # of a prompt that the provider remembered
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        fresh = prompt_tokens - cached_tokens
        return self.prompt * fresh + self.cached * cached_tokens + self.completion * completion_tokens


class Prices:
    """`own`: by model, USD for a million tokens of prompts, of cached prompts and of answers."""

    def __init__(self, own: Iterable[tuple[str, tuple[float, float, float]]] = ()) -> None:
        self._own = {model: Price(*(each / MILLION for each in prices)) for model, prices in own}
        self._known: dict[str, Price | None] = {}

    def of(self, *models: str | None) -> Price | None:
        """Of the first of these names whose price is known, the company's own before the lists'."""
        for name in models:
            if name in self._own:
                return self._own[name]
        for name in models:
            if name and (price := self._listed(name)) is not None:
                return price
        return None

    def cost_of(self, record: Record) -> float | None:
        """USD; None where tokens or price are not known."""
        answer = record.answer
        if answer.usage_cost is not None or answer.usage is None:
            return answer.usage_cost
        price = self.of(record.interaction.model, answer.model)
        usage = answer.usage
        return None if price is None else price.of(usage.prompt_tokens, usage.completion_tokens, cached_tokens(usage))

    def _listed(self, model: str) -> Price | None:
        if model not in self._known:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            self._known[model] = list_price(model)
        return self._known[model]


def list_price(model: str) -> Price | None:
    """The price of today. What stands before a slash may name a provider."""
    if len(model) > LONGEST_NAME:
        return None
    for name in (model, model.rpartition("/")[2]):
        try:
            found = calc_price(ListUsage(input_tokens=A_FEW, output_tokens=A_FEW), model_ref=name)
            cached = calc_price(ListUsage(input_tokens=A_FEW, cache_read_tokens=A_FEW), model_ref=name)
        except LookupError:
            continue
        return Price(*(float(price) / A_FEW for price in (found.input_price, cached.input_price, found.output_price)))
    return None


def cached_tokens(usage: Usage) -> int:
    """Those of the prompt that the provider says it had remembered."""
    raw: Mapping[str, Any] = usage.raw or {}
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = raw.get(name)
        count = details.get("cached_tokens") if isinstance(details, dict) else None
        if isinstance(count, int) and not isinstance(count, bool):
            return min(max(count, 0), usage.prompt_tokens)
    return 0
