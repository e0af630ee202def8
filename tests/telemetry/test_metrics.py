"""What is counted, and that no caller can make the labels grow or break the counting."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import GatewayError
from gateway.model import Answer, Interaction, Kind, Outcome, Principal, Usage
from gateway.telemetry.metrics import MAX_MODELS, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Sample

ROUTE = "/v1/chat/completions"


def interaction(model: str | None = "gpt-5", **more: Any) -> Interaction:
    return Interaction(
        uuid4(), Kind.CHAT, time.time(), Principal("zaphod"), "req_1", "POST", ROUTE, model=model, **more
    )


def answer(outcome: Outcome = Outcome.COMPLETE, status: int | None = 200, **more: Any) -> Answer:
    return Answer(outcome, time.time(), status=status, **more)


def samples(metrics: Metrics) -> Iterator[Sample]:
    """As whoever scrapes reads them."""
    for family in text_string_to_metric_families(generate_latest(metrics).decode()):
        yield from family.samples


def value(metrics: Metrics, name: str, **labels: str) -> float:
    """The sum of the series of this name that have these labels."""
    found = [each for each in samples(metrics) if each.name == name and labels.items() <= each.labels.items()]
    return sum(each.value for each in found)


def test_a_whole_answer_is_counted_with_its_times_tokens_and_bytes() -> None:
    metrics = Metrics()
    its = answer(usage=Usage(3, 40), first_token_ms=30.0, duration_ms=2000.0, bytes_in=500, bytes_out=450)
    metrics.interaction_finished(interaction(), its)
    metrics.request_finished(ROUTE, "POST", 200, its, None)
    requests = {"route": ROUTE, "method": "POST", "status": "2xx", "outcome": "complete"}
    assert value(metrics, "llm_gateway_http_requests_total", **requests) == 1
    assert value(metrics, "llm_gateway_tokens_total", model="gpt-5", token_type="input") == 3
    assert value(metrics, "llm_gateway_tokens_total", model="gpt-5", token_type="output") == 40
    assert value(metrics, "llm_gateway_operation_duration_seconds_sum", model="gpt-5", outcome="complete") == 2.0
    assert value(metrics, "llm_gateway_time_to_first_token_seconds_bucket", model="gpt-5", le="0.02") == 0
    assert value(metrics, "llm_gateway_time_to_first_token_seconds_bucket", model="gpt-5", le="0.04") == 1
    assert value(metrics, "llm_gateway_relayed_bytes_total", direction="from_upstream") == 500
    assert value(metrics, "llm_gateway_relayed_bytes_total", direction="to_caller") == 450
    assert value(metrics, "llm_gateway_upstream_errors_total") == 0


@pytest.mark.parametrize(
    ("outcome", "status", "code", "expected"),
    [
        (Outcome.UPSTREAM_ERROR, None, "upstream_unreachable", "upstream_unreachable"),
        (Outcome.UPSTREAM_ERROR, None, "upstream_timeout", "upstream_timeout"),
        (Outcome.UPSTREAM_ERROR, 429, None, "429"),
        (Outcome.UPSTREAM_ERROR, 503, "upstream_garbled", "503"),
        (Outcome.UPSTREAM_ERROR, 999, None, "other"),
        (Outcome.UPSTREAM_ERROR, 200, None, "upstream_error"),
        (Outcome.TRUNCATED, 200, None, "upstream_cut"),
        (Outcome.TRUNCATED, 200, "journal_full", "upstream_cut"),
        (Outcome.COMPLETE, 200, None, None),
        (Outcome.CLIENT_CANCELLED, 200, "stopped", None),
        (Outcome.POLICY_BLOCKED, None, "policy_rejected", None),
    ],
)
def test_an_upstream_s_fault_is_counted_by_its_kind(
    outcome: Outcome, status: int | None, code: str | None, expected: str | None
) -> None:
    metrics = Metrics()
    metrics.request_finished(ROUTE, "POST", 200, answer(outcome, status), code)
    assert value(metrics, "llm_gateway_upstream_errors_total") == (expected is not None)
    assert value(metrics, "llm_gateway_upstream_errors_total", error_type=str(expected)) == (expected is not None)
    assert value(metrics, "llm_gateway_errors_total") == (code is not None)


def test_a_caller_that_left_has_no_status_and_an_error_its_code() -> None:
    metrics = Metrics()
    metrics.request_finished("/history", "GET", None, None, None)
    metrics.request_finished("/history", "GET", 401, None, "missing_api_key")
    assert value(metrics, "llm_gateway_http_requests_total", status="none", outcome="none") == 1
    assert value(metrics, "llm_gateway_http_requests_total", status="4xx", outcome="none") == 1
    assert value(metrics, "llm_gateway_errors_total", code="missing_api_key") == 1


def test_names_that_no_model_has_answered_to_get_no_label() -> None:
    metrics = Metrics()
    for number in range(1000):
        metrics.interaction_finished(interaction(f"invented-{number}"), answer(Outcome.UPSTREAM_ERROR, 404))
        metrics.interaction_finished(interaction(f"refused-{number}"), answer(Outcome.POLICY_BLOCKED, None))
    metrics.interaction_finished(interaction("gpt-5"), answer())
    models = {each.labels["model"] for each in samples(metrics) if "model" in each.labels}
    assert models == {"other", "gpt-5"}
    assert value(metrics, "llm_gateway_operation_duration_seconds_count", model="other") == 2000


def test_an_upstream_that_answers_to_any_name_makes_few_labels_and_all_is_counted() -> None:
    metrics = Metrics()
    for number in range(5000):
        metrics.interaction_finished(interaction(f"name-{number}"), answer(usage=Usage(1, 1)))
    models = {each.labels["model"] for each in samples(metrics) if "model" in each.labels}
    assert len(models) == MAX_MODELS + 1
    assert value(metrics, "llm_gateway_tokens_total", token_type="input") == 5000


@pytest.mark.parametrize("name", ["x" * 65, "a\nb", "\ud800", "\x00", "a\u2028b"])
def test_names_that_break_a_line_or_are_long_get_no_label(name: str) -> None:
    metrics = Metrics()
    metrics.interaction_finished(interaction(name), answer())
    assert value(metrics, "llm_gateway_operation_duration_seconds_count", model="other") == 1


@pytest.mark.parametrize("name", ['a"b', "a\\b", '",worker="7"} 1 #', "", "none", "other", "ä🙂"])
def test_any_printable_name_is_told_to_the_letter(name: str) -> None:
    metrics = Metrics()
    metrics.interaction_finished(interaction(name), answer())
    assert value(metrics, "llm_gateway_operation_duration_seconds_count", model=name or "none") == 1


def test_methods_and_statuses_that_a_caller_or_an_upstream_invents_make_few_series() -> None:
    metrics = Metrics()
    for number in range(500):
        metrics.request_finished("/v1/{path}", f"BREW{number}", 100 + number, None, None)
    found = [each for each in samples(metrics) if each.name == "llm_gateway_http_requests_total"]
    assert {each.labels["method"] for each in found} == {"other"}
    assert len(found) == 5


def test_nothing_of_a_user_is_told() -> None:
    metrics = Metrics()
    asked = interaction(body=b"rosebud", root_id="rosebud", convo_title="rosebud")
    its = answer(Outcome.UPSTREAM_ERROR, 500, error="rosebud", body=b"rosebud", upstream_request_id="rosebud")
    metrics.interaction_finished(asked, its)
    metrics.request_finished(ROUTE, "POST", 500, its, GatewayError.code)
    told = generate_latest(metrics).decode()
    assert "rosebud" not in told
    assert "zaphod" not in told
