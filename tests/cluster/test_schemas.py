"""JSON schemas of capabilities, from the file of po-workerd to the error that poctl shows."""

import harness
from harness import ECHO, PoctlError

LABELS = {"type": "object", "required": ["label"], "properties": {"label": {"enum": ["cat", "dog"]}}}
COUNTED = {"type": "object", "properties": {"count": {"type": "integer", "maximum": 100}}, "additionalProperties": False}


class Schemas(harness.ClusterCase):
    def refused(self, capability, data):
        with self.assertRaises(PoctlError) as caught:
            self.submit(capability, data)
        return str(caught.exception)

    def test_inputs_are_checked_before_they_enter_the_log(self):
        cluster = self.start_cluster()
        unknown = self.submit("count:up", {"count": 101})  # nobody offers it yet, so nobody knows what it takes
        self.start_worker("w1", {"count:up": {"command": ECHO, "version": "1.2.0", "input_schema": COUNTED}})
        told = self.refused("count:up", {"count": 101})
        self.assertIn("PO_EINVAL", told)
        self.assertIn("input of count:up 1.2.0 breaks its schema at /count: 101 is above the maximum 100 (maximum)", told)
        self.assertIn('at /cuont: no property of that name is allowed; the nearest is "count" (additionalProperties)',
                      self.refused("count:up", {"cuont": 1}))
        self.assertEqual(self.run_task("count:up", {"count": 100}), {"count": 100})
        # What was accepted when nobody knew better is the worker's to refuse: at once, for good, and without its command.
        failed = self.wait_task(unknown, "failed", "succeeded")
        self.assertEqual((failed["state"], failed["attempts"]), ("failed", 1))
        self.assertIn("input of count:up 1.2.0 breaks its schema at /count: 101", failed["error"])

        # The next leader knows the same schemas; a newer version counts from its registration on.
        leader = self.leader()
        cluster.nodes[leader].kill()
        self.leader(*self.followers(leader))
        self.assertIn("count:up 1.2.0", self.refused("count:up", {"count": 101}))
        self.start_worker("w2", {"count:up": {"command": ECHO, "version": "1.10.0", "input_schema": {}}})
        self.submit("count:up@^1.10", {"count": 101})
        self.submit("count:up", {"count": 101})
        self.assertIn("count:up 1.2.0", self.refused("count:up@~1.2", {"count": 101}))

    def test_results_that_break_their_schema_fail_the_attempt(self):
        self.start_cluster({"cp1": "lab"})
        again = self.folder / "again"
        self.start_worker("w1", {
            "classify:image": {"command": ECHO, "output_schema": LABELS},
            "classify:later": {"command": ["sh", "-c", 'cat >/dev/null; if [ -e "$AGAIN" ]; then echo \'{"label":"dog"}\'; '
                                           'else touch "$AGAIN"; echo \'{"label":"cow"}\'; fi'],
                               "env": {"AGAIN": str(again)}, "output_schema": LABELS}})
        self.assertEqual(self.run_task("classify:image", {"label": "cat"}), {"label": "cat"})
        task = self.wait_task(self.submit("classify:image", {"label": "cow"}, "--attempts", "2", "--retry-delay", "1ms"), "failed",
                              "succeeded")
        self.assertEqual((task["state"], task["attempts"], task["result"]), ("failed", 2, None))
        self.assertIn('output of classify:image 1.0.0 breaks its schema at /label: "cow" is none of ["cat","dog"] (enum)',
                      task["error"])
        task = self.wait_task(self.submit("classify:later", None, "--retry-delay", "1ms"), "failed", "succeeded")
        self.assertEqual((task["state"], task["attempts"], task["result"]), ("succeeded", 2, {"label": "dog"}))

    def test_a_file_with_an_unsupported_schema_does_not_start(self):
        path = self.capabilities({"classify:image": {"command": ECHO, "input_schema": {"properties": {"url": {"pattern": "^s3:"}}}}})
        self.refused_start([str(harness.BUILD / "daemons" / "po-workerd"), "--id", "w1", "--controllers", "127.0.0.1:1",
                            "--capabilities", str(path)],
                           f"{path}:1:", "/capabilities/0/input_schema/properties/url/pattern", "regular expressions are not supported")


if __name__ == "__main__":
    harness.main()
