"""Converts the database's URL to arguments of asyncpg, and checks at start that asyncpg accepts them.

This file uses the one private name of asyncpg.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.connect_utils import _parse_connect_dsn_and_args  # type: ignore[attr-defined]  # not in the stubs

from gateway.settings.database_url import read_url

if TYPE_CHECKING:
    from gateway.settings.database_url import DatabaseUrl

_NOTHING = dict.fromkeys(
    (
        *("host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile"),
        *("direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
    )
)


def connect_arguments(url: DatabaseUrl) -> dict[str, Any]:
    """The arguments of `asyncpg.connect` and `create_pool` for this URL. Raises OSError for unusable TLS files."""
    arguments: dict[str, Any] = {"dsn": url.for_asyncpg()}
    if url.trusts_system:
        context = arguments["ssl"] = ssl.create_default_context()
        certificate = url.get("sslcert")
        if certificate:
            context.load_cert_chain(certificate, url.get("sslkey"), lambda: url.get("sslpassword") or "")
    return arguments


def fault_of(text: str) -> str | None:
    """The reason, without the secret, why asyncpg refuses this URL with the PG* variables and files; None: it accepts.

    `text` is a URL that `read_url` accepts.
    """
    try:
        _parse_connect_dsn_and_args(**{**_NOTHING, **connect_arguments(read_url(text))})
    except ssl.SSLError as error:
        return f"its TLS files cannot be used ({error.reason or 'not in PEM format'})"
    except asyncpg.ClientConfigurationError as error:
        return str(error)
    except OSError as error:
        return f"its TLS files cannot be used ({error.strerror})"
    except Exception as error:  # noqa: BLE001  a PG* variable that asyncpg cannot read fails each connect
        return f"with the PG* variables of the environment it cannot be used ({type(error).__name__})"
    return None
