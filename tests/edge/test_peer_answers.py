"""What workers send each other."""

from __future__ import annotations

import msgspec
import pytest

from gateway.in_flight.in_flight import RunningInfo
from gateway.store.answers import StoredAnswer


@pytest.mark.parametrize("kind", [RunningInfo, StoredAnswer])
def test_msgspec_can_read_the_annotations_of_what_a_peer_sends(kind: type) -> None:
    """They are read at run time: an import for type checkers only would be a NameError in the first answer."""
    assert msgspec.inspect.type_info(kind)
