"""DATABASE_URL is read strictly, and asyncpg reads the same out of it; a fault shows nothing of the secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args  # type: ignore[attr-defined]
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st

from gateway.settings import SettingsError, load
from gateway.settings.database_url import IGNORED, MODES, read_url
from gateway.store.dsn import _NOTHING, connect_arguments, fault_of

if TYPE_CHECKING:
    from pathlib import Path

PIECE = "s3cr3tOfMine"
PG_VARIABLES = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGPASSFILE", "PGSERVICE")


@pytest.fixture(autouse=True)
def no_pg_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PG_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def as_asyncpg(text: str) -> tuple[list[Any], Any]:
    """Addresses and parameters that asyncpg would connect with."""
    addresses, parameters = _parse_connect_dsn_and_args(**{**_NOTHING, **connect_arguments(read_url(text))})
    return addresses, parameters


def the_fault(url: str) -> str:
    with pytest.raises(SettingsError) as caught:
        load({"DATABASE_URL": url})
    (fault,) = caught.value.faults
    assert fault.startswith("DATABASE_URL (store.url): the value is hidden here; ")
    assert fault.isprintable()
    assert len(fault) < 600
    return fault


def shows(fault: str, password: str) -> set[str]:
    """Which longer parts of the password stand in the fault."""
    return {part for part in re.split(r"[^A-Za-z0-9]+", password) if len(part) > 3 and part in fault}


# --- A6: what is not encoded ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["#", "/", "?", "%", "@", "%zz", "%00", "%ff", "??", "#@/", "?x=1&y", "/?", "@@"])
@pytest.mark.parametrize(
    "form", ["left{}rightPart", "{}rightPart", "leftPart{}", "1234{}leftPart", "5432{}leftPart=1&a"]
)
def test_a6_a_password_that_is_not_encoded_is_a_fault_that_shows_nothing_of_it(sign: str, form: str) -> None:
    password = form.format(sign)
    for host in ("db.example/logs", "db.example:5432/logs?sslmode=require", "/logs?host=/var/run/postgresql"):
        fault = the_fault(f"postgresql://me:{password}@{host}")
        assert not shows(fault, password)
        assert "%" in fault  # it says how such a sign is written


WORDS = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x24F, exclude_categories=["Zs"]), min_size=1, max_size=12
)


@checks(max_examples=400, deadline=None)
@given(WORDS, st.sampled_from(["h/d", "h:1234/d?sslmode=disable", "[::1]/d", "/d?host=/tmp"]))
def test_a6_a_password_is_read_as_it_is_or_refused_and_never_misread(password: str, rest: str) -> None:
    if re.search("%[0-9A-Fa-f]{2}", password):
        return  # nobody can tell that it was not encoded
    try:
        _, parameters = as_asyncpg(f"postgresql://me:{password}@{rest}")
    except ValueError as error:
        assert not shows(str(error), PIECE + password)
    else:
        assert (parameters.user, parameters.password, parameters.database) == ("me", password, "d")


HOSTS = st.lists(
    st.sampled_from([("db.example", "db.example"), ("10.0.0.1", "10.0.0.1"), ("[2001:db8::1]", "2001:db8::1")]),
    min_size=1,
    max_size=3,
)


@checks(max_examples=400, deadline=None)
@given(WORDS, WORDS, WORDS, HOSTS, st.sampled_from([None, 5432, 6543]), st.booleans())
def test_a6_what_is_encoded_reaches_asyncpg(
    user: str, password: str, name: str, hosts: list[tuple[str, str]], port: int | None, in_query: bool
) -> None:
    places = ",".join(written + (f":{port}" if port and not in_query else "") for written, _ in hosts)
    url = f"postgresql://{quote(user, safe='')}:{quote(password, safe='')}@"
    url += f"/{quote(name, safe='')}?host={places}" if in_query else f"{places}/{quote(name, safe='')}?"
    url += f"&port={port}" if port and in_query else ""
    addresses, parameters = as_asyncpg(url)
    assert addresses == [(host, port or 5432) for _, host in hosts]
    assert (parameters.user, parameters.password, parameters.database) == (user, password, name)


@checks(max_examples=400, deadline=None)
@given(st.text(max_size=40))
def test_a6_any_text_is_read_or_a_fault_in_our_words(text: str) -> None:
    for url in (text, f"postgresql://{text}", f"postgresql://u:{PIECE}{text}@h/d", f"postgresql://h/d?{text}"):
        try:
            load({"DATABASE_URL": url})
        except SettingsError as error:
            assert PIECE not in str(error)
        else:
            if url.strip():
                assert PIECE not in (fault_of(url.strip()) or "")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("postgresql://h:0/d", "port"),
        ("postgresql://h:65536/d", "port"),
        ("postgresql://h:x/d", "port"),
        ("postgresql://h:٣/d", "port"),
        ("postgresql://h1,h2:1:2/d", "host"),
        ("postgresql://h1,,h2/d", "host"),
        ("postgresql://h1,h2/d?host=h3", "twice"),
        ("postgresql://h:1/d?port=2", "twice"),
        ("postgresql://u@h/d?user=v", "twice"),
        ("postgresql://h/d?dbname=e", "twice"),
        ("postgresql://h/d?host=a&host=b", "twice"),
        ("postgresql:///d?host=a,b&port=1,2,3", "as many ports"),
        ("postgresql://[::1/d", "host"),
        ("postgresql://[nowhere]/d", "host"),
        ("postgresql://a b/d", "host"),
        ("postgresql://h/d/e", "encoded"),
        ("postgresql+asyncpg://h/d", "driver"),
    ],
)
def test_a_place_that_cannot_be_reached_is_a_fault(url: str, word: str) -> None:
    assert word in the_fault(url)


def test_an_empty_parameter_is_not_given() -> None:
    assert as_asyncpg("postgresql://h/d?host=&sslmode=&")[0] == [("h", 5432)]


def test_a_port_beside_the_host_is_heard() -> None:
    """asyncpg by itself does not hear it, and connects to 5432."""
    assert as_asyncpg("postgresql://h/d?port=6543")[0] == [("h", 6543)]


def test_what_is_not_in_the_url_comes_from_the_pg_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"PGHOST": "there", "PGPORT": "7", "PGUSER": "me", "PGPASSWORD": "p", "PGDATABASE": "d"}.items():
        monkeypatch.setenv(name, value)
    addresses, parameters = as_asyncpg("postgresql://")
    assert addresses == [("there", 7)]
    assert (parameters.user, parameters.password, parameters.database) == ("me", "p", "d")
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "pass"
    passfile.write_text("there:7:d:me:from-a-file\n")
    passfile.chmod(0o600)
    assert as_asyncpg(f"postgresql://?passfile={passfile}")[1].password == "from-a-file"
    passfile.chmod(0o644)
    assert "0600" in the_fault(f"postgresql://?passfile={passfile}")


@pytest.mark.parametrize(("name", "value"), [("PGPORT", "x"), ("PGSSLMODE", "sometimes"), ("PGHOST", "a,,b")])
def test_pg_variables_that_asyncpg_trips_over_are_faults_at_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    assert fault_of("postgresql://me:secret@/d")


# --- C2: libpq's parameters -------------------------------------------------------------------------------------------


def test_c2_the_url_that_clouds_hand_out_is_understood() -> None:
    url = "postgresql://me:p@ep-cool.eu.neon.example/logs?sslmode=require&channel_binding=require"
    addresses, parameters = as_asyncpg(url)
    assert addresses == [("ep-cool.eu.neon.example", 5432)]
    assert parameters.sslmode.name == "require"
    assert not parameters.server_settings
    assert read_url(url).ignored == ("channel_binding",)


@pytest.mark.parametrize("mode", MODES)
def test_c2_every_sslmode_is_understood(mode: str, tmp_path: Path) -> None:
    url = f"postgresql://h/d?sslmode={mode}" + ("&sslrootcert=system" if mode == "verify-full" else "")
    if mode == "verify-ca":
        assert "root certificate" in str(fault_of(url))  # asyncpg's own words for a file that is not there
    else:
        assert fault_of(url) is None


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("sslmode=required", "sslmode"),
        ("sslmode=REQUIRE", "sslmode"),
        ("channel_binding=require", "sslmode"),
        ("channel_binding=require&sslmode=prefer", "sslmode"),
        ("channel_binding=always", "channel_binding"),
        ("sslrootcert=/nowhere/root.crt", "'/nowhere/root.crt' cannot be read"),
        ("sslcert=/nowhere/c", "sslcert"),
        ("sslkey=/nowhere/k", "sslkey"),
        ("sslcrl=/nowhere/l", "sslcrl"),
        ("passfile=/nowhere/p", "passfile"),
        ("sslrootcert=system&sslmode=require", "verify-full"),
        ("sslrootcert=system&sslcrl=/dev/null", "sslcrl"),
        ("gssencmode=require", "gssencmode"),
        ("target_session_attrs=standby", "target_session_attrs"),
        ("target_session_attrs=read-only", "target_session_attrs"),
        ("ssl_min_protocol_version=SSLv3", "ssl_min_protocol_version"),
        ("sslnegotiation=sometimes", "sslnegotiation"),
        ("client_encoding=latin1", "client_encoding"),
        ("hostaddr=10.0.0.1", "hostaddr"),
        ("require_auth=scram-sha-256", "require_auth"),
        ("requirepeer=postgres", "requirepeer"),
        ("service=logs", "service"),
        ("pgbouncer=true", "'pgbouncer'"),
        ("statement_timeout=5", "options"),
        ("ssl=maybe", "ssl"),
        ("sslmode", "sslmode=require"),
        ("sslmode=require&sslmode=disable", "sslmode twice"),
    ],
)
def test_c2_what_is_not_understood_is_refused_by_name(query: str, word: str) -> None:
    assert word in the_fault(f"postgresql://me:{PIECE}@h/d?{query}")


def test_c2_a_part_of_a_password_is_not_named() -> None:
    assert PIECE.lower() not in the_fault(f"postgresql://h/d?user=me&password=a&{PIECE.lower().translate({51: 97})}=b")


def test_c2_what_is_ignored_never_reaches_the_server() -> None:
    value = {"channel_binding": "prefer", "client_encoding": "utf8", "gssencmode": "disable", "sslcertmode": "allow"}
    query = "&".join(f"{name}={value.get(name, '1')}" for name in IGNORED)
    url = f"postgresql://h/d?{query}"
    assert not as_asyncpg(url)[1].server_settings
    assert read_url(url).ignored == tuple(IGNORED)


def test_c2_what_asyncpg_understands_reaches_it(tmp_path: Path) -> None:
    _, parameters = as_asyncpg(
        "postgresql://h/d?sslmode=disable&target_session_attrs=read-write&krbsrvname=pg&application_name=my+app"
        "&options=-c%20search_path%3Da"
    )
    assert parameters.target_session_attrs == "read-write"
    assert parameters.krbsrvname == "pg"
    assert parameters.server_settings == {"application_name": "my+app", "options": "-c search_path=a"}


def test_c2_ssl_true_is_require() -> None:
    assert as_asyncpg("postgresql://h/d?ssl=true")[1].sslmode.name == "require"


def test_c2_a_certificate_file_that_is_none_is_a_fault_at_start(tmp_path: Path) -> None:
    path = tmp_path / "root.crt"
    path.write_text("not a certificate")
    fault = fault_of(f"postgresql://me:{PIECE}@h/d?sslmode=verify-full&sslrootcert={path}")
    assert fault is not None
    assert "TLS files" in fault
    assert PIECE not in fault
