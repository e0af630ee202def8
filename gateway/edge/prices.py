"""What tokens cost by the providers' list prices, which come with the library and are looked up without a network."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from genai_prices import Usage, calc_price

A_FEW = 1000  # tokens; prices of very long requests may be higher, and a report's sums are of many short ones


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a token."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        return self.prompt * prompt_tokens + self.completion * completion_tokens


@lru_cache(maxsize=1024)
def price_of(model: str) -> Price | None:
    """The price of today; None: the model is not on the lists. What stands before a slash may name a provider."""
    for name in (model, model.rpartition("/")[2]):
        try:
            found = calc_price(Usage(input_tokens=A_FEW, output_tokens=A_FEW), model_ref=name)
        except LookupError:
            continue
        return Price(float(found.input_price) / A_FEW, float(found.output_price) / A_FEW)
    return None
