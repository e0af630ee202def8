"""The one-time link of a gateway in open mode. It opens report, live page and keys in one browser for a person who can
read the data directory. An address alone grants no role: a proxy on this machine has a local address, too.

The state is in files that only the gateway's account can read, so that each link works once, in any worker.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COOKIE = "llm_gateway_session"
LINK_S = 3600.0
SESSION_S = 12 * 3600.0
MAX_COOKIES = 4  # with this name in one request: a service on another port of this host may set one, too
_SECRET = r"[A-Za-z0-9_-]{43}"  # noqa: S105 - a pattern: 32 bytes in base64url
_IN_COOKIES = re.compile(rf"(?:^|;\s*){COOKIE}=({_SECRET})(?=\s*(?:;|$))")


class OneTimeLinks:
    """The newest link, and the sessions that links have opened. All methods block on disk I/O."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._link = folder / "link"
        self._clock = clock

    def make(self, url: str) -> str:
        """A new link below the gateway's URL; it invalidates the older one. Raises OSError."""
        # As root: the embedded PostgreSQL's account must traverse the parent directory. This one has mode 0700.
        self._folder.parent.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._folder.chmod(0o700)
        for old in self._folder.glob("*.unused"):
            old.unlink(missing_ok=True)
        self._delete_expired()
        token = secrets.token_urlsafe(32)
        self._write(self._file(token, "unused"), "")
        link = f"{url.rstrip('/')}/open?token={token}"
        scratch = self._folder / f"link.{os.getpid()}"
        scratch.unlink(missing_ok=True)
        self._write(scratch, f"{link}\n")
        scratch.replace(self._link)
        return link

    def renew(self) -> str:
        """A new link with the URL of the last one. Raises OSError."""
        return self.make(self._link.read_text("utf-8").partition("/open?")[0])

    def use(self, token: str) -> str | None:
        """The secret of a new session; None if the link is used, expired or unknown. Raises OSError."""
        if not re.fullmatch(_SECRET, token):
            return None
        unused = self._file(token, "unused")
        if not self._is_younger(unused, LINK_S):
            return None
        self._delete_expired()
        session = secrets.token_urlsafe(32)
        opened = self._file(session, "session")
        self._write(opened, "")  # first, so that a full disk does not consume the link
        try:
            unused.unlink()  # succeeds for one of several concurrent requests, across processes
        except FileNotFoundError:
            opened.unlink(missing_ok=True)
            return None
        return session

    def has_session(self, cookies: str) -> bool:
        """Whether one of the cookies belongs to a session that has not expired."""
        found = _IN_COOKIES.findall(cookies)[:MAX_COOKIES]
        return any(self._is_younger(self._file(each, "session"), SESSION_S) for each in found)

    def _file(self, secret: str, kind: str) -> Path:
        return self._folder / f"{sha256(secret.encode()).hexdigest()}.{kind}"

    def _is_younger(self, path: Path, seconds: float) -> bool:
        try:
            found = path.stat()
            # Ignore files of other accounts, which may be able to write to the data directory.
            return found.st_uid in (os.geteuid(), 0) and self._clock() < found.st_mtime + seconds
        except OSError:
            return False

    def _delete_expired(self) -> None:
        for path in self._folder.glob("*.session"):
            if not self._is_younger(path, SESSION_S):
                path.unlink(missing_ok=True)

    def _write(self, path: Path, text: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        os.utime(path, (self._clock(), self._clock()))

    def withdraw(self) -> None:
        """Deletes the link: the gateway stops."""
        with suppress(OSError):
            self._link.unlink()
