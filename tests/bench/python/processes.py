"""Processes that a measured system consists of: each ends with the one that started it, and leaves its output in a file."""

import ctypes
import os
import pathlib
import signal
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
STOP_SECONDS = 12
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def start(system, name, command, env=None):
    """Start a process of a system; its number. It is asked to end when the system ends."""
    log = open(system.folder / f"{name}.log", "ab")
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=HERE,
        env={**os.environ, **(env or {})},
        preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    log.close()
    system.ends.callback(_stop, process)
    return process.pid


def python(system, name, arguments, env=None):
    """The same with this interpreter."""
    return start(system, name, [sys.executable, *arguments], env)


def _stop(process):
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
