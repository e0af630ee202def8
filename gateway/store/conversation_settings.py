"""The settings of users for their conversations: a title, and whether the history shows them. No row is deleted.

A setting is written to the existing rows and stored beside them, so that rows which are still in a journal get it, too.
The writer holds the same lock as the shipper of the user's rows, so that no row misses the setting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.model import ConversationEdit
from gateway.store.conversations import bucket
from gateway.store.placement import LOCK_USERS, LOCKS
from gateway.store.rows import indexed_text, searched_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gateway.model import Principal
    from gateway.store.pool import Database

# $1: user; $2: conversation
EXISTS = """
select exists (
    select from llm_logs.chatgpt_logs where user_name = $1 and coalesce(root_gpt_id, id::text) = $2
)
"""

# $1: user; $2: conversation; $3: the title; $4: when
KEEP_TITLE = """
insert into llm_logs.conversation_settings (user_name, root_gpt_id, convo_title, changed_at)
values ($1, $2, $3, to_timestamp($4))
on conflict (user_name, root_gpt_id) do update
set convo_title = excluded.convo_title, changed_at = excluded.changed_at
"""

# $1: user; $2: conversation; $3: the title
SET_TITLE = """
update llm_logs.chatgpt_logs
set convo_title = $3
where user_name = $1 and coalesce(root_gpt_id, id::text) = $2 and convo_title is distinct from $3
"""

# $1: user; $2: conversation; $3: whether it shows; $4: when
KEEP_SHOWN = """
insert into llm_logs.conversation_settings (user_name, root_gpt_id, hidden_at, changed_at)
values ($1, $2, case when not $3::boolean then to_timestamp($4) end, to_timestamp($4))
on conflict (user_name, root_gpt_id) do update
set hidden_at = excluded.hidden_at, changed_at = excluded.changed_at
"""

# $1: user; $2: conversation; $3: whether it shows
SET_SHOWN = """
update llm_logs.chatgpt_logs
set convo_show = $3
where user_name = $1 and coalesce(root_gpt_id, id::text) = $2 and convo_show is distinct from $3
"""


# The same for a database that was set back and lost the setting. A later setting stays.
KEEP_TITLE_AGAIN = """
insert into llm_logs.conversation_settings as s (user_name, root_gpt_id, convo_title, changed_at)
values ($1, $2, $3, to_timestamp($4))
on conflict (user_name, root_gpt_id) do update
set convo_title = excluded.convo_title, changed_at = excluded.changed_at
where s.changed_at < excluded.changed_at
"""

KEEP_SHOWN_AGAIN = """
insert into llm_logs.conversation_settings as s (user_name, root_gpt_id, hidden_at, changed_at)
values ($1, $2, case when not $3::boolean then to_timestamp($4) end, to_timestamp($4))
on conflict (user_name, root_gpt_id) do update
set hidden_at = excluded.hidden_at, changed_at = excluded.changed_at
where s.changed_at < excluded.changed_at
"""

NOTHING_NEW = "INSERT 0 0"


class ConversationSettings:
    """The settings in one database. All methods raise StoreUnavailable; they return False if the caller has no such
    conversation.

    `is_known`: the conversation exists, although its rows may not be stored yet. `at` is Unix time. `on_edit` is called
    with each setting.
    """

    def __init__(self, database: Database, on_edit: Callable[[ConversationEdit], None] = lambda edit: None) -> None:
        self._database = database
        self._on_edit = on_edit

    async def set_title(self, caller: Principal, root: str, title: str, at: float, *, is_known: bool) -> bool:
        """Give the title to every row of the conversation, later rows included."""
        user, root, title = indexed_text(caller.user), indexed_text(root), searched_text(title)
        async with self._database.asking() as connection, connection.transaction():
            await connection.execute(LOCK_USERS, LOCKS, [bucket(user)])
            if not (await connection.fetchval(EXISTS, user, root) or is_known):
                return False
            await connection.execute(KEEP_TITLE, user, root, title, at)
            await connection.execute(SET_TITLE, user, root, title)
        self._on_edit(ConversationEdit(user, root, at, title=title))
        return True

    async def set_shown(self, caller: Principal, root: str, at: float, *, is_shown: bool, is_known: bool) -> bool:
        """Remove the conversation from the history, or bring it back. Later chats of it show again."""
        user, root = indexed_text(caller.user), indexed_text(root)
        async with self._database.asking() as connection, connection.transaction():
            await connection.execute(LOCK_USERS, LOCKS, [bucket(user)])
            if not (await connection.fetchval(EXISTS, user, root) or is_known):
                return False
            await connection.execute(KEEP_SHOWN, user, root, is_shown, at)
            await connection.execute(SET_SHOWN, user, root, is_shown)
        self._on_edit(ConversationEdit(user, root, at, is_shown=is_shown))
        return True

    async def apply_again(self, edits: Iterable[ConversationEdit]) -> int:
        """Apply edits again, in their order, to a database that was set back; how many it had lost."""
        return sum([await self._apply_again(edit) for edit in edits])

    async def _apply_again(self, edit: ConversationEdit) -> bool:
        is_title = edit.title is not None
        value = edit.title if is_title else edit.is_shown
        async with self._database.asking() as connection, connection.transaction():
            await connection.execute(LOCK_USERS, LOCKS, [bucket(edit.user)])
            statement = KEEP_TITLE_AGAIN if is_title else KEEP_SHOWN_AGAIN
            if await connection.execute(statement, edit.user, edit.root, value, edit.at) == NOTHING_NEW:
                return False
            await connection.execute(SET_TITLE if is_title else SET_SHOWN, edit.user, edit.root, value)
        return True
