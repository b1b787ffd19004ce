"""Schedules on three real nodes: define, list, pause, delete; and one tick of the real clock, over a failover.

That each tick has exactly one run through twenty failovers is shown in virtual time: tests/unit/sim/test_sim_schedule.c.
"""

import json
import os
import unittest.mock

import harness
from harness import ECHO, PoctlError, wait_until

MINUTE_MS = 60_000


class Schedules(harness.ClusterCase):
    def start(self, nodes=harness.NAMES):
        cluster = self.start_cluster(nodes)
        path = self.folder / "pipeline.json"
        path.write_text(json.dumps({"name": "chain", "start_node": "a", "steps": [{"name": "a", "capability": "echo:json"}]}))
        cluster.poctl("pipeline", "define", str(path))
        return cluster

    def define(self, name, cron, *options):
        return self.cluster.poctl("schedule", "define", name, "--pipeline", "chain", "--cron", cron, *options)

    def show(self, name):
        return self.cluster.poctl("schedule", "show", name)

    def runs(self):
        return self.cluster.poctl("pipeline", "runs", "--limit", "1000")["runs"]

    def refused(self, *arguments):
        with self.assertRaises(PoctlError) as caught:
            self.cluster.poctl(*arguments)
        return str(caught.exception)

    def test_define_list_pause_resume_delete(self):
        cluster = self.start()
        self.define("nightly", "30 2 * * *", "--time-zone", "Europe/Berlin", "--params", '{"year": 2018}', "--zone", "aws",
                    "--overlap", "skip", "--catch-up", "90m")
        self.define("hourly", "@hourly", "--paused")
        nightly = self.show("nightly")
        self.assertEqual((nightly["pipeline"], nightly["cron"], nightly["time_zone"], nightly["params"], nightly["zone"]),
                         ("chain", "30 2 * * *", "Europe/Berlin", {"year": 2018}, "aws"))
        self.assertEqual((nightly["overlap"], nightly["catch_up_ms"], nightly["paused"]), ("skip", 90 * MINUTE_MS, False))
        self.assertEqual((nightly["fired"], nightly["runs"], nightly["last_fire_ms"]), (0, [], None))
        ticks = nightly["next_ms"]
        self.assertEqual(len(ticks), 5)
        self.assertEqual(ticks, sorted(set(ticks)))
        for tick in ticks:  # half past two in Berlin is half past one, or zero, in UTC; 03:00 (01:00 UTC) on one day of spring
            self.assertIn(tick // MINUTE_MS % 1440, (30, 60, 90))
        listed = cluster.poctl("schedule", "list")["schedules"]
        self.assertEqual([(s["name"], s["paused"], len(s["next_ms"])) for s in listed], [("hourly", True, 0), ("nightly", False, 1)])
        table = cluster.poctl_text("schedule", "list")
        self.assertIn("NEXT TICK", table)
        self.assertRegex(table, r"hourly +chain +@hourly +UTC +paused")
        self.assertIn("NEXT TICKS", cluster.poctl_text("schedule", "show", "nightly"))
        cluster.poctl("schedule", "resume", "hourly")
        cluster.poctl("schedule", "pause", "nightly")
        wait_until(lambda: self.show("hourly")["next_ms"], what="a next tick of the schedule that was resumed")
        self.assertEqual(self.show("nightly")["next_ms"], [])
        self.define("nightly", "30 2 * * *")  # anew: not paused, all else as by default
        self.assertEqual((self.show("nightly")["paused"], self.show("nightly")["params"]), (False, None))
        cluster.poctl("schedule", "delete", "nightly")
        self.assertEqual([s["name"] for s in cluster.poctl("schedule", "list")["schedules"]], ["hourly"])
        self.assertIn("no schedule \"nightly\" is defined", self.refused("schedule", "delete", "nightly"))
        self.assertIn("no such schedule", self.refused("schedule", "show", "nightly"))

    def test_what_is_refused(self):
        self.start({"cp1": "lab"})
        define = ("schedule", "define", "s", "--pipeline", "chain", "--cron")
        self.assertIn('cron field 2 (hour): "25" is not understood; expected 0..23', self.refused(*define, "0 25 * * *"))
        self.assertIn("would never fire", self.refused(*define, "0 0 31 2 *"))
        self.assertIn('no time zone "Europe/Atlantis" is known', self.refused(*define, "0 6 * * *", "--time-zone", "Europe/Atlantis"))
        self.assertIn("is not the name of a time zone", self.refused(*define, "0 6 * * *", "--time-zone", "../localtime"))
        self.assertIn("--cron is missing", self.refused("schedule", "define", "s", "--pipeline", "chain"))
        self.assertIn("--pipeline is missing", self.refused("schedule", "define", "s", "--cron", "@daily"))
        self.assertIn("catch", self.refused(*define, "@daily", "--catch-up", "169h"))
        self.assertEqual(self.cluster.poctl("schedule", "list")["schedules"], [])

    def test_zones_are_looked_for_where_tzdir_says(self):
        zones = self.folder / "zones"
        (zones / "Test").mkdir(parents=True)
        head = b"TZif2" + bytes(15) + b"".join(n.to_bytes(4, "big") for n in (0, 0, 0, 0, 1, 4))
        data = bytes(4) + b"\0\0UTC\0"
        (zones / "Test" / "Ahead").write_bytes(head + data + head + data + b"\nXXX-5\n")
        with unittest.mock.patch.dict(os.environ, {"TZDIR": str(zones)}):
            self.start({"cp1": "lab"})
        self.assertIn(str(zones), self.refused("schedule", "define", "s", "--pipeline", "chain", "--cron", "0 6 * * *", "--time-zone",
                                               "Europe/Berlin"))
        self.define("s", "0 6 * * *", "--time-zone", "Test/Ahead")
        self.assertEqual(self.show("s")["next_ms"][0] // MINUTE_MS % 1440, 60)

    def test_a_tick_of_the_real_clock_over_a_failover(self):
        cluster = self.start()
        self.start_worker("w1", {"echo:json": ECHO})
        self.define("minutely", "* * * * *", "--params", '{"n": 1}')
        defined = self.show("minutely")
        due = defined["last_fire_ms"] or defined["next_ms"][0]
        leader = self.leader()
        cluster.nodes[leader].kill()
        self.leader(*self.followers(leader))
        schedule = wait_until(lambda: (s := self.show("minutely"))["fired"] and s, timeout_s=65, what="a tick")
        cluster.nodes[leader].start()
        run = schedule["runs"][0]
        self.assertEqual(run["fire_ms"], due)
        self.assertEqual(run["fire_ms"] % MINUTE_MS, 0)
        wait_until(lambda: cluster.poctl("pipeline", "show", str(run["run_id"]))["state"] == "succeeded", what="the end of the run")
        shown = cluster.poctl("pipeline", "show", str(run["run_id"]))
        self.assertEqual(shown["params"], {"n": 1})
        self.assertGreaterEqual(shown["started_ms"], due)
        schedule = self.show("minutely")
        self.assertEqual(len(self.runs()), schedule["fired"])
        self.assertEqual((schedule["late"], schedule["skipped"], schedule["refused"]), (0, 0, 0))


if __name__ == "__main__":
    harness.main()
