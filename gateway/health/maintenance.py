"""Periodic maintenance of the database, one row a task. While the database is down, a task waits for its next turn."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from gateway.polling import PeriodicTask

if TYPE_CHECKING:
    from gateway.store.change_feed import ChangeFeed
    from gateway.store.partitions import Partitions
    from gateway.store.reports import Reports

FEED_AGE = timedelta(hours=1)  # an older live page reads the rows instead


def maintenance_tasks(reports: Reports, change_feed: ChangeFeed, partitions: Partitions) -> list[PeriodicTask]:
    """Returns the tasks; the caller starts and closes them."""

    async def refresh_reports() -> None:
        while await reports.refresh():
            pass

    async def forget_changes() -> None:
        await change_feed.forget(FEED_AGE)

    return [
        # A report then sums up the rows of the last seconds only.
        PeriodicTask("refresh reports", refresh_reports, 10.0, is_delayed=True),
        PeriodicTask("forget old changes", forget_changes, 300.0, is_delayed=True),
        # Months ahead; also moves rows that are in the way of a new partition.
        PeriodicTask("create partitions", partitions.keep, 60.0, is_delayed=True),
        # Merges new rows into the search indexes, so that inserts need not; every search scans the rows since.
        PeriodicTask("merge search indexes", partitions.clean_search, 10.0, is_delayed=True),
    ]
