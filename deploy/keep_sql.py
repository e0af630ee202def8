"""Prints SQL for a migration from store/columns.py: the function `llm_logs.keep` and the columns' comments.

python deploy/keep_sql.py >> sql/NNNN_name.sql
"""

from __future__ import annotations

import sys
from textwrap import fill
from typing import TYPE_CHECKING

from gateway.store.columns import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gateway.store.columns import Column

TABLES = {"chat": "chatgpt_logs", "image": "image_logs", "api": "api_logs"}
SETTINGS_JOIN = """
        left join llm_logs.conversation_settings as s on s.user_name = r.user_name and s.root_gpt_id = r.root_gpt_id"""


def keep_function(columns: Sequence[Column] = COLUMNS) -> str:
    """The statement that creates `llm_logs.keep`."""
    branches = "\n    els".join(f"if source = '{source}' then\n{_insert(source, columns)}" for source in TABLES)
    return f"""\
create or replace function llm_logs.keep(source text, records json, raws bytea []) returns bigint
language plpgsql
as $$
declare
    kept bigint;
begin
    {branches}
    else
        raise exception 'no table keeps the source %', source;
    end if;
    get diagnostics kept = row_count;
    return kept;
end
$$;
comment on function llm_logs.keep is
'Inserts records of one source (chat, image or api) from a JSON array; returns how many rows are new';
"""


def comments() -> str:
    """The comment of each column of each table."""
    lines = [
        f"comment on column llm_logs.{table}.{column.name} is '{column.comment.replace(chr(39), chr(39) * 2)}';\n"
        for source, table in TABLES.items()
        for column in COLUMNS
        if source == "chat" or not column.chats_only
    ]
    return "".join(lines)


def _insert(source: str, columns: Sequence[Column]) -> str:
    is_chats = source == "chat"
    columns = [column for column in columns if is_chats or not column.chats_only]
    return f"""\
        insert into llm_logs.{TABLES[source]} (
{_wrapped(column.name for column in columns)}
        )
        select
{_wrapped(column.value or f"r.{column.name}" for column in columns)}
        from json_to_recordset(records) as r (
{_wrapped(f"{column.name} {column.json_type or column.type}" for column in columns if column.is_member)}
        ){SETTINGS_JOIN if is_chats else ""}
        on conflict (id) do nothing;"""


def _wrapped(items: Iterable[str]) -> str:
    return fill(", ".join(items), 118, initial_indent=" " * 12, subsequent_indent=" " * 12, break_long_words=False)


if __name__ == "__main__":
    sys.stdout.write(f"{keep_function()}\n{comments()}")
