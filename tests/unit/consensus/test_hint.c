/* The closed-connection hint, and reads that share a round: one replica of three, its peers played
 * by the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <pipeorch/node.h>
#include "base/alloc.h"
#include "consensus/replica.h"
#include "consensus/wire.h"
#include "sim/disk_sim.h"

#define ELECTION_MS  1000
#define HEARTBEAT_MS 100
#define SENT_MAX     4096

struct fixture {
    struct po__disk_sim *medium;
    struct po__disk *disk;
    struct po__store *store;
    struct po__replica *r;
    uint64_t now, id;
    int role;
    bool ready;
    struct {
        uint64_t peer;
        struct po__msg m; /* without what it points to */
    } sent[SENT_MAX];
    unsigned sent_count;
    unsigned reads_done, reads_failed;
};

/* ---- surroundings ---- */

static void on_send(void *arg, uint64_t peer, struct po__frame *frame)
{
    struct fixture *f = arg;
    static uint8_t bytes[65536];
    size_t len = 0;
    for (uint32_t i = 0; i < frame->parts_count; i++) {
        memcpy(bytes + len, frame->parts[i].data, frame->parts[i].len);
        len += frame->parts[i].len;
    }
    assert_true(f->sent_count < SENT_MAX);
    f->sent[f->sent_count].peer = peer;
    assert_int_equal(po__wire_decode(&f->sent[f->sent_count].m, bytes, len), 0);
    po__msg_fini(&f->sent[f->sent_count++].m);
    po__frame_unref(frame);
}

static void on_servers(void *arg, const struct po__server *servers, unsigned count)
{
    (void)arg, (void)servers, (void)count;
}

static size_t on_queued(void *arg, uint64_t peer)
{
    (void)arg, (void)peer;
    return 0;
}

static int on_apply(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                    void *token)
{
    (void)arg, (void)index, (void)term, (void)data, (void)len, (void)token;
    return 0;
}

static void on_dropped(void *arg, void *token)
{
    (void)arg, (void)token;
}

static int on_begin(void *arg)
{
    (void)arg;
    return 0;
}

static int on_step(void *arg, struct po__buf *out, size_t budget_bytes)
{
    (void)arg, (void)out, (void)budget_bytes;
    return 1;
}

static void on_abort(void *arg)
{
    (void)arg;
}

static int on_restore_begin(void *arg, uint64_t index)
{
    (void)arg, (void)index;
    return 0;
}

static int on_restore_chunk(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

static void on_role(void *arg, int role, uint64_t leader, uint64_t term, bool ready)
{
    struct fixture *f = arg;
    (void)leader, (void)term;
    f->role = role;
    f->ready = ready;
}

static void on_fault(void *arg, int code, const char *message)
{
    (void)arg, (void)code;
    fail_msg("%s", message);
}

static void store_fault(void *arg, int code, const char *message)
{
    (void)arg, (void)code, (void)message;
}

static const struct po__transport_ops transport = {on_send, on_servers, on_queued};
static const struct po__state_ops state_ops = {
    on_apply,         on_dropped,       on_begin, on_step, on_abort,
    on_restore_begin, on_restore_chunk, on_begin, on_role, on_fault};
static const struct po__server three[] = {
    {1, "node-1", PO__VOTER}, {2, "node-2", PO__VOTER}, {3, "node-3", PO__VOTER}};

static void begin(struct fixture *f, uint64_t id, bool hint)
{
    struct po__identity identity = {.node_id = id};
    struct po__store_opts so = {
        .segment_bytes = 64 * 1024, .segments_spare = 1, .fault = store_fault};
    struct po__rec *first;
    char error[256] = "";

    memset(f, 0, sizeof *f);
    f->id = id;
    f->now = 100000;
    f->medium = po__disk_sim_new(7);
    po__disk_sim_attach(f->medium, &f->disk);
    snprintf(identity.name, sizeof identity.name, "node-%u", (unsigned)id);
    assert_int_equal(po__store_open(&f->store, f->disk, &so, error, sizeof error), 0);
    assert_int_equal(po__replica_bootstrap_record(&first, three, 3), 0);
    assert_int_equal(po__store_bootstrap(f->store, &identity, 1, first), 0);
    po__free(first);
    struct po__replica_opts o = {.store = f->store,
                                 .transport = &transport,
                                 .transport_arg = f,
                                 .state = &state_ops,
                                 .state_arg = f,
                                 .id = id,
                                 .address = three[id - 1].address,
                                 .election_ms = ELECTION_MS,
                                 .heartbeat_ms = HEARTBEAT_MS,
                                 .snapshot_bytes = 1 << 20,
                                 .trailing_bytes = 1 << 20,
                                 .seed = 42,
                                 .hint = hint};
    assert_int_equal(po__replica_start(&f->r, &o, f->now, error, sizeof error), 0);
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

static void settle(struct fixture *f)
{
    for (int i = 0; i < 10; i++) {
        po__replica_tick(f->r, f->now);
        po__disk_sim_run(f->disk, poll, f);
    }
}

static void pass(struct fixture *f, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        f->now++;
        settle(f);
    }
}

static void receive(struct fixture *f, uint64_t peer, const struct po__msg *m)
{
    static uint8_t bytes[65536];
    struct po__log log;
    size_t len = 0;

    po__log_init(&log, 1);
    struct po__frame *frame = po__wire_encode(m, &log);
    assert_non_null(frame);
    for (uint32_t i = 0; i < frame->parts_count; i++) {
        memcpy(bytes + len, frame->parts[i].data, frame->parts[i].len);
        len += frame->parts[i].len;
    }
    assert_int_equal(po__replica_receive(f->r, peer, bytes, len, f->now), 0);
    po__frame_unref(frame);
    po__log_fini(&log);
    settle(f);
}

/* A heartbeat of that leader. */
static void lead(struct fixture *f, uint64_t peer, uint64_t term)
{
    struct po__msg m = {.type = PO__MSG_APPEND, .term = term};
    m.append.prev_index = m.append.prev_term = m.append.commit = 1;
    receive(f, peer, &m);
}

static unsigned sent(const struct fixture *f, int type, unsigned from)
{
    unsigned n = 0;
    for (unsigned i = from; i < f->sent_count; i++)
        n += f->sent[i].m.type == type;
    return n;
}

static void grant(struct fixture *f, uint64_t peer, uint64_t term, bool pre_vote)
{
    struct po__msg m = {.type = PO__MSG_VOTE_RESULT, .term = term};
    m.vote_result.granted = true;
    m.vote_result.pre_vote = pre_vote;
    receive(f, peer, &m);
}

static bool granted(struct fixture *f, uint64_t peer, uint64_t term)
{
    struct po__msg m = {.type = PO__MSG_VOTE, .term = term};
    unsigned from = f->sent_count;
    m.vote.candidate = peer;
    m.vote.last_index = m.vote.last_term = 1;
    m.vote.pre_vote = true;
    receive(f, peer, &m);
    for (unsigned i = from; i < f->sent_count; i++)
        if (f->sent[i].m.type == PO__MSG_VOTE_RESULT)
            return f->sent[i].m.vote_result.granted;
    fail_msg("no answer to a request for a vote");
    return false;
}

/* Every ping of the replica is answered by its peers, after so long. */
static void measure(struct fixture *f, uint64_t rtt_ms)
{
    unsigned from = f->sent_count;
    for (int i = 0; i < 11 * HEARTBEAT_MS && sent(f, PO__MSG_PING, from) < 2; i++) {
        if (i % HEARTBEAT_MS == 0)
            lead(f, 2, 2);
        pass(f, 1);
    }
    pass(f, rtt_ms);
    for (unsigned i = from, end_at = f->sent_count; i < end_at; i++) {
        if (f->sent[i].m.type != PO__MSG_PING)
            continue;
        struct po__msg m = {.type = PO__MSG_PONG, .term = 2};
        m.ping.sequence = f->sent[i].m.ping.sequence;
        receive(f, f->sent[i].peer, &m);
    }
    lead(f, 2, 2);
}

/* ---- the hint ---- */

/* The first in turn stands up at once, without any timeout, and leads with one vote. */
static void test_first_in_turn(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 1, true);
    lead(&f, 2, 2);
    pass(&f, 5);
    unsigned from = f.sent_count;
    po__replica_peer_gone(f.r, 2, f.now);
    settle(&f);
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 2);
    assert_true(f.sent[f.sent_count - 1].m.vote.pre_vote);
    assert_false(f.sent[f.sent_count - 1].m.vote.disrupt_leader);
    grant(&f, 3, 3, true);
    grant(&f, 3, 3, false);
    assert_int_equal(f.role, PO_ROLE_LEADER);
    end(&f);
}

/* The second waits its turn: more than two of the largest round trips measured. */
static void test_second_in_turn(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 3, true);
    lead(&f, 2, 2);
    measure(&f, 40);
    unsigned from = f.sent_count;
    po__replica_peer_gone(f.r, 2, f.now);
    pass(&f, 80);
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 0);
    pass(&f, 40);
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 2);
    end(&f);
}

/* Asked again while nobody answers, a bounded number of times; the term stays. Then Raft's own
 * timer is as it was. */
static void test_asks_again(void **state)
{
    struct fixture f;
    struct po__replica_status st;
    (void)state;
    begin(&f, 1, true);
    lead(&f, 2, 2);
    measure(&f, 2);
    pass(&f, 5);
    unsigned from = f.sent_count;
    po__replica_peer_gone(f.r, 2, f.now);
    pass(&f, ELECTION_MS - 10);
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 2 * 6);
    po__replica_status(f.r, &st);
    assert_int_equal(st.term, 2);
    assert_int_equal(st.role, PO_ROLE_CANDIDATE);
    pass(&f, 2 * ELECTION_MS); /* by the ordinary timer, which was put back */
    unsigned votes = sent(&f, PO__MSG_VOTE, from);
    assert_true(votes > 2 * 6 && votes <= 2 * (6 + 3));
    end(&f);
}

/* A word of the leader ends it, before and while it waits for its turn. */
static void test_leader_is_heard_of(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 3, true);
    lead(&f, 2, 2);
    measure(&f, 40);
    unsigned from = f.sent_count;
    assert_false(granted(&f, 1, 3)); /* it has a leader */
    po__replica_peer_gone(f.r, 2, f.now);
    assert_true(granted(&f, 1, 3)); /* that is gone */
    lead(&f, 2, 2);
    assert_false(granted(&f, 1, 3)); /* and is not */
    for (int i = 0; i < 20; i++) {
        pass(&f, 50);
        lead(&f, 2, 2);
    }
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 0);
    assert_int_equal(f.role, PO_ROLE_FOLLOWER);
    end(&f);
}

static void test_who_does_not_count(void **state)
{
    struct fixture f;
    (void)state;
    begin(&f, 1, true);
    lead(&f, 2, 2);
    pass(&f, 5);
    unsigned from = f.sent_count;
    po__replica_peer_gone(f.r, 3, f.now); /* not the leader */
    po__replica_peer_gone(f.r, 0, f.now);
    po__replica_peer_gone(f.r, 77, f.now);
    pass(&f, 50);
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 0);
    assert_false(granted(&f, 3, 3));
    end(&f);
    begin(&f, 1, false); /* switched off */
    lead(&f, 2, 2);
    pass(&f, 5);
    from = f.sent_count;
    po__replica_peer_gone(f.r, 2, f.now);
    pass(&f, 50);
    assert_int_equal(sent(&f, PO__MSG_VOTE, from), 0);
    assert_int_equal(sent(&f, PO__MSG_PING, 0), 0); /* and nothing is measured */
    assert_false(granted(&f, 3, 3));
    end(&f);
}

/* ---- reads ---- */

static void on_read(void *arg, int code, uint64_t index)
{
    struct fixture *f = arg;
    if (code == 0 && index > 0)
        f->reads_done++;
    else
        f->reads_failed++;
}

static void accept_all(struct fixture *f, uint64_t peer)
{
    struct po__replica_status st;
    po__replica_status(f->r, &st);
    struct po__msg m = {.type = PO__MSG_APPEND_RESULT, .term = st.term};
    m.append_result.last_index = st.last_index;
    receive(f, peer, &m);
}

/* However many reads wait, they cost one question to each peer, and no log entry. */
static void test_one_round_for_all_reads(void **state)
{
    enum { READS = 1000 };
    struct fixture f;
    struct po__replica_status before, after;
    (void)state;
    begin(&f, 1, true);
    lead(&f, 2, 2);
    pass(&f, 5);
    po__replica_peer_gone(f.r, 2, f.now);
    settle(&f);
    grant(&f, 3, 3, true);
    grant(&f, 3, 3, false);
    accept_all(&f, 3);
    assert_true(f.ready);
    po__replica_status(f.r, &before);
    unsigned from = f.sent_count;
    for (int i = 0; i < READS; i++)
        assert_int_equal(po__replica_read(f.r, on_read, &f, f.now), 0);
    settle(&f);
    assert_int_equal(sent(&f, PO__MSG_PING, from), 2);
    assert_int_equal(f.reads_done, 0);
    /* Who comes while they are asked waits for the next round: its index was noted before. */
    assert_int_equal(po__replica_read(f.r, on_read, &f, f.now), 0);
    struct po__msg pong = {.type = PO__MSG_PONG, .term = 3};
    for (unsigned i = from; i < f.sent_count; i++)
        if (f.sent[i].m.type == PO__MSG_PING && f.sent[i].peer == 3)
            pong.ping.sequence = f.sent[i].m.ping.sequence;
    unsigned second = f.sent_count;
    receive(&f, 3, &pong);
    assert_int_equal(f.reads_done, READS);
    assert_int_equal(sent(&f, PO__MSG_PING, second), 2);
    receive(&f, 3, &pong); /* the answer to the first round is none to the second */
    assert_int_equal(f.reads_done, READS);
    po__replica_status(f.r, &after);
    assert_int_equal(after.last_index, before.last_index);
    assert_int_equal(sent(&f, PO__MSG_APPEND, from), 0);
    lead(&f, 2, 4); /* deposed: the one that waits gets no answer from here */
    assert_int_equal(f.reads_failed, 1);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_in_turn),      cmocka_unit_test(test_second_in_turn),
        cmocka_unit_test(test_asks_again),         cmocka_unit_test(test_leader_is_heard_of),
        cmocka_unit_test(test_who_does_not_count), cmocka_unit_test(test_one_round_for_all_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
