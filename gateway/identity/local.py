"""The open mode: everybody who reaches a gateway that listens on loopback is its one local user."""

from __future__ import annotations

from gateway.model import Principal

LOCAL_USER = Principal(user="local", roles=frozenset(("user", "auditor", "admin")))


class OpenIdentity:
    """Takes every caller for the local user."""

    def identify(self, credentials: str | None) -> Principal:
        return LOCAL_USER
