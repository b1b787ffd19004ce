"""Celery with Redis as its broker and result backend: one worker with the solo pool, which runs tasks in the worker's own process."""

import os

import celery
import measure
import processes
import redis_server

app = celery.Celery("with_celery")


def connect(path):
    app.conf.broker_url = app.conf.result_backend = f"redis+socket://{path}"
    app.conf.worker_prefetch_multiplier = measure.TASKS_AT_ONCE
    app.conf.broker_connection_retry_on_startup = True


if redis_server.SOCKET in os.environ:  # this is the worker
    connect(os.environ[redis_server.SOCKET])


@app.task(name="nothing")
def nothing(value):
    return value


class Celery(measure.System):
    name = "Celery"

    def version(self):
        return celery.__version__

    def start(self):
        path = redis_server.start(self)
        connect(path)
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning"]
        command = ["-m", "celery", "--app", "with_celery", "worker", "--pool", "solo", *quiet]
        self.workers.append(processes.python(self, "worker", command, {redis_server.SOCKET: str(path)}))

    def one(self, value):
        return nothing.delay(value).get(timeout=60)

    def many(self, values):
        return celery.group(nothing.s(value) for value in values).apply_async().join_native(timeout=120)


make = Celery
