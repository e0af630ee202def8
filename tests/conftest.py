"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.postgres"]

# What runs in the background of a shell has Ctrl-C ignored, and so would all that the tests start and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Both measure the machine by its wall clock: one that stands still for a second fails them, whatever the code does.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("house"), max_examples=20)  # deploy/check.sh --quick
settings.load_profile("house")

# Tests that hold a stopwatch (`pytest.mark.stopwatch`) get so many tries: code that is too slow fails them all, a
# machine that stands still for half a second only the one. All others get one.
TRIES = 3


# Folders whose tests start programs, whatever they import.
PROCESS_FOLDERS = frozenset(("bench", "deploy", "embedded_postgres", "faults", "journeys", "page"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Gives second tries to stopwatches, and marks each test with what it needs (`postgres`, `process`, `browser`)."""
    for item in items:
        if item.get_closest_marker("stopwatch"):
            item.add_marker(pytest.mark.flaky(reruns=TRIES - 1))
        if not isinstance(item, pytest.Function):
            continue
        imported = vars(item.module).values()
        modules = {
            value.__name__ if isinstance(value, ModuleType) else value.__module__
            for value in imported
            if hasattr(value, "__module__") or isinstance(value, ModuleType)
        }
        if "postgres" in item.fixturenames or "tests.postgres" in modules:
            item.add_marker(pytest.mark.postgres)
        if item.path.parent.name in PROCESS_FOLDERS or modules & {"subprocess", "tests.gateway_process"}:
            item.add_marker(pytest.mark.process)
        if "browser" in item.fixturenames:
            item.add_marker(pytest.mark.browser)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests of faults in their long form, for minutes")


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))
