"""A data directory belongs to one node of one cluster, and to one process at a time."""

import harness
from harness import NAMES, wait_until


class Directory(harness.ClusterCase):
    def command(self, **changed):
        """cp1's command with other values for some flags."""
        command = list(self.cluster.nodes["cp1"].command)
        for flag, value in changed.items():
            command[command.index("--" + flag.replace("_", "-")) + 1] = value
        return command

    def test_a_second_process_is_refused(self):
        cluster = self.start_cluster({"cp1": "lab"})
        self.refused_start(self.command(), str(cluster.data_dir("cp1")), "PO_ELOCKED", code=1)
        self.assertTrue(cluster.nodes["cp1"].running())
        self.assertEqual(self.leader(), "cp1")

    def test_another_identity_is_refused(self):
        cluster = self.start_cluster()
        self.assertEqual(cluster.nodes["cp1"].stop(), 0)
        directory = str(cluster.data_dir("cp1"))
        with self.subTest("another cluster"):
            self.refused_start(self.command(cluster="other"), directory, "PO_EIDENTITY")
        with self.subTest("another node's name"):
            members = cluster.members().replace("cp1=", "cp9=")
            self.refused_start(self.command(name="cp9", initial_members=members), directory, "PO_EIDENTITY")
        with self.subTest("other founding members"):
            self.refused_start(self.command(initial_members=cluster.members().replace("cp3=", "cp4=")), "PO_EIDENTITY")
        with self.subTest("its own is accepted as before"):
            cluster.nodes["cp1"].start()
            wait_until(lambda: self.status_of("cp1")["up"], what="cp1 up")

    def test_another_clusters_node_is_not_let_in(self):
        """A stranger at a member's address, with the same names but founded apart, changes nothing."""
        cluster = self.start_cluster()
        leader = self.leader()
        victim = self.followers(leader)[0]
        cluster.nodes[victim].kill()
        command = cluster.node_command(victim, NAMES[victim], harness.NODE_OPTIONS)
        command[command.index("--data-dir") + 1] = str(self.folder / "stranger")
        command[command.index("--cluster") + 1] = "other"
        stranger = harness.Daemon("stranger", command, self.folder / "stranger.log").start()
        self.others.append(stranger)
        # Both sides say no: the stranger is refused where it dials, and refuses who dials it.
        wait_until(lambda: '"id":"peer.refused"' in stranger.log_text().replace(": ", ":"), what="the stranger to be refused")
        self.assertEqual(self.leader(*(n for n in NAMES if n != victim)), leader)
        self.assertFalse(next(m for m in cluster.poctl("status", controllers=cluster.controllers(leader))["members"]
                              if m["name"] == victim)["up"])


if __name__ == "__main__":
    harness.main()
