/* The replica's contract on one node (replica.h), over the real store and a simulated disk;
 * clusters are tests/sim's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <pipeorch/node.h>
#include "base/alloc.h"
#include "consensus/heap.h"
#include "consensus/replica.h"
#include "sim/disk_sim.h"

#define ENTRIES_MAX 4096

struct fixture {
    struct po__disk_sim *medium;
    struct po__disk *disk;
    struct po__store *store;
    struct po__replica *r;
    uint64_t now;
    /* what the replica told its owner */
    uint64_t applied[ENTRIES_MAX];
    void *tokens[ENTRIES_MAX];
    unsigned applied_count, dropped_count, restored_bytes;
    bool restored;
    uint64_t state; /* sum of what was applied: the state machine */
    uint64_t frozen;
    int role;
    bool ready;
    int fault;
    char fault_message[512];
    int apply_result;
    /* callbacks of reads and changes */
    int code;
    uint64_t index;
    unsigned called;
};

static int on_apply(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                    void *token)
{
    struct fixture *f = arg;
    uint64_t value;

    (void)term;
    assert_true(len >= sizeof value && f->applied_count < ENTRIES_MAX);
    memcpy(&value, data, sizeof value);
    f->state += value;
    f->applied[f->applied_count] = index;
    f->tokens[f->applied_count++] = token;
    return f->apply_result;
}

static void on_dropped(void *arg, void *token)
{
    (void)token;
    ((struct fixture *)arg)->dropped_count++;
}

static int on_snapshot_begin(void *arg)
{
    struct fixture *f = arg;
    f->frozen = f->state;
    return 0;
}

static int on_snapshot_step(void *arg, struct po__buf *out, size_t budget_bytes)
{
    struct fixture *f = arg;
    (void)budget_bytes;
    return po__buf_append(out, &f->frozen, sizeof f->frozen) ? out->err : 1;
}

static void on_snapshot_abort(void *arg)
{
    (void)arg;
}

static int on_restore_begin(void *arg, uint64_t index)
{
    struct fixture *f = arg;
    (void)index;
    f->restored_bytes = 0;
    return 0;
}

static int on_restore_chunk(void *arg, const void *data, size_t len)
{
    struct fixture *f = arg;
    assert_int_equal(len, sizeof f->state);
    memcpy(&f->state, data, len);
    f->restored_bytes += (unsigned)len;
    return 0;
}

static int on_restore_end(void *arg)
{
    struct fixture *f = arg;
    f->restored = true;
    return f->restored_bytes == sizeof f->state ? 0 : PO_ECORRUPT;
}

static void on_role(void *arg, int role, uint64_t leader_id, uint64_t term, bool ready)
{
    struct fixture *f = arg;
    (void)leader_id, (void)term;
    f->role = role;
    f->ready = ready;
}

static void on_fault(void *arg, int code, const char *message)
{
    struct fixture *f = arg;
    assert_int_equal(f->fault, 0); /* once */
    f->fault = code;
    snprintf(f->fault_message, sizeof f->fault_message, "%s", message);
}

static const struct po__state_ops state_ops = {
    on_apply,         on_dropped,       on_snapshot_begin, on_snapshot_step, on_snapshot_abort,
    on_restore_begin, on_restore_chunk, on_restore_end,    on_role,          on_fault};

static void on_done(void *arg, int code, uint64_t index)
{
    struct fixture *f = arg;
    f->code = code;
    f->index = index;
    f->called++;
}

static void store_fault(void *arg, int code, const char *message)
{
    (void)arg, (void)code, (void)message;
}

static void open_store(struct fixture *f)
{
    struct po__store_opts so = {
        .segment_bytes = 64 * 1024, .segments_spare = 1, .fault = store_fault};
    char error[256];

    po__disk_sim_attach(f->medium, &f->disk);
    assert_int_equal(po__store_open(&f->store, f->disk, &so, error, sizeof error), 0);
}

static int start_replica(struct fixture *f, char *error, size_t error_len)
{
    struct po__replica_opts o = {.store = f->store,
                                 .state = &state_ops,
                                 .state_arg = f,
                                 .id = 1,
                                 .address = "node-1",
                                 .election_ms = 1000,
                                 .heartbeat_ms = 100,
                                 .snapshot_bytes = 4096,
                                 .trailing_bytes = 512,
                                 .seed = 42};
    f->state = 0;
    f->restored = false;
    f->role = f->fault = 0;
    f->applied_count = f->dropped_count = 0;
    return po__replica_start(&f->r, &o, f->now, error, error_len);
}

static void begin(struct fixture *f, const struct po__server *servers, unsigned count)
{
    struct po__identity id = {.node_id = 1, .name = "node-1"};
    struct po__rec *first;
    char error[256] = "";

    memset(f, 0, sizeof *f);
    f->now = 1000;
    f->medium = po__disk_sim_new(7);
    open_store(f);
    assert_int_equal(po__replica_bootstrap_record(&first, servers, count), 0);
    assert_int_equal(po__store_bootstrap(f->store, &id, 1, first), 0);
    po__free(first);
    if (start_replica(f, error, sizeof error))
        fail_msg("%s", error);
}

static void end(struct fixture *f)
{
    po__replica_stop(f->r);
    po__store_close(f->store);
    po__disk_sim_free(f->medium);
}

static void poll(void *arg)
{
    struct fixture *f = arg;
    po__store_poll(f->store);
    po__replica_tick(f->r, f->now);
}

/* All that can be done now; then time passes. */
static void run(struct fixture *f, uint64_t ms)
{
    for (uint64_t end_ms = f->now + ms;; f->now += 10) {
        for (int i = 0; i < 10; i++) {
            po__replica_tick(f->r, f->now);
            po__disk_sim_run(f->disk, poll, f);
        }
        if (f->now >= end_ms)
            return;
    }
}

static int propose(struct fixture *f, uint64_t value, size_t len, void *token)
{
    struct po__proposal p;
    assert_int_equal(po__proposal_alloc(&p, len), 0);
    memset(p.payload, 0, len);
    memcpy(p.payload, &value, sizeof value);
    int rv = po__replica_propose(f->r, &p, len, token, f->now);
    if (rv)
        po__proposal_free(&p);
    return rv;
}

static const struct po__server alone[] = {{1, "node-1", PO__VOTER}};

static void test_alone(void **state)
{
    struct fixture f;
    struct po__replica_status st;
    int token;
    (void)state;

    begin(&f, alone, 1);
    run(&f, 0);
    assert_int_equal(f.role, PO_ROLE_LEADER);
    assert_true(f.ready);
    assert_int_equal(propose(&f, 7, 100, &token), 0);
    assert_int_equal(f.applied_count, 0); /* not before it is durable */
    assert_int_equal(po__replica_inflight(f.r), 1);
    run(&f, 0);
    assert_int_equal(f.applied_count, 1);
    assert_ptr_equal(f.tokens[0], &token);
    assert_int_equal(po__replica_inflight(f.r), 0);
    po__replica_status(f.r, &st);
    assert_int_equal(st.applied_index, f.applied[0]);
    assert_int_equal(st.stored_index, st.last_index);
    assert_int_equal(st.term, 2); /* a sole voter takes a new term (guard 3) */
    assert_int_equal(st.vote, 1);
    assert_true(po__replica_deadline_ms(f.r) > f.now);

    assert_int_equal(po__replica_read(f.r, on_done, &f, f.now), 0);
    run(&f, 0);
    assert_int_equal(f.called, 1);
    assert_int_equal(f.code, 0);
    assert_int_equal(f.index, st.commit_index);
    assert_int_equal(po__replica_wait_applied(f.r, st.applied_index + 1, on_done, &f), 0);
    run(&f, 0);
    assert_int_equal(f.called, 1);
    assert_int_equal(propose(&f, 1, 8, NULL), 0);
    run(&f, 0);
    assert_int_equal(f.called, 2);
    end(&f);
}

static void test_restart(void **state)
{
    struct fixture f;
    char error[256];
    (void)state;

    begin(&f, alone, 1);
    run(&f, 0);
    for (uint64_t i = 1; i <= 200; i++) {
        assert_int_equal(propose(&f, i, 100, NULL), 0);
        run(&f, 0);
    }
    struct po__replica_status st;
    po__replica_status(f.r, &st);
    assert_true(st.snapshot_index > 100); /* 4096 bytes hold some 30 entries */
    assert_true(st.log_bytes < 3 * 4096); /* and what they cover is forgotten */
    uint64_t term = st.term;
    for (int restart = 0; restart < 3; restart++) {
        po__replica_stop(f.r);
        po__store_close(f.store);
        po__disk_sim_cut(f.medium);
        po__disk_sim_power_on(f.medium, 3);
        open_store(&f);
        assert_int_equal(start_replica(&f, error, sizeof error), 0);
        run(&f, 0);
        assert_true(f.restored);
        assert_int_equal(f.state, 200 * 201 / 2);
        po__replica_status(f.r, &st);
        assert_true(st.term > term);
        term = st.term;
    }
    end(&f);
}

static void test_bounds(void **state)
{
    struct fixture f;
    struct po__proposal p;
    int token;
    (void)state;

    assert_int_equal(po__proposal_alloc(&p, PO__RECORD_MAX_BYTES + 1), PO_ETOOBIG);
    po__proposal_free(&p);
    begin(&f, alone, 1);
    assert_int_equal(propose(&f, 1, 8, NULL), PO_ENOTLEADER); /* leader, but not ready */
    run(&f, 0);
    assert_int_equal(propose(&f, 1, 8, &token), 0);
    assert_int_equal(propose(&f, 1, 8, &token), 0);
    assert_int_equal(propose(&f, 1, 8, &token), PO_EBUSY); /* two in flight */
    run(&f, 0);
    assert_int_equal(propose(&f, 1, PO__RECORD_MAX_BYTES, &token), 0);
    run(&f, 0);
    assert_int_equal(f.applied_count, 3);
    /* A small entry in a large allocation gives the rest back. */
    assert_int_equal(po__proposal_alloc(&p, 100000), 0);
    memset(p.payload, 0, 16);
    assert_int_equal(po__replica_propose(f.r, &p, 16, &token, f.now), 0);
    /* Stopping: the owner hears of every token. */
    po__replica_stop(f.r);
    assert_int_equal(f.dropped_count, 1);
    po__store_close(f.store);
    po__disk_sim_free(f.medium);
}

static void test_follower_refuses(void **state)
{
    static const struct po__server three[] = {
        {1, "node-1", PO__VOTER}, {2, "node-2", PO__VOTER}, {3, "node-3", PO__VOTER}};
    struct fixture f;
    (void)state;

    begin(&f, three, 3);
    run(&f, 5000); /* alone among three: a candidate for ever, and its term does not run away
                      (pre-vote) */
    struct po__replica_status st;
    po__replica_status(f.r, &st);
    assert_int_equal(st.role, PO_ROLE_CANDIDATE);
    assert_int_equal(st.term, 1);
    assert_int_equal(propose(&f, 1, 8, NULL), PO_ENOTLEADER);
    assert_int_equal(po__replica_read(f.r, on_done, &f, f.now), PO_ENOTLEADER);
    assert_int_equal(po__replica_transfer(f.r, 2, f.now), PO_ENOTLEADER);
    assert_int_equal(po__replica_add_spare(f.r, 9, "node-9", on_done, &f, f.now), PO_ENOTLEADER);
    struct po__server servers[PO_MEMBERS_MAX];
    assert_int_equal(po__replica_servers(f.r, servers, PO_MEMBERS_MAX), 3);
    assert_string_equal(servers[2].address, "node-3");
    /* Frames from nobody, from ourselves, of nonsense. */
    assert_int_equal(po__replica_receive(f.r, 0, "x", 1, f.now), PO_EPROTO);
    assert_int_equal(po__replica_receive(f.r, 1, "x", 1, f.now), PO_EPROTO);
    assert_int_equal(po__replica_receive(f.r, 2, "x", 1, f.now), PO_EPROTO);
    /* Stopped while a wait is under way. */
    assert_int_equal(po__replica_wait_applied(f.r, 1000, on_done, &f), 0);
    end(&f);
    assert_int_equal(f.called, 1);
    assert_int_equal(f.code, PO_ECLOSED);
}

static void test_membership_refusals(void **state)
{
    struct fixture f;
    (void)state;

    begin(&f, alone, 1);
    assert_int_equal(po__replica_add_spare(f.r, 2, "node-2", on_done, &f, f.now),
                     PO_ENOTLEADER); /* not ready */
    run(&f, 0);
    assert_int_equal(po__replica_add_spare(f.r, 1, "node-9", on_done, &f, f.now), PO_EEXISTS);
    assert_int_equal(po__replica_add_spare(f.r, 9, "node-1", on_done, &f, f.now), PO_EEXISTS);
    assert_int_equal(po__replica_add_spare(f.r, 0, "", on_done, &f, f.now), PO_EINVAL);
    assert_int_equal(po__replica_set_role(f.r, 2, PO__VOTER, on_done, &f, f.now), PO_ENOTFOUND);
    assert_int_equal(po__replica_remove(f.r, 2, on_done, &f, f.now), PO_ENOTFOUND);
    assert_int_equal(po__replica_remove(f.r, 1, on_done, &f, f.now),
                     PO_EREFUSED); /* the last voter */
    assert_int_equal(po__replica_transfer(f.r, 0, f.now), PO_ENOTFOUND);
    assert_int_equal(f.called, 0);

    assert_int_equal(po__replica_add_spare(f.r, 2, "node-2", on_done, &f, f.now), 0);
    assert_int_equal(po__replica_add_spare(f.r, 3, "node-3", on_done, &f, f.now),
                     PO_EBUSY); /* one at a time */
    run(&f, 0);
    assert_int_equal(f.called, 1);
    assert_int_equal(f.code, 0);
    assert_true(f.index > 1);
    assert_int_equal(po__replica_set_role(f.r, 2, PO__VOTER, on_done, &f, f.now),
                     PO_ESTATE); /* standby first */
    assert_int_equal(po__replica_set_role(f.r, 2, PO__SPARE, on_done, &f, f.now), PO_ESTATE);
    assert_int_equal(po__replica_set_role(f.r, 2, 7, on_done, &f, f.now), PO_EINVAL);
    assert_int_equal(po__replica_set_role(f.r, 2, PO__STANDBY, on_done, &f, f.now), 0);
    run(&f, 3000);
    assert_int_equal(f.called, 2);
    assert_int_equal(f.code, PO_EUNREACHABLE); /* nobody there */
    assert_int_equal(po__replica_remove(f.r, 2, on_done, &f, f.now), 0);
    run(&f, 0);
    assert_int_equal(f.called, 3);
    assert_int_equal(f.code, 0);
    end(&f);
}

/* Ids are made of the index that adds the server: two lives of one address get two ids, and it can
 * be told who was removed from who is not known yet. */
static void test_fresh_ids_and_who_has_left(void **state)
{
    struct fixture f;
    uint64_t ids[2];
    (void)state;

    begin(&f, alone, 1);
    run(&f, 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(po__replica_add_spare(f.r, 0, "node-2", on_done, &f, f.now), 0);
        run(&f, 0);
        assert_int_equal(f.code, 0);
        ids[i] = po__fresh_id(f.index);
        assert_true(ids[i] > PO_MEMBERS_MAX);
        struct po__server servers[PO_MEMBERS_MAX];
        assert_int_equal(po__replica_servers(f.r, servers, PO_MEMBERS_MAX), 2);
        assert_int_equal(servers[1].id, ids[i]);
        assert_false(po__replica_has_left(f.r, ids[i]));
        assert_int_equal(po__replica_remove(f.r, ids[i], on_done, &f, f.now), 0);
        run(&f, 0);
        assert_true(po__replica_has_left(f.r, ids[i]));
    }
    assert_true(ids[1] > ids[0]);
    assert_false(po__replica_has_left(f.r, 1));
    /* A server that a later entry adds, which this replica has not applied yet. */
    assert_false(po__replica_has_left(f.r, po__fresh_id(f.index + 1)));
    end(&f);
}

static void test_disk_fault(void **state)
{
    struct fixture f;
    int token;
    (void)state;

    begin(&f, alone, 1);
    run(&f, 0);
    assert_int_equal(propose(&f, 1, 8, &token), 0);
    assert_int_equal(po__replica_wait_applied(f.r, 1000, on_done, &f), 0);
    po__disk_sim_cut(f.medium); /* every call fails from here on */
    run(&f, 0);
    assert_int_equal(f.fault, PO_EIO);
    assert_true(f.fault_message[0]);
    assert_int_equal(f.applied_count, 0); /* never acknowledged */
    assert_int_equal(f.dropped_count, 1);
    assert_int_equal(f.called, 1);
    assert_int_equal(f.code, PO_EFAULT);
    assert_int_equal(propose(&f, 1, 8, &token), PO_EFAULT);
    assert_int_equal(po__replica_receive(f.r, 2, "x", 1, f.now), PO_EFAULT);
    assert_true(po__replica_deadline_ms(f.r) == UINT64_MAX);
    struct po__replica_status st;
    po__replica_status(f.r, &st);
    assert_int_equal(st.role, PO_ROLE_STOPPED);
    end(&f);
}

static void test_apply_fault(void **state)
{
    struct fixture f;
    (void)state;

    begin(&f, alone, 1);
    run(&f, 0);
    f.apply_result = PO_ECORRUPT;
    assert_int_equal(propose(&f, 1, 8, NULL), 0);
    run(&f, 0);
    assert_int_equal(f.fault, PO_ECORRUPT);
    assert_int_equal(f.applied_count, 1);
    end(&f);
}

/* Memory runs out at every allocation of a replica's work in turn: it refuses, or stops itself with
 * PO_ENOMEM; nothing crashes, nothing is acknowledged that is not applied, and the next start has
 * all that was. */
static void test_out_of_memory(void **state)
{
    unsigned stopped = 0, survived = 0;
    char error[256];
    (void)state;

    for (uint64_t n = 1; n <= 120; n++) {
        struct fixture f;
        begin(&f, alone, 1);
        run(&f, 0);
        po__alloc_fail_at(n);
        for (uint64_t i = 0; i < 40 && !f.fault; i++) {
            struct po__proposal p;
            if (po__proposal_alloc(&p, 64))
                continue;
            memset(p.payload, 1, 64);
            if (po__replica_propose(f.r, &p, 64, &f, f.now))
                po__proposal_free(&p);
            run(&f, 100);
        }
        po__alloc_fail_at(0);
        if (f.fault)
            assert_true(f.fault == PO_ENOMEM || f.fault == PO_EIO);
        stopped += f.fault != 0;
        survived += f.fault == 0;
        uint64_t sum = f.state;
        po__replica_stop(f.r);
        po__store_close(f.store);
        po__heap_reset_for_tests();
        po__disk_sim_power_on(f.medium, n);
        open_store(&f);
        assert_int_equal(start_replica(&f, error, sizeof error), 0);
        run(&f, 0);
        assert_true(f.state >= sum);
        end(&f);
    }
    assert_true(stopped > 0 && survived > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_follower_refuses),
        cmocka_unit_test(test_membership_refusals),
        cmocka_unit_test(test_fresh_ids_and_who_has_left),
        cmocka_unit_test(test_disk_fault),
        cmocka_unit_test(test_apply_fault),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
