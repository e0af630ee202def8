"""A database with the schema in it, and the store of keys on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gateway.resources import resource_folder
from gateway.settings import StoreSettings
from gateway.store.keys import Keys
from gateway.store.migrations import migrate
from gateway.store.pool import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def opened(database: str) -> AsyncIterator[Database]:
    made = Database(database, StoreSettings(pool_max=4, connect_s=2.0, statement_s=5.0))
    await migrate(made, resource_folder("sql"))
    yield made
    await made.aclose()


@pytest.fixture
def store(opened: Database) -> Keys:
    return Keys(opened)
