"""The ring on disk: closed to others, whole or not at all, and of one database only."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from gateway.identity.key_cache import KeyCache, new_secret
from gateway.identity.key_cache_file import KeyCacheFile, KeyCacheFileError
from gateway.model import Principal
from tests.identity.test_key_cache import key_of

if TYPE_CHECKING:
    from pathlib import Path


def test_what_was_written_is_known_again(tmp_path: Path) -> None:
    secret = new_secret()
    holder = Principal(
        user="ada é", title="Analyst", roles=frozenset(("user", "admin")), allowed_models=frozenset(("b", "a"))
    )
    key = key_of(secret, holder=holder, expires_at=4e9)
    KeyCacheFile(tmp_path / "keys.json", "db").write([key, key_of(new_secret())])
    read = KeyCacheFile(tmp_path / "keys.json", "db").read()
    assert len(read) == 2
    key_cache = KeyCache()
    key_cache.replace(read)
    principal = key_cache.principal(secret.encode())
    assert (principal.user, principal.title, principal.key_id) == ("ada é", "Analyst", str(key.id))
    assert principal.roles == frozenset(("user", "admin"))
    assert principal.allowed_models == frozenset(("a", "b"))
    assert read[0].expires_at == 4e9


def test_the_file_holds_digests_and_is_for_us_alone(tmp_path: Path) -> None:
    path, secret = tmp_path / "new" / "keys.json", new_secret()
    before = os.umask(0)
    try:
        KeyCacheFile(path, "db").write([key_of(secret)])
        KeyCacheFile(path, "db").write([key_of(secret)])
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret not in path.read_text()
    assert secret[6:] not in path.read_text()
    assert [each.name for each in path.parent.iterdir()] == ["keys.json"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o777])
def test_a_file_that_others_may_touch_is_not_believed(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "keys.json"
    KeyCacheFile(path, "db").write([])
    path.chmod(mode)
    with pytest.raises(KeyCacheFileError, match="not private to this account"):
        KeyCacheFile(path, "db").read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_somebody_else_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyCacheFile(path, "db").write([])
    os.chown(path, 65534, 65534)
    with pytest.raises(KeyCacheFileError, match="not private to this account"):
        KeyCacheFile(path, "db").read()


def test_links_pipes_and_folders_are_not_believed(tmp_path: Path) -> None:
    KeyCacheFile(tmp_path / "real", "db").write([])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", ".", "none", "real/x"):
        with pytest.raises(KeyCacheFileError):
            KeyCacheFile(tmp_path / name, "db").read()


def test_keys_of_another_database_are_not_taken(tmp_path: Path) -> None:
    KeyCacheFile(tmp_path / "keys.json", "db").write([key_of(new_secret())])
    with pytest.raises(KeyCacheFileError, match="another database"):
        KeyCacheFile(tmp_path / "keys.json", "db2").read()


def test_a_file_cut_at_any_place_is_damaged_and_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyCacheFile(path, "db").write([key_of(new_secret())])
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(KeyCacheFileError):
            KeyCacheFile(path, "db").read()


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"null",
        b'{"version":2,"place":"db","keys":[]}',
        b'{"version":1,"place":"db","keys":[1]}',
        b'{"version":1,"place":"db","keys":[{"id":1}]}',
        b'{"version":1,"place":"db","keys":3}',
        b"\xff",
    ],
)
def test_a_file_of_another_form_is_no_crash(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "keys.json"
    path.touch(0o600)
    path.write_bytes(text)
    with pytest.raises(KeyCacheFileError):
        KeyCacheFile(path, "db").read()


def test_a_disk_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    KeyCacheFile(path, "db").write([key_of(new_secret())])
    (tmp_path / f"keys.json.{os.getpid()}").mkdir()  # where the new one would be made
    with pytest.raises(OSError, match="directory"):
        KeyCacheFile(path, "db").write([])
    assert len(KeyCacheFile(path, "db").read()) == 1
