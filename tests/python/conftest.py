"""What the binding's tests share. Conditions are polled; one that does not come within GUARD seconds never comes."""

import os
import subprocess
import sys
import time

import pytest

import pipeorch

GUARD = 60.0
# A shell that starts pytest in the background has its children ignore Ctrl-C.
SIGNALS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


@pytest.fixture
def until():
    """until(condition): wait for what it returns to become true, and return that."""

    def wait(condition):
        end = time.monotonic() + GUARD
        while time.monotonic() < end:
            value = condition()
            if value:
                return value
            time.sleep(0.005)
        raise AssertionError(f"not true within {GUARD:g} s: {condition}")

    return wait


@pytest.fixture
def node(tmp_path):
    with pipeorch.Node(tmp_path / "node", worker_listen="127.0.0.1:0") as made:
        made.wait_leader(GUARD)
        yield made


@pytest.fixture
def client(node):
    with pipeorch.Client(node.worker_address, timeout=GUARD) as made:
        yield made


@pytest.fixture
def program():
    """program(text): another Python process that runs it; killed at the end."""
    started = []

    def start(text, *arguments):
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", SIGNALS + text, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
