"""The listening socket: what cannot be bound is a sentence, and a port in TIME_WAIT is free."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gateway.errors import ServiceError
from gateway.process.listener import accept_queued, bind_listener, reserve_port
from gateway.settings import ServerSettings
from tests.gateway_process import ROOT, free_port

if TYPE_CHECKING:
    from pathlib import Path

BINDS = [pytest.param(bind_listener, id="single"), pytest.param(reserve_port, id="workers")]


def at(port: int, host: str = "127.0.0.1") -> ServerSettings:
    return ServerSettings(host=host, port=port)


@pytest.mark.parametrize("bind", BINDS)
@pytest.mark.parametrize("is_shared", [False, True])
def test_e13_a_busy_port_is_a_sentence_also_where_its_listener_would_share_it(bind: object, is_shared: bool) -> None:
    assert callable(bind)
    with bind_listener(at(0), reuse_port=is_shared) as other:
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already.*--port"):
            bind(at(port))


@pytest.mark.parametrize("bind", BINDS)
def test_e13_a_port_in_time_wait_is_free(bind: object) -> None:
    assert callable(bind)
    with bind_listener(at(0)) as listening:
        listening.listen()
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            ours, _ = listening.accept()
            ours.close()  # who closes first is the one that waits
            client.recv(1)
    with pytest.raises(OSError, match="Address already in use"), socket.socket() as plain:
        plain.bind(("127.0.0.1", port))
    bind(at(port)).close()


@pytest.mark.parametrize("bind", BINDS)
@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("no-such-host.invalid", "GATEWAY_HOST or --host"),
        ("192.0.2.1", "Cannot assign requested address.*--host"),
        ("2001:db8::1", "(Cannot assign|Address family|Network is unreachable).*--host"),
    ],
)
def test_e13_a_host_that_is_not_ours_is_a_sentence(bind: object, host: str, reason: str) -> None:
    assert callable(bind)
    with pytest.raises(ServiceError, match=f"cannot listen on {host}:8000: .*{reason}"):
        bind(at(8000, host))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind any port")
@pytest.mark.parametrize("bind", BINDS)
def test_e13_a_privileged_port_is_a_sentence(bind: object) -> None:
    assert callable(bind)
    with pytest.raises(ServiceError, match=r"Permission denied.*below 1024"):
        bind(at(1))


@pytest.mark.parametrize("bind", BINDS)
@pytest.mark.parametrize("host", ["::1", "::", "localhost", "0.0.0.0", "127.0.0.1"])
def test_e13_every_form_of_an_address_of_ours_is_bound(bind: object, host: str) -> None:
    assert callable(bind)
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with closing(bind(at(free_port(), host))) as held:
        port = held.getsockname()[1]
        with bind_listener(at(port, host), reuse_port=True) if bind is reserve_port else closing(held) as listening:
            listening.listen()
            socket.create_connection(("::1" if host == "::1" else "127.0.0.1", port)).close()  # also over IPv4 for "::"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_e13_a_busy_port_ends_the_command_with_a_sentence_and_no_traceback(tmp_path: Path, workers: str) -> None:
    with bind_listener(at(0)) as other:
        other.listen()
        port = str(other.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "gateway", "serve", "--port", port, "--workers", workers],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GATEWAY_DATA_DIR": str(tmp_path / "data")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert f"llm-gateway: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_e10_what_waits_to_be_accepted_is_not_reset_when_the_listener_closes() -> None:
    listening = bind_listener(at(0))
    listening.listen()
    address = listening.getsockname()
    clients = [socket.create_connection(address) for _ in range(5)]
    accepted = accept_queued(listening)
    try:
        assert len(accepted) == 5
        accepted[0].send(b"x")
        assert clients[0].recv(1) == b"x"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
    finally:
        for each in (*clients, *accepted):
            each.close()
