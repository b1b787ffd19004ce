"""The C and C++ examples do what their comments say."""

import signal
import subprocess
import unittest

import harness
from harness import BUILD, Port

EXAMPLES = BUILD / "examples"


class Examples(harness.ClusterCase):
    def run_example(self, name, *arguments):
        ran = subprocess.run([EXAMPLES / name, *arguments], capture_output=True, text=True, timeout=60, cwd=self.folder,
                             env=harness.environment({"TMPDIR": str(self.folder)}))
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        return ran.stdout.splitlines()

    def test_single(self):
        """The counter survives the process that incremented it."""
        for value in (1, 2, 3):
            self.assertEqual(self.run_example("embed_single", "counter"), [f"success, counter is {value}"])

    def test_cluster(self):
        ports = [Port() for _ in range(3)]
        for port in ports:
            self.addCleanup(port.close)
        lines = self.run_example("embed_cluster", *(str(port.number) for port in ports))
        self.assertEqual(lines[:3], [f"counter after ten commands through {name}: {value}"
                                     for name, value in (("alpha", 55), ("beta", 110), ("gamma", 165))])
        self.assertIn('{"greeting": "hello", "to": "Ada"}', lines[3])

    def test_worker(self):
        """Serves, refuses a bad input for good, and leaves on SIGTERM."""
        cluster = self.start_cluster(nodes={"cp1": "aws"})
        with open(self.folder / "worker-c.log", "w", encoding="utf-8") as log:
            worker = subprocess.Popen([EXAMPLES / "worker", cluster.controllers()], stdout=log, stderr=log)
        try:
            self.wait_worker("worker-c", "online")
            self.assertEqual(self.run_task("text:upper", "hello\n"), "HELLO\n")
            failed = self.wait_task(self.submit("text:upper", 7), "failed")
            self.assertEqual(failed["attempts"], 1)
            self.assertIn("expected a JSON string", failed["error"])
            worker.send_signal(signal.SIGTERM)
            self.assertEqual(worker.wait(10), 0)
            self.assertEqual(cluster.poctl("workers")["workers"], [])
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()


if __name__ == "__main__":
    unittest.main()
