"""Followers send clients and workers to the leader by its advertised name, exactly as configured."""

import socket
import struct

import harness
from harness import ECHO

PO_ENOTLEADER = -8
STATUS_REQUEST = bytes([0x98, 1, 3, 0xCD, 0x0B, 0xB8, 1, 0, 0xA0, 0xA0, 0])  # msgpack [1, QUERY, 3000 ms, STATUS, 0, "", "", 0]


def exchange(address, payload):
    """One request and its answer as a stranger would do it: SP over TCP, as any nng REQ socket speaks it."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        stream = connection.makefile("rwb")
        stream.write(b"\0SP\0\0\x30\0\0" + struct.pack(">QI", 4 + len(payload), 0x80000001) + payload)
        stream.flush()
        hello, length = stream.read(8), struct.unpack(">Q", stream.read(8))[0]
        answer = stream.read(length)
    assert hello[:4] == b"\0SP\0" and answer[:4] == b"\x80\0\0\1", (hello, answer)
    return answer[4:]


def text_at(data, offset):
    """(a msgpack string at offset, the offset behind it)"""
    head = data[offset]
    if head >> 5 == 0b101:
        begin, size = offset + 1, head & 31
    else:
        assert head == 0xD9, hex(head)
        begin, size = offset + 2, data[offset + 1]
    return data[begin:begin + size].decode(), begin + size


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
        for follower in self.followers(leader):
            answer = exchange(cluster.worker_ports[follower].address, STATUS_REQUEST)  # [1, code, message, leader_address, ...]
            self.assertEqual(struct.unpack_from("b", answer, 2)[0], PO_ENOTLEADER, answer)
            _message, behind = text_at(answer, 3)
            self.assertEqual(text_at(answer, behind)[0], f"localhost:{cluster.worker_ports[leader].number}")
        # A client that knows one follower only reaches the leader through the name that the follower told it.
        for follower in self.followers(leader):
            answer = cluster.poctl("status", controllers=cluster.controllers(follower))
            self.assertEqual(answer["leader"], leader)
        self.start_worker("w1", {"echo:json": ECHO}, controllers=cluster.controllers(self.followers(leader)[0]))
        self.assertEqual(self.run_task("echo:json", 1), 1)


if __name__ == "__main__":
    harness.main()
