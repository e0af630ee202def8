"""The scriptable upstream, as tests of the transport have it."""

from __future__ import annotations

from tests.transport.conftest import upstream

__all__ = ["upstream"]
