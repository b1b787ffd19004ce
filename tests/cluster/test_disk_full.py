"""A full disk under one node: it stops with a clear error, the others go on, and with room it comes back with everything.

The disk is a small file system of its own, which needs root and the right to mount; without them the tests are skipped.
"""

import os
import pathlib
import shutil
import subprocess
import unittest

import harness
from harness import wait_until

FILE_SYSTEM_BYTES = 24 * 1024 * 1024
PAYLOAD = "x" * 100000


def run(*command):
    return subprocess.run(command, capture_output=True, text=True)


class Disk:
    """An ext4 file system in a file, mounted at `folder`."""

    def __init__(self, folder):
        self.folder, self.image = pathlib.Path(folder), pathlib.Path(f"{folder}.img")
        self.mounted = False

    def mount(self):
        """Returns why it did not work, or None."""
        if os.geteuid() != 0:
            return "mounting needs root"
        if not shutil.which("mkfs.ext4"):
            return "mkfs.ext4 (e2fsprogs) is not installed"
        with open(self.image, "wb") as file:
            file.truncate(FILE_SYSTEM_BYTES)
        made = run("mkfs.ext4", "-q", "-m", "0", str(self.image))
        if made.returncode:
            return f"mkfs.ext4: {made.stderr.strip()}"
        self.folder.mkdir()
        tried = run("mount", "-o", "loop", str(self.image), str(self.folder))
        self.mounted = tried.returncode == 0
        return None if self.mounted else f"no loop mount here: {tried.stderr.strip()}"

    def unmount(self):
        if self.mounted:
            wait_until(lambda: run("umount", str(self.folder)).returncode == 0, what=f"umount {self.folder}")
            self.mounted = False


class DiskFull(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.make_cluster(options=("--segment-bytes", "1MiB", "--snapshot-bytes", "64MiB"))
        self.ballast = None

    def put_on_small_disk(self, node):
        disk = Disk(self.cluster.data_dir(node))
        problem = disk.mount()
        if problem:
            raise unittest.SkipTest(problem)
        self.ballast = disk.folder / "ballast"
        self.when_ended.append(disk.unmount)

    def fill(self):
        """Take all the room that is left."""
        with open(self.ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"\0" * 65536)
            except OSError:
                pass

    def test_one_node_stops_clearly_and_comes_back(self):
        cluster = self.cluster
        self.put_on_small_disk("cp1")
        cluster.start()
        self.leader()
        put = [self.submit("nobody:home", 0)]
        wait_until(lambda: self.status_of("cp1")["up"], what="cp1 up")
        self.fill()
        node = cluster.nodes["cp1"]

        def stopped():
            put.append(self.submit("nobody:home", PAYLOAD))
            return not node.running()

        wait_until(stopped, timeout_s=60, what="cp1 to stop because its disk is full")
        self.assertEqual(node.process.returncode, 1)
        self.assertIn("PO_ENOSPACE", node.log_text())
        self.assertIn("space", node.log_text())
        others = [n for n in cluster.nodes if n != "cp1"]
        self.leader(*others)
        put.append(self.submit("nobody:home", 1))
        # A start without room must not damage anything: it is refused, or the node stops again.
        node.start()
        self.assertEqual(node.wait(30), 1)
        self.ballast.unlink()
        node.start()
        wait_until(lambda: self.status_of("cp1")["up"], what="cp1 up again")
        # It holds every task: with one of the others gone, the leader needs it to commit and it is complete.
        leader = self.leader()
        other = next(n for n in others if n != leader)
        cluster.nodes[other].kill()
        put.append(self.submit("nobody:home", 2))
        listed, after = [], 0
        while True:
            page = cluster.poctl("task", "list", "--limit", "1000", "--after", str(after))
            listed += [task["id"] for task in page["tasks"]]
            if page["next"] is None:
                break
            after = page["next"]
        self.assertEqual(listed, put)

    def test_a_disk_that_is_too_small_is_refused_with_its_reason(self):
        self.put_on_small_disk("cp1")
        self.fill()
        self.refused_start(self.cluster.nodes["cp1"].command, "PO_ENOSPACE", str(self.cluster.data_dir("cp1")), code=1)


if __name__ == "__main__":
    harness.main()
