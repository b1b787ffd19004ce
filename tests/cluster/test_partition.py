"""Links that break between nodes and to clients, by the relay: both ways, one way, refused, slow."""

import harness
from harness import BUILD, NAMES, NODE_OPTIONS, PoctlError, wait_until
from relay import CLIENTS, name_in_hello
from relayed import RelayedCluster


class Partition(harness.ClusterCase):
    def start(self):
        self.cluster = RelayedCluster(BUILD, self.folder, NAMES, node_options=NODE_OPTIONS)
        self.relay = self.cluster.relay
        self.cluster.start()
        first = self.leader()
        wait_until(lambda: all(m["up"] for m in self.cluster.poctl("status")["members"]), what="three members up")
        return first

    def put(self):
        return self.submit("nobody:home")

    def pending(self):
        return [task["id"] for task in self.cluster.poctl("task", "list", "--limit", "1000")["tasks"]]

    def all_up(self):
        wait_until(lambda: all(m["up"] for m in self.cluster.poctl("status")["members"]), what="three members up again")

    def succession(self, first, tasks):
        """The others elect a leader and go on; healed, all agree."""
        others = self.followers(first)
        second = self.leader(*others, but=first)
        tasks.append(self.put())
        self.assertIn(second, others)
        self.relay.heal()
        self.all_up()
        self.assertEqual(self.pending(), tasks)

    def test_everything_goes_through_the_relay(self):
        first = self.start()
        before = self.relay.carried_bytes
        self.put()
        self.assertGreater(self.relay.carried_bytes, before)
        for node in self.followers(first):
            self.relay.isolate(node, NAMES)
        with self.assertRaises(PoctlError, msg="a leader that reaches nobody commits nothing"):
            self.cluster.poctl("task", "submit", "nobody:home", timeout_s=2)
        with self.assertRaises(PoctlError, msg="nor does it answer a read"):
            self.cluster.poctl("task", "list", timeout_s=2)
        self.relay.heal()
        self.all_up()

    def test_leader_cut_off(self):
        first = self.start()
        tasks = [self.put()]
        self.relay.isolate(first, NAMES)
        self.succession(first, tasks)

    def test_leader_that_hears_nobody(self):
        first = self.start()
        tasks = [self.put()]
        for other in self.followers(first):
            self.relay.cut_one_way(other, first)
        self.succession(first, tasks)

    def test_leader_that_nobody_hears(self):
        first = self.start()
        tasks = [self.put()]
        for other in self.followers(first):
            self.relay.cut_one_way(first, other)
        self.succession(first, tasks)

    def test_leader_whose_links_are_refused(self):
        first = self.start()
        tasks = [self.put()]
        for other in self.followers(first):
            self.relay.refuse(first, other)
        self.succession(first, tasks)

    def test_two_followers_that_do_not_reach_each_other(self):
        """The leader reaches both: nothing happens."""
        first = self.start()
        tasks = [self.put()]
        term = self.cluster.poctl("status")["term"]
        self.relay.cut(*self.followers(first))
        for _ in range(20):
            tasks.append(self.put())
        self.assertEqual(self.pending(), tasks)
        self.assertEqual(self.cluster.poctl("status")["term"], term)
        self.relay.heal()
        self.all_up()

    def test_slow_links(self):
        first = self.start()
        for other in self.followers(first):
            self.relay.delay(first, other, 0.04)
            self.relay.delay(other, first, 0.04)
        tasks = [self.put() for _ in range(5)]
        self.assertEqual(self.pending(), tasks)

    def test_answers_that_do_not_arrive(self):
        """The submission takes place, its answer is lost; asked again under its key, it is the same task."""
        first = self.start()
        self.relay.cut_one_way(first, CLIENTS)
        with self.assertRaises(PoctlError) as unknown:
            self.cluster.poctl("task", "submit", "nobody:home", "--key", "once", controllers=self.cluster.controllers(first), timeout_s=1)
        self.assertEqual(unknown.exception.code, 3, unknown.exception)
        self.relay.heal(reset=True)
        task = self.submit("nobody:home", None, "--key", "once")
        self.assertEqual(self.pending(), [task])


class Hello(harness.unittest.TestCase):
    def test_name_is_found(self):
        ids = b"\xc4\x10" + bytes(16)
        for number in (b"\x01", b"\xcc\xff", b"\xcf" + bytes(8)):
            hello = b"\x9a\x01" + ids + ids + b"\x02" + number + b"\x01" + b"\xa3cp1" + b"\xa0"
            self.assertEqual(name_in_hello(hello), "cp1")
        self.assertEqual(name_in_hello(b"\xdc\x00\x0a\x01" + ids + ids + b"\x02\x03\x01\xd9\x28" + b"n" * 40), "n" * 40)


if __name__ == "__main__":
    harness.main()
