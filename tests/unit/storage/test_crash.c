/* The power is cut during every call that changes the disk, with several outcomes each; then
 * everything that was reported durable must be there, and nothing but what was asked for, in its
 * order.
 *
 * One run of a random workload on the simulated disk. Inside each changing call the medium is
 * cloned, its power-on decided from a seed, and a second store opened on the clone. What it
 * recovers is compared with the run's own bookkeeping: the log must be the result of a prefix of
 * the operations, at least as long as the acknowledged one. The recovered store then goes on: it
 * appends, is cut again, and must still have it all. */
#include "fixture.h"

#include <malloc.h>

#include "sim/disk_sim.h"

#define CRASH_SEGMENT_BYTES (32 * 1024)
#define STEPS               170
#define OUTCOMES            3
#define OPS_MAX             2000

struct op {
    bool reset;
    uint64_t index, term; /* reset: the next index */
    uint32_t stamp;
};

struct run {
    struct fixture fx; /* the running store */
    struct po__disk_sim *medium;
    uint64_t rng, seed;
    bool bootstrapping, bootstrapped;
    struct op ops[OPS_MAX];
    unsigned ops_count, ops_durable;
    struct log_model durable;      /* ops[0..ops_durable) applied */
    uint64_t term, vote;           /* acknowledged */
    uint64_t term_next, vote_next; /* being written */
    uint64_t last;
    uint64_t terms[4096]; /* of the log as appended */
    uint64_t floor;       /* nothing at or below it is truncated any more */
    struct po__snapshot_writer *writer;
    bool installing;
    struct po__snapshot_meta writing; /* index 0: none */
    uint64_t snapshot, snapshot_term; /* acknowledged */
    unsigned points, installs, recycled, removed, snapshots, truncations;
};

static struct {
    unsigned points, installs, recycled, removed, snapshots, truncations;
} reached; /* by all seeds together */

static uint64_t draw(struct run *r, uint64_t below)
{
    r->rng = r->rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (r->rng >> 33) % below;
}

static uint8_t snapshot_byte(uint64_t index, uint64_t term, uint64_t i)
{
    return (uint8_t)(index * 7 + term * 3 + i * (1 + (i >> 8)));
}

static uint64_t snapshot_size(uint64_t index)
{
    return index % 3 == 0 ? 0 : index % 3 == 1 ? index * 10 : 300000 + index;
}

static void op_apply(struct log_model *m, const struct op *op)
{
    if (op->reset)
        log_model_clear(m);
    else
        model_put(m, op->index, op->term, op->stamp);
}

/* What recovery makes of a log beside a snapshot. */
static bool fits(const struct log_model *m, const struct po__snapshot_meta *s)
{
    if (m->last < m->first)
        return true;
    if (m->last < s->index)
        return false;
    return m->first > s->index || m->term[s->index] == s->term;
}

static bool same_log(const struct fixture *fx, const struct log_model *m)
{
    const struct log_model *f = &fx->found;
    bool f_empty = f->last < f->first, m_empty = m->last < m->first;
    if (m_empty || !fits(m, &fx->recovery.snapshot))
        return f_empty;
    if (f_empty) /* all of it may be trimmed away */
        return m->last <= fx->recovery.snapshot.index;
    if (f->last != m->last || f->first < m->first)
        return false;
    for (uint64_t i = f->first; i <= f->last; i++)
        if (f->term[i] != m->term[i] || f->stamp[i] != m->stamp[i])
            return false;
    return true;
}

static void check_log(struct run *r, const struct fixture *fx)
{
    struct log_model *m = malloc(sizeof *m);
    assert_non_null(m);
    *m = r->durable;
    for (unsigned k = r->ops_durable;; k++) {
        if (same_log(fx, m))
            break;
        if (k == r->ops_count)
            fail_msg(
                "seed %llu, point %u: recovered %llu..%llu (snapshot %llu) is no continuation of "
                "the durable log %llu..%llu",
                (unsigned long long)r->seed, r->points, (unsigned long long)fx->found.first,
                (unsigned long long)fx->found.last, (unsigned long long)fx->recovery.snapshot.index,
                (unsigned long long)r->durable.first, (unsigned long long)r->durable.last);
        op_apply(m, &r->ops[k]);
    }
    free(m);
}

static void check_snapshot(struct run *r, struct fixture *fx)
{
    const struct po__snapshot_meta *s = &fx->recovery.snapshot;
    bool acked = s->index == r->snapshot && s->term == r->snapshot_term;
    bool coming = s->index == r->writing.index && s->term == r->writing.term;
    struct po__snapshot_reader *reader;
    struct po__snapshot_meta meta;
    assert_true(acked || coming);
    if (s->index == 0) {
        assert_int_equal(po__store_snapshot_open(fx->store, &reader, &meta), PO_ENOTFOUND);
        return;
    }
    assert_int_equal(po__store_snapshot_open(fx->store, &reader, &meta), 0);
    assert_int_equal(meta.size_bytes, snapshot_size(s->index));
    assert_int_equal(meta.conf_len, 3);
    assert_memory_equal(meta.conf, "abc", 3);
    uint8_t *data = malloc(meta.size_bytes + 1);
    assert_int_equal(po__store_snapshot_read(reader, 0, data, meta.size_bytes), 0);
    for (uint64_t i = 0; i < meta.size_bytes; i++)
        if (data[i] != snapshot_byte(s->index, s->term, i))
            fail_msg("snapshot %llu differs at %llu", (unsigned long long)s->index,
                     (unsigned long long)i);
    free(data);
    po__store_snapshot_close(reader);
}

static void poll_store(void *arg)
{
    po__store_poll(((struct fixture *)arg)->store);
}

static void must(struct run *r, struct fixture *fx, int rv, const char *what)
{
    if (rv)
        fail_msg("seed %llu, point %u: %s: %s: %s", (unsigned long long)r->seed, r->points, what,
                 po_err_name(rv), fx->error);
}

/* Go on with the recovered store, cut the power again: nothing may be lost, and nothing may come
 * back. */
static void check_goes_on(struct run *r, struct fixture *fx, struct po__disk_sim *m,
                          uint64_t outcome)
{
    struct log_model *expected = malloc(sizeof *expected);
    uint64_t next = fx->recovery.last_index + 1;
    *expected = fx->found;
    for (uint64_t i = 0; i < 4; i++) {
        fx->durable_count = 0;
        must(r, fx, append(fx, next, 99, (uint32_t)(100 + i), (uint32_t)(20 + outcome * 4100)),
             "append");
        model_put(expected, next++, 99, (uint32_t)(100 + i));
        po__store_flush(fx->store);
        po__disk_sim_run(fx->disk, poll_store, fx);
        assert_int_equal(fx->durable_count, 1);
    }
    assert_int_equal(fx->faults, 0);
    po__store_close(fx->store);
    po__disk_sim_power_on(m, outcome + 77);
    po__disk_sim_attach(m, &fx->disk);
    must(r, fx, store_open(fx, CRASH_SEGMENT_BYTES), "second open");
    must(r, fx, store_recover(fx), "second recovery");
    if (fx->found.last != expected->last || !same_log(fx, expected))
        fail_msg("seed %llu, point %u, outcome %llu: lost after the second cut",
                 (unsigned long long)r->seed, r->points, (unsigned long long)outcome);
    po__store_close(fx->store);
    free(expected);
}

static void check_outcome(struct run *r, uint64_t outcome)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__identity id;
    struct po__disk_sim *m = po__disk_sim_clone(r->medium);
    po__disk_sim_power_on(m, r->seed * 1000003 + r->points * 31 + outcome);
    po__disk_sim_attach(m, &fx->disk);
    must(r, fx, store_open(fx, CRASH_SEGMENT_BYTES), "open");
    if (po__store_identity(fx->store, &id)) {
        assert_true(r->bootstrapped || r->bootstrapping);
        must(r, fx, store_recover(fx), "recovery");
        bool old = fx->recovery.term == r->term && fx->recovery.vote == r->vote;
        bool new = fx->recovery.term == r->term_next && fx->recovery.vote == r->vote_next;
        assert_true(old || new);
        check_log(r, fx);
        check_snapshot(r, fx);
        check_goes_on(r, fx, m, outcome);
    } else {
        struct po__rec *first = make_record(1, 1, 0, 100);
        assert_false(r->bootstrapped);
        must(r, fx, po__store_bootstrap(fx->store, &test_identity, 1, first), "bootstrap again");
        must(r, fx, store_recover(fx), "recovery of a new directory");
        assert_int_equal(fx->found.last, 1);
        po__store_close(fx->store);
        free(first);
    }
    assert_int_equal(fx->faults, 0);
    po__disk_sim_free(m);
    free(fx);
}

static void on_change(void *arg, const char *call, const char *name)
{
    struct run *r = arg;
    r->points++;
    if (!strcmp(call, "rename") && !strncmp(name, "wal-", 4))
        r->recycled++;
    if (!strcmp(call, "unlink") && !strncmp(name, "wal-", 4))
        r->removed++;
    for (uint64_t i = 0; i < OUTCOMES; i++)
        check_outcome(r, i);
}

/* The workload */

static void on_ops_durable(void *arg, uint64_t token)
{
    struct run *r = arg;
    assert_true(token > r->ops_durable && token <= r->ops_count);
    while (r->ops_durable < token)
        op_apply(&r->durable, &r->ops[r->ops_durable++]);
}

static void do_append(struct run *r, uint64_t index)
{
    uint32_t stamp = r->ops_count;
    struct po__rec *rec =
        make_record(index, r->term, stamp, (uint32_t)(8 + draw(r, draw(r, 5) ? 900 : 9000)));
    assert_true(r->ops_count < OPS_MAX);
    r->ops[r->ops_count++] = (struct op){.index = index, .term = r->term, .stamp = stamp};
    assert_int_equal(po__store_append(r->fx.store, rec, on_ops_durable, r, r->ops_count), 0);
    r->last = index;
    r->terms[index] = r->term;
    free(rec);
}

static void do_vote(struct run *r)
{
    r->term_next = r->term + draw(r, 2);
    r->vote_next = 1 + draw(r, 5);
    assert_int_equal(po__store_set_vote(r->fx.store, r->term_next, r->vote_next), 0);
    r->term = r->term_next;
    r->vote = r->vote_next;
}

static void on_snapshot(void *arg, uint64_t token)
{
    struct run *r = arg;
    assert_int_equal(token, r->writing.index);
    r->snapshot = r->writing.index;
    r->snapshot_term = r->writing.term;
    r->snapshots++;
    r->writing.index = 0;
    if (r->installing) {
        r->installing = false;
        r->installs++;
        r->ops[r->ops_count++] = (struct op){.reset = true};
        po__store_reset_log(r->fx.store, token + 1);
        r->last = token;
        r->terms[token] = r->snapshot_term;
    }
    uint64_t trailing = draw(r, 10);
    po__store_trim(r->fx.store, token > trailing ? token - trailing : 0);
}

static void do_snapshot(struct run *r, uint64_t index, uint64_t term)
{
    struct po__snapshot_writer *w;
    uint64_t size = snapshot_size(index);
    uint8_t *data = malloc(size + 1);
    r->writing = (struct po__snapshot_meta){
        .index = index, .term = term, .conf_index = 1, .conf_len = 3, .conf = "abc"};
    for (uint64_t i = 0; i < size; i++)
        data[i] = snapshot_byte(index, term, i);
    r->floor = index;
    assert_int_equal(po__store_snapshot_begin(r->fx.store, &w, &r->writing), 0);
    for (uint64_t at = 0; at < size;) {
        uint64_t n = 1 + draw(r, 200000);
        n = n > size - at ? size - at : n;
        assert_int_equal(po__store_snapshot_write(w, data + at, n), 0);
        at += n;
    }
    assert_int_equal(po__store_snapshot_finish(w, on_snapshot, r), 0);
    free(data);
}

static void do_step(struct run *r)
{
    uint64_t what = draw(r, 100);
    if (what < 55 && !r->installing) {
        for (uint64_t n = draw(r, 20) ? 1 + draw(r, 3) : 40; n; n--)
            do_append(r, r->last + 1);
    } else if (what < 62 && !r->installing && r->last > r->floor + 1) {
        r->truncations++;
        do_append(r, r->floor + 1 + draw(r, r->last - r->floor));
    } else if (what < 72) {
        do_vote(r);
    } else if (what < 80 && !r->writing.index && r->last > r->floor) {
        uint64_t index = r->floor + 1 + draw(r, r->last - r->floor);
        do_snapshot(r, index, r->terms[index]);
    } else if (what < 84 && !r->writing.index) {
        bool beyond = draw(r, 2) || r->last <= r->floor + 1;
        r->installing = true;
        r->term_next = r->term + 1; /* a leader's term, seen with its snapshot */
        assert_int_equal(po__store_set_vote(r->fx.store, r->term_next, r->vote_next), 0);
        r->term = r->term_next;
        do_snapshot(r, beyond ? r->last + 5 : r->last, r->term);
    }
    po__store_flush(r->fx.store);
    for (uint64_t n = draw(r, 6); n; n--) {
        po__disk_sim_step(r->fx.disk, draw(r, 3) ? PO__CHANNEL_LOG : PO__CHANNEL_SLOW);
        if (draw(r, 2))
            po__store_poll(r->fx.store);
    }
}

static void run_workload(uint64_t seed)
{
    struct run *r = calloc(1, sizeof *r);
    struct po__rec *first = make_record(1, 1, 0, 100);
    assert_non_null(r);
    r->seed = r->rng = seed;
    r->medium = po__disk_sim_new(seed);
    po__disk_sim_on_change(r->medium, on_change, r);
    po__disk_sim_attach(r->medium, &r->fx.disk);
    r->fx.spares = 1;
    log_model_clear(&r->durable);
    must(r, &r->fx, store_open(&r->fx, CRASH_SEGMENT_BYTES), "open");
    r->ops[r->ops_count++] = (struct op){.index = 1, .term = 1};
    r->term = r->term_next = r->terms[1] = r->last = 1;
    r->bootstrapping = true;
    op_apply(&r->durable, &r->ops[r->ops_durable++]);
    must(r, &r->fx, po__store_bootstrap(r->fx.store, &test_identity, 1, first), "bootstrap");
    r->bootstrapped = true;
    must(r, &r->fx, store_recover(&r->fx), "recovery");
    for (int i = 0; i < STEPS; i++)
        do_step(r);
    po__disk_sim_run(r->fx.disk, poll_store, &r->fx);
    do_append(r, r->last + 1);
    po__store_flush(r->fx.store);
    po__disk_sim_run(r->fx.disk, poll_store, &r->fx);
    assert_int_equal(r->ops_durable, r->ops_count);
    assert_int_equal(r->fx.faults, 0);
    po__store_close(r->fx.store);
    reached.points += r->points;
    reached.installs += r->installs;
    reached.recycled += r->recycled;
    reached.removed += r->removed;
    reached.snapshots += r->snapshots;
    reached.truncations += r->truncations;
    po__disk_sim_free(r->medium);
    free(first);
    free(r);
}

static void test_power_cut_at_every_call(void **state)
{
    (void)state;
    /* Thousands of stores are opened: do not give their buffers back to the kernel each time. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 256 << 20);
    const char *seed = getenv("PO_TEST_SEED");
    if (seed) {
        run_workload(strtoull(seed, NULL, 10));
        return;
    }
    for (uint64_t s = 1; s <= 4; s++)
        run_workload(s);
    /* The workload reached what it is meant to test. */
    assert_true(reached.points > 1000 && reached.truncations && reached.snapshots);
    assert_true(reached.installs && reached.recycled && reached.removed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_cut_at_every_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
