"""Times and bounds of the submissions that only tests set."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.shipping.circuit_breaker import Backoff
from gateway.shipping.retry_spool import MAX_BYTES, MAX_RECORDS


@dataclass(frozen=True, slots=True)
class SubmissionsOptions:
    """Times in seconds."""

    backoff: Backoff = field(default_factory=Backoff)
    spool_backoff: Backoff = field(default_factory=lambda: Backoff(first_s=5.0, longest_s=300.0))
    spool_calls: int = 2
    spool_after_s: float = 10.0  # of failures: then the submission goes to the spool, and others pass
    scan_s: float = 5.0  # of the spool: other processes write and remove files, too
    disk_pause_s: float = 1.0
    max_spooled: int = MAX_RECORDS
    max_spooled_bytes: int = MAX_BYTES
    max_refusals: int = 3
    grace_s: float = 900.0  # a submission is given up after this time of failures here at the earliest, however old
