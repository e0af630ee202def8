"""Costs of interactions: by the company's own prices, else by list prices; None if no price is known."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from gateway.model import Record, Usage
from gateway.prices import MAX_CACHED_MODELS, MAX_NAME_LENGTH, Price, Prices, list_price
from gateway.settings import SettingsError, load
from tests.journal.samples import answer, interaction

OWN = Prices((("ours", (10.0, 1.0, 100.0)),))


def said(model: str | None, usage: Usage | None, answered: str | None = None, **more: Any) -> Record:
    return Record(interaction(model=model), replace(answer(), usage=usage, model=answered, **more))


def test_own_prices_are_for_a_million_tokens_and_cached_ones_are_counted_apart() -> None:
    assert OWN.cost_of(said("ours", Usage(1_000_000, 10_000))) == pytest.approx(11.0)
    for raw in (
        {"prompt_tokens_details": {"cached_tokens": 900_000}},
        {"input_tokens_details": {"cached_tokens": 9e5}},
    ):
        raw = {name: {"cached_tokens": int(each["cached_tokens"])} for name, each in raw.items()}
        assert OWN.cost_of(said("ours", Usage(1_000_000, 10_000, raw=raw))) == pytest.approx(1.0 + 0.9 + 1.0)


@pytest.mark.parametrize("count", [-5, True, "many", None, 1.5, {}, 2**70])
def test_an_absurd_count_of_cached_tokens_is_bounded(count: object) -> None:
    usage = Usage(100, 0, raw={"prompt_tokens_details": {"cached_tokens": count}})
    cost = OWN.cost_of(said("ours", usage))
    assert cost is not None
    assert 100 * 1e-6 <= cost <= 100 * 10e-6


def test_a_list_price_is_found_by_the_requested_or_the_answering_model() -> None:
    price = list_price("gpt-4o")
    assert price is not None
    assert 0 < price.cached < price.prompt < price.completion
    assert Prices().price_of("openai/gpt-4o") == price
    assert Prices().cost_of(said("the-companys-best", Usage(1000, 0), answered="gpt-4o")) == pytest.approx(
        1000 * price.prompt
    )
    assert OWN.price_of("gpt-4o", "ours") == Price(10e-6, 1e-6, 100e-6), "the company's own comes first"


def test_the_cost_is_none_if_tokens_or_price_are_not_known() -> None:
    assert OWN.cost_of(said("ours", None)) is None
    assert OWN.cost_of(said("demo", Usage(1, 1))) is None
    assert OWN.cost_of(said(None, Usage(1, 1))) is None
    assert OWN.cost_of(said("x" * (MAX_NAME_LENGTH + 1), Usage(1, 1))) is None
    assert OWN.cost_of(said(None, None, usage_cost=0.25)) == 0.25


def test_unknown_models_do_not_fill_the_cache() -> None:
    prices = Prices()
    for number in range(MAX_CACHED_MODELS + 5):
        prices.price_of(f"{'z' * MAX_NAME_LENGTH}{number}")
    assert len(prices._list_prices) <= MAX_CACHED_MODELS


def test_prices_are_set_by_model() -> None:
    given = load({"GATEWAY_TOKEN_PRICES": "gpt-5=1.25/10, a=b/c:x=0/0.5/2"})
    assert given.upstream.token_prices == (("gpt-5", (1.25, 1.25, 10.0)), ("a=b/c:x", (0.0, 0.5, 2.0)))
    for wrong in ("gpt-5", "gpt-5=1", "=1/2", "gpt-5=1/-2", "gpt-5=1/2/3/4", "gpt-5=nan/1", "gpt-5=1e9/1"):
        with pytest.raises(SettingsError, match="GATEWAY_TOKEN_PRICES"):
            load({"GATEWAY_TOKEN_PRICES": wrong})
