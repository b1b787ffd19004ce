"""A typo never becomes a silent default: flags, keys, variables, files and words that do not exist are refused with the nearest one."""

import harness


class Typos(harness.ClusterCase):
    def setUp(self):
        super().setUp()
        self.command = list(self.make_cluster().nodes["cp1"].command)

    def test_environment(self):
        self.refused_start(self.command, "PO_BOOTSTRP", "PO_BOOTSTRAP", env={"PO_BOOTSTRP": "1"})

    def test_flag(self):
        self.refused_start([*self.command, "--bootstrapp"], "--bootstrapp", "--bootstrap")

    def test_config_key_with_its_place(self):
        config = self.folder / "node.json"
        config.write_text('{\n  "snapshot_bytes": 65536,\n  "electon_ms": 500\n}\n')
        self.refused_start([*self.command, "--config", str(config)], f"{config}:3:", "electon_ms", "election_ms")

    def test_value(self):
        self.refused_start([*self.command, "--segment-bytes", "1mb"], "--segment-bytes", "1mb")

    def test_every_problem_is_listed_at_once(self):
        self.refused_start([*self.command, "--zone", "a b", "--log-level", "loud"], "--zone", "--log-level",
                           "PO_NAEM", env={"PO_NAEM": "x"})

    def test_a_public_address_needs_insecure(self):
        command = list(self.command)
        command[command.index("--listen") + 1] = f"0.0.0.0:{self.cluster.peer_ports['cp1'].number}"
        self.refused_start(command, "insecure")

    def test_worker_file(self):
        path = self.capabilities({"echo:json": {"command": ["cat"], "max_concurency": 2}, "echo json": ["cat"]})
        worker = [self.cluster.program("po-workerd"), "--id", "w1", "--controllers", self.cluster.controllers(),
                  "--capabilities", str(path)]
        self.refused_start(worker, str(path), "max_concurency", "max_concurrency", "echo json")

    def test_poctl(self):
        self.refused_start([self.cluster.program("poctl"), "statsu"], "statsu", "status")


if __name__ == "__main__":
    harness.main()
