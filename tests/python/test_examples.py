"""The programs of examples/python, each run as a reader would run it. Two of them need packages of PyPI."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import pipeorch

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = EXAMPLES / "python"
ENERGY = EXAMPLES / "energy"
GUARD = 60.0
ENDS = 10.0  # seconds that a service may take to end


@pytest.fixture(autouse=True)
def folders(monkeypatch):
    monkeypatch.syspath_prepend(str(ENERGY))
    monkeypatch.syspath_prepend(str(PROGRAMS))


@pytest.fixture
def start(tmp_path):
    """start(*arguments, **environment): a Python process, whose stderr goes to the file `log`; killed at the end."""
    started = []

    def run(*command, **environment):
        own = {name: value for name, value in os.environ.items() if not name.startswith("PO_") and name != "CONTROLLER_URL"}
        log = tmp_path / f"{len(started)}.log"
        with open(log, "w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-u", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                cwd=tmp_path,
                env={**own, "TMPDIR": str(tmp_path), "PYTHONIOENCODING": "utf-8", **environment},
            )
        process.log = log
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def ports(folders):
    """ports(count): free ones, kept from everybody else who does not set SO_REUSEADDR."""
    from local_cluster import Port

    taken = []

    def take(count):
        taken.extend(Port() for _ in range(count))
        return taken[-count:]

    yield take
    for port in taken:
        port.close()


def printed(process):
    out, _ = process.communicate(timeout=GUARD)
    assert process.returncode == 0, out + process.log.read_text()
    return out


# ---- energy ----

REPORT = """\
report
  renewables' share of 2017: 0.3884
  forecast for 2018, thousand MWh (90 % range):
    Fossil Fuels       33381.471  (27469 to 40206)
    Nuclear Energy      5084.404  (4320 to 5781)
    Renewables         22669.213  (19452 to 25833)
  heating degree days to base 18 °C: 2632.671
"""


def test_energy_has_the_graph_of_the_document():
    from energy import energy

    def steps(pipeline):
        """What a worker is told of each step, wherever it stands in the document."""
        return [
            (s["name"], s["capability"], s["timeout_ms"], s["attempts_max"], s.get("config", s.get("input", {}).get("config")))
            for s in pipeline.steps
        ]

    written = pipeorch.Pipeline.from_json(ENERGY / "pipeline.json")
    assert steps(energy) == steps(written)
    assert len(steps(energy)) == 5 and [config is None for *_, config in steps(energy)] == [False] * 4 + [True]
    assert energy.edges == written.edges
    assert (energy.name, energy.document["description"]) == (written.name, written.document["description"])


def test_energy_in_one_process(start):
    out = printed(start(PROGRAMS / "energy.py"))
    assert REPORT in out and "2010-12  411.050" in out
    assert "heating:degree_days" in out.split("report\n")[0]  # in the picture


def test_energy_tells_the_place_of_a_wrong_figure(start, tmp_path):
    spoilt = tmp_path / "spoilt.csv"
    spoilt.write_text((ENERGY / "data" / "iowa-electricity.csv").read_text().replace(",1437\n", ",lots\n"))
    process = start(PROGRAMS / "energy.py", spoilt)
    assert process.wait(GUARD) == 1
    assert "spoilt.csv: row 36, column 3 (net_generation): 'lots'" in process.log.read_text()


def test_energy_on_the_workers_of_the_document(start, tmp_path, folders):
    """The same steps as processes, which po-workerd starts: the same report."""
    from local_cluster import Cluster, wait_until

    if "BUILD_ROOT" not in os.environ:
        pytest.skip("BUILD_ROOT does not name the folder that po-controld and po-workerd were built in")
    cluster = Cluster(os.environ["BUILD_ROOT"], tmp_path, {"cp1": "lab"})
    try:
        cluster.start()
        wait_until(cluster.leader, what="a leader")
        for name in ("data", "compute"):
            cluster.worker(name, "lab", ENERGY / f"workers-{name}.json")
        assert REPORT in printed(start(PROGRAMS / "energy.py", "--cluster", PO_CONTROLLERS=cluster.controllers()))
        workers = {s["worker_id"] for s in cluster.poctl("pipeline", "show", "1")["steps"]}
        assert workers == {"data", "compute"}
    finally:
        cluster.stop()


def test_the_tasks_of_energy_serve_the_document():
    from energy import ELECTRICITY, WEATHER, energy

    written = pipeorch.Pipeline.from_json(ENERGY / "pipeline.json")
    found = written.run(local=True, tasks=energy.tasks, electricity=ELECTRICITY, weather=WEATHER)
    assert found == energy.run(local=True)
    assert found["forecast_2018"] == {"Fossil Fuels": 33381.471, "Nuclear Energy": 5084.404, "Renewables": 22669.213}


# ---- counter ----


def test_counter_in_one_process(start, ports):
    out = printed(start(PROGRAMS / "counter.py", "--ports", ",".join(str(port.number) for port in ports(3))))
    closed = re.search(r"^node[0-2], [a-z]+, has counted to (\d+), and is closed$", out, re.MULTILINE)
    assert 150 <= int(closed[1]) <= 300  # the threads do not wait for it
    assert out.endswith("node0 reads 300  node1 reads 300  node2 reads 300  of 300\n")


def test_counter_in_three_processes(start, ports):
    numbers = ",".join(str(port.number) for port in ports(3))

    def run(i):
        process = start(PROGRAMS / "counter.py", i, "--ports", numbers)
        assert process.stdout.readline().startswith(f"node{i} runs")
        return process

    def ask(process, line=""):
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return process.stdout.readline()

    nodes = [run(i) for i in range(3)]
    assert [ask(node) for node in nodes] == ["1\n", "2\n", "3\n"]
    nodes[0].kill()
    nodes[0].wait()
    assert [ask(node) for node in nodes[1:]] == ["4\n", "5\n"]
    nodes[0] = run(0)
    assert [ask(node, "=") for node in nodes] == ["5\n", "5\n", "5\n"]
    for node in nodes:
        assert printed(node) == ""


# ---- service ----


class Service:
    """examples/python/service.py under uvicorn."""

    def __init__(self, process, until):
        self.process = process
        self.port = int(until(lambda: re.search(r"running on http://127\.0\.0\.1:(\d+)", process.log.read_text()))[1])

    def ask(self, path, body=None):
        """The status, and the answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=GUARD) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as e:
            return e.code, json.load(e)

    def is_in(self, state):
        return self.ask("/health") == (200, {"status": "ok", "worker": state})

    def end(self):
        """SIGTERM; it ends in time, and by it."""
        began = time.monotonic()
        self.process.terminate()
        assert self.process.wait(GUARD) in (0, -signal.SIGTERM), self.process.log.read_text()
        assert time.monotonic() - began < ENDS
        assert "Application shutdown complete" in self.process.log.read_text()


@pytest.fixture
def service(start, until):
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")

    def run(**environment):
        command = ("-m", "uvicorn", "service:app", "--app-dir", PROGRAMS, "--port", "0")
        return Service(start(*command, **environment), until)

    return run


def test_service_is_a_worker_of_a_cluster(service, node, until):
    running = service(PO_CONTROLLERS=node.worker_address)
    until(lambda: running.is_in("registered"))
    code, said = running.ask("/status")
    assert (code, said["cluster"]["status"], said["controllers"]) == (200, "online", node.worker_address)
    assert [task["capability"] for task in said["tasks"]] == ["count:words", "probe:port"]
    assert node.client.submit("probe:port", input={"host": "127.0.0.1", "port": running.port}).result() > 0
    assert running.ask("/words", {"text": "to be or not to be"}) == (200, {"to": 2, "be": 2, "or": 1, "not": 1})
    assert [worker["id"] for worker in node.client.workers()] == [said["id"]]
    running.end()
    assert node.client.workers() == []  # it said so: nobody waits for heartbeats


def test_service_tells_that_its_worker_gave_up(service, node, until):
    running = service(PO_CONTROLLERS=node.worker_address)
    until(lambda: running.is_in("registered"))
    other = pipeorch.Worker(running.ask("/status")[1]["id"], node.worker_address)
    other.add(pipeorch.task("a:b")(lambda: None))
    with other:  # takes the name over
        until(lambda: running.ask("/health")[0] == 503)
        assert running.ask("/health")[1]["status"] == "failed"
        running.end()


def test_service_without_controllers_is_a_cluster_of_its_own(service, until):
    running = service()
    until(lambda: running.is_in("standalone"))
    assert running.ask("/status")[1]["cluster"]["status"] == "online"
    assert running.ask("/words", {"text": "a b a"}) == (200, {"a": 2, "b": 1})
    running.end()


def test_service_serves_without_the_controllers_that_it_has(service, ports, tmp_path, until):
    [port] = ports(1)
    running = service(CONTROLLER_URL=port.address)
    assert running.is_in("connecting")
    code, said = running.ask("/status")
    assert (code, said["cluster"], said["error"]) == (200, None, "the worker is not registered yet")
    assert running.ask("/words", {"text": "a"})[0] == 503
    with pipeorch.Node(tmp_path / "node", worker_listen=port.address):
        until(lambda: running.is_in("registered"))
        assert running.ask("/words", {"text": "a"}) == (200, {"a": 1})
    assert running.is_in("registered")  # it was; nothing has to be restarted
    code, said = running.ask("/status")
    assert (code, said["cluster"]) == (200, None) and said["error"]
    running.end()


# ---- training ----


def test_training_shares_the_grid(start, tmp_path):
    pytest.importorskip("sklearn")
    out = printed(start(PROGRAMS / "training.py", "--model", tmp_path / "digits.joblib"))
    rows = re.findall(r"^ +([\d.]+) +([\d.]+) +(0\.\d{4})  (gpu|cpu)(  <- best)?$", out, re.MULTILINE)
    assert len({row[:2] for row in rows}) == len(rows) == 12
    assert [row[4] != "" for row in rows].count(True) == 1
    assert next(float(row[2]) for row in rows if row[4]) == max(float(row[2]) for row in rows)
    shares = {device: sum(row[3] == device for row in rows) for device in ("cpu", "gpu")}
    assert min(shares.values()) > 0
    assert f"shared by cpu: {shares['cpu']} of 12, gpu: {shares['gpu']} of 12" in out
    final = re.search(r"^final model, trained on gpu: (0\.\d{4})", out, re.MULTILINE)
    assert float(final[1]) > 0.95

    import joblib
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    assert joblib.load(tmp_path / "digits.joblib").score(images, digits) > 0.95
