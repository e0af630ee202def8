"""Prices of tokens: the company's own, else the providers' list prices, which a library holds: no network is needed.

The cost of a model without a known price is None, not 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genai_prices import Usage as ListUsage
from genai_prices import calc_price

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gateway.model import Record, Usage

SAMPLE_TOKENS = 1000  # a price is that of a short request; some models cost more beyond a length
MILLION = 1_000_000
MAX_CACHED_MODELS = 1024
MAX_NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one token."""

    prompt: float
    cached: float  # of the part of a prompt that the provider has cached
    completion: float

    def cost(self, prompt_tokens: int, completion_tokens: int, cached_tokens: int = 0) -> float:
        fresh = prompt_tokens - cached_tokens
        return self.prompt * fresh + self.cached * cached_tokens + self.completion * completion_tokens


class Prices:
    """`own` has for each model USD for a million tokens of prompts, of cached prompts and of answers."""

    def __init__(self, own: Iterable[tuple[str, tuple[float, float, float]]] = ()) -> None:
        self._own = {model: Price(*(each / MILLION for each in prices)) for model, prices in own}
        self._list_prices: dict[str, Price | None] = {}

    def price_of(self, *models: str | None) -> Price | None:
        """Returns the price of the first model that has one; the company's own prices come before the list prices."""
        for name in models:
            if name in self._own:
                return self._own[name]
        for name in models:
            if name and (price := self._list_price(name)) is not None:
                return price
        return None

    def cost_of(self, record: Record) -> float | None:
        """Returns USD; None if the tokens or the price are not known."""
        answer = record.answer
        if answer.usage_cost is not None or answer.usage is None:
            return answer.usage_cost
        price = self.price_of(record.interaction.model, answer.model)
        usage = answer.usage
        return None if price is None else price.cost(usage.prompt_tokens, usage.completion_tokens, cached_tokens(usage))

    def _list_price(self, model: str) -> Price | None:
        if model not in self._list_prices:
            if len(self._list_prices) >= MAX_CACHED_MODELS:
                self._list_prices.clear()
            self._list_prices[model] = list_price(model)
        return self._list_prices[model]


def list_price(model: str) -> Price | None:
    """Returns today's list price. The part of the name before a slash may be a provider."""
    if len(model) > MAX_NAME_LENGTH:
        return None
    for name in (model, model.rpartition("/")[2]):
        try:
            found = calc_price(ListUsage(input_tokens=SAMPLE_TOKENS, output_tokens=SAMPLE_TOKENS), model_ref=name)
            cached = calc_price(ListUsage(input_tokens=SAMPLE_TOKENS, cache_read_tokens=SAMPLE_TOKENS), model_ref=name)
        except LookupError:
            continue
        return Price(
            *(float(price) / SAMPLE_TOKENS for price in (found.input_price, cached.input_price, found.output_price))
        )
    return None


def cached_tokens(usage: Usage) -> int:
    """Returns how many tokens of the prompt came from the provider's cache, as the provider reports it."""
    raw: Mapping[str, Any] = usage.raw or {}
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = raw.get(name)
        count = details.get("cached_tokens") if isinstance(details, dict) else None
        if isinstance(count, int) and not isinstance(count, bool):
            return min(max(count, 0), usage.prompt_tokens)
    return 0
