"""Start and stop a whole cluster on this machine: control nodes and workers as separate processes on loopback.

Used by quickstart.py and by the tests. Everything lives in one folder: data of each node, log of each process.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time

HOST = "127.0.0.1"
POLL_S = 0.02
STOP_LIMIT_S = 12  # the daemons promise 10


class PoctlError(Exception):
    """poctl ended with another code than 0."""

    def __init__(self, arguments, code, stderr):
        super().__init__(f"poctl {' '.join(arguments)}: exit code {code}: {stderr.strip()}")
        self.code, self.stderr = code, stderr


def wait_until(condition, timeout_s=30, what="the condition"):
    """Call condition() until it returns something true, and return that. PoctlError counts as not yet."""
    deadline, last = time.monotonic() + timeout_s, None
    while True:
        try:
            last = condition()
            if last:
                return last
        except PoctlError as error:
            last = error
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s; last seen: {last}")
        time.sleep(POLL_S)


class Port:
    """A free TCP port, reserved while this object lives: bound but not listening, which keeps everyone else from it and
    does not hinder a server that sets SO_REUSEADDR, as ours do."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind((HOST, 0))
        self.number = self.socket.getsockname()[1]
        self.address = f"{HOST}:{self.number}"

    def close(self):
        self.socket.close()


def environment(extra=None):
    """This process's environment without the variables that would configure our programs, and with extra ones."""
    return {**{k: v for k, v in os.environ.items() if not k.startswith("PO_")}, **(extra or {})}


class Daemon:
    """One process, started again and again with the same arguments; its log is appended to one file."""

    def __init__(self, name, command, log, env=None):
        self.name, self.command, self.log, self.env = name, command, pathlib.Path(log), env
        self.process = None

    def start(self):
        assert not self.running(), f"{self.name} runs already"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=environment(self.env), start_new_session=True)
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        """SIGKILL, and wait for the end."""
        if self.running():
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self):
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self, timeout_s=STOP_LIMIT_S):
        return self.process.wait(timeout_s)

    def log_text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class Cluster:
    """Control nodes and workers in one folder. nodes: {name: zone}."""

    def __init__(self, build, folder, nodes, name="pipeorch", node_options=()):
        self.programs = pathlib.Path(build, "daemons")
        self.folder = pathlib.Path(folder)
        self.name = name
        self.peer_ports = {node: Port() for node in nodes}
        self.worker_ports = {node: Port() for node in nodes}
        self.nodes = {node: self._node(node, zone, node_options) for node, zone in nodes.items()}
        self.workers = {}

    def program(self, name):
        return str(self.programs / name)

    def members(self):
        return ",".join(f"{node}={self.peer_address(node)}" for node in self.peer_ports)

    def peer_address(self, node):
        """Where the other nodes find this one: the address that it advertises."""
        return self.peer_ports[node].address

    def worker_address(self, node):
        """The same for workers and clients."""
        return self.worker_ports[node].address

    def data_dir(self, node):
        return self.folder / node

    def node_command(self, node, zone, options=()):
        return [self.program("po-controld"), "--name", node, "--zone", zone, "--cluster", self.name,
                "--data-dir", str(self.data_dir(node)), "--bootstrap", "--initial-members", self.members(),
                "--listen", self.peer_ports[node].address, "--worker-listen", self.worker_ports[node].address,
                "--log-format", "json", *options]

    def _node(self, node, zone, options):
        return Daemon(node, self.node_command(node, zone, options), self.folder / f"{node}.log")

    def controllers(self, *nodes):
        """The worker addresses of these nodes, by default of all."""
        return ",".join(self.worker_address(node) for node in nodes or self.nodes)

    def worker(self, name, zone, capabilities, options=(), controllers=None):
        """Start a worker. capabilities: a file."""
        command = [self.program("po-workerd"), "--id", name, "--zone", zone, "--capabilities", str(capabilities),
                   "--controllers", controllers or self.controllers(), "--log-format", "json", *options]
        self.workers[name] = Daemon(name, command, self.folder / f"{name}.log").start()
        return self.workers[name]

    def start(self):
        for node in self.nodes.values():
            node.start()

    def poctl(self, *arguments, controllers=None, timeout_s=10):
        """The answer of poctl, from its JSON."""
        text = self.poctl_text("-o", "json", *arguments, controllers=controllers, timeout_s=timeout_s)
        return json.loads(text) if text.strip() else None

    def poctl_text(self, *arguments, controllers=None, timeout_s=10):
        command = [self.program("poctl"), "--controllers", controllers or self.controllers(),
                   "--timeout", f"{round(timeout_s * 1000)}ms", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s + 30, env=environment())
        if ran.returncode != 0:
            raise PoctlError(arguments, ran.returncode, ran.stderr or ran.stdout)
        return ran.stdout

    def leader(self, timeout_s=10):
        """The name of the node that leads now: a linearizable answer, so no node can claim it wrongly."""
        return self.poctl("status", timeout_s=timeout_s)["leader"]

    def daemons(self):
        return [*self.workers.values(), *self.nodes.values()]

    def stop(self):
        """End all that runs: politely and all at once, then by force."""
        running = [daemon for daemon in self.daemons() if daemon.running()]
        for daemon in running:
            daemon.signal(signal.SIGCONT)
            daemon.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_LIMIT_S
        for daemon in running:
            try:
                daemon.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                daemon.kill()
        self.release()

    def release(self):
        """Give the ports back."""
        for port in [*self.peer_ports.values(), *self.worker_ports.values()]:
            port.close()
