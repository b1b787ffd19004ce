"""Dramatiq with Redis as its broker and result backend: one worker process with one thread, its fastest for tasks that do nothing."""

import os

import dramatiq
import measure
import processes
import redis_server
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import ResultMissing, Results
from dramatiq.results.backends import RedisBackend


def nothing(value):
    return value


def connect(path):
    """The task, at a broker."""
    broker = RedisBroker(url=f"unix://{path}")
    broker.add_middleware(Results(backend=RedisBackend(client=redis_server.client(path))))
    dramatiq.set_broker(broker)
    return dramatiq.actor(nothing, store_results=True)


if redis_server.SOCKET in os.environ:  # this is the worker
    connect(os.environ[redis_server.SOCKET])


class Dramatiq(measure.System):
    name = "Dramatiq"

    def version(self):
        return dramatiq.__version__

    def start(self):
        path = redis_server.start(self)
        self.nothing = connect(path)
        command = ["-m", "dramatiq", "--processes", "1", "--threads", "1", "with_dramatiq"]
        env = {redis_server.SOCKET: str(path), "dramatiq_queue_prefetch": str(measure.TASKS_AT_ONCE)}
        self.workers.append(processes.python(self, "worker", command, env))

    def one(self, value):
        return self.nothing.send(value).get_result(block=True, timeout=60000)

    def many(self, values):
        tasks = dramatiq.group(self.nothing.message(value) for value in values).run().children
        tasks[-1].get_result(block=True, timeout=120000)  # they run about in order
        return [self.result(task) for task in tasks]

    @staticmethod
    def result(task):
        """Looking is a read for Redis; waiting is a write, which it keeps."""
        try:
            return task.get_result()
        except ResultMissing:
            return task.get_result(block=True, timeout=120000)


make = Dramatiq
