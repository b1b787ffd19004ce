"""Arrays and tables by reference: what passes, that readers copy nothing, how long files live, and what is refused."""

import fcntl
import os
import socket

import pytest

numpy = pytest.importorskip("numpy")
import store_tasks  # noqa: E402

import pipeorch  # noqa: E402
from pipeorch import _store, errors, schema  # noqa: E402
from pipeorch.pipelines import pipeline  # noqa: E402


@pytest.fixture
def store(tmp_path):
    yield pipeorch.share(tmp_path / "store", max_bytes=1 << 24)
    _store.current = None


def files(store):
    return sorted(name for name in os.listdir(store.directory) if name != "lock")


ARRAYS = {
    "plain": lambda: numpy.arange(100000, dtype="float32").reshape(100, 1000),
    "big-endian": lambda: numpy.arange(7, dtype=">i4"),
    "strided": lambda: numpy.arange(100)[::-3],
    "fortran": lambda: numpy.asfortranarray(numpy.arange(12).reshape(3, 4)),
    "read-only": lambda: numpy.broadcast_to(numpy.float64(3), (4, 5)),
    "no element": lambda: numpy.empty((0, 3)),
    "one element": lambda: numpy.array(3.5),
    "structured": lambda: numpy.array([(1, 2.5)], dtype=[("a", "i2"), ("b", "f8")]),
    "strings": lambda: numpy.array(["a", "bc"]),
    "times": lambda: numpy.array(["2024-01-01"], dtype="datetime64[D]"),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_any_array_comes_back_as_it_was(store, name):
    array = ARRAYS[name]()
    reference = schema.encode({"x": [array]})["x"][0]
    assert schema.encode(reference) == reference  # plain JSON
    loaded = store.load(reference)
    assert (loaded.dtype, loaded.shape, type(loaded)) == (array.dtype, array.shape, numpy.ndarray)
    assert numpy.array_equal(loaded, array) and not loaded.flags.writeable
    assert reference["$array"]["bytes"] == array.nbytes and reference["$array"]["dtype"] == array.dtype.str


def mapped(array):
    """The file that an array's memory is a mapping of."""
    address = array.__array_interface__["data"][0]
    for line in open("/proc/self/maps"):
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            return os.path.basename(line.split()[-1])


def test_a_reader_maps_the_file_and_passing_on_writes_nothing(store, monkeypatch):
    array = numpy.arange(100000)
    reference = store.put(array)
    loaded = store.load(reference)
    assert mapped(loaded) == mapped(store.load(reference)) == reference["$array"]["name"] != mapped(array)
    monkeypatch.setattr(store, "_part", None)  # nothing is written from here on
    assert store.put(loaded) == reference
    assert numpy.array_equal(store.load(store.put(loaded)), array)


def test_what_was_made_in_the_store_is_not_copied(store, monkeypatch):
    array = store.empty((1000, 10), "int16")
    array[:] = 7
    assert [name.startswith("part-") for name in files(store)] == [True]
    monkeypatch.setattr(store, "_part", None)
    reference = store.put(array)
    assert files(store) == [reference["$array"]["name"]] == [mapped(array)]
    with pytest.raises(ValueError):
        array[0] = 1  # others have it
    assert store.load(reference).sum() == 70000
    assert store.put(array) == reference
    monkeypatch.undo()
    store.empty(10)
    assert len(files(store)) == 1  # one that nobody kept is gone


def test_an_array_that_got_another_form_is_another_value(store):
    values = numpy.arange(12)
    loaded, made = store.load(store.put(values)), store.empty((3, 4), "int64")
    made[:] = values.reshape(3, 4)
    loaded.shape, made.shape = (3, 4), (12,)
    assert numpy.array_equal(store.load(store.put(loaded)), values.reshape(3, 4))
    assert numpy.array_equal(store.load(store.put(made)), values)
    loaded.dtype = "float64"
    assert store.load(store.put(loaded)).dtype == "float64"


def test_a_reference_is_its_owners(store):
    array = store.empty(3)
    reference = store.put(array)
    for _ in range(2):
        given = store.put(array)
        assert given == reference
        given["$array"]["shape"].append(given["$array"].pop("name"))
    assert store.put(store.load({"$array": {"name": reference["$array"]["name"], "x": 1}})) == reference


def test_equal_values_are_one_file(store):
    first = store.put(numpy.arange(1000))
    assert store.put(numpy.arange(1000)) == first and len(files(store)) == 1
    changed = numpy.arange(1000)
    store.put(changed)
    view = changed.view()
    view.flags.writeable = False
    store.put(view)
    changed[0] = 9
    assert store.load(store.put(changed))[0] == store.load(store.put(view))[0] == 9 and store.load(first)[0] == 0


def test_tasks_and_pipelines_pass_arrays(store):
    @pipeorch.task("mean:array")
    def mean(values: numpy.ndarray) -> float:
        return float(values.mean())

    @pipeline
    def doubled_mean(values: dict):
        return mean(store_tasks.double(values))

    worker = pipeorch.Worker()
    for function in (store_tasks.total, store_tasks.double, mean):
        worker.add(function)
    values = numpy.arange(100000, dtype="float64")
    with worker:
        assert worker.client.submit(store_tasks.total, values).result() == values.sum()
        assert numpy.array_equal(store.load(worker.client.submit(store_tasks.double, values).result()), values * 2)
        with pytest.raises(errors.InvalidArgument, match="at /values"):
            worker.client.submit("sum:array", input={"values": [1, 2]})
    tasks = [store_tasks.double, mean]
    assert doubled_mean.run(store.put(values), local=True, tasks=tasks) == 99999.0


def test_tables_of_arrow(store):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": list(range(100000)), "b": ["x"] * 100000})
    reference = schema.encode(table)
    before = pyarrow.total_allocated_bytes()
    loaded = store.load(reference)
    assert loaded.equals(table) and store.put(loaded) == store.put(table) == reference
    assert store.put(store.load({"$table": {"name": reference["$table"]["name"]}})) == reference
    assert pyarrow.total_allocated_bytes() - before < 10000  # it is mapped
    batch = table.to_batches()[0]

    def function(table: pyarrow.Table, batch: pyarrow.RecordBatch) -> pyarrow.Table: ...

    signature = schema.signature_of(function)
    for given in (batch, batch.slice(0, 0)):
        _, named = signature.decode(schema.bind(signature, table, given))
        assert named["table"].equals(table) and named["batch"].equals(given)
        assert isinstance(named["batch"], pyarrow.RecordBatch)


def test_room_is_made_of_what_nobody_has_used_for_long(store):
    store.max_bytes = 500000
    array = numpy.zeros(25000)
    references = [store.put(array + i) for i in range(2)]
    with pytest.raises(errors.QuotaExceeded, match="used within the last 86400 s"):
        store.put(array + 2)
    for reference in references:
        os.utime(store._path(reference), (1, 1))
    loaded = store.load(references[0])  # used again
    assert store.load(store.put(array + 2))[0] == 2
    with pytest.raises(errors.NotFound, match="its room was wanted"):
        store.load(references[1])
    store.remove(references[0])
    store.remove(references[0])
    assert loaded.sum() == 0  # who has it keeps it
    with pytest.raises(errors.NotFound):
        store.load(references[0])


def test_a_directory_is_looked_through_only_when_it_may_be_full(store, monkeypatch):
    looked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(path) or scandir(path))
    store.max_bytes, store.keep = 1000000, 0
    for i in range(30):
        store.put(numpy.full(1000, i))
        assert sum(os.path.getsize(os.path.join(store.directory, name)) for name in files(store)) <= store.max_bytes
    assert 1 < len(looked) < 10


def test_files_of_others_are_left_alone(store):
    for name in ("thesis.tex", "part-00000.parquet", "x" + "0" * 40 + ".npy"):
        with open(os.path.join(store.directory, name), "w") as file:
            file.truncate(1 << 20)
        os.utime(file.name, (1, 1))
    os.mkdir(os.path.join(store.directory, "folder"))
    before = files(store)
    store.max_bytes, store.keep = 100000, 0
    for i in range(3):
        store.put(numpy.full(4000, i))
    assert files(store) == sorted([*before, store.put(numpy.full(4000, 2))["$array"]["name"]])


def test_what_is_being_written_is_not_removed(store):
    store.max_bytes, store.keep = 200000, 0
    with store._part(1000) as (part, _):
        os.utime(part, (1, 1))
        store.put(numpy.zeros(10000))
        store.put(numpy.ones(10000))
        assert os.path.basename(part) in files(store) and len(files(store)) == 2
        with pytest.raises(errors.QuotaExceeded, match="written or used"):
            store.put(numpy.zeros(24999))
    store.put(numpy.zeros(16800))  # now it is what a process that crashed has left
    assert not os.path.exists(part)


def test_what_was_made_and_has_been_removed_is_written_again(store):
    array = store.empty(10000)
    array[:] = 5
    store.max_bytes, store.keep = 150000, 0
    store.put(numpy.zeros(10000))
    assert not any(name.startswith("part-") for name in files(store))
    assert store.load(store.put(array)).sum() == 50000


def test_a_fork_does_not_hold_the_lock(store):
    read, write = os.pipe()
    with store._locked():
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    with open(os.path.join(store.directory, "lock")) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(write)
    os.waitpid(pid, 0)
    os.close(read)


def test_what_was_made_is_removed_when_the_interpreter_ends(store, program):
    made = program("import sys, pipeorch; array = pipeorch.share(sys.argv[1]).empty(10); array[:] = 1", store.directory)
    assert made.communicate() == ("", "") and files(store) == []


def test_a_value_of_another_machine_is_told(store):
    reference = store.put(numpy.zeros(3))
    reference["$array"].update(host="elsewhere", name="0" * 40 + ".npy")
    with pytest.raises(errors.NotFound, match=f"written on host 'elsewhere', and this is '{socket.gethostname()}'.*with a placement"):
        store.load(reference)


@pytest.mark.parametrize(
    "reference",
    [
        *(3, {}, {"$array": 1}, {"$array": {}}, {"x": {"name": "0" * 40 + ".npy"}}),
        *({"$array": {"name": name}} for name in ("../../x", "lock", "0" * 40 + ".arrow")),
    ],
)
def test_what_is_no_reference_is_refused(store, reference):
    with pytest.raises(schema.InputError, match="no reference to an array or a table"):
        store.load(reference)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: numpy.array([object()]), "has Python objects"),
        (lambda: numpy.array([(1, None)], dtype=[("a", "i4"), ("b", "O")]), "has Python objects"),
        (lambda: numpy.zeros(2, {"names": "ab", "formats": ["i4", "i2"], "offsets": [0, 0]}), "as another one"),
        (lambda: numpy.ma.masked_array([1, 2], [True, False]), "more than its values"),
    ],
)
def test_what_cannot_be_in_a_file_is_refused(store, make, told):
    with pytest.raises(schema.EncodeError, match=told):
        schema.encode(make())
    assert files(store) == []


def test_without_a_directory_it_is_told(tmp_path):
    with pytest.raises(schema.EncodeError, match=r"tolist\(\), or .* pipeorch.share\(directory\)"):
        schema.encode(numpy.zeros(3))
    assert schema.encode(numpy.array(3)) == 3
    reference = pipeorch.Store(tmp_path / "x").put(numpy.zeros(3))
    with pytest.raises(schema.InputError, match=r"has to pipeorch.share"):
        store_tasks.total.signature.decode({"values": reference})


def test_a_directory_of_others_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(errors.InvalidArgument, match="in which nobody else may write"):
        pipeorch.share(tmp_path / "open")
    with pytest.raises(errors.InvalidArgument, match="max_bytes is 0"):
        pipeorch.share(tmp_path / "x", max_bytes=0)
    with pytest.raises(errors.InvalidArgument, match="keep is -1"):
        pipeorch.share(tmp_path / "x", keep=-1)
