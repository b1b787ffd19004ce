"""Control nodes that join, are promoted, hand over and leave while the cluster runs."""

import json
import shutil
import threading
import time

import harness
from harness import NAMES, NODE_OPTIONS, Daemon, PoctlError, Port, wait_until

PAYLOAD = "x" * 30000
REMOVED = 3  # exit code of po-controld


class Load:
    """Tasks that no worker runs, submitted one after the other by a thread; what was acknowledged, and what failed."""

    def __init__(self, case):
        self.case, self.ids, self.failed = case, [], []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        while not self.ended.is_set():
            try:
                self.ids.append(self.case.submit("nobody:home", len(self.ids)))
            except PoctlError as error:
                self.failed.append(error)

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: len(self.ids) > 5, what="the first tasks")
        return self

    def more(self, count=5):
        """Wait until as many further submissions were acknowledged."""
        goal = len(self.ids) + count
        wait_until(lambda: len(self.ids) >= goal, what="further tasks")

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


class MemberCase(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.ports = []

    def _tidy(self):
        super()._tidy()
        for port in self.ports:
            port.close()

    def joiner(self, name, zone="aws", options=(), peer=None):
        """A daemon that is to join, with ports of its own; not started."""
        peer, worker = peer or Port(), Port()
        self.ports += [peer, worker]
        cluster = self.cluster
        command = [cluster.program("po-controld"), "--name", name, "--zone", zone, "--data-dir", str(self.folder / name),
                   "--join", cluster.controllers(), "--listen", peer.address, "--worker-listen", worker.address,
                   "--log-format", "json", *NODE_OPTIONS, *options]
        daemon = Daemon(name, command, self.folder / f"{name}.log")
        daemon.worker_address = worker.address
        self.others.append(daemon)
        return daemon

    def everywhere(self):
        """The worker addresses of all nodes, those that joined included."""
        return ",".join([self.cluster.controllers(), *(d.worker_address for d in self.others if hasattr(d, "worker_address"))])

    def member(self, *arguments, **options):
        return self.cluster.poctl("member", *arguments, controllers=self.everywhere(), **options)

    def members(self):
        return {m["name"]: m for m in self.member("list")["members"]}

    def wait_role(self, name, role):
        def reached():
            found = self.members().get(name)
            return found if found and found["role"] == role else None

        return wait_until(reached, what=f"{name} {role}")

    def leads(self):
        return next((n for n, m in self.members().items() if m["leader"]), None)

    def submit(self, capability, data=None, *options):
        return self.cluster.poctl("task", "submit", capability, "--input", json.dumps(data), *options,
                                  controllers=self.everywhere())["id"]

    def tasks(self, controllers=None):
        listed = self.cluster.poctl("task", "list", "--limit", "1000", controllers=controllers or self.everywhere())
        return [task["id"] for task in listed["tasks"]]


class Growth(MemberCase):
    def test_one_grows_to_three(self):
        self.start_cluster({"cp1": "aws"})
        before = [self.submit("nobody:home", i) for i in range(5)]
        second = self.joiner("cp2", "gcp").start()
        found = self.wait_role("cp2", "standby")
        wait_until(lambda: "second standby" in self.members()["cp2"]["note"], what="cp2 to wait for another one")
        self.joiner("cp3", "azure").start()
        for name in ("cp2", "cp3"):
            self.wait_role(name, "voter")
        self.assertEqual(self.members()["cp2"]["id"], found["id"])
        self.assertEqual({m["zone"] for m in self.members().values()}, {"aws", "gcp", "azure"})
        # The founder is gone for good, and nothing is missing.
        self.cluster.nodes["cp1"].kill()
        wait_until(lambda: self.leads() in ("cp2", "cp3"), what="a new leader")
        self.assertEqual(self.tasks(), before)
        # What joined is a member for ever: it comes back without being told to join.
        second.kill()
        second.command = [word for i, word in enumerate(second.command)
                          if word != "--join" and second.command[i - 1] != "--join"]
        second.start()
        wait_until(lambda: self.members()["cp2"]["up"] and self.leads(), what="cp2 back")
        self.assertEqual(self.tasks(), before)

    def test_fourth_catches_up_by_snapshot(self):
        options = ("--snapshot-bytes", "64KiB", "--trailing-bytes", "4096")
        cluster = self.start_cluster(options=options)
        put = [self.submit("nobody:home", PAYLOAD) for _ in range(20)]
        self.assertGreater(cluster.poctl("status")["snapshot_index"], 1)
        self.joiner("cp4", "gcp", options).start()
        self.wait_role("cp4", "voter")
        self.member("transfer", "cp4")
        self.assertEqual(self.leads(), "cp4")
        self.assertEqual(self.tasks(), put)
        self.assertEqual(cluster.poctl("task", "show", str(put[0]), controllers=self.everywhere())["input"], PAYLOAD)

    def test_standby_stays_until_promoted(self):
        self.start_cluster()
        self.joiner("cp4", "aws", ("--join-as", "standby")).start()
        wait_until(lambda: "stays a standby" in self.members().get("cp4", {}).get("note", ""), what="cp4 a standby")
        with self.assertRaises(PoctlError) as refused:
            self.member("transfer", "cp4")
        self.assertIn("no voter", refused.exception.stderr)
        self.member("promote", "cp4")
        self.assertEqual(self.members()["cp4"]["role"], "voter")
        self.member("demote", "cp4")
        self.assertEqual(self.members()["cp4"]["role"], "standby")

    def test_the_zone_without_a_voter_comes_first(self):
        """Two standbys are ready when one voter becomes three: the first vote goes to the zone that has none."""
        self.start_cluster({"cp1": "aws"})
        self.joiner("cp2", "aws").start()
        self.wait_role("cp2", "standby")
        self.joiner("cp3", "gcp").start()
        for name in ("cp2", "cp3"):
            self.wait_role(name, "voter")
        log = self.cluster.nodes["cp1"].log_text()
        ids = {name: self.members()[name]["id"] for name in ("cp2", "cp3")}
        votes = [line for line in log.splitlines() if "to voter" in line]
        self.assertIn(f"node {ids['cp3']} ", votes[0], votes)

    def test_join_interrupted_again_and_again(self):
        """Killed at any moment of joining, the node goes on where it was: one member, one id."""
        self.start_cluster()
        joiner = self.joiner("cp4", "gcp")
        identity = self.folder / "cp4" / "identity"
        seen, delay = b"", 0.0
        for _ in range(14):
            joiner.start()
            time.sleep(delay)  # the moment of the kill: it sweeps over the whole join
            joiner.kill()
            delay += 0.004
            if identity.exists():
                now = identity.read_bytes()
                self.assertIn(seen, (b"", now), "the identity changed")
                seen = now
            self.assertLessEqual(len(self.member("list")["members"]), 4)
        joiner.start()
        self.wait_role("cp4", "voter")
        self.assertEqual(len(self.member("list")["members"]), 4)
        self.assertFalse((self.folder / "cp4" / "join").exists())

    def test_join_says_what_is_wrong(self):
        cluster = self.start_cluster()
        with self.subTest("a name that is taken"):
            namesake = self.joiner("cp2")
            namesake.command[namesake.command.index("--data-dir") + 1] = str(self.folder / "namesake")
            self.refused_start(namesake.command, "the name cp2", "remove it first", "PO_EEXISTS")
        with self.subTest("an address that is taken"):
            taken = self.joiner("cp4")
            taken.command += ["--advertise", cluster.peer_ports["cp2"].address]
            self.refused_start(taken.command, "is that of node cp2", "PO_EEXISTS")
        with self.subTest("a directory that began to join founds nothing"):
            self.refused_start([*[w for i, w in enumerate(taken.command)
                                  if w != "--join" and taken.command[i - 1] != "--join"], "--bootstrap"],
                               "began to join", "PO_EIDENTITY")
        with self.subTest("a cluster that is not there: it keeps trying, and ends when told"):
            lonely = self.joiner("cp5")
            self.ports.append(Port())  # bound, and nobody listens
            lonely.command[lonely.command.index("--join") + 1] = self.ports[-1].address
            lonely.start()
            wait_until(lambda: "trying again" in lonely.log_text(), what="an attempt to join")
            self.assertEqual(lonely.stop(), 0)


class Leaving(MemberCase):
    def test_leader_removed_under_load(self):
        self.start_cluster()
        self.joiner("cp4", "gcp").start()
        self.wait_role("cp4", "voter")
        first = self.leads()
        daemon = next(d for d in [*self.cluster.nodes.values(), *self.others] if d.name == first)
        with Load(self) as load:
            self.member("remove", first)
            load.more()
        self.assertEqual(load.failed, [])
        self.assertNotIn(first, self.members())
        self.assertEqual([t for t in self.tasks() if t in load.ids], load.ids)
        self.assertEqual(daemon.wait(), REMOVED)
        self.assertIn("was removed from the cluster", daemon.log_text())
        # It is told again whenever it comes back, and leads nobody.
        daemon.start()
        self.assertEqual(daemon.wait(), REMOVED)
        self.assertEqual(len(self.members()), 3)

    def test_lost_disk_is_replaced_under_a_new_identity(self):
        cluster = self.start_cluster()
        put = [self.submit("nobody:home", i) for i in range(5)]
        lost = next(n for n in NAMES if n != self.leads())
        old = self.members()[lost]["id"]
        cluster.nodes[lost].kill()
        shutil.rmtree(cluster.data_dir(lost))
        # With its old command it founds itself anew under its old id: refused, and it says why.
        cluster.nodes[lost].start()
        wait_until(lambda: "comes with another data directory" in cluster.nodes[lost].log_text(), what="its refusal")
        self.assertFalse(self.members()[lost]["up"])
        cluster.nodes[lost].kill()
        shutil.rmtree(cluster.data_dir(lost))
        again = self.joiner(lost, NAMES[lost], peer=cluster.peer_ports[lost])
        self.refused_start(again.command, "remove it first", "PO_EEXISTS")
        self.member("remove", lost)
        again.start()
        self.wait_role(lost, "voter")
        self.assertNotEqual(self.members()[lost]["id"], old)
        self.member("transfer", lost)
        self.assertEqual(self.tasks(), put)

    def test_shrinking_to_one_is_refused(self):
        self.start_cluster()
        leader = self.leads()
        first, second = (n for n in NAMES if n != leader)
        self.member("remove", first)
        for verb in ("remove", "demote"):
            with self.assertRaises(PoctlError) as refused:
                self.member(verb, second)
            self.assertIn("one voter would be left", refused.exception.stderr)
        with self.assertRaises(PoctlError) as unknown:
            self.member("remove", "cp9")
        self.assertIn("no member is named cp9", unknown.exception.stderr)


class Leadership(MemberCase):
    def test_drain_of_the_leader_under_load(self):
        """SIGTERM of one leader after the other: the next one takes over, and no call fails."""
        cluster = self.start_cluster()
        with Load(self) as load:
            for _ in range(3):
                leader = self.leads()
                self.assertEqual(cluster.nodes[leader].stop(), 0)
                self.assertIn("hands leadership over", cluster.nodes[leader].log_text())
                load.more()
                cluster.nodes[leader].start()
                wait_until(lambda: all(m["up"] for m in self.members().values()), what="three nodes up")
        self.assertEqual(load.failed, [])
        self.assertEqual([t for t in self.tasks() if t in load.ids], load.ids)

    def test_preferred_zone_leads(self):
        cluster = self.start_cluster(options=("--prefer-zone", "azure"))
        wait_until(lambda: self.leads() == "cp3", what="the preferred zone to lead")
        cluster.nodes["cp3"].kill()
        wait_until(lambda: self.leads() in ("cp1", "cp2"), what="another leader")
        cluster.nodes["cp3"].start()
        wait_until(lambda: self.leads() == "cp3", what="the preferred zone to lead again", timeout_s=60)


if __name__ == "__main__":
    harness.main()
