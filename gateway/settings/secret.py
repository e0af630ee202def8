"""Secrets: a type that hides its text, `file:` and `env:` references, and the secrets that settings take.

Readers raise ValueError with a text for people; it never contains the secret.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.settings.database_url import read_url
from gateway.settings.kinds import as_text

if TYPE_CHECKING:
    from gateway.settings.kinds import Environ

_LARGEST_SECRET_FILE = 65_536


class Secret:
    """A text that str, repr and logs hide. Only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __str__(self) -> str:
        return "(hidden)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def dereferenced(value: object, environ: Environ) -> str:
    """The text itself, or the content behind a `file:` or `env:` reference. Errors never quote the content."""
    if not isinstance(value, str):
        raise ValueError("it is not a text")  # noqa: TRY004 - as above
    text = value.strip()
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not environ.get(name):
            raise ValueError(f"the environment variable {name!r} in this reference is not set")
        return environ[name]
    if text.startswith("file:"):
        return _secret_file(as_text(text.removeprefix("file:")))
    return value


def _secret_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(_LARGEST_SECRET_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a path"
        raise ValueError(f"the file {path!r} in this reference cannot be read ({reason})") from None
    if len(content) > _LARGEST_SECRET_FILE:
        raise ValueError(f"the file {path!r} in this reference is larger than {_LARGEST_SECRET_FILE} bytes")
    text = content.decode("utf-8", "surrogateescape").rstrip("\r\n")
    if not text:
        raise ValueError(f"the file {path!r} in this reference is empty")
    return text


def as_header_secret(value: object, environ: Environ) -> Secret:
    text = dereferenced(value, environ)
    if not re.fullmatch(r"[!-~]([ -~]*[!-~])?", text):
        raise ValueError("it has a control character, a line end, outer spaces or a character outside ASCII")
    return Secret(text)


def as_admin_key(value: object, environ: Environ) -> Secret:
    """The SHA-256 of the key in hexadecimal: the gateway does not keep the key itself."""
    text = dereferenced(value, environ).strip()
    if not re.fullmatch(r"[A-Za-z0-9_+/=-]{32,256}", text):
        raise ValueError("it has fewer than 32 characters, more than 256, or others than A-Z a-z 0-9 _ + / = -")
    if len(set(text)) < 10 or text in (text + text)[1:-1]:
        raise ValueError("it is easy to guess: make one with `openssl rand -hex 24`")
    return Secret(sha256(text.encode()).hexdigest())


def as_database_url(value: object, environ: Environ) -> Secret:
    text = dereferenced(value, environ).strip()
    read_url(text)
    return Secret(text)
