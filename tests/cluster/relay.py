"""A TCP relay between the nodes of a cluster, and between its clients and its nodes, that can be broken while it runs.

Every link is directed: frames from `a` to `b` can be stopped while those from `b` to `a` go on. What it can do to a link:

  cut      nothing passes any more and nothing is refused, as behind a router that drops packets. Connections stay; what was under way
           arrives when the link is healed, late, as TCP's retransmissions would
  refuse   connections are closed, new ones at once, as when a firewall answers
  delay    everything arrives so much later

All nodes of a cluster know one address of each member, so the relay listens there (the advertised address) and the node behind it
(its bind address). Which node dials is read from the hello that begins a connection of peers; who speaks to a worker address is
the party CLIENTS. Memory is bounded: a link that does not pass is not read beyond HELD_MAX_BYTES.
"""

import asyncio
import socket
import struct
import threading

CLIENTS = "clients"
CHUNK_BYTES = 64 * 1024
HELD_MAX_BYTES = 256 * 1024  # of one direction of a connection, on its way
HELLO_MAX_BYTES = 2048 + 64
FRAME_HEADER = struct.Struct("<IIB")  # length of channel and payload, checksum, channel


def _msgpack(data, at):
    """(value, offset behind it) of the kinds of msgpack value that a hello has."""
    head, at = data[at], at + 1
    if head < 0x80:
        return head, at
    if head & 0xE0 == 0xA0:
        return data[at:at + (head & 31)], at + (head & 31)
    width = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xC4: 1, 0xC5: 2, 0xD9: 1, 0xDA: 2}[head]
    number, at = int.from_bytes(data[at:at + width], "big"), at + width
    return (number, at) if head >> 2 == 0x33 else (data[at:at + number], at + number)


def name_in_hello(payload):
    """The name of the node that says this hello: [version, cluster id, directory id, node id, incarnation, feature level, name, ...]."""
    if payload[0] & 0xF0 == 0x90:
        at = 1
    else:
        assert payload[0] == 0xDC, "a hello is an array"
        at = 3
    for _ in range(7):
        value, at = _msgpack(payload, at)
    return value.decode()


class _Rule:
    """What holds for one direction between two parties."""

    def __init__(self):
        self.passing = asyncio.Event()
        self.passing.set()
        self.refusing = False
        self.delay_s = 0.0


class _Connection:
    """One relayed connection: two directions, each with its rule."""

    def __init__(self, parties, streams):
        self.parties, self.streams, self.tasks = parties, streams, []

    def close(self):
        for task in self.tasks:
            task.cancel()
        for stream in self.streams:
            stream.transport.abort()


class Relay:
    """Runs in a thread of its own. All methods may be called from any other thread; they return when it is done."""

    def __init__(self):
        self._loop = asyncio.new_event_loop()
        self._rules, self._connections, self._servers, self._tasks = {}, set(), [], set()
        self.carried_bytes = 0
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()

    # ---- what callers do ----

    def peer_link(self, node, listen, target):
        """Relay connections of peers to `node`: listen on the socket `listen` (bound, not yet listening) for the address `target`."""
        self._do(self._serve(node, listen, target, self._peer_dialler))

    def client_link(self, node, listen, target):
        """The same for clients and workers: all of them are the party CLIENTS."""
        self._do(self._serve(node, listen, target, self._client_dialler))

    def cut(self, one, other):
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def cut_one_way(self, source, destination):
        self._change(source, destination, lambda rule: rule.passing.clear())

    def refuse(self, one, other):
        def change(rule):
            rule.refusing = True

        self._change(one, other, change)
        self._change(other, one, change)
        self._do(self._close_between(one, other))

    def delay(self, source, destination, seconds):
        def change(rule):
            rule.delay_s = seconds

        self._change(source, destination, change)

    def isolate(self, node, others):
        for other in others:
            if other != node:
                self.cut(node, other)

    def heal(self, reset=False):
        """Everything passes again. reset: connections that were held up end, as after a partition longer than TCP's patience."""
        self._do(self._heal(reset))

    def close(self):
        if self._loop.is_closed():
            return
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # ---- on the relay's thread ----

    def _do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=30)

    def _rule(self, source, destination):
        return self._rules.setdefault((source, destination), _Rule())

    def _change(self, source, destination, change):
        async def run():
            change(self._rule(source, destination))

        self._do(run())

    async def _heal(self, reset):
        if reset:
            for connection in list(self._connections):
                if not all(self._rule(*pair).passing.is_set() for pair in (connection.parties, connection.parties[::-1])):
                    connection.close()
        for rule in self._rules.values():
            rule.refusing, rule.delay_s = False, 0.0
            rule.passing.set()

    async def _close_between(self, one, other):
        for connection in list(self._connections):
            if set(connection.parties) == {one, other}:
                connection.close()

    async def _close(self):
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, node, listen, target, dialler):
        host, _, port = target.rpartition(":")

        async def accepted(reader, writer):
            task = asyncio.current_task()
            self._tasks.add(task)
            try:
                await self._relay(node, (host, int(port)), dialler, reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the connection ended: so does its relay
            finally:
                writer.transport.abort()
                self._tasks.discard(task)

        self._servers.append(await asyncio.start_server(accepted, sock=listen, limit=CHUNK_BYTES))

    async def _peer_dialler(self, reader):
        """(name of the dialling node, the bytes read to learn it)"""
        header = await reader.readexactly(FRAME_HEADER.size)
        length, _checksum, _channel = FRAME_HEADER.unpack(header)
        if not 1 < length <= HELLO_MAX_BYTES:
            raise OSError(f"{length} bytes are no hello")
        payload = await reader.readexactly(length - 1)
        return name_in_hello(payload), header + payload

    async def _client_dialler(self, _reader):
        return CLIENTS, b""

    async def _relay(self, node, target, dialler, reader, writer):
        party, first = await dialler(reader)
        there, back = self._rule(party, node), self._rule(node, party)
        if there.refusing or back.refusing:
            return
        await there.passing.wait()  # the node must not even see the connection
        out_reader, out_writer = await asyncio.open_connection(*target, limit=CHUNK_BYTES)
        connection = _Connection((party, node), (writer, out_writer))
        for stream in connection.streams:
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connections.add(connection)
        try:
            connection.tasks = [asyncio.ensure_future(self._pump(reader, out_writer, there, first)),
                                asyncio.ensure_future(self._pump(out_reader, writer, back, b""))]
            await asyncio.wait(connection.tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            connection.close()
            for task in connection.tasks:
                try:
                    await task
                except (OSError, asyncio.CancelledError):
                    pass

    async def _pump(self, reader, writer, rule, first):
        """One direction, until its end has arrived: an end, too, passes only when the link does. Delayed data waits in a bounded
        queue, each chunk for its own time."""
        queue = asyncio.Queue(maxsize=HELD_MAX_BYTES // CHUNK_BYTES)
        delivery = asyncio.ensure_future(self._deliver(queue, writer, rule))
        try:
            data = first
            while True:
                data = data or await self._read(reader)
                await queue.put((self._loop.time() + rule.delay_s, data))
                if not data:
                    break
                data = b""
            await delivery
        finally:
            delivery.cancel()

    async def _deliver(self, queue, writer, rule):
        while True:
            due, data = await queue.get()
            if due > self._loop.time():
                await asyncio.sleep(due - self._loop.time())
            await rule.passing.wait()
            if not data:
                return
            self.carried_bytes += len(data)
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                pass  # nobody is there any more; the other direction says so, once its link passes

    async def _read(self, reader):
        """b"" at the end, however it came."""
        try:
            return await reader.read(CHUNK_BYTES)
        except OSError:
            return b""
