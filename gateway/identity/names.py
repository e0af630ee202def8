"""Validation of names from outside (users, titles, groups), and the roles of groups. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeGuard

from gateway.model import Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.settings import AuthSettings

MAX_NAME_LENGTH = 256


def is_name(text: object, max_length: int = MAX_NAME_LENGTH) -> TypeGuard[str]:
    """Whether the text fits into a row, a log line and a header: short, printable (so no lone surrogate), and without
    outer spaces, which would make two users look alike."""
    return isinstance(text, str) and 0 < len(text) <= max_length and text.isprintable() and text == text.strip()


class RoleTable:
    """Maps the company's groups to the roles auditor and admin; everybody has the role user."""

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
