#!/usr/bin/env python3
"""Does the simulator find bugs? Put one in, and see.

Each mutation of mutations.py is a deliberate bug in the product. It is applied to a copy of the
sources (never to the tree), built, and run in the simulator, seed after seed, until a check fails.
A mutation that no seed catches means that the simulator must become stronger.

    run.py [--all | --open] [--seeds N] [--jobs N] [--scratch DIR] [NAME ...]

Without names: the quick ones; --all: all of them; --open: those that no seed has caught yet, each of
which asks for a stronger simulator. Prints a table and caught/total. Exit status 0 if
every mutation was caught, 1 if one survived, 2 if one does not apply to the sources or does not
compile, or if the sources without a mutation do not pass."""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
from mutations import MUTATIONS, OPEN  # noqa: E402

TOP = Path(__file__).resolve().parents[3]
# What the copy needs to configure and to build the simulations.
COPIED = ["meson.build", "meson_options.txt", "include", "libpipeorch", "tests"]
SEED_SECONDS_MAX = 60  # without a passed seed: the mutation made it run for ever
FAILED = re.compile(r"^FAILED seed (\d+)[^:]*: (.*)$", re.M)


class Broken(Exception):
    """The suite itself cannot go on."""


def sync(source, target):
    """Copy what differs, remove what is gone; times of unchanged files stay, for ninja."""
    for name in COPIED:
        at, to = source / name, target / name
        files = [at] if at.is_file() else [f for f in at.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        wanted = set()
        for f in files:
            copy = target / f.relative_to(source)
            wanted.add(copy)
            if not copy.exists() or copy.read_bytes() != f.read_bytes():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(f, copy)
        if to.is_dir():
            for f in to.rglob("*"):
                if f.is_file() and f not in wanted:
                    f.unlink()


class Scratch:
    """The copy and its build folder."""

    def __init__(self, folder, jobs):
        self.source, self.build, self.jobs = folder / "source", folder / "build", jobs
        self.source.mkdir(parents=True, exist_ok=True)
        sync(TOP, self.source)
        if not (self.build / "build.ninja").exists():
            self.call(["meson", "setup", self.build, self.source, "-Dbuildtype=plain", "-Doptimization=1",
                       "-Ddaemons=false", "-Dexamples=false"])

    @staticmethod
    def call(command):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Broken(f"{' '.join(map(str, command))}:\n{done.stdout[-4000:]}")

    def make(self, program, name):
        """Build, and keep the program under a name of its own, so that the next build may begin."""
        self.call(["ninja", "-C", self.build, f"-j{self.jobs}", program.target])
        kept = self.build / "kept" / f"{name}-{program.name}"
        kept.parent.mkdir(exist_ok=True)
        shutil.copy2(self.build / program.target, kept)
        return kept

    def apply(self, mutation):
        """Returns what puts the sources back."""
        before = {}
        for edit in mutation.edits:
            path = self.source / edit.file
            if not path.is_file():
                raise Broken(f"{mutation.name}: {edit.file}: no such file")
            text = path.read_text()
            before.setdefault(path, text)
            found = text.count(edit.old)
            if found != 1:
                self.restore(before)
                raise Broken(f"{mutation.name}: {edit.file}: the text to replace is there {found} times, expected "
                             f"once; adapt the mutation to the sources:\n{edit.old}")
            path.write_text(text.replace(edit.old, edit.new))
        return before

    @staticmethod
    def restore(before):
        for path, text in before.items():
            path.write_text(text)


def run(program, executable, seeds):
    """Seeds in slices, so that one that never ends is told from many that pass. Returns (caught, by)."""
    first, slice_ = 1, program.slice
    while first <= seeds:
        last = min(first + slice_ - 1, seeds)
        command = [str(executable)] + [a.format(first=first, last=last) for a in program.arguments]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                  errors="replace", timeout=SEED_SECONDS_MAX * slice_)
        except subprocess.TimeoutExpired:
            return True, f"seeds {first}..{last}: runs for ever"
        if done.returncode:
            found = FAILED.search(done.stdout)
            return True, f"seed {found[1]}: {found[2]}" if found else f"seeds {first}..{last}: exit status " \
                f"{done.returncode}: {done.stdout[-200:]}"
        first = last + 1
    return False, f"{seeds} seeds of {program.name}"


def judge(executables, seeds):
    """Every simulation that could see it, until one does."""
    began, by = time.monotonic(), []
    for program, executable in executables:
        caught, text = run(program, executable, min(seeds, program.seeds_max))
        if caught:
            return True, f"{program.name} {text}", time.monotonic() - began
        by.append(text)
    return False, "survived " + " and ".join(by), time.monotonic() - began


def report(mutation, width, caught, by, seconds):
    print(f"{'caught  ' if caught else 'SURVIVED'}  {mutation.name:{width}}  {seconds:5.1f} s  {by[:150]}", flush=True)
    if not caught:
        print(f"          {mutation.why}", flush=True)


def suite(scratch, mutations, seeds, jobs):
    """Builds one after the other, in one folder; runs beside that. Returns how many survived."""
    width = max(len(m.name) for m in mutations)
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:

        def judged(mutation, made):
            caught, by, seconds = judge(made, seeds)
            report(mutation, width, caught, by, seconds)
            return caught

        programs = {p.name: p for m in mutations for p in m.programs}
        for program in programs.values():
            caught, by = run(program, scratch.make(program, "unmutated"), program.sound)
            if caught:
                raise Broken(f"without any mutation: {by}")
        runs = []
        for mutation in mutations:
            before = scratch.apply(mutation)
            try:
                made = [(p, scratch.make(p, mutation.name)) for p in mutation.programs]
            finally:
                scratch.restore(before)
            runs.append(pool.submit(judged, mutation, made))
        return sum(not r.result() for r in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--all", action="store_true", help="not only the quick ones")
    parser.add_argument("--open", action="store_true", help="those not caught so far")
    parser.add_argument("--list", action="store_true", help="print the mutations and end")
    parser.add_argument("--seeds", type=int, default=3000, help="give up after this many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--scratch", type=Path, default=TOP / "build-mutants")
    o = parser.parse_args()
    unknown = set(o.names) - {m.name for m in MUTATIONS}
    if unknown:
        parser.error(f"no such mutation: {', '.join(sorted(unknown))}")
    chosen = [m for m in MUTATIONS if m.name in o.names or
              (not o.names and (m.name in OPEN if o.open else m.name not in OPEN and (o.all or m.quick)))]
    if o.list:
        for m in chosen:
            print(f"{m.name}: {m.why}")
        return 0
    try:
        survived = suite(Scratch(o.scratch, o.jobs), chosen, o.seeds, o.jobs)
    except Broken as e:
        print(f"mutants: {e}", file=sys.stderr)
        return 2
    print(f"caught {len(chosen) - survived} of {len(chosen)} mutations")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
