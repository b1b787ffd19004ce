"""Backups of running and stopped nodes, new clusters made from them, nodes that lost their majority, and looking at directories."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import threading
import unittest

import harness
from harness import ECHO, ClusterCase, Daemon, PoctlError, Port, environment, wait_until


def run(*command, code=0, timeout_s=60):
    ran = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=timeout_s, env=environment())
    assert ran.returncode == code, f"{command}: exit code {ran.returncode}, not {code}: {ran.stdout[-2000:]} {ran.stderr[-2000:]}"
    return ran.stdout + (ran.stderr if code else "")


def digest_of(folder):
    """Of everything that can be seen of a folder: names, bytes, modes and times."""
    seen = hashlib.sha256()
    for path in sorted(pathlib.Path(folder).rglob("*")):
        stat = path.stat()
        seen.update(f"{path} {stat.st_mode} {stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}\n".encode())
        seen.update(path.read_bytes())
    return seen.hexdigest()


class Backup(ClusterCase):
    POCTL = str(harness.BUILD / "daemons" / "poctl")
    CONTROLD = str(harness.BUILD / "daemons" / "po-controld")

    def tool(self, *arguments, code=0):
        """poctl without a cluster; its JSON, or its words if it is to fail."""
        text = run(self.POCTL, "-o", "json", *arguments, code=code)
        return json.loads(text) if code == 0 else text

    def check_dir(self, folder, code=0):
        return json.loads(run(self.CONTROLD, "--check-dir", folder, "--log-format", "json", code=code))

    def restored_node(self, name, zone, folder, members, peer, worker):
        command = [self.CONTROLD, "--name", name, "--zone", zone, "--data-dir", folder, "--listen", peer.address,
                   "--worker-listen", worker.address, "--log-format", "json", *harness.NODE_OPTIONS]
        daemon = Daemon(f"new-{name}", [str(c) for c in command], self.folder / f"new-{name}.log").start()
        self.others.append(daemon)
        return daemon

    def ask(self, controllers, *arguments, timeout_s=10):
        return self.cluster.poctl(*arguments, controllers=controllers, timeout_s=timeout_s)

    def new_cluster(self, backup, names=("n1", "n2", "n3")):
        """Restore a backup for these nodes and start them; (controllers, ports, directories)."""
        peers = {n: Port() for n in names}
        workers = {n: Port() for n in names}
        self.when_ended += [p.close for p in [*peers.values(), *workers.values()]]
        members = ",".join(f"{n}={peers[n].address}" for n in names)
        directories, cluster_id = {}, []
        for n in names:
            directories[n] = self.folder / f"restored-{n}"
            answer = self.tool("snapshot", "restore", backup, "--dir", directories[n], "--name", n, "--members", members,
                               *cluster_id)
            cluster_id = ["--cluster-id", answer["new_cluster_id"]]
        return members, peers, workers, directories, answer

    # ---- backups of a running cluster ----

    def load(self, done):
        """Submit tasks until done; what was acknowledged."""
        acknowledged = []

        def work():
            while not done.is_set():
                try:
                    acknowledged.append(self.submit("text:later", {"n": len(acknowledged)}, "--key", f"load-{len(acknowledged)}"))
                except PoctlError:
                    pass  # not acknowledged

        thread = threading.Thread(target=work)
        thread.start()
        return thread, acknowledged

    def test_save_under_load_and_restore(self):
        cluster = self.start_cluster()
        self.start_worker("w1", {"text:echo": ECHO})
        cluster.poctl("pipeline", "define", str(harness.ENERGY / "pipeline.json"))
        self.run_task("text:echo", "before", "--key", "done-before")
        kept = self.submit("text:later", "kept", "--key", "kept")
        done = threading.Event()
        thread, acknowledged = self.load(done)
        try:
            wait_until(lambda: len(acknowledged) >= 5, what="load")
            before = list(acknowledged)
            backup = self.folder / "cluster.po"
            saved = cluster.poctl("snapshot", "save", str(backup), timeout_s=30)
            self.assertEqual(saved["source"], "online")
            wait_until(lambda: len(acknowledged) > len(before), what="work that goes on")
        finally:
            done.set()
            thread.join()
        self.assertEqual(self.tool("snapshot", "inspect", backup), saved)
        self.assertEqual((saved["workers"], saved["pipelines"], saved["tasks_finished"]), (1, 1, 1))
        self.assertGreaterEqual(saved["tasks_pending"], len(before) + 1)  # linearizable: what was acknowledged before is in it
        self.assertEqual({m["name"] for m in saved["members"]}, set(cluster.nodes))

        said = run(self.POCTL, "--controllers", cluster.controllers(), "snapshot", "save", backup, code=1)
        self.assertIn("exists already", said)
        old_id = cluster.poctl("status")["cluster_id"]
        members, peers, workers, directories, answer = self.new_cluster(backup)
        self.assertNotEqual(answer["new_cluster_id"], old_id)

        # Nobody was started: what is there is what was saved.
        for n, folder in directories.items():
            copy = self.tool("snapshot", "save", self.folder / f"{n}.po", "--dir", folder)
            self.assertEqual(copy["state_sha256"], saved["state_sha256"])
            self.assertEqual(copy["cluster_id"], answer["new_cluster_id"])
        nodes = {n: self.restored_node(n, "aws", directories[n], members, peers[n], workers[n]) for n in directories}
        controllers = ",".join(p.address for p in workers.values())
        wait_until(lambda: self.ask(controllers, "status", timeout_s=5)["leader"], what="a leader of the new cluster")
        status = self.ask(controllers, "status")
        self.assertEqual(status["cluster_id"], answer["new_cluster_id"])
        self.assertEqual(self.ask(controllers, "workers")["workers"][0]["id"], "w1")
        self.assertEqual(self.ask(controllers, "task", "show", str(kept))["input"], "kept")
        self.assertEqual([p["name"] for p in self.ask(controllers, "pipeline", "list")["pipelines"]], ["energy"])
        for task in before:
            self.assertEqual(self.ask(controllers, "task", "show", str(task))["state"], "pending")
        # Keys of the old cluster still mean the same.
        again = self.ask(controllers, "task", "submit", "text:later", "--input", '"kept"', "--key", "kept")
        self.assertEqual(again["id"], kept)
        # New work runs, with tokens above all that the old cluster gave.
        old_token = max(self.task(t)["token"] or 0 for t in [*before, kept, kept - 1])
        self.start_restored_worker(controllers)
        new = self.ask(controllers, "task", "submit", "text:now", "--input", '"new"')["id"]
        wait_until(lambda: self.ask(controllers, "task", "show", str(new))["state"] == "succeeded", what="a task of the new cluster")
        self.assertGreater(self.ask(controllers, "task", "show", str(new))["token"], max(old_token, saved["index"]))
        wait_until(lambda: all(m["up"] for m in self.ask(controllers, "status")["members"]), what="all nodes up")
        self.equal_when_stopped(nodes, directories, controllers)

    def start_restored_worker(self, controllers):
        self.cluster.worker("w2", "aws", self.capabilities({"text:now": ECHO}), harness.WORKER_OPTIONS, controllers)

    def equal_when_stopped(self, nodes, directories, controllers):
        """The nodes hold the same state at the same index, once killed: the leader last, so that nobody follows it."""
        self.cluster.workers["w2"].stop()
        # w1 works for the old cluster; when this one has noticed, nothing is left that it would do by itself.
        wait_until(lambda: [w["status"] for w in self.ask(controllers, "workers")["workers"]] == ["offline"], what="w1 missed")
        leader = self.ask(controllers, "status")["leader"]
        for n in sorted(nodes, key=lambda n: n == leader):
            nodes[n].kill()
        reached = [self.tool("snapshot", "save", self.folder / f"end-{n}.po", "--dir", folder) for n, folder in directories.items()]
        last = max(r["index"] for r in reached)
        same = [r["state_sha256"] for r in reached if r["index"] == last]
        self.assertGreaterEqual(len(same), 2, reached)  # a majority has the last entry
        self.assertEqual(len(set(same)), 1)

    def test_restore_refuses_what_is_unsound(self):
        cluster = self.start_cluster({"cp1": "aws"})
        self.submit("text:later", 1)
        backup, other = self.folder / "a.po", self.folder / "b.po"
        cluster.poctl("snapshot", "save", str(backup))
        self.submit("text:later", 2)
        cluster.poctl("snapshot", "save", str(other))
        members = "x=127.0.0.1:17001,y=127.0.0.1:17002"

        def restore(file, folder, *more, name="x", among=members, code=0):
            return self.tool("snapshot", "restore", file, "--dir", self.folder / folder, "--name", name, "--members", among,
                             *more, code=code)

        first = restore(backup, "x")
        twice = restore(backup, "x2")
        self.assertNotEqual(first["new_cluster_id"], twice["new_cluster_id"])
        cluster_id = ["--cluster-id", first["new_cluster_id"]]
        self.assertIn("another file or another list", restore(other, "y", *cluster_id, name="y", code=1))
        self.assertIn("another file or another list",
                      restore(backup, "y", *cluster_id, name="y", among=members + ",z=127.0.0.1:17003", code=1))
        self.assertIn("holds the data of node x already", restore(backup, "x", code=1))
        self.assertIn("not among them", restore(backup, "z", name="z", code=2))
        second = restore(backup, "y", *cluster_id, name="y")
        self.assertEqual(second["new_cluster_id"], first["new_cluster_id"])
        self.assertEqual(second["node_id"], 2)
        # A directory of the old cluster is not taken for one of the new one.
        self.refused_start([self.CONTROLD, "--name", "x", "--data-dir", str(self.folder / "x"), "--bootstrap", "--listen",
                            "127.0.0.1:17001", "--initial-members", members], "is started without bootstrap")

    def test_damaged_backups_are_refused(self):
        cluster = self.start_cluster({"cp1": "aws"})
        for i in range(20):
            self.submit("text:later", "x" * 20000)
        backup = self.folder / "a.po"
        cluster.poctl("snapshot", "save", str(backup))
        whole = backup.read_bytes()
        self.assertGreater(len(whole), 2 * 256 * 1024 // 2)
        bad = self.folder / "bad.po"
        for at in [0, 9, 300, 12287, 12288, 12300, 12320, 100000, len(whole) - 4096, len(whole) - 4000, len(whole) - 1]:
            flipped = bytearray(whole)
            flipped[at] ^= 0x10
            bad.write_bytes(flipped)
            said = self.tool("snapshot", "inspect", bad, code=1)
            self.assertIn("at offset", said, at)
            self.assertIn("PO_ECORRUPT", said, at)
            said = self.tool("snapshot", "restore", bad, "--dir", self.folder / "new", "--name", "n", code=1)
            self.assertFalse((self.folder / "new").exists())
        for size in [0, 100, 12288, 12300, 100000, len(whole) - 4096, len(whole) - 1]:
            bad.write_bytes(whole[:size])
            self.assertRegex(self.tool("snapshot", "inspect", bad, code=1), "cut off|damaged")
        bad.write_bytes(whole + b"x" * 4096)
        self.assertIn("PO_ECORRUPT", self.tool("snapshot", "inspect", bad, code=1))

    def test_save_while_leaders_change(self):
        """Saves go on, each of them whole, whoever leads."""
        cluster = self.start_cluster()
        for i in range(10):
            self.submit("text:later", "x" * 100000, "--key", f"k{i}")
        for round_ in range(2):
            leader = self.leader()
            save = subprocess.Popen([self.POCTL, "-o", "json", "--controllers", cluster.controllers(), "snapshot", "save",
                                     str(self.folder / f"{round_}.po")], stdout=subprocess.PIPE, text=True, env=environment())
            cluster.nodes[leader].kill()
            text, _ = save.communicate(timeout=90)
            self.assertEqual(save.returncode, 0, text)
            self.assertEqual(json.loads(text)["tasks_pending"], 10)
            cluster.nodes[leader].start()

    # ---- a lost majority ----

    def test_recover_after_two_of_three_are_lost(self):
        cluster = self.start_cluster()
        tasks = [self.submit("text:later", i, "--key", f"k{i}") for i in range(5)]
        leader = self.leader()
        survivor, *lost = [leader, *self.followers(leader)]
        for node in cluster.nodes.values():
            node.kill()
        folder = cluster.data_dir(survivor)
        said = self.tool("recover", "--dir", folder)
        self.assertFalse(said["done"])
        self.assertEqual(len(said["members"]), 3)
        before = digest_of(folder)
        self.assertIn("does not fit", self.tool("recover", "--dir", folder, "--accept-data-loss", said["last_index"] + 1, code=1))
        self.assertEqual(digest_of(folder), before)
        old_id = said["cluster_id"]
        done = self.tool("recover", "--dir", folder, "--accept-data-loss", said["last_index"])
        self.assertTrue(done["done"])
        self.assertNotEqual(done["new_cluster_id"], old_id)
        self.assertEqual(self.check_dir(folder)["cluster_id"], done["new_cluster_id"])
        self.assertEqual(self.check_dir(done["backup"])["cluster_id"], old_id)
        self.assertIn("only voter", self.tool("recover", "--dir", folder, "--accept-data-loss", 1, code=1))

        command = [self.CONTROLD, "--name", survivor, "--data-dir", str(folder), "--listen",
                   cluster.peer_ports[survivor].address, "--worker-listen", cluster.worker_ports[survivor].address,
                   "--log-format", "json", *harness.NODE_OPTIONS]
        node = Daemon("recovered", command, self.folder / "recovered.log").start()
        self.others.append(node)
        self.assertEqual(self.leader(survivor), survivor)
        for task in tasks:
            self.assertEqual(self.ask(cluster.controllers(survivor), "task", "show", str(task))["state"], "pending")
        status = self.ask(cluster.controllers(survivor), "status")
        self.assertEqual([m["name"] for m in status["members"]], [survivor])
        self.assertEqual(self.ask(cluster.controllers(survivor), "task", "submit", "text:later", "--input", "1", "--key", "k1")["id"],
                         tasks[1])
        # The old members come back: they are refused, elect a leader among themselves, and disturb nobody.
        for name in lost:
            cluster.nodes[name].start()
        wait_until(lambda: "another cluster" in cluster.nodes[lost[0]].log_text() + node.log_text(), what="a refusal")
        self.submit_to(survivor)
        self.assertEqual(self.ask(cluster.controllers(survivor), "status")["cluster_id"], done["new_cluster_id"])

    def test_lost_names_join_a_recovered_cluster(self):
        """The lost nodes' names are free again: new nodes under them join, vote, and one may be the next to be lost."""
        cluster = self.start_cluster()
        tasks = [self.submit("text:later", i) for i in range(3)]
        leader = self.leader()
        survivor, *lost = [leader, *self.followers(leader)]
        for node in cluster.nodes.values():
            node.kill()
        folder = cluster.data_dir(survivor)
        self.tool("recover", "--dir", folder, "--accept-data-loss", self.tool("recover", "--dir", folder)["last_index"])
        started = {survivor: self.recovered_node(survivor, folder)}
        self.assertEqual(self.leader(survivor), survivor)
        for name in lost:
            started[name] = self.recovered_node(name, self.folder / f"new-{name}", "--join", cluster.controllers(survivor))
        wait_until(lambda: self.roles(survivor) == {name: "voter" for name in cluster.nodes}, timeout_s=60, what="three voters")
        members = self.ask(cluster.controllers(survivor), "member", "list")["members"]
        self.assertEqual(len({m["id"] for m in members}), 3)
        self.assertTrue(all(m["id"] > 3 for m in members if m["name"] in lost), members)  # ids are never given twice
        # The survivor is not needed any more, and nothing is missing.
        started[survivor].kill()
        self.assertIn(self.leader(*lost), lost)
        for task in tasks:
            self.assertEqual(self.ask(cluster.controllers(*lost), "task", "show", str(task))["state"], "pending")

    def roles(self, node):
        return {m["name"]: m["role"] for m in self.ask(self.cluster.controllers(node), "member", "list")["members"]}

    def recovered_node(self, name, folder, *options):
        """A node at the addresses that the old one of this name had."""
        cluster = self.cluster
        command = [self.CONTROLD, "--name", name, "--data-dir", str(folder), "--listen", cluster.peer_ports[name].address,
                   "--worker-listen", cluster.worker_ports[name].address, "--log-format", "json", *harness.NODE_OPTIONS, *options]
        daemon = Daemon(f"recovered-{name}", command, self.folder / f"recovered-{name}.log").start()
        self.others.append(daemon)
        return daemon

    def submit_to(self, node):
        return self.ask(self.cluster.controllers(node), "task", "submit", "text:later", "--input", "9")["id"]

    # ---- looking at directories ----

    def test_check_dir_changes_nothing(self):
        cluster = self.start_cluster({"cp1": "aws"})
        for i in range(5):
            self.submit("text:later", i)
        folder = cluster.data_dir("cp1")
        before_running = self.check_dir(folder, code=2)
        self.assertEqual(before_running["code"], "PO_ELOCKED")
        cluster.nodes["cp1"].kill()
        before = digest_of(folder)
        report = self.check_dir(folder)
        self.assertEqual(report["verdict"], "healthy")
        self.assertEqual(report["name"], "cp1")
        self.assertEqual(report["last_index"], report["records"])
        text = run(self.CONTROLD, "--check-dir", folder)
        self.assertIn("verdict    healthy", text)
        self.assertEqual(digest_of(folder), before)

        torn = self.copy_of(folder, "torn")
        wal = torn / "wal-0000000000000001"
        used = report["segments"][0]["used_bytes"]
        self.overwrite(wal, used - 4096 + 100, b"\xff" * 64)  # inside of the last batch: as a torn write leaves it
        before = digest_of(torn)
        report = self.check_dir(torn, code=1)
        self.assertEqual(report["verdict"], "usable")
        self.assertIn("torn", report["problems"][0])
        self.assertEqual(digest_of(torn), before)

        bad = self.copy_of(folder, "bad")
        self.overwrite(bad / "wal-0000000000000001", 2 * 4096 + 70, b"\xff")
        before = digest_of(bad)
        report = self.check_dir(bad, code=2)
        self.assertIn("wal-0000000000000001", report["problems"][-1])
        self.assertIn("at offset 8192", report["problems"][-1])
        self.assertEqual(digest_of(bad), before)
        self.assertEqual(self.check_dir(self.folder / "nowhere", code=2)["code"], "PO_ENOTFOUND")
        self.assertFalse((self.folder / "nowhere").exists())

    def test_metadata_older_than_the_log_is_refused(self):
        cluster = self.start_cluster({"cp1": "aws"})
        self.submit("text:later", 1)
        folder = cluster.data_dir("cp1")
        cluster.nodes["cp1"].stop()
        young = (folder / "meta").read_bytes()
        cluster.nodes["cp1"].start()
        self.leader()
        self.submit("text:later", 2)
        cluster.nodes["cp1"].stop()
        self.assertNotEqual(young, (folder / "meta").read_bytes())
        (folder / "meta").write_bytes(young)
        self.assertIn("could vote twice", self.check_dir(folder, code=2)["problems"][0])
        self.refused_start(cluster.nodes["cp1"].command, "could vote twice", code=1)

    def copy_of(self, folder, name):
        return pathlib.Path(shutil.copytree(folder, self.folder / name))

    @staticmethod
    def overwrite(path, offset, data):
        with open(path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def test_log_dump(self):
        cluster = self.start_cluster({"cp1": "aws"})
        self.start_worker("w1", {"text:echo": ECHO})
        self.run_task("text:echo", {"hello": "world"}, "--key", "the-key")
        cluster.stop()
        folder = cluster.data_dir("cp1")
        before = digest_of(folder)
        entries = [json.loads(line) for line in run(self.POCTL, "-o", "json", "log", "dump", "--dir", folder).splitlines()]
        self.assertEqual([e["index"] for e in entries], list(range(1, len(entries) + 1)))
        self.assertEqual(entries[0]["type"], "configuration")
        commands = {c["type"]: c for e in entries for c in e.get("commands", [])}
        self.assertEqual(commands["task_submit"]["key"], "the-key")
        self.assertEqual(commands["task_submit"]["input"], {"hello": "world"})
        self.assertEqual(commands["task_complete"]["result"], {"hello": "world"})
        self.assertEqual(commands["worker_register"]["capabilities"][0]["name"], "text:echo")
        some = [json.loads(line) for line in run(self.POCTL, "-o", "json", "log", "dump", "--dir", folder, "--from", 2, "--to", 3)
                .splitlines()]
        self.assertEqual([e["index"] for e in some], [2, 3])
        table = run(self.POCTL, "log", "dump", "--dir", folder)
        self.assertRegex(table, r"task_submit key=the-key capability=text:echo")
        self.assertEqual(digest_of(folder), before)


if __name__ == "__main__":
    harness.main()
