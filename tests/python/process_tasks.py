"""The tasks of test_process.py: the processes of a worker import this module, and find its functions by their names."""

import ctypes
import multiprocessing
import os
import re
import signal
import sys
import threading
import time

import pipeorch

LIMIT = 2000  # of loops that somebody has to end: about 20 s


@pipeorch.task("tell:process", execution="process")
def tell(ctx: pipeorch.Context) -> dict:
    current = pipeorch.current()
    return {
        "pid": os.getpid(),
        "main": threading.current_thread() is threading.main_thread(),
        "id": current.id,
        "same": current is ctx,
        "capability": ctx.capability,
        "token": ctx.token,
        "deadline": ctx.deadline,
        "descriptors": sorted(os.listdir("/proc/self/fd")),
    }


@pipeorch.task("list:modules", execution="process")
def modules() -> list:
    return sorted(sys.modules)


@pipeorch.task("meet:others", execution="process", max_concurrency=2)
def meet(folder: str, name: str) -> int:
    """Ends when another one runs at the same time."""
    open(os.path.join(folder, name), "w").close()
    for _ in range(LIMIT):
        if len(os.listdir(folder)) == 2:
            return os.getpid()
        time.sleep(0.01)
    raise RuntimeError("alone")


class Unprintable(pipeorch.Final):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pipeorch.task("die:of_it", execution="process", retries=0)
def die(how: str) -> None:
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(3)
    if how == "raise":
        raise KeyError("missing")
    if how == "final":
        raise pipeorch.Final("no such image")
    if how == "unprintable":
        raise Unprintable
    if how == "segfault":
        ctypes.string_at(0)
    if how == "result":
        return object()  # type: ignore[return-value]
    os.kill(os.getpid(), getattr(signal, how))


def spin(how: str) -> None:
    """A function of its own: what a signal raises at the end of a loop escapes the finally clause of that function in Python 3.13."""
    if how == "GIL":
        ctypes.PyDLL(None).sleep(LIMIT)  # until a signal comes; no other thread runs meanwhile
    while how in ("busy", "GIL") or not pipeorch.current().cancelled:
        pass


@pipeorch.task("loop:for_ever", execution="process", retries=0)
def loop(folder: str, how: str) -> None:
    begun, ended = os.path.join(folder, "begun"), os.path.join(folder, "ended")
    if how == "held":  # by a fork that Python does not know of, which keeps the connection
        libc = ctypes.PyDLL(None)
        holder = libc.fork()
        while holder == 0:
            libc.pause()
        with open(os.path.join(folder, "holder"), "w") as file:
            file.write(str(holder))
    with open(begun + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(begun + ".part", begun)
    if how == "native":
        re.match(r"(a+)+$", "a" * 60 + "b")
    if how in ("deaf", "held"):
        while True:
            try:
                while True:
                    time.sleep(0.001)
            except pipeorch.errors.Cancelled:
                pass
    try:
        spin(how)
    finally:
        open(ended, "w").close()


def in_fork(function) -> str:
    """What a function returns in a fork of this process."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(function()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with open(read) as told:
        return told.read()


@pipeorch.task("fork:process", execution="process", retries=0)
def forks(ctx: pipeorch.Context) -> list:
    def closed() -> int:
        """Of the files that a fork opens those that its own fork has not."""
        opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
        return sum(name not in in_fork(lambda: os.listdir("/proc/self/fd")) for name in map(repr, map(str, opened)))

    def tell() -> str:
        try:
            ctx.progress(0.5)
        except pipeorch.errors.Forked as e:
            return str(e)
        return "told"

    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(LIMIT,))
    process.start()
    process.terminate()
    process.join(LIMIT / 100)
    ended = process.exitcode
    process.kill()
    return [ended, in_fork(closed), in_fork(tell)]


@pipeorch.task("count:steps", execution="process", retries=1)
def steps(n: int, ctx: pipeorch.Context):
    if ctx.checkpoint == n:
        return ctx.checkpoint
    ctx.extend(3600)
    for i in range(n):
        yield pipeorch.Progress((i + 1) / (2 * n), i + 1)
    try:
        ctx.save("x" * (1 << 19))
    except pipeorch.errors.TooBig as e:
        raise RuntimeError(f"half-way: {e}") from None


@pipeorch.task("echo:value", execution="process", max_concurrency=2, retries=99)
def echo(value, /):
    return value


@pipeorch.task("square:number", execution="process", max_concurrency=2, retries=99)
def square(n: int, ctx: pipeorch.Context) -> list:
    time.sleep(0.002)
    return [n * n, ctx.id]
