"""A web service that is a worker, too: FastAPI's lifespan registers it, keeps its heartbeat, and deregisters it at the end.

    pip install pipeorch fastapi uvicorn    # or ./bindings/python of a checkout in place of pipeorch
    uvicorn service:app                     # without controllers: a cluster of its own
    PO_CONTROLLERS=127.0.0.1:7201 uvicorn service:app          # CONTROLLER_URL is understood, too

    curl localhost:8000/health              # does the process live, and does its worker serve?
    curl localhost:8000/status              # what it runs, and what the cluster knows of it
    curl --json '{"text": "to be or not to be"}' localhost:8000/words        # gives the cluster work, and waits for it
    poctl task submit probe:port --input '{"host": "127.0.0.1", "port": 8000}' --wait       # from anywhere in a cluster

Controllers that do not answer keep it from nothing: it serves its URLs, and registers when they are there. SIGTERM or Ctrl-C:
tasks that run get `drain` seconds to finish, then it deregisters and ends.
"""

import asyncio
import contextlib
import time
from typing import Any, AsyncIterator, Dict

from fastapi import Body, FastAPI, HTTPException, Response

import pipeorch

PATIENCE = 1.0  # seconds that /status waits for the cluster

# ready_timeout=0: the service does not wait for the controllers before it answers its first request.
worker = pipeorch.Worker(labels={"service": "words"}, drain=5.0, ready_timeout=0)


@worker.task("count:words", max_concurrency=4)
def count_words(text: str) -> Dict[str, int]:
    """A plain function: runs on a thread of the worker."""
    counts: Dict[str, int] = {}
    for word in text.lower().split():
        counts[word] = counts.get(word, 0) + 1
    return counts


@worker.task("probe:port", max_concurrency=100, timeout=10)
async def probe_port(host: str, port: int) -> float:
    """A coroutine: runs on the event loop that serves the requests. The seconds that a connection takes."""
    began = time.monotonic()
    _, writer = await asyncio.open_connection(host, port)
    writer.close()
    return time.monotonic() - began


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with worker:
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/health")
async def health(response: Response) -> Dict[str, str]:
    """Asks nobody, so that a cluster that is away does not get the service restarted; a worker that gave up does."""
    if worker.error:
        response.status_code = 503
        return {"status": "failed", "worker": str(worker.error)}
    serving = "registered" if worker.controllers else "standalone"
    return {"status": "ok", "worker": serving if worker.ready else "connecting"}


@app.get("/status")
async def status() -> Dict[str, Any]:
    said: Dict[str, Any] = {
        "id": worker.id,
        "controllers": worker.controllers or None,
        "tasks": [{"capability": task.capability, "version": task.version, "at_once": task.max_concurrency} for task in worker.tasks],
        "cluster": None,
    }
    if not worker.ready:
        return {**said, "error": "the worker is not registered yet"}
    try:
        known = [one for one in await asyncio.wait_for(worker.async_client.workers(), PATIENCE) if one["id"] == worker.id]
    except asyncio.TimeoutError:
        return {**said, "error": f"the cluster did not answer within {PATIENCE:g} s"}
    except pipeorch.Error as error:
        return {**said, "error": str(error)}
    return {**said, "cluster": known[0] if known else None}


@app.post("/words")
async def words(text: str = Body(embed=True)) -> Dict[str, int]:
    """One task, run by this worker or another one that offers the same."""
    if not worker.ready:
        raise HTTPException(503, "the worker is not registered yet; try again later")
    try:
        task = await worker.async_client.submit(count_words, text)
        return await task.result(30.0)
    except pipeorch.Error as error:
        raise HTTPException(503, str(error)) from None
