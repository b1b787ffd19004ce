/* The store on the real disk: what goes in comes out again, and what must be refused is. */
#include "fixture.h"

#include "base/assert.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

static int setup(void **state)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    real_path(fx);
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fx = *state;
    real_remove(fx);
    free(fx);
    return 0;
}

static void open_new(struct fixture *fx)
{
    struct po__rec *first = make_record(1, 1, 0, 40);
    struct po__identity id;
    assert_int_equal(real_disk(fx), 0);
    assert_int_equal(store_open(fx, SEGMENT_BYTES), 0);
    assert_int_equal(po__store_identity(fx->store, &id), 0);
    assert_int_equal(po__store_bootstrap(fx->store, &test_identity, 1, first), 0);
    assert_int_equal(po__store_bootstrap(fx->store, &test_identity, 1, first), PO_EEXISTS);
    assert_int_equal(store_recover(fx), 0);
    assert_int_equal(fx->recovery.term, 1);
    assert_int_equal(fx->recovery.vote, 0);
    assert_int_equal(fx->recovery.first_index, 1);
    assert_int_equal(fx->recovery.last_index, 1);
    free(first);
}

static int reopen(struct fixture *fx)
{
    assert_int_equal(real_disk(fx), 0);
    int rv = store_open(fx, SEGMENT_BYTES);
    if (rv)
        return rv;
    rv = store_recover(fx);
    if (rv) {
        po__store_close(fx->store);
        fx->store = NULL;
    }
    return rv;
}

static void wait_durable(struct fixture *fx, unsigned count)
{
    po__store_flush(fx->store);
    while (fx->durable_count < count)
        real_wait(fx);
    assert_int_equal(fx->durable_count, count);
}

static void test_append_and_recover(void **state)
{
    struct fixture *fx = *state;
    struct po__identity id;
    open_new(fx);
    for (uint64_t i = 2; i <= 300; i++) {
        assert_int_equal(append(fx, i, 2, 0, (uint32_t)(8 + i * 13 % 3000)), 0);
        if (i % 7 == 0)
            po__store_flush(fx->store);
    }
    wait_durable(fx, 299);
    assert_int_equal(fx->durable_token, 300);
    assert_int_equal(po__store_queued_bytes(fx->store), 0);
    assert_int_equal(po__store_set_vote(fx->store, 9, 3), 0);
    po__store_close(fx->store);

    assert_int_equal(reopen(fx), 0);
    assert_int_equal(po__store_identity(fx->store, &id), 1);
    assert_memory_equal(&id, &test_identity, sizeof id);
    assert_int_equal(fx->recovery.term, 9);
    assert_int_equal(fx->recovery.vote, 3);
    assert_int_equal(fx->recovery.first_index, 1);
    assert_int_equal(fx->recovery.last_index, 300);
    assert_int_equal(fx->found.first, 1);
    assert_int_equal(fx->found.last, 300);

    /* Truncate, go on, and find only that. */
    fx->durable_count = 0;
    assert_int_equal(append(fx, 100, 3, 5, 64), 0);
    assert_int_equal(append(fx, 101, 3, 5, 2000000), 0);
    wait_durable(fx, 2);
    po__store_close(fx->store);
    assert_int_equal(reopen(fx), 0);
    assert_int_equal(fx->recovery.last_index, 101);
    assert_int_equal(fx->found.term[100], 3);
    assert_int_equal(fx->found.term[99], 2);
    po__store_close(fx->store);
    assert_int_equal(fx->faults, 0);
}

static void test_second_opener_is_refused(void **state)
{
    struct fixture *fx = *state;
    struct po__store *first;
    char pid[32];
    open_new(fx);
    first = fx->store;
    assert_int_equal(real_disk(fx), 0);
    assert_int_equal(store_open(fx, SEGMENT_BYTES), PO_ELOCKED);
    assert_non_null(strstr(fx->error, fx->path));
    snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
    assert_non_null(strstr(fx->error, pid));
    po__store_close(first);
    assert_int_equal(reopen(fx), 0); /* the lock goes with its holder */
    po__store_close(fx->store);
}

static void test_paths(void **state)
{
    struct fixture *fx = *state;
    char path[128];
    struct stat st;
    struct po__disk *d;
    snprintf(path, sizeof path, "%s/new", fx->path);
    assert_int_equal(po__disk_real(&d, path, on_wakeup, fx, fx->error, sizeof fx->error), 0);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    d->ops->destroy(d);
    snprintf(path, sizeof path, "%s/no/parent", fx->path);
    assert_int_equal(po__disk_real(&d, path, on_wakeup, fx, fx->error, sizeof fx->error), PO_EIO);
    assert_non_null(strstr(fx->error, path));
    snprintf(path, sizeof path, "%s/file", fx->path);
    int fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(po__disk_real(&d, path, on_wakeup, fx, fx->error, sizeof fx->error), PO_EIO);
    assert_non_null(strstr(fx->error, "errno"));
}

static void test_error_text(void **state)
{
    struct fixture *fx = *state;
    struct po__file *f;
    char byte;
    assert_int_equal(real_disk(fx), 0);
    const struct po__disk_ops *ops = fx->disk->ops;
    assert_int_equal(ops->open(fx->disk, &f, "absent", 0), PO_ENOTFOUND);
    assert_non_null(strstr(fx->disk->last_error, "open"));
    assert_non_null(strstr(fx->disk->last_error, "absent"));
    assert_int_equal(ops->open(fx->disk, &f, "new", PO__FILE_CREATE | PO__FILE_EXCL), 0);
    assert_int_equal(ops->read(f, &byte, 1, 0), PO_EIO); /* beyond the end is an error, not zeros */
    ops->close(f);
    assert_int_equal(ops->open(fx->disk, &f, "new", PO__FILE_CREATE | PO__FILE_EXCL), PO_EEXISTS);
    assert_int_equal(ops->unlink(fx->disk, "absent"), PO_ENOTFOUND);
    ops->destroy(fx->disk);
}

/* Jobs of a channel run in order, one at a time; the text of a failing one reaches the owner. */
struct counted_job {
    struct po__disk_job job;
    struct fixture *fx;
    unsigned *ran;
    unsigned place, done_at;
};

static int counted_work(struct po__disk_job *job)
{
    struct counted_job *c = po__container_of(job, struct counted_job, job);
    c->place = ++*c->ran;
    return c->place == 50 ? c->fx->disk->ops->unlink(c->fx->disk, "absent-50") : 0;
}

static void counted_done(struct po__disk_job *job, int status)
{
    struct counted_job *c = po__container_of(job, struct counted_job, job);
    c->done_at = ++c->fx->durable_count;
    assert_int_equal(status, c->place == 50 ? PO_ENOTFOUND : 0);
    if (status)
        assert_non_null(strstr(c->fx->disk->last_error, "absent-50"));
}

static void test_jobs(void **state)
{
    struct fixture *fx = *state;
    static struct counted_job jobs[100];
    unsigned ran = 0;
    assert_int_equal(real_disk(fx), 0);
    for (unsigned i = 0; i < 100; i++) {
        jobs[i] = (struct counted_job){
            .job = {.work = counted_work, .done = counted_done}, .fx = fx, .ran = &ran};
        fx->disk->ops->submit(fx->disk, PO__CHANNEL_SLOW, &jobs[i].job);
    }
    while (fx->durable_count < 100) {
        struct pollfd p = {.fd = fx->event, .events = POLLIN};
        uint64_t n;
        assert_int_equal(poll(&p, 1, 30000), 1);
        assert_int_equal(read(fx->event, &n, sizeof n), sizeof n);
        fx->disk->ops->poll(fx->disk);
    }
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(jobs[i].place, i + 1);
        assert_int_equal(jobs[i].done_at, i + 1);
    }
    fx->disk->ops->destroy(fx->disk);
}

static void on_index(void *arg, uint64_t token)
{
    *(uint64_t *)arg = token;
}

static unsigned count_files(const struct fixture *fx, const char *prefix)
{
    DIR *dir = opendir(fx->path);
    struct dirent *e;
    unsigned n = 0;
    assert_non_null(dir);
    while ((e = readdir(dir)))
        n += !strncmp(e->d_name, prefix, strlen(prefix));
    closedir(dir);
    return n;
}

/* Many segments, snapshots and trims with the real threads; the directory stays small, and a close
 * at any moment loses nothing. */
static void test_rolling_with_snapshots(void **state)
{
    struct fixture *fx = *state;
    static uint8_t content[300000];
    uint64_t last = 1, done = 0, snapshot = 0;
    open_new(fx);
    for (unsigned round = 0; round < 8; round++) {
        struct po__snapshot_writer *w;
        unsigned target = fx->durable_count + 60;
        for (unsigned i = 0; i < 60; i++) {
            assert_int_equal(append(fx, ++last, 1, 0, 7000), 0);
            po__store_flush(fx->store);
        }
        struct po__snapshot_meta meta = {.index = last - 20, .term = 1};
        assert_int_equal(po__store_snapshot_begin(fx->store, &w, &meta), 0);
        assert_int_equal(po__store_snapshot_write(w, content, sizeof content), 0);
        assert_int_equal(po__store_snapshot_finish(w, on_index, &done), 0);
        while (done != meta.index || fx->durable_count < target)
            real_wait(fx);
        snapshot = meta.index;
        po__store_trim(fx->store, snapshot);
        assert_int_equal(count_files(fx, "snap-"), 1);
    }
    assert_int_equal(fx->faults, 0);
    for (int i = 0; i < 30; i++) { /* in flight and queued when it closes */
        assert_int_equal(append(fx, ++last, 1, 0, 7000), 0);
        po__store_flush(fx->store);
    }
    po__store_close(fx->store);
    assert_int_equal(reopen(fx), 0);
    assert_int_equal(fx->recovery.snapshot.index, snapshot);
    assert_true(fx->recovery.last_index >= last - 30);
    assert_true(fx->recovery.first_index <= snapshot + 1);
    assert_int_equal(count_files(fx, "tmp-snap"), 0); /* tmp-segment may be in the making again */
    po__store_close(fx->store);
    /* 20 + 30 records of 8 KiB beyond the snapshot, a round more at most, and the spares */
    assert_true(count_files(fx, "wal-") < 40);
}

/* tmpfs refuses O_DIRECT on older kernels; whatever this one does, the store works there. */
static void test_file_system_in_memory(void **state)
{
    struct fixture *fx = *state;
    char other[] = "/dev/shm/po-store-XXXXXX", saved[sizeof fx->path];
    if (!mkdtemp(other))
        skip();
    memcpy(saved, fx->path, sizeof saved);
    snprintf(fx->path, sizeof fx->path, "%s", other);
    open_new(fx);
    assert_int_equal(append(fx, 2, 1, 0, 5000), 0);
    wait_durable(fx, 1);
    po__store_close(fx->store);
    assert_int_equal(reopen(fx), 0);
    assert_int_equal(fx->recovery.last_index, 2);
    po__store_close(fx->store);
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", other);
    assert_int_equal(system(command), 0);
    memcpy(fx->path, saved, sizeof saved);
}

/* A directory that joins: its id is fixed before it asks, found again when it asks again, and gives
 * way to the identity. */
static void test_joining(void **state)
{
    struct fixture *fx = *state;
    struct po__identity id = test_identity, found;
    assert_int_equal(real_disk(fx), 0);
    assert_int_equal(store_open(fx, SEGMENT_BYTES), 0);
    assert_int_equal(po__store_joining(fx->store, &found), 0);
    assert_int_equal(po__store_join_begin(fx->store, &id), 0);
    po__store_close(fx->store); /* killed before the cluster answered */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(real_disk(fx), 0);
        assert_int_equal(store_open(fx, SEGMENT_BYTES), 0);
        assert_int_equal(po__store_identity(fx->store, &found), 0);
        assert_int_equal(po__store_joining(fx->store, &found), 1);
        assert_memory_equal(found.directory_id, id.directory_id, sizeof id.directory_id);
        assert_string_equal(found.name, id.name);
        assert_int_equal(found.node_id, 0);
        if (i == 0)
            po__store_close(fx->store);
    }
    id.node_id = 42;
    assert_int_equal(po__store_bootstrap(fx->store, &id, 1, NULL), 0);
    assert_int_equal(po__store_joining(fx->store, &found), 0);
    assert_int_equal(po__store_join_begin(fx->store, &id), PO_EEXISTS);
    po__store_close(fx->store);
    assert_int_equal(reopen(fx), 0);
    assert_int_equal(po__store_identity(fx->store, &found), 1);
    assert_int_equal(found.node_id, 42);
    assert_int_equal(fx->recovery.first_index, 1); /* and no record */
    assert_int_equal(fx->recovery.last_index, 0);
    po__store_close(fx->store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_append_and_recover, setup, teardown),
        cmocka_unit_test_setup_teardown(test_joining, setup, teardown),
        cmocka_unit_test_setup_teardown(test_second_opener_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
        cmocka_unit_test_setup_teardown(test_error_text, setup, teardown),
        cmocka_unit_test_setup_teardown(test_jobs, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rolling_with_snapshots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_system_in_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
