"""A redis-server of one measurement's own, on a Unix socket in the measurement's folder, with an append-only file."""

import re
import shutil
import socket
import subprocess
import time

import processes

SOCKET = "BENCH_REDIS_SOCKET"  # in a worker's environment: the path of the socket
START_SECONDS = 10
FSYNC = {"always": "each write", "everysec": "each second"}  # the variants of a system on Redis, as its appendfsync calls them


def program():
    """Its path; None: it is not installed."""
    return shutil.which("redis-server")


def version():
    """Name and version, for people."""
    if not program():
        return "no redis-server"
    said = subprocess.run([program(), "--version"], capture_output=True, text=True, check=True).stdout
    return "redis-server " + re.search(r"v=(\S+)", said)[1]


def start(system):
    """Start it for a system, whose variant is the fsync policy; the path of the socket."""
    system.fsync = FSYNC[system.variant]
    path = system.folder / "redis.socket"
    keeping = ["--dir", system.folder, "--save", "", "--appendonly", "yes", "--appendfsync", system.variant]
    system.servers.append(processes.start(system, "redis", [program(), "--port", 0, "--unixsocket", path, *keeping]))
    until = time.monotonic() + START_SECONDS
    while not _answers(path):
        if time.monotonic() > until:
            raise TimeoutError(f"redis-server does not answer: {(system.folder / 'redis.log').read_text(errors='replace')[-1000:]}")
        time.sleep(0.02)
    return path


def client(path):
    """A connection whose blocking calls may take as long as they say."""
    import redis  # of PyPI; the driver, which asks for the program, does without

    return redis.Redis(unix_socket_path=str(path), socket_timeout=None)


def _answers(path):
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
