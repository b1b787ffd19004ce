"""Arrays of numpy and tables of Arrow, by reference between the processes of one machine.

The input and the output of a task are JSON of at most 1 MiB in the replicated log. An array or a table goes beside it: into
a file of a directory that both sides have named with `share`, and the JSON has a small reference to it, which passes through
pipelines as any value. Who takes it maps the file into its memory, read-only: all readers have the same pages, nothing is
copied or parsed. On a tmpfs, as /dev/shm, those pages are memory and never go to a disk.

    writing     copies the value once, into the file; not at all what `Store.empty` has made, and what came out of the store
    format      .npy and the Arrow file format: any tool reads them
    name        the hash of the content, so that equal values have equal references: a call that is repeated with its
                idempotency key has the same input. A reference names no path: it cannot lead out of the directory
    lifetime    at least `keep` seconds after it was last written or opened, for retries and late readers; then until its
                room is wanted. Who has mapped a file keeps its pages although it is removed
    size        files of less than max_bytes; what does not fit is refused

numpy and pyarrow are not imported before there is a value of theirs.
"""

from __future__ import annotations

import contextlib
import copy
import fcntl
import hashlib
import importlib
import math
import mmap
import os
import re
import socket
import stat
import tempfile
import time
import weakref
from typing import Any, Dict, Iterator, List, NoReturn, Optional, Tuple, Union

from ._encode import EncodeError, type_name
from ._plan import InputError, JSONSchema, Plan, wrong
from .errors import InvalidArgument, NoSpace, NotFound, QuotaExceeded

# Of the module and the name of a class: the member of its reference.
_KINDS: Dict[Tuple[str, str], str] = {
    ("numpy", "ndarray"): "$array",
    ("pyarrow.lib", "Table"): "$table",
    ("pyarrow.lib", "RecordBatch"): "$table",
}
_NAMES = {"$array": re.compile(r"[0-9a-f]{40}\.npy"), "$table": re.compile(r"[0-9a-f]{40}\.arrow")}
_OURS = re.compile(r"[0-9a-f]{40}\.(npy|arrow)|part-[a-z0-9_]{8}")  # what may be removed; other files there are somebody else's
_HEADER_MAX = 65536  # bytes of an .npy file before its values
_BYTES_MAX = 1 << 50


class Store:
    """A directory for arrays and tables: see `share`."""

    def __init__(self, directory: Union[str, "os.PathLike[str]"], max_bytes: int = 1 << 30, keep: float = 86400.0) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or not 1 <= max_bytes <= _BYTES_MAX:
            raise InvalidArgument(f"max_bytes is {max_bytes!r}; expected 1 to {_BYTES_MAX}")
        if isinstance(keep, bool) or not isinstance(keep, (int, float)) or not keep >= 0:
            raise InvalidArgument(f"keep is {keep!r}; expected seconds, from 0 on")
        self.directory = os.path.abspath(os.fspath(directory))
        self.max_bytes = max_bytes
        self.keep = keep
        self._pid = os.getpid()
        self._known: Dict[int, Tuple[Any, Any, JSONSchema]] = {}  # of objects that are in the store: a weak one, its form, the reference
        self._made: Dict[int, Any] = {}  # of those of `empty`: removes the file
        os.makedirs(self.directory, mode=0o700, exist_ok=True)
        found = os.stat(self.directory)
        if found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise InvalidArgument(
                f"{self.directory} belongs to user {found.st_uid} and has mode {stat.S_IMODE(found.st_mode):o}; expected a directory of "
                f"this process's user ({os.geteuid()}) in which nobody else may write: what is in there is mapped as it is"
            )

    def __repr__(self) -> str:
        return f"<store {self.directory}>"

    # ---- what its users call ----

    def put(self, value: Any) -> JSONSchema:
        """Write an array or a table; its reference. Raises EncodeError: it cannot be in a file; QuotaExceeded, NoSpace."""
        weak, form, known = self._known.get(id(value), (_nobody, None, {}))
        if weak() is value and form == _form(value) and self._touch(self._path(known)):
            return copy.deepcopy(known)
        member = _member_of(type(value))
        if not member:
            raise EncodeError(f"a value of type {type_name(type(value))} cannot be shared; expected a numpy array, an Arrow table or batch")
        name = self._sealed(value)
        if name:
            reference = _reference(member, name, _about_array(value))
            self._know(value, reference)
            return copy.deepcopy(reference)
        return self._write_array(value) if member == "$array" else self._write_table(value)

    def load(self, reference: Any) -> Any:
        """The array, read-only, or the table, that a reference stands for, as a task's result has it. Raises NotFound; InputError: it
        is no reference."""
        path = self._path(reference)
        ((member, given),) = reference.items()
        if not self._touch(path):
            self._missing(given)
        try:
            value = _read_array(path) if member == "$array" else _read_table(path)
            about = _about_array(value) if member == "$array" else _about_table(value, os.path.getsize(path))
        except FileNotFoundError:
            self._missing(given)
        self._know(value, _reference(member, given["name"], about))
        return value

    def empty(self, shape: Any, dtype: Any = "float64") -> Any:
        """A new array in the store, to be filled, as of numpy.empty. Passing it on copies nothing, and makes it read-only; views of it
        that were taken before are not to be written to any more. Raises EncodeError: dtype has objects; QuotaExceeded, NoSpace."""
        numpy = _package("numpy")

        dtype = numpy.dtype(dtype)
        _check_dtype(dtype)
        shape = (shape,) if hasattr(shape, "__index__") else tuple(shape)
        length = math.prod(shape) * dtype.itemsize
        if length == 0:
            return numpy.empty(shape, dtype)  # there is nothing to map
        with self._part(length + _HEADER_MAX) as (part, file):
            header = {"descr": numpy.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            numpy.lib.format.write_array_header_1_0(file, header)
            begin = file.tell()
            file.truncate(begin + length)
            array = numpy.memmap(file, dtype, "r+", begin, shape).view(numpy.ndarray)
        self._made[id(array)] = weakref.finalize(array, self._unmake, id(array), part, _form(array))
        return array

    def remove(self, reference: Any) -> None:
        """Give the room of a value back at once; who has loaded it keeps it. Nothing happens if it is not there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(reference))

    # ---- files ----

    def _path(self, reference: Any) -> str:
        """Raises InputError: the reference is none, or names something else than a file of the store."""
        try:
            ((member, about),) = reference.items()
            name = about["name"]
            if not _NAMES[member].fullmatch(name):
                raise ValueError
        except (AttributeError, KeyError, TypeError, ValueError):
            raise InputError(f"{reference!r} is no reference to an array or a table") from None
        return os.path.join(self.directory, name)

    def _missing(self, about: JSONSchema) -> NoReturn:
        where = about.get("host")
        if where != _host():
            raise NotFound(
                f"{about['name']} was written on host {where!r}, and this is {_host()!r}: arrays and tables pass by reference only within "
                "a machine. Have the steps run there, with a placement, or pass it through an artifact store"
            )
        raise NotFound(
            f"{about['name']} is not in {self.directory}: it was removed because nobody had opened it for {self.keep:g} s and its room was "
            "wanted, the machine was started anew, or the other side shares another directory"
        )

    def _touch(self, path: str) -> bool:
        """It is used: it will be kept. Whether it is there."""
        try:
            os.utime(path)
            return True
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        """Against other processes that make room. The descriptor of the lock, whose file has at least the sum of all sizes."""
        fd = os.open(os.path.join(self.directory, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield fd
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)  # closing it is not enough when another thread has forked meanwhile
            os.close(fd)

    @contextlib.contextmanager
    def _part(self, length: int) -> Iterator[Tuple[str, Any]]:
        """A new file that nobody sees yet, with room for a length, to be written; removed if that fails. It is locked meanwhile: what is
        not locked may have been left by a process that crashed."""
        with self._locked() as lock:
            self._make_room(lock, length)
            fd, part = tempfile.mkstemp(prefix="part-", dir=self.directory)
            file = open(fd, "r+b", buffering=0)
            fcntl.flock(fd, fcntl.LOCK_EX)
            try:
                os.posix_fallocate(fd, 0, max(1, length))  # else a write to a full tmpfs would be a SIGBUS
            except OSError as e:
                file.close()
                os.unlink(part)
                raise NoSpace(f"{self.directory} has no room for {length} bytes: {e}; it is on a file system that is full") from None
        try:
            yield part, file
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)
            raise
        finally:
            fcntl.flock(fd, fcntl.LOCK_UN)
            file.close()

    def _make_room(self, lock: int, length: int) -> None:
        """Nothing is looked through as long as what was written since the last look does not fill the store."""
        known = os.pread(lock, 20, 0)
        total = int(known) if known.isdigit() else self.max_bytes
        if total + length > self.max_bytes:
            total = self._remove_old(length)
        os.pwrite(lock, b"%020d" % (total + length), 0)

    def _remove_old(self, length: int) -> int:
        """The sum of what is left."""
        entries: List[Tuple[float, int, str]] = []
        for entry in os.scandir(self.directory):
            with contextlib.suppress(FileNotFoundError):
                if _OURS.fullmatch(entry.name):
                    found = entry.stat(follow_symlinks=False)
                    entries.append((found.st_mtime, found.st_size, entry.path))
        total = sum(size for _, size, _ in entries)
        for used, size, path in sorted(entries):
            if total + length <= self.max_bytes or used > time.time() - self.keep:
                break
            if _removed(path):
                total -= size
        if total + length > self.max_bytes:
            raise QuotaExceeded(
                f"{self.directory} has {total} bytes of values that were written or used within the last {self.keep:g} s, and {length} "
                f"more are over its max_bytes of {self.max_bytes}; share() with more, keep less long, or remove() what is done with"
            )
        return total

    def _seal(self, part: str, file: Any, ending: str) -> str:
        """Give a finished file its name."""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            name = f"{hashlib.blake2b(content, digest_size=20).hexdigest()}.{ending}"
        os.rename(part, os.path.join(self.directory, name))  # over one that is the same
        return name

    def _write_array(self, array: Any) -> JSONSchema:
        numpy = _package("numpy")

        if type(array) not in (numpy.ndarray, numpy.memmap):
            raise EncodeError(f"a {type_name(type(array))} is more than its values, and cannot be shared; pass a plain numpy.ndarray")
        _check_dtype(array.dtype)
        with self._part(array.nbytes + _HEADER_MAX) as (part, file):
            numpy.lib.format.write_array(file, array, allow_pickle=False)
            file.truncate()
            return _reference("$array", self._seal(part, file, "npy"), _about_array(array))

    def _write_table(self, table: Any) -> JSONSchema:
        pyarrow = _package("pyarrow")

        measured = pyarrow.MockOutputStream()
        with pyarrow.ipc.new_file(measured, table.schema) as writer:
            writer.write(table)
        with self._part(measured.size()) as (part, file):
            with pyarrow.ipc.new_file(file, table.schema) as writer:
                writer.write(table)
            return _reference("$table", self._seal(part, file, "arrow"), _about_table(table, measured.size()))

    # ---- objects that are in the store as they are ----

    def _know(self, value: Any, reference: JSONSchema) -> None:
        """Only of what is a mapping of a file: a read-only view of something else may become another value."""
        key = id(value)
        self._known[key] = (weakref.ref(value, lambda _: self._known.pop(key, None)), _form(value), reference)

    def _sealed(self, value: Any) -> Optional[str]:
        """The name of what `empty` has made, which is read-only from now on. None: it has not, it got another form, or the file was
        removed to make room."""
        made = self._made.get(id(value))
        found = made.peek() if made else None
        if not made or not found or found[2][2] != _form(value) or not made.detach():
            return None
        del self._made[id(value)]
        value.flags.writeable = False  # what the reference stands for does not change
        part = found[2][1]
        with contextlib.suppress(FileNotFoundError), open(part, "rb") as file:
            return self._seal(part, file, "npy")
        return None

    def _unmake(self, key: int, part: str, _: Any) -> None:
        self._made.pop(key, None)
        if self._pid == os.getpid():  # a fork leaves the file to its parent
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part)


def _removed(path: str) -> bool:
    """Remove a file of a store, unless somebody writes it at this moment."""
    with contextlib.suppress(FileNotFoundError):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except BlockingIOError:
            return False
        finally:
            os.close(fd)
    return True


def _nobody() -> None:
    """A weak reference to nothing."""


current: Optional[Store] = None


def share(directory: Union[str, "os.PathLike[str]"], max_bytes: int = 1 << 30, keep: float = 86400.0) -> Store:
    """From now on numpy arrays and Arrow tables in inputs and results of this process pass through files of a directory.

    Workers and clients of one machine name the same one, best on a tmpfs: "/dev/shm/NAME". It is made if it is missing, and belongs to
    one user; what else is in there is left alone. A parameter that is annotated numpy.ndarray, pyarrow.Table or pyarrow.RecordBatch
    gets the value; of a result `Store.load` makes it. max_bytes: of all its files, 1 to 2**50; keep: seconds that a value stays at
    least after it was written or last opened. Processes for tasks with execution="process" share what their worker does when it starts.

    Raises InvalidArgument, OSError.
    """
    global current
    current = Store(directory, max_bytes, keep)
    return current


# ---- for the converters ----


def is_shared(kind: Any) -> bool:
    return _member_of(kind) is not None


def plan_of(kind: Any) -> Plan:
    """How a parameter of this class is read."""
    member = _member_of(kind) or ""
    expects = f"a reference to {'an array' if member == '$array' else 'a table'}"
    named: JSONSchema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

    def decode(value: Any) -> Any:
        if not isinstance(value, dict) or list(value) != [member]:
            wrong(expects, value)
        if current is None:
            raise InputError(f"this is {expects}; the worker has to pipeorch.share(directory) with the process that wrote it")
        loaded = current.load(value)
        return _batch(loaded) if kind.__name__ == "RecordBatch" else loaded

    return Plan(decode, {"type": "object", "properties": {member: named}, "required": [member]}, expects)


def _package(name: str) -> Any:
    """numpy or pyarrow, of which this package has no types and needs none."""
    return importlib.import_module(name)


def _member_of(kind: Any) -> Optional[str]:
    names = [(base.__module__, base.__qualname__) for base in kind.__mro__] if isinstance(kind, type) else []
    return next((_KINDS[name] for name in names if name in _KINDS), None)


def _batch(table: Any) -> Any:
    """A table that was one batch, as that."""
    batches = table.combine_chunks().to_batches()
    if batches:
        return batches[0]
    pyarrow = _package("pyarrow")

    return pyarrow.RecordBatch.from_pylist([], schema=table.schema)


def _reference(member: str, name: str, about: JSONSchema) -> JSONSchema:
    return {member: {"name": name, "host": _host(), **about}}


def _form(value: Any) -> Any:
    """What can be set of an array, which then is another value than that of its file. Tables are what they are."""
    return tuple(getattr(value, name, None) for name in ("dtype", "shape", "strides"))


def _about_array(array: Any) -> JSONSchema:
    return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": array.nbytes}


def _about_table(table: Any, size: int) -> JSONSchema:
    return {"columns": table.schema.names, "rows": table.num_rows, "bytes": size}


def _check_dtype(dtype: Any) -> None:
    if dtype.hasobject:
        raise EncodeError(f"an array of dtype {dtype} has Python objects, which only this process has; convert it, or call its tolist()")
    form = _package("numpy.lib.format")
    try:
        kept = form.descr_to_dtype(form.dtype_to_descr(dtype)) == dtype
    except ValueError:  # fields that overlap
        kept = False
    if not kept:
        raise EncodeError(f"an array of dtype {dtype} would come out of its file as another one; convert it, or view it as one of numpy's")


def _read_array(path: str) -> Any:
    numpy = _package("numpy")

    try:
        return numpy.load(path, mmap_mode="r", allow_pickle=False).view(numpy.ndarray)
    except ValueError:  # there is nothing to map in one without elements
        array = numpy.load(path, allow_pickle=False)
        array.flags.writeable = False
        return array


def _read_table(path: str) -> Any:
    pyarrow = _package("pyarrow")

    return pyarrow.ipc.open_file(pyarrow.memory_map(path)).read_all()


def _host() -> str:
    return socket.gethostname()
