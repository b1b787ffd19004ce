"""Help for tests of what is built on pipeorch. Provisional: it may change in any release.

    from pipeorch.testing import Cluster, simulate

    def test_survives_the_leader():
        with Cluster(3) as cluster:                         # real nodes, real sockets and disks, in this process
            task = cluster.client.submit("text:upper", input="hi")
            cluster.kill(cluster.leader)
            assert cluster.client.task(task.id)["state"] == "pending"

    def test_pipeline_under_chaos():
        assert simulate(PIPELINE, faults="chaos", seed=7).kept   # the same nodes in virtual time; a seed replays exactly

pytest finds the fixtures `pipeorch_cluster` and `pipeorch_node` by itself once this package is installed.
"""

from .cluster import Cluster
from .simulation import Simulation, presets, simulate

__all__ = ["Cluster", "Simulation", "presets", "simulate"]
