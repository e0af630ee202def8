"""Fixtures that every test may use."""

from __future__ import annotations

import signal

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.postgres"]

# What runs in the background of a shell has Ctrl-C ignored, and so would all that the tests start and then interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Both measure the machine by its wall clock: one that stands still for a second fails them, whatever the code does.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# Tests that hold a stopwatch (`pytest.mark.stopwatch`) get so many tries: code that is too slow fails them all, a
# machine that stands still for half a second only the one. All others get one.
TRIES = 3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("stopwatch"):
            item.add_marker(pytest.mark.flaky(reruns=TRIES - 1))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests of faults in their long form, for minutes")


@pytest.fixture
def is_long(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--long"))
