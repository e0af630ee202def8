"""What is counted while requests go by: the instruments of one process, in a registry of their own.

Whoever may read them learns nothing about users: no label holds a name, a key, a path or a word of anybody's. Every
label is bounded, for callers choose models and methods: a model gets a label of its own when it has given a whole
answer, and only so many do. What is merely looked at (the journal, Postgres) is `gateway.vitals`.

Names and buckets follow OpenTelemetry's conventions for generative AI, as Prometheus writes them.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily

from gateway import __version__
from gateway.errors import UpstreamCut, UpstreamError, UpstreamGarbled, UpstreamStalled, UpstreamUnreachable
from gateway.model import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from gateway.model import Answer, Interaction

PREFIX = "llm_gateway"
MOST_MODELS = 32
LONGEST_MODEL = 64
OTHER = "other"
NONE = "none"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
DURATIONS_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68)
FIRST_TOKENS_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0)
_UPSTREAMS_FAULT = frozenset((Outcome.TRUNCATED, Outcome.UPSTREAM_ERROR))
LAGS_S = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _OfModel:
    """The instruments of one model, bound to its label once: looking a label up costs more than counting."""

    __slots__ = ("_durations", "_label", "durations", "first_token", "input_tokens", "output_tokens")

    def __init__(self, label: str, durations: Histogram, first_tokens: Histogram, tokens: Counter) -> None:
        self._label = label
        self._durations = durations
        self.durations: dict[Outcome, Histogram] = {}
        self.first_token = first_tokens.labels(label)
        self.input_tokens = tokens.labels(label, "input")
        self.output_tokens = tokens.labels(label, "output")

    def duration(self, outcome: Outcome) -> Histogram:
        found = self.durations.get(outcome)
        if found is None:
            found = self.durations[outcome] = self._durations.labels(self._label, outcome)
        return found


class Metrics:
    """One for the whole process. Counted in by the event loop's thread alone, read by any. Nothing here raises."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "http_requests",
            "Requests that are over, by the template of their route; `outcome` is how a recorded answer ended.",
            ("route", "method", "status", "outcome"),
            namespace=PREFIX,
            registry=registry,
        )
        self._errors = Counter(
            "errors", "Errors that callers were told, by their code.", ("code",), namespace=PREFIX, registry=registry
        )
        self._upstream_errors = Counter(
            "upstream_errors",
            "Requests that failed at the upstream: its status, or what was wrong with its answer.",
            ("error_type",),
            namespace=PREFIX,
            registry=registry,
        )
        for fault in (UpstreamUnreachable, UpstreamStalled, UpstreamGarbled, UpstreamCut, UpstreamError):
            self._upstream_errors.labels(fault.code)  # at 0, so that a first one is seen as an increase
        self._durations = Histogram(
            "operation_duration",
            "From a request for a model to the end of its answer, by how that ended.",
            ("model", "outcome"),
            namespace=PREFIX,
            unit="seconds",
            registry=registry,
            buckets=DURATIONS_S,
        )
        self._first_tokens = Histogram(
            "time_to_first_token",
            "From a request for a model to the first piece of its answer.",
            ("model",),
            namespace=PREFIX,
            unit="seconds",
            registry=registry,
            buckets=FIRST_TOKENS_S,
        )
        self._tokens = Counter(
            "tokens",
            "Tokens of prompts (input) and answers (output), estimated where an upstream does not count.",
            ("model", "token_type"),
            namespace=PREFIX,
            registry=registry,
        )
        self._lag = Histogram(
            "event_loop_lag",
            "By how much a timer of each second was late.",
            namespace=PREFIX,
            unit="seconds",
            registry=registry,
            buckets=LAGS_S,
        )
        build = Gauge("build_info", "This gateway.", ("version", "python"), namespace=PREFIX, registry=registry)
        build.labels(__version__, ".".join(map(str, sys.version_info[:3]))).set(1)
        ProcessCollector(registry=registry)
        self._bytes_in = self._bytes_out = 0  # plain numbers: counters with a lock would cost half a microsecond more
        self._counters: dict[tuple[str, str, int, Outcome | None], Counter] = {}
        self._models = {OTHER: self._new_model(OTHER)}

    # --- while requests go by ----------------------------------------------------------------------------------------

    def answered(self, route: str, method: str, status: int | None, answer: Answer | None, code: str | None) -> None:
        """A request is over. `route` is a template of the router's; `status` None: its caller had left before; `answer`
        is what was recorded, if anything was; `code` that of the error that the caller was told, if there was one."""
        outcome = answer.outcome if answer is not None else None
        key = (route, method if method in METHODS else OTHER, status // 100 if status else 0, outcome)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(
                route, key[1], f"{key[2]}xx" if status else NONE, outcome or NONE
            )
        counter.inc()
        if code is not None:
            self._errors.labels(code).inc()
        if answer is not None and answer.outcome in _UPSTREAMS_FAULT:
            self._upstream_errors.labels(_error_type(answer, code)).inc()

    def recorded(self, interaction: Interaction, answer: Answer) -> None:
        """An interaction has its end."""
        self._bytes_in += answer.bytes_in
        self._bytes_out += answer.bytes_out
        usage = answer.usage
        if interaction.model is None and usage is None:
            return
        model = self._model(interaction.model or NONE, answer)
        model.duration(answer.outcome).observe(answer.duration_ms / 1000)
        if answer.first_token_ms is not None:
            model.first_token.observe(answer.first_token_ms / 1000)
        if usage is not None:
            model.input_tokens.inc(usage.prompt_tokens)
            model.output_tokens.inc(usage.completion_tokens)

    def lagged(self, seconds: float) -> None:
        """The event loop was late by so much."""
        self._lag.observe(seconds)

    def _model(self, name: str, answer: Answer) -> _OfModel:
        """A name that no upstream has answered to whole is anybody's invention, and gets no label."""
        found = self._models.get(name)
        if found is None:
            is_real = answer.outcome is Outcome.COMPLETE and answer.status == 200
            if not is_real or len(self._models) > MOST_MODELS or len(name) > LONGEST_MODEL or not name.isprintable():
                return self._models[OTHER]
            found = self._models[name] = self._new_model(name)
        return found

    def _new_model(self, label: str) -> _OfModel:
        return _OfModel(label, self._durations, self._first_tokens, self._tokens)

    # --- when somebody looks -----------------------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """All of it, but for the times at which series began: they would double the size and tell nothing."""
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric
        relayed = CounterMetricFamily(f"{PREFIX}_relayed_bytes", "Bytes of answers.", labels=("direction",))
        relayed.add_metric(("from_upstream",), self._bytes_in)
        relayed.add_metric(("to_caller",), self._bytes_out)
        yield relayed


def _error_type(answer: Answer, code: str | None) -> str:
    """OpenTelemetry's `error.type`: the upstream's status, or in a word what was wrong."""
    status = answer.status or 0
    if status >= 400:
        return str(status) if status < 600 else OTHER
    if code is not None and code.startswith("upstream_"):
        return code
    return UpstreamCut.code if answer.outcome is Outcome.TRUNCATED else UpstreamError.code
