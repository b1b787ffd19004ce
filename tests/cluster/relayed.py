"""A cluster whose nodes, clients and workers reach each other through a relay only, and a schedule of faults for it."""

import random
import signal
import time

from local_cluster import Cluster, PoctlError, Port, wait_until
from relay import CLIENTS, Relay


class RelayedCluster(Cluster):
    """Each node listens at one port and advertises another, where the relay listens."""

    def __init__(self, build, folder, nodes, name="pipeorch", node_options=()):
        self.relay = Relay()
        self.peer_fronts = {node: Port() for node in nodes}
        self.worker_fronts = {node: Port() for node in nodes}
        super().__init__(build, folder, nodes, name=name, node_options=node_options)
        for node in nodes:
            self.relay.peer_link(node, self.peer_fronts[node].socket, self.peer_ports[node].address)
            self.relay.client_link(node, self.worker_fronts[node].socket, self.worker_ports[node].address)

    def peer_address(self, node):
        return self.peer_fronts[node].address

    def worker_address(self, node):
        return self.worker_fronts[node].address

    def node_command(self, node, zone, options=()):
        return super().node_command(node, zone, ("--advertise", self.peer_address(node),
                                                 "--worker-advertise", self.worker_address(node), *options))

    def release(self):
        self.relay.close()
        super().release()
        for port in [*self.peer_fronts.values(), *self.worker_fronts.values()]:
            port.close()


class Faults:
    """Breaks one thing at a time, holds that for a moment, and mends it. The same seed breaks in the same order; which node leads at
    that moment, and what the operating system makes of it, is not in the seed's hands.

    leader: a function that names the node believed to lead, or None. log: called with one line for each fault."""

    def __init__(self, cluster, seed, leader, log, election_s):
        self.cluster, self.seed, self.leader, self.log, self.election_s = cluster, seed, leader, log, election_s
        self.random = random.Random(seed)
        self.count = 0
        self.ended = []  # processes that ended without being killed: what no fault excuses
        self.began = time.monotonic()
        self.kinds = [self.kill_leader, self.kill_leader, self.kill_follower, self.kill_all, self.pause_leader, self.pause_leader,
                      self.pause_follower, self.isolate_leader, self.isolate_leader, self.isolate_follower, self.deafen_leader,
                      self.mute_leader, self.cut_pair, self.refuse_pair, self.slow_links, self.cut_clients, self.cut_clients,
                      self.transfer_leader, self.demote_follower]

    def run(self, seconds):
        """Faults for so long; afterwards nothing is broken, though not everything has recovered."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.one()
            time.sleep(self.random.uniform(0.3, 2.0))

    def one(self):
        self.random.seed(f"{self.seed}/{self.count}")  # the order does not depend on how often the last one drew
        kind = self.random.choice(self.kinds)
        target = self._leader() if "leader" in kind.__name__ or kind == self.cut_clients else self._follower()
        self.count += 1
        self.log(f"{time.monotonic() - self.began:7.2f} s  {kind.__name__} {target}")
        try:
            kind(target)
        finally:
            self.mend()

    def mend(self):
        self.cluster.relay.heal(reset=self.random.random() < 0.5)
        self._revive(self.cluster.nodes.values())

    def _revive(self, daemons):
        for daemon in daemons:
            if daemon.running():
                daemon.signal(signal.SIGCONT)
                continue
            if daemon.process.returncode != -signal.SIGKILL:
                self.ended.append(f"{daemon.name} ended by itself with {daemon.process.returncode}")
            daemon.start()

    # ---- whom ----

    def _leader(self):
        return self.leader() or self.random.choice(sorted(self.cluster.nodes))

    def _follower(self):
        leader = self._leader()
        return self.random.choice([node for node in sorted(self.cluster.nodes) if node != leader])

    def _others(self, target):
        return [node for node in sorted(self.cluster.nodes) if node != target]

    def _hold(self, shortest, longest):
        """Times in election timeouts."""
        time.sleep(self.random.uniform(shortest, longest) * self.election_s)

    # ---- what ----

    def kill_leader(self, target):
        self.cluster.nodes[target].kill()
        self._hold(0, 6)

    kill_follower = kill_leader

    def kill_all(self, _target):
        for daemon in self.cluster.nodes.values():
            if daemon.running():
                daemon.process.kill()
        for daemon in self.cluster.nodes.values():
            daemon.kill()
        self._hold(0, 1)

    def pause_leader(self, target):
        """Longer than an election: when it wakes up it believes for a moment that it still leads."""
        self.cluster.nodes[target].signal(signal.SIGSTOP)
        self._hold(1.5, 6)

    def pause_follower(self, target):
        self.cluster.nodes[target].signal(signal.SIGSTOP)
        self._hold(0.2, 6)

    def isolate_leader(self, target):
        """From its peers. Its clients still reach it, and it must not answer them."""
        self.cluster.relay.isolate(target, self._others(target))
        self._hold(0.5, 8)

    isolate_follower = isolate_leader

    def deafen_leader(self, target):
        for other in self._others(target):
            self.cluster.relay.cut_one_way(other, target)
        self._hold(1, 8)

    def mute_leader(self, target):
        for other in self._others(target):
            self.cluster.relay.cut_one_way(target, other)
        self._hold(1, 8)

    def cut_pair(self, target):
        self.cluster.relay.cut(target, self.random.choice(self._others(target)))
        self._hold(1, 8)

    def refuse_pair(self, target):
        self.cluster.relay.refuse(target, self.random.choice(self._others(target)))
        self._hold(1, 8)

    def slow_links(self, target):
        for other in self._others(target):
            self.cluster.relay.delay(target, other, self.random.uniform(0.01, 0.3) * self.election_s)
            self.cluster.relay.delay(other, target, self.random.uniform(0.01, 0.3) * self.election_s)
        self._hold(2, 8)

    def transfer_leader(self, _target):
        """Wherever it goes, if it goes: an election may come between."""
        try:
            self.cluster.poctl("member", "transfer", timeout_s=3)
        except PoctlError:
            pass
        self._hold(0, 2)

    def demote_follower(self, target):
        """For a while two vote. Half of the time the leader dies meanwhile, so that no other can be elected before it is back."""
        try:
            self.cluster.poctl("member", "demote", target, timeout_s=3)
        except PoctlError:
            pass
        self._hold(0, 4)
        if self.random.random() < 0.5:
            self.cluster.nodes[self._leader()].kill()
            self._hold(0, 4)
        self.mend()

        def promoted():
            self.cluster.poctl("member", "promote", target, timeout_s=5)
            return True

        wait_until(promoted, what=f"{target} votes again")

    def cut_clients(self, target):
        self.cluster.relay.cut_one_way(target, CLIENTS)
        self._hold(1, 6)
