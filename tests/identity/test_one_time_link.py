"""One-time links: taken once, by whichever process, for a while; their sessions end, too."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identity.one_time_link import COOKIE, LINK_S, SESSION_S, OneTimeLinks

URL = "http://127.0.0.1:8000"
ROOT = Path(__file__).resolve().parents[2]


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def token_of(link: str) -> str:
    assert link.startswith(f"{URL}/open?token=")
    return link.partition("token=")[2]


def cookie(session: str | None) -> str:
    assert session is not None
    return f"a=b; {COOKIE}={session}; c=d"


def test_f2_a_link_counts_once(tmp_path: Path) -> None:
    links = OneTimeLinks(tmp_path / "open")
    token = token_of(links.make(URL))
    assert links.has_session(cookie(links.use(token)))
    assert links.use(token) is None


def test_f2_only_one_of_many_at_once_gets_a_session(tmp_path: Path) -> None:
    """Each thread stands for a worker: nothing but the files is shared."""
    token = token_of(OneTimeLinks(tmp_path).make(URL))
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: OneTimeLinks(tmp_path).use(token), range(64)))
    assert len([each for each in found if each is not None]) == 1
    assert len(list(tmp_path.glob("*.session"))) == 1


def test_f2_every_worker_takes_a_session_of_another(tmp_path: Path) -> None:
    session = OneTimeLinks(tmp_path).use(token_of(OneTimeLinks(tmp_path).make(URL)))
    assert OneTimeLinks(tmp_path).has_session(cookie(session))


@pytest.mark.parametrize("kind", ["unused", "session"])
def test_f2_a_file_of_another_account_is_no_link_and_no_session(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = OneTimeLinks(tmp_path / "open")
    token = token_of(links.make(URL))
    session = links.use(token) if kind == "session" else None
    (path,) = (tmp_path / "open").glob(f"*.{kind}")
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not (links.has_session(cookie(session)) if session else links.use(token))


def test_f2_a_new_link_ends_the_one_before_and_no_session(tmp_path: Path) -> None:
    links = OneTimeLinks(tmp_path)
    session = links.use(token_of(links.make(URL)))
    old = token_of(links.make(URL))
    new = token_of(OneTimeLinks(tmp_path).renew())
    assert links.use(old) is None
    assert links.use(new) is not None
    assert links.has_session(cookie(session))


def test_f2_links_and_sessions_end(tmp_path: Path) -> None:
    clock = Clock()
    links = OneTimeLinks(tmp_path, clock)
    session = links.use(token_of(links.make(URL)))
    late = token_of(links.make(URL))
    clock.now += LINK_S
    assert links.use(late) is None
    clock.now += SESSION_S - LINK_S - 1
    assert links.has_session(cookie(session))
    clock.now += 1
    assert not links.has_session(cookie(session))
    links.make(URL)
    assert not list(tmp_path.glob("*.session"))


def test_f2_a_full_disk_uses_up_no_link(tmp_path: Path) -> None:
    class Full(OneTimeLinks):
        def _write(self, path: Path, text: str) -> None:
            raise OSError(28, "No space left on device")

    token = token_of(OneTimeLinks(tmp_path).make(URL))
    with pytest.raises(OSError, match="No space"):
        Full(tmp_path).use(token)
    assert OneTimeLinks(tmp_path).use(token) is not None


def test_f2_the_link_is_a_file_that_only_its_account_reads_and_no_other_holds_a_secret(tmp_path: Path) -> None:
    links = OneTimeLinks(tmp_path / "data" / "open")
    link = links.make(URL)
    session = links.use(token_of(links.make(URL))) or ""
    folder = tmp_path / "data" / "open"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert session not in (path.name + path.read_text())
        assert token_of(link) not in path.name
    assert (folder / "link").read_text().startswith(f"{URL}/open?token=")
    links.withdraw()
    links.withdraw()
    with pytest.raises(FileNotFoundError):
        links.renew()


@given(st.text())
def test_f2_any_text_is_no_token_and_no_cookie(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    links = OneTimeLinks(tmp_path_factory.getbasetemp())
    for guess in (text, "../" + text, text[:1] * 43):
        assert links.use(guess) is None
        assert not links.has_session(guess)
        assert not links.has_session(f"{COOKIE}={guess}")


def test_f2_a_cookie_of_that_name_that_another_port_has_set_does_no_harm(tmp_path: Path) -> None:
    links = OneTimeLinks(tmp_path)
    session = links.use(token_of(links.make(URL)))
    for other in ("x", "x" * 43, f"x; {COOKIE}=y"):
        assert links.has_session(f"{COOKIE}={other}; {COOKIE}={session}")
        assert links.has_session(f"{COOKIE}={session}; {COOKIE}={other}")
    assert not links.has_session(f"x{COOKIE}={session}")
    assert not links.has_session(f"x={COOKIE}={session}")
    assert not links.has_session(f"{COOKIE}={session}x")


def llm_gateway(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin", "HOME": "/nonexistent", "GATEWAY_DATA_DIR": str(folder), **env}
    command = [sys.executable, "-m", "gateway", "open"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False)


def test_f2_the_command_prints_a_new_link_to_the_gateway_that_runs(tmp_path: Path) -> None:
    links = OneTimeLinks(tmp_path / "open")
    first = links.make(URL)
    done = llm_gateway(tmp_path)
    assert done.returncode == 0, done.stderr
    assert links.use(token_of(first)) is None
    assert links.use(token_of(done.stdout.strip())) is not None


def test_the_command_says_why_there_is_no_link(tmp_path: Path) -> None:
    for env, told in (({}, str(tmp_path)), ({"GATEWAY_AUTH": "keys"}, "GATEWAY_AUTH")):
        failed = llm_gateway(tmp_path, **env)
        assert (failed.returncode, failed.stdout) == (1, "")
        assert told in failed.stderr
        assert len(failed.stderr.splitlines()) == 1
