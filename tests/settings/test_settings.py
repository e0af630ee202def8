"""Settings: what is read from where, what is refused and how, and that secrets stay hidden."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import settings as checks
from hypothesis import strategies as st

from gateway.settings import (
    JournalSettings,
    Secret,
    Settings,
    SettingsError,
    load,
)
from gateway.settings.loading import default_data_dir
from gateway.settings.table import markdown_table, report, settings_table

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "sk-very-secret-0123456789"
CHAPTER = Path(__file__).parents[2] / "deploy/docs/settings.md"


def faults(environ: Mapping[str, str], config: Path | None = None, **overrides: object) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(environ, config, {name.replace("__", "."): value for name, value in overrides.items()})
    return caught.value.faults


def the_fault(environ: Mapping[str, str], config: Path | None = None, **overrides: object) -> str:
    found = faults(environ, config, **overrides)
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "gateway.toml"


# --- where values come from ---


def test_with_nothing_set_it_serves_the_demo_on_loopback() -> None:
    settings = load({"HOME": "/home/ada"})
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)
    assert settings.is_demo
    assert settings.upstream_base is None
    assert settings.chat_url is None
    assert settings.image_url is None
    assert settings.authorization_header is None


def test_environment_stands_over_the_file_and_the_command_line_over_both(toml: Path) -> None:
    toml.write_text('data_dir = "/srv/gw"\n[server]\nport = 1\nworkers = 3\nheartbeat_s = 2\n')
    settings = load({"GATEWAY_PORT": "2", "GATEWAY_WORKERS": "4"}, toml, {"server.port": 3, "server.workers": None})
    assert (settings.server.port, settings.server.workers, settings.server.heartbeat_s) == (3, 4, 2.0)
    assert settings.data_dir == Path("/srv/gw")
    assert settings.journal_dir == Path("/srv/gw/journal")
    assert str(report(settings)[2]).split() == ["server.port", "GATEWAY_PORT", "3", "command", "line"]
    origins = {row.name: row.origin for row in report(settings)}
    assert origins["server.port"] == "command line"
    assert origins["server.workers"] == "environment GATEWAY_WORKERS"
    assert origins["server.heartbeat_s"] == f"file {toml}"
    assert origins["server.host"] == "default"


def test_the_environment_can_name_the_file(toml: Path) -> None:
    toml.write_text("[server]\nport = 4711\n")
    assert load({"GATEWAY_CONFIG": str(toml)}).server.port == 4711


def test_a_named_file_stands_over_the_one_in_the_environment(toml: Path) -> None:
    toml.write_text("[server]\nport = 4711\n")
    assert load({"GATEWAY_CONFIG": "/nowhere.toml"}, toml).server.port == 4711


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_environment_value_counts_as_unset(empty: str) -> None:
    settings = load({"GATEWAY_PORT": empty, "LLM_ENDPOINT": empty, "OPENAI_API_KEY": empty, "GATEWAY_CONFIG": ""})
    assert settings.server.port == 8000
    assert settings.is_demo


def test_both_spellings_of_the_proxy_are_known() -> None:
    assert load({"https_proxy": "proxy.corp:3128"}).upstream.proxy == "http://proxy.corp:3128"
    assert load({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}).upstream.proxy == "http://a:1"


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://api.openai.com/v1", "http://proxy:1"),
        ("http://api.openai.com/v1", None),
        ("https://llm.corp.example/v1", None),
        ("https://LLM.internal:8443/v1", None),
        ("https://notcorp.example/v1", "http://proxy:1"),
    ],
)
def test_the_proxy_is_for_https_and_for_hosts_that_are_not_excepted(url: str, proxy: str | None) -> None:
    settings = load({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "localhost, .corp.example,llm.internal,"})
    assert settings.proxy_for(url) == proxy


def test_no_host_uses_the_proxy_when_all_are_excepted() -> None:
    assert load({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}).proxy_for("https://a.example") is None


def test_data_lie_under_the_users_data_directory() -> None:
    assert default_data_dir({"HOME": "/home/ada"}, is_root=False) == Path("/home/ada/.local/share/llm-gateway")
    assert default_data_dir({"XDG_DATA_HOME": "/x"}, is_root=False) == Path("/x/llm-gateway")
    assert default_data_dir({"XDG_DATA_HOME": "x", "HOME": "/h"}, is_root=False) == Path("/h/.local/share/llm-gateway")
    assert default_data_dir({"XDG_DATA_HOME": "/x"}, is_root=True) == Path("/var/lib/llm-gateway")


def test_a_tilde_is_the_home_of_the_given_environment() -> None:
    settings = load({"HOME": "/home/ada", "GATEWAY_DATA_DIR": "~/gw", "GATEWAY_JOURNAL_DIR": "j"})
    assert settings.data_dir == Path("/home/ada/gw")
    assert settings.journal_dir == Path.cwd() / "j"


# --- forms of values ---


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ("64MiB", 64 << 20),
        ("1GiB", 1 << 30),
        ("10MB", 10_000_000),
        ("1.5 KiB", 1536),
        ("4096", 4096),
        ("4096b", 4096),
        ("2kb", 2000),
        ("1k", None),
        ("KiB", None),
        ("-1", None),
        ("1 YiB", None),
        ("1e6", None),
        ("0", None),
        ("2GiB", None),
    ],
)
def test_sizes_are_bytes_or_have_a_unit(given: str, size: int | None) -> None:
    environ = {"GATEWAY_MAX_BODY_BYTES": given}
    if size is None:
        assert the_fault(environ).startswith(f"GATEWAY_MAX_BODY_BYTES (server.max_body_bytes): {given!r} is not a size")
    else:
        assert load(environ).server.max_body_bytes == size


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "True", " ON "])
def test_words_for_true(word: str) -> None:
    assert load({"GATEWAY_PASS_CREDENTIALS": word}).upstream.pass_credentials is True


@pytest.mark.parametrize("word", ["false", "0", "no", "off", "False"])
def test_words_for_false(word: str) -> None:
    assert load({"GATEWAY_ASK_USAGE": word}).upstream.ask_usage is False


@pytest.mark.parametrize("given", ["nan", "inf", "-inf", "0", "-1", "1e400", "1e20", "ten", "1,5", "٣", "0x10", "1_0"])
def test_seconds_are_finite_and_above_zero(given: str) -> None:
    assert the_fault({"GATEWAY_HEARTBEAT_S": given}) == (
        f"GATEWAY_HEARTBEAT_S (server.heartbeat_s): {given!r} is not a number of seconds above 0"
    )


@pytest.mark.parametrize(("given", "seconds"), [("0.25", 0.25), (".5", 0.5), ("1e2", 100.0), ("3", 3.0)])
def test_seconds_may_be_fractions(given: str, seconds: float) -> None:
    assert load({"GATEWAY_HEARTBEAT_S": given}).server.heartbeat_s == seconds


@pytest.mark.parametrize("given", ["-1", "65536", "80a", "8000.0", "1e3", "²", "9" * 5000])
def test_ports_are_whole_numbers_in_range(given: str) -> None:
    fault = the_fault({"GATEWAY_PORT": given})
    assert fault.startswith("GATEWAY_PORT (server.port): ")
    assert fault.endswith("is not a whole number from 0 to 65535")
    assert len(fault) < 250


@pytest.mark.parametrize(
    "line", ["port = true", "port = 1.0", "port = [1]", "port = {a = 1}", "port = 2020-01-01", "heartbeat_s = nan"]
)
def test_a_wrong_toml_type_is_a_fault(toml: Path, line: str) -> None:
    toml.write_text(f"[server]\n{line}\n")
    fault = faults({}, toml)[0]
    assert re.match(r"GATEWAY_(PORT|HEARTBEAT_S) \(server\.|'server\.port", fault), fault


def test_words_are_chosen_from_a_list() -> None:
    assert load({"GATEWAY_JOURNAL_SYNC": "Interval"}).journal.sync == "interval"
    assert the_fault({"GATEWAY_JOURNAL_SYNC": "fsync"}) == (
        "GATEWAY_JOURNAL_SYNC (journal.sync): 'fsync' is not one of group, interval, none"
    )


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/v1",
        "host/v1",
        "http://",
        "http:///v1",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://[::1/v1",
        "http://ho st/v1",
        "http://ho\\st/v1",
        "http://host/v1?key=1",
        "http://host/v1#x",
        "http://user:hunter2@host/v1",
        "http://user:/hunter2@host/v1",
        "http://hößt/v1",
        "http://host/v1\x00",
        "http://host/\udcff",
        "http://host/v1/chat/completions",
    ],
)
def test_a_wrong_base_url_is_a_fault_that_shows_no_credential(url: str) -> None:
    fault = the_fault({"OPENAI_BASE_URL": url})
    assert fault.startswith("OPENAI_BASE_URL (upstream.base_url): ")
    assert "hunter2" not in fault
    assert fault.isprintable()


@pytest.mark.parametrize("media_type", ["json", "application/json\r\nx: y", "application/\udcff", "a b/c"])
def test_a_content_type_that_would_break_the_header_is_a_fault(media_type: str) -> None:
    assert the_fault({"LLM_API_CONTENT_TYPE": media_type}).startswith("LLM_API_CONTENT_TYPE (upstream.content_type): ")


def test_a_content_type_may_have_parameters() -> None:
    settings = load({"LLM_API_CONTENT_TYPE": "application/json; charset=utf-8"})
    assert settings.upstream.content_type == "application/json; charset=utf-8"


# --- the model's side ---


def test_a_key_alone_means_openai() -> None:
    settings = load({"OPENAI_API_KEY": KEY})
    assert settings.upstream_base == "https://api.openai.com/v1"
    assert settings.chat_url == "https://api.openai.com/v1/chat/completions"
    assert settings.image_url == "https://api.openai.com/v1/images/generations"
    assert settings.authorization_header == f"Bearer {KEY}"


def test_the_seeds_endpoint_gives_the_base_of_its_siblings() -> None:
    settings = load({"LLM_ENDPOINT": "https://llm.corp/v1/chat/completions", "LLM_API_AUTHORIZATION": "Basic abc"})
    assert settings.upstream_base == "https://llm.corp/v1"
    assert settings.chat_url == "https://llm.corp/v1/chat/completions"
    assert settings.authorization_header == "Basic abc"


def test_an_endpoint_keeps_its_query_and_its_own_last_word() -> None:
    azure = "https://x.azure.example/openai/deployments/d/chat/completions?api-version=1"
    assert load({"LLM_ENDPOINT": azure}).chat_url == azure
    assert load({"LLM_ENDPOINT": azure}).upstream_base == "https://x.azure.example/openai/deployments/d"
    own = load({"LLM_ENDPOINT": "https://llm.corp/talk/generate"})
    assert (own.chat_url, own.upstream_base) == ("https://llm.corp/talk/generate", "https://llm.corp/talk")


def test_a_base_url_needs_no_slash_at_its_end() -> None:
    assert load({"OPENAI_BASE_URL": "http://[::1]:8080/v1/"}).upstream_base == "http://[::1]:8080/v1"


def test_images_may_have_an_endpoint_of_their_own() -> None:
    settings = load({"LLM_IMG_ENDPOINT": "https://img.corp/make", "OPENAI_API_KEY": KEY})
    assert settings.image_url == "https://img.corp/make"


def test_the_whole_authorization_stands_over_the_key() -> None:
    environ = {"OPENAI_API_KEY": KEY, "LLM_API_AUTHORIZATION": "Bearer other"}
    assert load({**environ, "OPENAI_BASE_URL": "http://h/v1"}).authorization_header == "Bearer other"


def test_endpoint_and_base_url_may_agree() -> None:
    environ = {"LLM_ENDPOINT": "http://h/v1/chat/completions", "OPENAI_BASE_URL": "http://h/v1/"}
    assert load(environ).upstream_base == "http://h/v1"


def test_endpoint_and_base_url_that_disagree_are_a_fault() -> None:
    fault = the_fault({"LLM_ENDPOINT": "http://h/v1/chat/completions", "OPENAI_BASE_URL": "http://other/v1"})
    assert "LLM_ENDPOINT (upstream.endpoint) and OPENAI_BASE_URL (upstream.base_url)" in fault


def test_a_credential_with_nowhere_to_go_is_a_fault() -> None:
    fault = the_fault({"LLM_API_AUTHORIZATION": f"Bearer {KEY}"})
    assert fault.startswith("LLM_API_AUTHORIZATION (upstream.authorization): ")
    assert KEY not in fault


# --- cross checks, and the seed's variables ---


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "gateway.corp", "[::]"])
def test_an_open_listener_must_be_wanted(host: str) -> None:
    assert "GATEWAY_ALLOW_OPEN=true" in the_fault({"GATEWAY_HOST": host})
    assert load({"GATEWAY_HOST": host, "GATEWAY_ALLOW_OPEN": "1"}).server.host == host.strip("[]")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    assert load({"GATEWAY_HOST": host}).server.host == host


@pytest.mark.parametrize("mode", ["keys", "KEYS", "keys,keys"])
def test_any_address_may_be_listened_on_when_callers_log_in(mode: str) -> None:
    assert load({"GATEWAY_HOST": "0.0.0.0", "GATEWAY_AUTH": mode}).auth.modes == ("keys",)


def test_being_open_beside_other_modes_is_still_open() -> None:
    environ = {"GATEWAY_HOST": "0.0.0.0", "GATEWAY_AUTH": "keys, open"}
    assert "GATEWAY_ALLOW_OPEN=true" in the_fault(environ)
    assert load({**environ, "GATEWAY_ALLOW_OPEN": "1"}).auth.is_open


# --- who may ask ---

ISSUER = {"GATEWAY_AUTH_ISSUER": "https://login.corp/", "GATEWAY_AUTH_AUDIENCE": "gateway"}
PROXIES = {"GATEWAY_AUTH_TRUSTED_NETWORKS": "10.0.0.0/8, 192.168.1.7,fd00::/8"}


def test_modes_and_networks_are_lists_in_both_places(toml: Path) -> None:
    toml.write_text('[auth]\nmodes = ["jwt", "header"]\naudience = ["a", "b"]\nadmin_groups = "LLM admins, ops"\n')
    auth = load({**PROXIES, "GATEWAY_AUTH_ISSUER": "https://login.corp/"}, toml).auth
    assert (auth.modes, auth.audience, auth.admin_groups) == (("jwt", "header"), ("a", "b"), ("LLM admins", "ops"))
    assert [str(network) for network in auth.trusted_networks] == ["10.0.0.0/8", "192.168.1.7/32", "fd00::/8"]


def test_the_issuer_is_kept_to_the_letter() -> None:
    assert load({**ISSUER, "GATEWAY_AUTH": "jwt"}).auth.issuer == "https://login.corp/"


@pytest.mark.parametrize("given", ["", "key", "keys;jwt", "none", ",", "open keys"])
def test_a_mode_that_does_not_exist_is_a_fault(given: str) -> None:
    if given:
        assert the_fault({"GATEWAY_AUTH": given}).startswith("GATEWAY_AUTH (auth.modes): ")
    else:
        assert load({"GATEWAY_AUTH": given}).auth.modes == ("open",)


@pytest.mark.parametrize("given", ["0.0.0.0/0", "::/0", "10.0.0.1/8", "proxy.corp", "10.0.0.0/33", "10.0.0.0/8;x"])
def test_a_network_that_cannot_be_meant_is_a_fault(given: str) -> None:
    environ = {"GATEWAY_AUTH": "header", "GATEWAY_AUTH_TRUSTED_NETWORKS": given}
    assert the_fault(environ).startswith("GATEWAY_AUTH_TRUSTED_NETWORKS (auth.trusted_networks): ")


@pytest.mark.parametrize("given", ["none", "HS256", "RS256,HS256", "RS1"])
def test_only_signatures_by_the_issuers_own_key_can_be_allowed(given: str) -> None:
    environ = {**ISSUER, "GATEWAY_AUTH": "jwt", "GATEWAY_AUTH_ALGORITHMS": given}
    assert the_fault(environ).startswith("GATEWAY_AUTH_ALGORITHMS (auth.algorithms): ")


@pytest.mark.parametrize("given", ["X User", "x:y", "Authorization", "api-key", "X-Forwarded-For", "\udcff", "é"])
def test_a_header_that_cannot_name_the_user_is_a_fault(given: str) -> None:
    environ = {**PROXIES, "GATEWAY_AUTH": "header", "GATEWAY_AUTH_USER_HEADER": given}
    assert the_fault(environ).startswith("GATEWAY_AUTH_USER_HEADER (auth.user_header): ")


def test_a_mode_without_what_it_needs_is_a_fault() -> None:
    found = faults({"GATEWAY_AUTH": "jwt,header"})
    assert [fault.partition(" ")[0] for fault in found] == [
        "GATEWAY_AUTH_ISSUER",
        "GATEWAY_AUTH_AUDIENCE",
        "GATEWAY_AUTH_TRUSTED_NETWORKS",
    ]


def test_what_is_set_for_a_mode_that_is_off_is_a_fault() -> None:
    assert len(faults({**ISSUER, **PROXIES, "GATEWAY_AUTH": "keys"})) == 3


@pytest.mark.parametrize(
    ("issuer", "jwks", "is_right"),
    [
        ("http://login.corp", None, False),
        ("http://127.0.0.1:9", None, True),
        ("http://login.corp", "https://login.corp/jwks", True),
        ("https://login.corp", "http://login.corp/jwks", False),
        ("https://login.corp", "http://localhost/jwks", True),
    ],
)
def test_an_issuers_keys_come_by_https(issuer: str, jwks: str | None, is_right: bool) -> None:
    environ = {"GATEWAY_AUTH": "jwt", "GATEWAY_AUTH_AUDIENCE": "x", "GATEWAY_AUTH_ISSUER": issuer}
    environ |= {"GATEWAY_AUTH_JWKS_URL": jwks} if jwks else {}
    if is_right:
        assert load(environ).auth.issuer == issuer
    else:
        assert "is not https" in the_fault(environ)


def test_the_journal_must_hold_several_segments() -> None:
    fault = the_fault({"GATEWAY_JOURNAL_MAX_BYTES": "64MiB"})
    assert fault == (
        "GATEWAY_JOURNAL_MAX_BYTES (journal.max_bytes): 64MiB is less than four times "
        "GATEWAY_JOURNAL_SEGMENT_BYTES (journal.segment_bytes), which is 32MiB"
    )


def test_the_pool_must_not_be_smaller_than_its_least() -> None:
    assert "store.pool_min" in the_fault({"GATEWAY_POOL_MIN": "9"})


@pytest.mark.parametrize("given", ["OPEN_AI", "open_ai", "OpenAI", "OPEN_AI,", " OPEN_AI | OPEN_AI "])
def test_the_seeds_type_may_name_what_is_served(given: str) -> None:
    load({"LLM_TYPE": given, "ENABLE_SUBMISSIONS_API": "false", "AWS_REGION": "x", "LLM_GATEWAY_URL": "http://h"})


@pytest.mark.parametrize("given", ["SAGEMAKER", "OPEN_AI,BEDROCK", "OPEN_AI BEDROCK", "OPEN_AI;nonsense", "[BEDROCK]"])
def test_a_type_that_is_not_served_yet_is_a_fault(given: str) -> None:
    assert the_fault({"LLM_TYPE": given}).startswith("LLM_TYPE ")


def test_submissions_need_to_know_where_to() -> None:
    assert the_fault({"ENABLE_SUBMISSIONS_API": "true"}).startswith("SUBMISSIONS_API_URL (submissions.url): not set, ")
    assert the_fault({"ENABLE_SUBMISSIONS_API": "perhaps"}).startswith("ENABLE_SUBMISSIONS_API (submissions.enabled)")
    assert not load({"SUBMISSIONS_API_URL": "http://monitor/x"}).submissions.enabled
    wanted = load({"ENABLE_SUBMISSIONS_API": "true", "SUBMISSIONS_API_URL": "http://monitor/x?key=secret"})
    assert wanted.submissions.url == "http://monitor/x?key=secret"
    assert "secret" not in repr(wanted)
    assert not any("secret" in str(line) for line in report(wanted))


# --- all faults at once, with names ---


def test_all_faults_are_told_at_once(toml: Path) -> None:
    toml.write_text('[server]\nworkerz = 1\nmax_depth = "deep"\n[sever]\nport = 1\n')
    environ = {"GATEWAY_PORT": "http", "GATEWAY_POOL_MAXX": "1", "OPENAI_BASE_URL": "nope", "OPENAI_API_KEY": "a\nb"}
    found = faults(environ, toml, server__heartbeats=1)
    assert len(found) == 8, found
    for name in ("workerz", "max_depth", "sever.port", "GATEWAY_PORT", "GATEWAY_POOL_MAXX", "OPENAI_BASE_URL"):
        assert any(name in fault for fault in found)
    assert str(SettingsError(found)) == "\n".join(found)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("GATEWAY_HOSTS", "GATEWAY_HOST"),
        ("GATEWAY_JOURNAL_DIRECTORY", "GATEWAY_JOURNAL_DIR"),
        ("GATEWAY_DB_CONNECT", "GATEWAY_DB_CONNECT_S"),
    ],
)
def test_an_unknown_environment_name_gets_a_suggestion(given: str, meant: str) -> None:
    assert the_fault({given: KEY}) == f"{given!r} in the environment is not a setting; did you mean {meant!r}?"


def test_an_unknown_toml_name_gets_a_suggestion_and_its_value_is_not_shown(toml: Path) -> None:
    toml.write_text(f'[upstream]\napi_keey = "{KEY}"\n')
    fault = the_fault({}, toml)
    assert fault == f"'upstream.api_keey' in {toml} is not a setting; did you mean 'upstream.api_key'?"


def test_a_toml_name_in_the_wrong_table_gets_a_suggestion(toml: Path) -> None:
    toml.write_text("port = 1\n")
    assert the_fault({}, toml).endswith("did you mean 'server.port'?")


@pytest.mark.parametrize(
    "text", ["= 1", "a = ", '"', "[a]\n[a]\n", "a = " + "[" * 9999, "\xff", "x = " + "9" * 5000, "server = 3"]
)
def test_a_file_that_is_not_as_it_should_be_is_a_fault(toml: Path, text: str) -> None:
    toml.write_bytes(text.encode("latin-1"))
    assert str(toml) in the_fault({}, toml)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    assert "GATEWAY_CONFIG" in the_fault({"GATEWAY_CONFIG": str(tmp_path / "none.toml")})
    assert "GATEWAY_CONFIG" in the_fault({"GATEWAY_CONFIG": str(tmp_path)})


def test_variables_that_kubernetes_makes_for_a_service_are_not_taken_for_settings() -> None:
    settings = load(
        {
            "GATEWAY_SERVICE_HOST": "10.0.0.1",
            "GATEWAY_SERVICE_PORT_HTTP": "80",
            "GATEWAY_PORT": "tcp://10.0.0.1:80",
            "GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1",
            "GATEWAY_DB_PORT": "tcp://10.0.0.2:5432",
        }
    )
    assert settings.server.port == 8000


# --- secrets ---


def test_a_secret_is_never_shown() -> None:
    secret = Secret(KEY)
    assert secret.reveal() == KEY
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, ascii([secret])):  # noqa: UP031
        assert KEY not in text
    assert secret == Secret(KEY)
    assert secret != Secret("other")
    assert secret != KEY
    assert len({secret, Secret(KEY)}) == 1


def test_settings_with_secrets_can_be_printed() -> None:
    settings = load(
        {
            "OPENAI_API_KEY": KEY,
            "LLM_API_AUTHORIZATION": f"Bearer {KEY}",
            "DATABASE_URL": f"postgresql://u:{KEY}@h/db",
            "HTTPS_PROXY": f"http://u:{KEY}@proxy:3128",
            "LLM_ENDPOINT": f"https://h/v1/chat/completions?api-key={KEY}",
        }
    )
    shown = f"{settings!r}{settings}{report(settings)}{dataclasses.asdict(settings.store)}"
    assert KEY not in shown
    assert settings.upstream.proxy == f"http://u:{KEY}@proxy:3128"
    values = {row.name: row.value for row in report(settings)}
    assert values["upstream.api_key"] == "(hidden)"
    assert values["store.url"] == "(hidden)"
    assert values["upstream.proxy"] == "http://***@proxy:3128"
    assert values["upstream.endpoint"] == "https://h/v1/chat/completions?api-key=***"


def test_a_secret_may_lie_in_a_file(tmp_path: Path, toml: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\r\n")
    (tmp_path / "dsn").write_text("postgres://u@h/db\n")
    toml.write_text(f'[store]\nurl = "file:{tmp_path}/dsn"\n')
    settings = load({"OPENAI_API_KEY": f"file:{tmp_path}/key"}, toml)
    assert settings.authorization_header == f"Bearer {KEY}"
    assert settings.store.url == Secret("postgres://u@h/db")


def test_a_secret_may_lie_in_another_variable(toml: Path) -> None:
    toml.write_text('[upstream]\napi_key = "env:CORP_KEY"\n')
    assert load({"CORP_KEY": KEY}, toml).upstream.api_key == Secret(KEY)
    assert "'CORP_KEY'" in the_fault({}, toml)


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb", b"\x00", b"\xff\xfe", b" key ", b"k" * 70_000])
def test_a_file_that_holds_no_usable_secret_is_a_fault(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    fault = the_fault({"OPENAI_API_KEY": f"file:{tmp_path}/key"})
    assert fault.startswith("OPENAI_API_KEY (upstream.api_key): ")
    assert len(fault) < 400


@pytest.mark.parametrize("path", ["none", ".", "none/none", "x" * 5000, "nu\x00l"])
def test_a_secret_file_that_cannot_be_read_is_a_fault(tmp_path: Path, path: str) -> None:
    fault = the_fault({"OPENAI_API_KEY": f"file:{tmp_path}/{path}"})
    assert fault.startswith("OPENAI_API_KEY (upstream.api_key): ")


@pytest.mark.parametrize("tail", ["\n", "\r\nx-evil: 1", "\x00", "\x7f", "é", "\udcff", " "])
def test_a_header_secret_with_odd_characters_is_a_fault_and_is_not_shown(tail: str) -> None:
    fault = the_fault({"LLM_API_AUTHORIZATION": f"Bearer {KEY}{tail}", "OPENAI_BASE_URL": "http://h/v1"})
    assert fault.startswith("LLM_API_AUTHORIZATION (upstream.authorization): ")
    assert KEY not in fault


@pytest.mark.parametrize(
    "url",
    [f"mysql://u:{KEY}@h/d", f"postgresql+asyncpg://u:{KEY}@h/d", KEY, f"postgresql://u:{KEY}@[h/d", f"a{KEY}\n://"],
)
def test_a_wrong_database_url_is_a_fault_and_is_not_shown(url: str) -> None:
    fault = the_fault({"DATABASE_URL": url})
    assert fault.startswith("DATABASE_URL (store.url): ")
    assert KEY not in fault


def test_a_key_pasted_into_the_wrong_setting_is_not_shown() -> None:
    for name in ("LLM_ENDPOINT", "GATEWAY_PORT", "OPENAI_BASE_URL", "LLM_API_CONTENT_TYPE"):
        assert KEY not in the_fault({name: KEY})
        assert KEY not in the_fault({name: f"http://user:{KEY}/@h"})


def test_a_secret_of_the_wrong_toml_type_is_not_shown(toml: Path) -> None:
    toml.write_text("[upstream]\napi_key = 123456789\n")
    assert "123456789" not in the_fault({}, toml)
    toml.write_text(f'[upstream]\napi_key = {{ value = "{KEY}" }}\n')
    assert KEY not in the_fault({}, toml)


# --- the table ---


def test_every_default_is_what_its_own_form_gives() -> None:
    for setting in settings_table():
        if setting.default is not None and setting.default is not dataclasses.MISSING:
            read = setting.reader.read(setting.default, {})
            assert (read, type(read)) == (setting.default, type(setting.default)), setting.name
            assert setting.reader.read(setting.reader.show(read), {}) == read, setting.name


def test_names_are_unique_and_described() -> None:
    rows = list(settings_table())
    assert len({row.name for row in rows}) == len(rows)
    assert len({name for row in rows for name in row.env}) == sum(len(row.env) for row in rows)
    assert all(row.description.endswith(".") and "\n" not in row.description for row in rows)


def test_every_field_of_the_settings_is_in_the_table() -> None:
    names = {row.name for row in settings_table()}
    settings = Settings(data_dir=Path("/x"))
    for group in dataclasses.fields(settings):
        value = getattr(settings, group.name)
        if dataclasses.is_dataclass(value):
            assert {f"{group.name}.{each.name}" for each in dataclasses.fields(value)} <= names
    assert "data_dir" in names


def test_the_chapter_lists_every_setting_as_it_is() -> None:
    assert f"\n{markdown_table()}\n" in CHAPTER.read_text("utf-8")


def test_the_chapter_names_every_secret() -> None:
    (named,) = re.findall(r"^- \*\*Secrets\*\* \((.*?)\)", CHAPTER.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"\w+", named)) == {row.env[0] for row in settings_table() if row.reader.is_secret}


def test_groups_can_be_made_by_hand() -> None:
    settings = Settings(data_dir=Path("/x"), journal=JournalSettings(directory=Path("/j"), segment_bytes=4096))
    assert settings.journal_dir == Path("/j")
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.data_dir = Path("/y")  # type: ignore[misc]


# --- hostile text ---

NAMES = [name for row in settings_table() for name in row.env] + [
    "LLM_TYPE",
    "ENABLE_SUBMISSIONS_API",
    "GATEWAY_X",
    "HOME",
]
HOSTILE = st.one_of(
    st.text(st.characters(codec=None)),
    st.sampled_from(["file:/dev/null", "env:", "file:", "http://[", "http://a@b@c", "~", "~x", "1e999", "٣", "://"]),
    st.from_regex(r"https?://[\[\]@:/?#a-z0-9%\x00\udc80]{0,20}"),
)


@checks(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), HOSTILE, max_size=8))
def test_hostile_environment_is_settings_or_faults_never_a_crash(environ: dict[str, str]) -> None:
    try:
        settings = load(environ)
    except SettingsError as error:
        assert error.faults
        assert all(fault.isprintable() and len(fault) < 1000 for fault in error.faults)
    else:
        assert report(settings)


@checks(max_examples=300, deadline=None)
@given(st.sampled_from([row.env[0] for row in settings_table() if row.reader.is_secret]), HOSTILE)
def test_no_part_of_a_hostile_secret_is_shown(name: str, value: str) -> None:
    secret = f"{KEY}{value}"
    try:
        shown = repr(load({name: secret, "OPENAI_BASE_URL": "http://h/v1"}))
    except SettingsError as error:
        shown = str(error)
    assert KEY not in shown


@checks(max_examples=200, deadline=None)
@given(st.text(), st.text(), HOSTILE.filter(lambda text: text.isprintable()))
def test_hostile_toml_is_settings_or_faults_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, group: str, key: str, value: str
) -> None:
    path = tmp_path_factory.mktemp("toml") / "c.toml"
    quoted = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"' for text in (group, key, value)]
    path.write_text(f"[{quoted[0]}]\n{quoted[1]} = {quoted[2]}\n", "utf-8", "surrogateescape")
    with pytest.raises(SettingsError) as caught:
        load({}, path)
    assert all(fault.isprintable() for fault in caught.value.faults)


@pytest.mark.parametrize("given", ["x-*", "*", "x-corp-*-team", "two words", "authorization", "Cookie", "Host", "x:y"])
def test_a5_a_header_that_must_stay_here_cannot_be_set_to_travel(given: str) -> None:
    assert the_fault({"GATEWAY_PASS_HEADERS": f"x-corp-team, {given}"}).startswith("GATEWAY_PASS_HEADERS")


def test_a5_headers_that_travel_besides_are_names_and_beginnings_of_names() -> None:
    assert load({"GATEWAY_PASS_HEADERS": "X-Corp-*, x_team"}).upstream.pass_headers == ("x-corp-*", "x_team")
