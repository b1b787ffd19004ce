"""RQ: one SimpleWorker, which runs its jobs in its own process; RQ's default worker forks for each."""

import measure
import processes
import redis_server
import rq
from rq.job import Job

JOBS_AT_ONCE = 1000  # jobs that are looked at by one call


def nothing(value):
    return value


class RQ(measure.System):
    name = "RQ"

    def version(self):
        return rq.VERSION

    def start(self):
        path = redis_server.start(self)
        self.redis = redis_server.client(path)
        self.queue = rq.Queue("bench", connection=self.redis)
        command = ["-m", "rq.cli", "worker", "--worker-class", "rq.SimpleWorker", "--url", f"unix://{path}", "--quiet", "bench"]
        self.workers.append(processes.python(self, "worker", command))

    def one(self, value):
        return self.queue.enqueue(nothing, value).latest_result(timeout=60).return_value

    def many(self, values):
        jobs = self.queue.enqueue_many([rq.Queue.prepare_data(nothing, (value,)) for value in values])
        jobs[-1].latest_result(timeout=120)  # they run in order
        ids = [job.id for job in jobs]
        done = []
        for at in range(0, len(ids), JOBS_AT_ONCE):
            done += Job.fetch_many(ids[at : at + JOBS_AT_ONCE], connection=self.redis)
        return [job.return_value() for job in done]


make = RQ
