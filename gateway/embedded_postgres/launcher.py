"""A small program that turns into a PostgreSQL program which cannot outlive the gateway.

It imports none of our modules, and runs by its path in a bare interpreter:
`launcher.py MODE PARENT UID GID FOLDER PROGRAM ARGUMENT…`, `-` for none.

MODE `bound` (Linux): the kernel sends SIGINT, PostgreSQL's fast shutdown, when the thread that spawned us ends. MODE
`watched` (other systems): this program stays beside the server, and sends that SIGINT when standard input, a pipe from
the gateway, ends. It opens FOLDER before the change of user, and keeps it open as descriptor `HELD`: /proc/self/fd/3
leads to it even if the account may not enter a folder above it (a 0700 home).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

HELD = 3
PR_SET_PDEATHSIG = 1


def keep_open(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if descriptor == HELD:
        os.set_inheritable(descriptor, True)
    else:
        os.dup2(descriptor, HELD)


def ordinary_signals() -> None:
    """Reset signals that a shell's `&`, nohup or Python ignore: they must end a server that has no handlers yet."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)


def drop_privileges(uid: int, gid: int) -> None:
    os.setgroups([gid])
    os.setgid(gid)
    os.setuid(uid)


def die_with(parent: int) -> None:
    """Ask for SIGINT when the parent ends. Call it after the change of user, which clears the setting."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0) != 0:
        sys.exit(f"launcher: prctl failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("launcher: the gateway is gone")


def run_watched(program: str, arguments: list[str]) -> int:
    """Run the program as a child until it ends; forward signals; stop it when the pipe on standard input ends."""
    child = os.fork()
    if child == 0:
        os.execv(program, [program, *arguments])  # noqa: S606  a fixed program, no shell

    def stop_with_the_gateway() -> None:
        while os.read(0, 512):
            pass
        os.kill(child, signal.SIGINT)

    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, lambda number, _frame: os.kill(child, number))
    threading.Thread(target=stop_with_the_gateway, daemon=True).start()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code if code >= 0 else 128 - code


def main(mode: str, parent: str, uid: str, gid: str, folder: str, program: str, *arguments: str) -> None:
    if folder != "-":
        keep_open(folder)
    os.chdir("/")
    os.umask(0o077)
    ordinary_signals()
    if uid != "-":
        drop_privileges(int(uid), int(gid))
    if mode == "watched":
        sys.exit(run_watched(program, list(arguments)))
    die_with(int(parent))
    os.execv(program, [program, *arguments])  # noqa: S606  a fixed program, no shell


if __name__ == "__main__":
    main(*sys.argv[1:])
