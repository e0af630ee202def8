"""Starts the gateway by the given shell command as a newcomer would, asks it one question, and stops it.

`python3 .ci/first_run.py "python3 -m venv … && … llm-gateway"`. Its data and port are its own: it meets nothing else.
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

START_WITHIN_S = 600  # most of it is pip


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def ask(port: int) -> str:
    """One streamed answer, whole."""
    body = {"model": "demo", "stream": True, "messages": [{"role": "user", "content": "Hello!"}]}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    assert text.endswith("data: [DONE]\n\n"), text[-500:]
    return text


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs in its background
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        environment = os.environ | {"GATEWAY_PORT": str(port), "GATEWAY_DATA_DIR": f"{data}/gateway"}
        gateway = subprocess.Popen(["bash", "-c", sys.argv[1]], env=environment, start_new_session=True)
        began = time.monotonic()
        try:
            while not is_ready(port):
                assert gateway.poll() is None, f"the command ended by itself with {gateway.returncode}"
                assert time.monotonic() - began < START_WITHIN_S, "the gateway did not become ready"
                time.sleep(0.2)
            print(f"ready after {time.monotonic() - began:.1f} s")
            print(f"answered with {ask(port).count('data: ')} events")
        finally:
            if gateway.poll() is None:
                os.killpg(gateway.pid, signal.SIGINT)  # as Ctrl-C does; the shell waits and ends as the gateway did
        code = gateway.wait(60)
        assert code == 0, f"the gateway stopped with {code}"
        print("stopped")


if __name__ == "__main__":
    main()
