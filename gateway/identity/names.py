"""Names from outside: what may be a user, a title, a group, and which roles groups give. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from gateway.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.settings import AuthSettings

LONGEST = 256


def is_name(text: object, longest: int = LONGEST) -> TypeGuard[str]:
    """A text that can stand in a row, in a log line and in a header: printable (so no lone surrogate), short, no outer
    spaces, by which two users could look like one."""
    return isinstance(text, str) and 0 < len(text) <= longest and text.isprintable() and text == text.strip()


class RoleTable:
    """Which groups of the company make a caller auditor or admin; everybody is a user."""

    __slots__ = ("_admins", "_auditors")

    def __init__(self, auth: AuthSettings) -> None:
        self._admins = frozenset(auth.admin_groups)
        self._auditors = frozenset(auth.auditor_groups)

    def roles(self, groups: Iterable[str]) -> frozenset[str]:
        member_of = frozenset(groups)
        found: set[str] = {Role.USER}
        if not self._admins.isdisjoint(member_of):
            found.add(Role.ADMIN)
        if not self._auditors.isdisjoint(member_of):
            found.add(Role.AUDITOR)
        return frozenset(found)
