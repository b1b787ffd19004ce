"""pipeorch.testing: clusters whose nodes are killed, paused and cut off, simulated ones, and the fixtures of pytest."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import pytest

import pipeorch
from pipeorch import errors
from pipeorch.testing import Cluster, presets, simulate

GUARD = 60.0
SHORT = 0.5  # seconds that a call may take which cannot succeed
BINDING = pathlib.Path(pipeorch.__file__).resolve().parents[1]
PIPELINE = {
    "name": "p",
    "steps": [{"name": "a", "capability": "do:a"}, {"name": "b", "capability": "do:b", "depends_on": ["a"]}],
}


@pytest.fixture
def cluster():
    with Cluster(3, timeout=GUARD) as made:
        yield made


@pytest.fixture
def load(cluster):
    """Threads that submit over the network until `stop`, which returns the ids of what was acknowledged."""

    class Load:
        def __init__(self):
            self.ids, self.failed, self._done = [], [], threading.Event()
            self._threads = [threading.Thread(target=self._submit) for _ in range(2)]
            for thread in self._threads:
                thread.start()

        def _submit(self):
            try:
                while not self._done.is_set():
                    self.ids.append(cluster.client.submit("a:b").id)
            except Exception as e:
                self.failed.append(e)

        def go_on(self):
            """Until more is acknowledged."""
            before = len(self.ids)
            cluster.wait(lambda: self.failed or len(self.ids) >= before + 20)

        def stop(self):
            self._done.set()
            for thread in self._threads:
                thread.join()
            assert not self.failed
            return self.ids

    made = Load()
    yield made
    made._done.set()
    for thread in made._threads:
        thread.join()


def others(cluster, i):
    return [k for k in range(len(cluster.nodes)) if k != i]


def all_agree(cluster):
    """All nodes have applied the same, and know the same leader."""
    statuses = [node.status for node in cluster.nodes]
    return len({(s.applied_index, s.term, s.leader_id) for s in statuses}) == 1


# ---- clusters ----


def test_a_cluster_is_ready_and_leaves_nothing(until):
    def threads():
        return len(os.listdir("/proc/self/task"))

    pipeorch.Node  # what is loaded once is no leak
    before = threads()
    with Cluster(3) as cluster:
        assert sorted(cluster.states) == ["follower", "follower", "leader"]
        assert cluster.states[cluster.leader] == "leader" == cluster.nodes[cluster.leader].status.role
        assert len({node.status.leader_id for node in cluster.nodes}) == 1
        for node in cluster.nodes:
            assert node.client.submit("a:b").id
        assert len(cluster.client.members()) == 3
        folder = cluster.dir
        assert sorted(os.listdir(folder)) == ["n0", "n1", "n2"]
    assert not os.path.exists(folder)
    until(lambda: threads() <= before + 1)  # that of the log stays
    cluster.close()
    for call in (lambda: cluster.client, lambda: cluster.kill(0), cluster.heal, lambda: cluster.wait(lambda: True)):
        with pytest.raises(errors.Closed):
            call()


def test_killed_leaders_lose_nothing_that_was_acknowledged(cluster, load):
    for _ in range(3):
        load.go_on()
        old = cluster.wait_leader()
        cluster.kill(old)
        assert cluster.states[old] == "dead"
        with pytest.raises(errors.Closed):
            cluster.nodes[old].status
        assert cluster.wait_leader() != old
        load.go_on()
        cluster.restart(old)
    ids = load.stop()
    assert len(set(ids)) == len(ids)
    for id in ids:
        assert cluster.client.task(id)["state"] == "pending"
    cluster.wait(lambda: all_agree(cluster))


def test_all_are_killed_and_all_come_back(cluster):
    id = cluster.client.submit("a:b").id
    for i in range(3):
        cluster.kill(i)
    assert cluster.states == ("dead", "dead", "dead") and cluster.leader is None
    for i in range(3):
        cluster.restart(i)
    assert cluster.client.task(id)["state"] == "pending"


def test_calls_on_a_killed_node_are_told(cluster):
    follower = others(cluster, cluster.leader)[0]
    client = cluster.nodes[follower].client
    task = client.submit("a:b")
    told = []

    def wait():
        try:
            task.wait(GUARD)
        except errors.Error as e:
            told.append(e)

    waiting = threading.Thread(target=wait)
    waiting.start()
    cluster.kill(follower)
    waiting.join(GUARD)
    assert isinstance(told[0], (errors.Closed, errors.OutcomeUnknown))
    with pytest.raises(errors.Closed):
        client.submit("a:b")


def test_a_paused_leader_is_replaced_and_steps_down(cluster):
    old = cluster.wait_leader()
    term = cluster.nodes[old].status.term
    cluster.pause(old)
    assert cluster.states[old] == "paused" and cluster.leader != old
    new = cluster.wait_leader()
    assert cluster.nodes[new].client.submit("a:b").id
    assert cluster.nodes[old].status.role == "leader"  # as far as it knows
    assert cluster.nodes[old].status.term == term
    cluster.resume(old)
    cluster.wait(lambda: cluster.states[old] == "follower" and all_agree(cluster))
    assert cluster.nodes[old].status.term > term


def test_a_paused_node_can_be_killed(cluster):
    cluster.pause(0)
    cluster.kill(0)
    cluster.restart(0)
    cluster.wait(lambda: all_agree(cluster))


def test_a_leader_in_the_minority_acknowledges_nothing(cluster):
    old = cluster.wait_leader()
    cluster.partition([old])
    with pytest.raises((errors.OutcomeUnknown, errors.NoLeader, errors.TimedOut)):
        cluster.nodes[old].client.submit("lost:work", timeout=SHORT)
    new = cluster.wait_leader(others(cluster, old))
    id = cluster.nodes[new].client.submit("kept:work", timeout=GUARD).id
    cluster.wait(lambda: cluster.states[old] != "leader")
    with pytest.raises((errors.OutcomeUnknown, errors.NoLeader, errors.TimedOut)):
        cluster.nodes[old].client.submit("lost:work", timeout=SHORT)
    assert cluster.client.submit("kept:work").id  # it finds the majority, whomever it asks first
    cluster.heal()
    cluster.wait(lambda: all_agree(cluster))
    assert cluster.nodes[old].client.task(id)["capability"] == "kept:work"
    assert {task["capability"] for task in cluster.client.tasks()} == {"kept:work"}


def test_a_partition_stays_when_a_node_is_restarted(cluster):
    cluster.partition([0], [1], [2])
    cluster.wait(lambda: cluster.leader is None)
    cluster.kill(0)
    cluster.restart(0)
    with pytest.raises((errors.NoLeader, errors.TimedOut)):
        cluster.nodes[0].client.submit("a:b", timeout=2 * SHORT)
    assert cluster.leader is None
    cluster.partition([0], [1, 2])  # in the place of the first
    assert cluster.wait_leader() in (1, 2)
    cluster.heal()
    cluster.wait(lambda: all_agree(cluster))


def test_workers_of_a_cluster_outlive_its_leader(cluster):
    served = []

    @pipeorch.task("text:upper")
    def upper(text, /):
        served.append(text)
        return text.upper()

    worker = cluster.worker(upper)
    assert worker.id == "w0"
    assert cluster.client.submit("text:upper", input="a").result() == "A"
    cluster.kill(cluster.leader)
    assert cluster.client.submit("text:upper", input="b").result() == "B"
    assert served == ["a", "b"]


def test_state_of_the_application_comes_back():
    class Sum(pipeorch.StateMachine):
        value = 0

        def apply(self, index, command):
            self.value += int(command)
            return str(self.value).encode()

    with Cluster(3, state_machine=Sum, zones=["x", "y", "z"]) as cluster:
        assert cluster.nodes[0].apply(b"2") == b"2"
        assert [member["zone"] for member in cluster.client.members()] == ["x", "y", "z"]
        cluster.kill(0)
        assert cluster.nodes[1].apply(b"3") == b"5"
        cluster.restart(0)
        assert cluster.nodes[0].apply(b"4") == b"9"


def test_misuse_is_refused_with_a_sentence(cluster, tmp_path):
    for wrong, said in (
        (lambda: cluster.kill(3), "there is no node 3; expected 0 to 2"),
        (lambda: cluster.pause(-1), "there is no node -1"),
        (lambda: cluster.wait_leader([7]), "there is no node 7"),
        (lambda: cluster.partition([0], [5]), "there is no node 5"),
        (lambda: cluster.partition([0], [0, 1]), "each node in one at most"),
        (lambda: cluster.partition([0], []), "none empty"),
        (lambda: cluster.partition(), "one or more"),
        (lambda: Cluster(0), "size is 0; expected 1 to 7"),
        (lambda: Cluster(8), "size is 8"),
        (lambda: Cluster(2, zones=["a"]), "a list of 2 names"),
        (lambda: Cluster(1, election_timeout=0.01), "election_timeout is 0.01; expected 0.05 to 60"),
        (lambda: Cluster(1, dir=cluster.dir), "not empty"),
    ):
        with pytest.raises(errors.InvalidArgument, match=said):
            wrong()
    with pytest.raises(errors.WrongState, match="node 0 runs"):
        cluster.restart(0)
    with pytest.raises(errors.WrongState, match="node 0 is not paused"):
        cluster.resume(0)
    cluster.pause(0)
    with pytest.raises(errors.WrongState, match="node 0 is paused already"):
        cluster.pause(0)
    cluster.kill(0)
    for call in (cluster.kill, cluster.pause, cluster.resume):
        with pytest.raises(errors.WrongState, match="node 0 is dead; restart it first"):
            call(0)
    with pytest.raises(errors.TimedOut, match="no such thing within 0.05 s: <cluster: 0 dead, 1 "):
        cluster.wait(lambda: False, 0.05, "no such thing")
    with Cluster(1, dir=tmp_path / "kept") as kept:
        assert kept.leader == 0
    assert (tmp_path / "kept" / "n0" / "identity").exists()


def test_a_forked_child_leaves_the_cluster_alone(program):
    text = """
import os, sys
from pipeorch import errors
from pipeorch.testing import Cluster
with Cluster(1) as cluster:
    child = os.fork()
    if child == 0:
        try:
            cluster.kill(0)
        except errors.Forked:
            cluster.close()
            sys.exit(7)  # as a program does that comes to its end
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 7
    assert os.path.isdir(os.path.join(cluster.dir, "n0")) and cluster.client.submit("a:b").id == 1
"""
    process = program(text)
    _, said = process.communicate(timeout=GUARD)
    assert process.returncode == 0, said


def test_a_cluster_that_nobody_closed_is_removed_at_exit(program):
    process = program("from pipeorch.testing import Cluster\ncluster = Cluster(1)\nprint(cluster.dir)")
    folder, said = process.communicate(timeout=GUARD)
    assert (process.returncode, said) == (0, "") and not os.path.exists(folder.strip())


# ---- simulations ----


def test_a_seed_tells_one_story():
    one, again, other = (simulate(PIPELINE, faults="chaos", seed=seed, runs=3) for seed in (7, 7, 8))
    assert one == again and one.trace != other.trace
    assert one.kept and one.failure is None and one.seconds > 0 and one.counts["attempts"] >= 6
    assert [run["state"] for run in one.runs] == ["succeeded"] * 3
    assert repr(one).startswith("<simulation of seed 7 under 'chaos': kept; runs: 3 succeeded; ")


def test_pipelines_as_code_are_simulated():
    @pipeorch.task("double:number")
    def double(n: int) -> int:
        raise AssertionError("no handler runs in a simulation")

    @pipeorch.pipeline("twice")
    def twice(n: int):
        return double(double(n))

    report = simulate(twice, params={"n": 2}, seed=3)
    assert report.kept and [step["capability"] for step in report.runs[0]["steps"]] == ["double:number"] * 2
    with pytest.raises(errors.InvalidArgument, match="pipeline 'wrong' has 1 problem"):
        simulate(pipeorch.Pipeline.from_json({"name": "wrong", "steps": [{"name": "a", "capability": "nothing"}]}))


@pytest.mark.parametrize("faults", ["none", "lan", "three-clouds", "disk", "memory", "chaos"])
def test_every_preset_keeps_its_promises(faults):
    assert faults in presets() and len(presets()) == 6
    assert simulate(PIPELINE, faults=faults, seed=2**64 - 1).kept


def test_workers_and_params_of_ones_own():
    workers = [
        {"id": "a1", "capabilities": [{"name": "do:a", "min_ms": 5000, "max_ms": 5000}]},
        {"id": "b1", "capabilities": [{"name": "do:b", "failure_percent": 100}]},
    ]
    pipeline = {**PIPELINE, "params": {"x": {"type": "integer", "required": True}}}
    failed = simulate(pipeline, workers=workers, faults="none", params={"x": 1}, nodes=1, limit=60)
    (run,) = failed.runs
    assert run["state"] == "failed" and run["params"] == {"x": 1} and failed.kept and failed.nodes == 1
    assert failed.seconds >= 5 and failed.counts["attempts_failed"] == 3
    assert run["steps"][0]["worker_id"] == "a1"


def test_all_that_is_wrong_with_a_pipeline_is_said():
    with pytest.raises(errors.InvalidArgument) as wrong:
        simulate({"name": "p", "steps": [{"name": "a", "capability": "do:a", "depends_on": ["x"]}, {"name": "b", "capability": "c"}]})
    assert "/steps/0/depends_on/0" in str(wrong.value) and "/steps/1/capability" in str(wrong.value)


def test_nothing_else_may_be_open(node):
    with pytest.raises(errors.WrongState, match="in which are open: node node. Close everything"):
        simulate(PIPELINE)
    node.close()
    assert simulate(PIPELINE).kept


def test_wrong_arguments_of_a_simulation():
    for wrong, said in (
        ({"seed": -1}, "seed is -1"),
        ({"nodes": 0}, "nodes is 0; expected 1 to 7"),
        ({"runs": 1001}, "runs is 1001"),
        ({"limit": 1}, "limit is 1; expected 10 to 86400"),
        ({"workers": [{"id": "w", "capabilities": [{"name": "do:a", "min_msec": 1}]}]}, 'did you mean "min_ms"'),
    ):
        with pytest.raises(errors.InvalidArgument, match=said):
            simulate(PIPELINE, **wrong)
    with pytest.raises(errors.NotFound, match="no preset is called storm; there are none lan"):
        simulate(PIPELINE, faults="storm")


def test_control_c_ends_a_simulation(program):
    text = """
import sys
from pipeorch.testing import simulate
try:
    print("begins", flush=True)
    simulate(sys.argv[1], faults="chaos", nodes=7, runs=1000, limit=86400)   # for minutes
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = program(text, json.dumps(PIPELINE))
    assert process.stdout.readline() == "begins\n"
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=GUARD)
    assert said == "interrupted\n" and process.returncode == 0


# ---- fixtures ----

USER_TESTS = """
import pytest
import pipeorch

def test_three_nodes(pipeorch_cluster):
    pipeorch_cluster.kill(pipeorch_cluster.leader)
    assert pipeorch_cluster.client.submit("a:b").id == 1

@pytest.mark.pipeorch_cluster(1, zones=["here"])
def test_one(pipeorch_cluster):
    assert pipeorch_cluster.states == ("leader",)
    assert pipeorch_cluster.client.members()[0]["zone"] == "here"

def test_node(pipeorch_node):
    with pipeorch.Client(pipeorch_node.worker_address) as client:
        assert client.submit("a:b").id == pipeorch_node.client.tasks()[0]["id"]

def test_nothing_is_left(tmp_path):
    from pipeorch.testing import simulate
    document = {"name": "p", "steps": [{"name": "a", "capability": "do:a"}]}
    assert simulate(document).kept      # which refuses if anything is open
"""


def run_pytest(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "_pipeorch_pytest", "--strict-markers", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTEST_ADDOPTS"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=GUARD)


def test_fixtures_as_a_user_has_them(tmp_path):
    (tmp_path / "test_user.py").write_text(USER_TESTS)
    ran = run_pytest(tmp_path, "-q")
    assert ran.returncode == 0 and "4 passed" in ran.stdout, ran.stdout
    shown = run_pytest(tmp_path, "--fixtures").stdout
    assert "pipeorch_cluster" in shown and "pipeorch_node" in shown


def test_who_uses_no_fixture_loads_nothing(tmp_path):
    (tmp_path / "test_other.py").write_text("import sys\n\ndef test():\n    assert 'pipeorch' not in sys.modules\n")
    ran = run_pytest(tmp_path, "-q")
    assert "1 passed" in ran.stdout, ran.stdout


def test_the_plugin_is_one_that_pytest_finds():
    text = (BINDING / "pyproject.toml").read_text()
    assert '[project.entry-points.pytest11]\npipeorch = "_pipeorch_pytest"\n' in text and (BINDING / "_pipeorch_pytest.py").is_file()
