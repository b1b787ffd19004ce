/* A peer that has lost its mind: well-formed frames with any content, in any order. The replica may
 * step down, stop with a fault, or refuse; it must not crash, leak, loop or abort (the core's own
 * checks are compiled out). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <pipeorch/node.h>
#include "base/alloc.h"
#include "base/crc32c.h"
#include "consensus/replica.h"
#include "consensus/wire.h"
#include "sim/disk_sim.h"

#define ROUNDS         2000
#define FRAMES_A_ROUND 400

static uint64_t random_state;

static uint64_t draw(uint64_t low, uint64_t high)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return low + ((random_state * UINT64_C(2685821657736338717)) >> 11) % (high - low + 1);
}

/* Mostly near what makes sense, sometimes anything. */
static uint64_t number(uint64_t near_by)
{
    if (draw(0, 19) == 0)
        return draw(0, PO__WIRE_NUMBER_MAX - 1);
    return draw(near_by > 6 ? near_by - 6 : 0, near_by + 6);
}

struct owner {
    unsigned faults, dropped;
};

static int on_apply(void *arg, uint64_t index, uint64_t term, const void *data, size_t len,
                    void *token)
{
    (void)arg, (void)index, (void)term, (void)data, (void)len, (void)token;
    return 0;
}
static void on_dropped(void *arg, void *token)
{
    (void)token;
    ((struct owner *)arg)->dropped++;
}
static int on_begin(void *arg)
{
    (void)arg;
    return 0;
}
static int on_step(void *arg, struct po__buf *out, size_t budget)
{
    (void)arg, (void)budget;
    return po__buf_append(out, "state", 5) ? out->err : 1;
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
    (void)arg, (void)role, (void)leader, (void)term, (void)ready;
}
static void on_fault(void *arg, int code, const char *message)
{
    (void)code, (void)message;
    ((struct owner *)arg)->faults++;
}
static const struct po__state_ops state_ops = {
    on_apply,         on_dropped,       on_begin, on_step, on_abort,
    on_restore_begin, on_restore_chunk, on_begin, on_role, on_fault};

static void on_send(void *arg, uint64_t peer, struct po__frame *f)
{
    (void)arg, (void)peer;
    po__frame_unref(f);
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
static const struct po__transport_ops transport_ops = {on_send, on_servers, on_queued};

static const struct po__server three[] = {
    {1, "n1", PO__VOTER}, {2, "n2", PO__VOTER}, {3, "n3", PO__VOTER}};

static size_t some_conf(uint8_t *buf)
{
    struct po__conf c = {0};
    unsigned n = (unsigned)draw(1, PO_MEMBERS_MAX);
    for (unsigned i = 0; i < n; i++) {
        char address[8];
        snprintf(address, sizeof address, "n%u", i + 1);
        assert_int_equal(po__conf_add(&c, i + 1, address, (int)draw(0, 2)), 0);
    }
    if (po__conf_voters(&c) == 0)
        c.servers[0].role = PO__VOTER;
    return po__conf_encode(&c, buf);
}

static void put_record(struct po__log *log, uint64_t index, uint64_t term, uint32_t type)
{
    uint8_t data[PO__CONF_MAX_BYTES] = "some command";
    size_t len = type == 3 ? some_conf(data) : (size_t)draw(0, 12);
    struct po__block *b = po__block_new(PO__REC_BYTES(len));
    struct po__rec *r = (void *)b->data;

    *r = (struct po__rec){.len = (uint32_t)len, .index = index, .term = term, .type = type};
    memcpy(r + 1, data, len);
    po__rec_seal(r);
    assert_int_equal(po__log_reserve(log, 1), 0);
    po__log_append(log, b, r, 0);
    po__block_unref(b);
}

static struct po__frame *some_frame(const struct po__replica_status *st)
{
    static uint8_t conf[PO__CONF_MAX_BYTES];
    struct po__msg m = {.type = (int)draw(PO__MSG_VOTE, PO__MSG_PONG), .term = number(st->term)};
    struct po__log log;

    po__log_init(&log, 1);
    switch (m.type) {
    case PO__MSG_VOTE:
        m.vote.candidate = draw(1, 4);
        m.vote.last_index = number(st->last_index);
        m.vote.last_term = number(st->term);
        m.vote.disrupt_leader = draw(0, 1);
        m.vote.pre_vote = draw(0, 1);
        break;
    case PO__MSG_VOTE_RESULT:
        m.vote_result.granted = draw(0, 3) > 0;
        m.vote_result.pre_vote = draw(0, 1);
        break;
    case PO__MSG_APPEND:
        m.append.prev_index = number(st->last_index);
        m.append.prev_term = number(st->term);
        m.append.commit = number(st->last_index);
        m.append.count = (uint32_t)draw(0, 5);
        log.first = m.append.prev_index + 1;
        for (uint32_t i = 0; i < m.append.count; i++)
            put_record(&log, log.first + i, m.term ? m.term : 1, (uint32_t)draw(1, 3));
        break;
    case PO__MSG_APPEND_RESULT:
        m.append_result.rejected = draw(0, 1) ? number(st->last_index) : 0;
        m.append_result.last_index = number(st->last_index);
        break;
    case PO__MSG_TIMEOUT_NOW:
        m.timeout_now.last_index = draw(0, 1) ? st->last_index : number(st->last_index);
        m.timeout_now.last_term = number(st->term);
        break;
    case PO__MSG_SNAPSHOT:
        m.snapshot.index = number(st->last_index + 4);
        m.snapshot.last_term = number(st->term);
        m.snapshot.conf_index = 1;
        m.snapshot.conf = conf;
        m.snapshot.conf_len = (uint32_t)some_conf(conf);
        m.snapshot.data = "12345678";
        m.snapshot.data_len = (uint32_t)draw(0, 8);
        m.snapshot.offset = draw(0, 2) * 4;
        m.snapshot.size_bytes = draw(0, 2) * 8;
        m.snapshot.crc = draw(0, 1) ? po__crc32c(0, "12345678", 8) : 0;
        break;
    case PO__MSG_SNAPSHOT_ACK:
        m.snapshot_ack.index = number(st->snapshot_index);
        m.snapshot_ack.last_term = number(st->term);
        m.snapshot_ack.offset = draw(0, 20);
        m.snapshot_ack.refused = draw(0, 1);
        break;
    default:
        m.ping.sequence = draw(0, 10);
    }
    struct po__frame *f = po__wire_encode(&m, &log);
    assert_non_null(f);
    po__log_fini(&log);
    return f;
}

static void receive(struct po__replica *r, struct po__frame *f, uint64_t now)
{
    uint8_t *flat = malloc(f->bytes);
    size_t len = 0;
    for (uint32_t i = 0; i < f->parts_count; i++) {
        memcpy(flat + len, f->parts[i].data, f->parts[i].len);
        len += f->parts[i].len;
    }
    po__frame_unref(f);
    po__replica_receive(r, draw(2, 4), flat, len, now);
    free(flat);
}

struct poll {
    struct po__store *store;
    struct po__replica *r;
    uint64_t now;
};
static void poll(void *arg)
{
    struct poll *p = arg;
    po__store_poll(p->store);
    po__replica_tick(p->r, p->now);
}

/* Returns whether it ended in a fault. */
static bool one_round(uint64_t seed)
{
    struct owner owner = {0};
    struct po__disk_sim *medium = po__disk_sim_new(seed);
    struct po__disk *disk;
    struct poll p = {.now = 1000};
    struct po__store_opts so = {.segment_bytes = 64 * 1024, .segments_spare = 1};
    struct po__identity id = {.node_id = 1, .name = "n1"};
    struct po__replica_status st;
    struct po__rec *first;
    char error[256];

    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    po__disk_sim_attach(medium, &disk);
    assert_int_equal(po__store_open(&p.store, disk, &so, error, sizeof error), 0);
    assert_int_equal(po__replica_bootstrap_record(&first, three, 3), 0);
    assert_int_equal(po__store_bootstrap(p.store, &id, 1, first), 0);
    po__free(first);
    struct po__replica_opts o = {.store = p.store,
                                 .transport = &transport_ops,
                                 .state = &state_ops,
                                 .state_arg = &owner,
                                 .id = 1,
                                 .address = "n1",
                                 .election_ms = 300,
                                 .heartbeat_ms = 50,
                                 .snapshot_bytes = 300,
                                 .trailing_bytes = draw(0, 300),
                                 .seed = seed};
    assert_int_equal(po__replica_start(&p.r, &o, p.now, error, sizeof error), 0);
    for (int i = 0; i < FRAMES_A_ROUND && !owner.faults; i++) {
        p.now += draw(0, 60);
        po__replica_status(p.r, &st);
        receive(p.r, some_frame(&st), p.now);
        if (st.leader_ready && draw(0, 3) == 0) {
            struct po__proposal proposal;
            assert_int_equal(po__proposal_alloc(&proposal, 8), 0);
            if (po__replica_propose(p.r, &proposal, 8, &p, p.now))
                po__proposal_free(&proposal);
        }
        po__replica_tick(p.r, p.now);
        if (draw(0, 2) > 0)
            po__disk_sim_run(disk, poll, &p);
    }
    po__replica_stop(p.r);
    po__store_close(p.store);
    po__disk_sim_free(medium);
    return owner.faults > 0;
}

static void test_hostile_peer(void **state)
{
    const char *one = getenv("HOSTILE_SEED"); /* replay */
    unsigned faults = 0;
    (void)state;

    for (uint64_t seed = one ? strtoull(one, NULL, 10) : 1; seed <= (one ? seed : ROUNDS); seed++) {
        faults += one_round(seed);
        if (one)
            break;
    }
    if (!one) /* both ways out are taken: some rounds contradict what is committed, some do not */
        assert_in_range(faults, 1, ROUNDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_hostile_peer)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
