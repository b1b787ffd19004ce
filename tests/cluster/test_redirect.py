"""Followers send clients and workers to the leader by its advertised name, exactly as configured."""

import harness
from harness import ECHO


class Redirect(harness.ClusterCase):
    def test_followers_name_the_leader_by_its_advertised_address_verbatim(self):
        """The advertised host is a name: it must come back as written, not resolved."""
        cluster = self.make_cluster()
        for name, node in cluster.nodes.items():
            node.command += ["--worker-advertise", f"localhost:{cluster.worker_ports[name].number}"]
        cluster.start()
        leader = self.leader()
        advertised = {m["name"]: m["worker_address"] for m in cluster.poctl("status")["members"]}
        self.assertEqual(advertised, {n: f"localhost:{p.number}" for n, p in cluster.worker_ports.items()})
        # A client that knows one follower only reaches the leader through the name that the follower told it.
        for follower in self.followers(leader):
            answer = cluster.poctl("status", controllers=cluster.controllers(follower))
            self.assertEqual(answer["leader"], leader)
        self.start_worker("w1", {"echo:json": ECHO}, controllers=cluster.controllers(self.followers(leader)[0]))
        self.assertEqual(self.run_task("echo:json", 1), 1)
        self.assertIn(f"localhost:{cluster.worker_ports[leader].number}", cluster.workers["w1"].log_text())


if __name__ == "__main__":
    harness.main()
