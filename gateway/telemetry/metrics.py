"""Metrics of one process that are counted per request, in a registry of their own.

Metrics reveal nothing about users: no label contains a user name, a key, a path or a text of anybody. Every label is
bounded, because callers choose models and methods: a model gets its own label after a complete answer, up to
MAX_MODELS. Gauges that are read at scrape time (journal, PostgreSQL) are in `gateway.health.gauges`.

Names and buckets follow OpenTelemetry's conventions for generative AI, as Prometheus writes them.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from gateway import __version__
from gateway.errors import (
    UpstreamCut,
    UpstreamElsewhere,
    UpstreamError,
    UpstreamGarbled,
    UpstreamStalled,
    UpstreamUnreachable,
)
from gateway.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from gateway.model import Answer, Interaction

PREFIX = "llm_gateway"
MAX_MODELS = 32
MAX_MODEL_LENGTH = 64
OTHER = "other"
NONE = "none"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
DURATIONS_S = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
    163.84,
    327.68,
)
FIRST_TOKENS_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
)
_UPSTREAM_FAILURES = frozenset((Outcome.TRUNCATED, Outcome.UPSTREAM_ERROR))
_UPSTREAM_ERRORS = (
    UpstreamUnreachable,
    UpstreamStalled,
    UpstreamGarbled,
    UpstreamCut,
    UpstreamElsewhere,
    UpstreamError,
)
LAG_BUCKETS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _DurationHistogram:
    """A histogram as plain numbers."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as in Prometheus."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))


class _ModelMetrics:
    """Counts of one model."""

    __slots__ = ("durations", "first_tokens", "input_tokens", "output_tokens")

    def __init__(self) -> None:
        self.durations: dict[str, _DurationHistogram] = {}  # by outcome
        self.first_tokens = _DurationHistogram(FIRST_TOKENS_S)
        self.input_tokens = 0
        self.output_tokens = 0

    def duration(self, outcome: str) -> _DurationHistogram:
        found = self.durations.get(outcome)
        if found is None:
            found = self.durations[outcome] = _DurationHistogram(DURATIONS_S)
        return found


class Metrics:
    """The metrics of the whole process. Only the event loop's thread writes, any thread reads. Nothing here raises.

    Counts per request are plain numbers: the library's instruments, with a lock in each, cost five times as much (10 µs
    a request).
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._errors = Counter(
            "errors", "Errors sent to callers, by code.", ("code",), namespace=PREFIX, registry=registry
        )
        self._upstream_errors = Counter(
            "upstream_errors",
            "Requests that failed at the upstream, by its status or by the fault of its answer.",
            ("error_type",),
            namespace=PREFIX,
            registry=registry,
        )
        for error in _UPSTREAM_ERRORS:
            self._upstream_errors.labels(error.code)  # starts at 0, so that the first error shows as an increase
        self._lag = Histogram(
            "event_loop_lag",
            "Delay of a timer that fires every second.",
            namespace=PREFIX,
            unit="seconds",
            registry=registry,
            buckets=LAG_BUCKETS_S,
        )
        build = Gauge("build_info", "This gateway.", ("version", "python"), namespace=PREFIX, registry=registry)
        build.labels(__version__, ".".join(map(str, sys.version_info[:3]))).set(1)
        ProcessCollector(registry=registry)
        self._bytes_in = self._bytes_out = self._dropped_headers = 0
        self._requests: dict[tuple[str, str, int, str], int] = {}  # by route, method, hundreds of the status, outcome
        self._models = {OTHER: _ModelMetrics()}

    # --- counting ----------------------------------------------------------------------------------------------------

    def request_finished(
        self, route: str, method: str, status: int | None, answer: Answer | None, code: str | None
    ) -> None:
        """Counts a finished request.

        `route`: the router's template. `status` None: the caller left before. `answer`: the recorded one, if any.
        `code`: of the error that the caller got, if any.
        """
        outcome = str(answer.outcome) if answer is not None else NONE  # an enumeration's own hash costs a call
        key = (route, method if method in METHODS else OTHER, status // 100 if status else 0, outcome)
        self._requests[key] = self._requests.get(key, 0) + 1
        if code is not None:
            self._errors.labels(code).inc()
        if answer is not None and answer.outcome in _UPSTREAM_FAILURES:
            self._upstream_errors.labels(_error_type(answer, code)).inc()

    def interaction_finished(self, interaction: Interaction, answer: Answer) -> None:
        """Counts a finished interaction."""
        self._bytes_in += answer.bytes_in
        self._bytes_out += answer.bytes_out
        usage = answer.usage
        if interaction.model is None and usage is None:
            return
        model = self._model(interaction.model or NONE, answer)
        model.duration(str(answer.outcome)).observe(answer.duration_ms / 1000)
        if answer.first_token_ms is not None:
            model.first_tokens.observe(answer.first_token_ms / 1000)
        if usage is not None:
            model.input_tokens += usage.prompt_tokens
            model.output_tokens += usage.completion_tokens

    def headers_dropped(self, headers: int) -> None:
        """Counts headers of a request that were not sent upstream."""
        self._dropped_headers += headers

    def loop_lagged(self, seconds: float) -> None:
        """Observes one delay of the event loop."""
        self._lag.observe(seconds)

    def _model(self, name: str, answer: Answer) -> _ModelMetrics:
        """The counts of a model. A name without any complete answer may be invented, and counts as `other`."""
        found = self._models.get(name)
        if found is None:
            is_real = answer.outcome is Outcome.COMPLETE and answer.status == 200
            if not is_real or len(self._models) > MAX_MODELS or len(name) > MAX_MODEL_LENGTH or not name.isprintable():
                return self._models[OTHER]
            found = self._models[name] = _ModelMetrics()
        return found

    # --- scraping ----------------------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """All metrics, without the `_created` series: they double the size and add no information."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        yield self._requests_family()
        yield from self._model_families()
        relayed = CounterMetricFamily(f"{PREFIX}_relayed_bytes", "Bytes of answers.", labels=("direction",))
        relayed.add_metric(("from_upstream",), self._bytes_in)
        relayed.add_metric(("to_caller",), self._bytes_out)
        yield relayed
        yield CounterMetricFamily(
            f"{PREFIX}_dropped_request_headers",
            "Headers of callers that were not sent upstream because they are not in the allow-list.",
            self._dropped_headers,
        )

    def _requests_family(self) -> Metric:
        family = CounterMetricFamily(
            f"{PREFIX}_http_requests",
            "Finished requests, by route template; `outcome` is that of the recorded answer.",
            labels=("route", "method", "status", "outcome"),
        )
        for (route, method, status_class, outcome), count in list(self._requests.items()):
            family.add_metric((route, method, f"{status_class}xx" if status_class else NONE, outcome), count)
        return family

    def _model_families(self) -> tuple[Metric, ...]:
        durations = HistogramMetricFamily(
            f"{PREFIX}_operation_duration_seconds",
            "Time from a request for a model to the end of its answer, by outcome.",
            labels=("model", "outcome"),
            unit="seconds",
        )
        first_tokens = HistogramMetricFamily(
            f"{PREFIX}_time_to_first_token_seconds",
            "Time from a request for a model to the first token of its answer.",
            labels=("model",),
            unit="seconds",
        )
        tokens = CounterMetricFamily(
            f"{PREFIX}_tokens",
            "Tokens of prompts (input) and answers (output), estimated if the upstream sends no count.",
            labels=("model", "token_type"),
        )
        for name, model in list(self._models.items()):
            for outcome, histogram in list(model.durations.items()):
                durations.add_metric((name, outcome), histogram.buckets(), histogram.total)
            first_tokens.add_metric((name,), model.first_tokens.buckets(), model.first_tokens.total)
            tokens.add_metric((name, "input"), model.input_tokens)
            tokens.add_metric((name, "output"), model.output_tokens)
        return durations, first_tokens, tokens


def _error_type(answer: Answer, code: str | None) -> str:
    """OpenTelemetry's `error.type`: the upstream's status, or the code of the fault."""
    status = answer.status or 0
    if status >= 400:
        return str(status) if status < 600 else OTHER
    if code is not None and code.startswith("upstream_"):
        return code
    return UpstreamCut.code if answer.outcome is Outcome.TRUNCATED else UpstreamError.code
