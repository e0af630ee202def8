"""Leaves structlog and stdlib logging as they were, whatever a test has set up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    access_level = logging.getLogger("aiohttp.access").level
    yield
    logging.captureWarnings(False)
    logging.getLogger("aiohttp.access").setLevel(access_level)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
