/* The guards, one directed case each: the harm must not happen with the guard and must happen
 * without it.
 *
 * A case drives a real core and returns true if it saw the harm. It runs in a child process,
 * because some harm is a crash. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include <pipeorch/node.h>
#include "base/assert.h"
#include "consensus/core.h"
#include "consensus/core_raft.h"
#include "consensus/replica.h"

#define ELECTION_MS  1000
#define HEARTBEAT_MS 100
#define SENT_MAX     256

/* ---- one core, its log and what it asked for ---- */

struct fixture {
    struct po__core *core;
    struct po__log log;
    uint64_t now, applied;
    uint64_t vote_term, vote, votes_count; /* what was made durable */
    struct {
        uint64_t peer;
        struct po__msg m;
    } sent[SENT_MAX];
    unsigned sent_count;
    bool truncated_committed, installing;
};
static struct fixture f;

static int on_vote(void *arg, uint64_t term, uint64_t vote)
{
    (void)arg;
    f.vote_term = term;
    f.vote = vote;
    f.votes_count++;
    return 0;
}

static void on_role(void *arg)
{
    (void)arg;
    po__core_own_term_committed(f.core, 0);
}

static int on_append(void *arg, const struct po__core_entry *e, unsigned count)
{
    (void)arg;
    if (e[0].rec->index <= f.applied) {
        f.truncated_committed = true;
        return PO_EIO;
    }
    po__log_truncate(&f.log, e[0].rec->index);
    for (unsigned i = 0; i < count; i++)
        po__log_append(&f.log, e[i].block, e[i].rec, 0);
    return 0;
}

static void on_install(void *arg)
{
    (void)arg;
    f.installing = true;
}

static void on_send(void *arg, uint64_t peer, const struct po__msg *m)
{
    (void)arg;
    if (f.sent_count == SENT_MAX)
        f.sent_count = 0;
    f.sent[f.sent_count].peer = peer;
    f.sent[f.sent_count++].m = *m;
}

static void on_settled(void *arg)
{
    (void)arg;
    while (!po__core_installing(f.core) && f.applied < po__core_commit(f.core)) {
        const struct po__log_slot *s = po__log_get(&f.log, ++f.applied);
        if (!s)
            continue;
        if (po__core_role(f.core) == PO_ROLE_LEADER && s->rec->term == po__core_term(f.core))
            po__core_own_term_committed(f.core, f.applied);
        if (s->rec->type == 3)
            po__core_configuration(f.core, f.now, f.applied, po__rec_payload(s->rec), s->rec->len);
    }
}

static const struct po__core_ops ops = {on_vote,    on_role, on_append,
                                        on_install, on_send, on_settled};

/* Roles by position: "VVS" is voter 1, voter 2, spare 3; '.' is nobody; 's' a standby. */
static size_t conf_of(const char *roles, uint8_t *buf)
{
    struct po__conf c = {0};
    for (unsigned i = 0; roles[i]; i++) {
        char address[8];
        snprintf(address, sizeof address, "n%u", i + 1);
        if (roles[i] != '.')
            PO_INVARIANT(po__conf_add(&c, i + 1, address,
                                      roles[i] == 'V'   ? PO__VOTER
                                      : roles[i] == 's' ? PO__STANDBY
                                                        : PO__SPARE) == 0);
    }
    return po__conf_encode(&c, buf);
}

static struct po__block *record(uint64_t index, uint64_t term, const char *roles)
{
    uint8_t data[PO__CONF_MAX_BYTES] = "command";
    size_t len = roles ? conf_of(roles, data) : 8;
    struct po__block *b = po__block_new(PO__REC_BYTES(len));
    struct po__rec *r = (void *)b->data;

    *r =
        (struct po__rec){.len = (uint32_t)len, .index = index, .term = term, .type = roles ? 3 : 1};
    memcpy(r + 1, data, len);
    po__rec_seal(r);
    return b;
}

static struct po__rec *rec_of(struct po__block *b)
{
    return (void *)b->data;
}

static void log_put(uint64_t index, uint64_t term, const char *roles)
{
    struct po__block *b = record(index, term, roles);
    PO_INVARIANT(po__log_reserve(&f.log, 64) == 0);
    po__log_append(&f.log, b, rec_of(b), 0);
    po__block_unref(b);
}

static void meta_of(struct po__snapshot_meta *meta, uint64_t index, uint64_t term,
                    const char *roles)
{
    memset(meta, 0, sizeof *meta);
    meta->index = index;
    meta->term = term;
    meta->conf_index = 1;
    meta->conf_len = (uint32_t)conf_of(roles, meta->conf);
}

static void begin(uint64_t first)
{
    memset(&f, 0, sizeof f);
    f.now = 1000000;
    PO_INVARIANT(po__heap_install() == 0);
    po__log_init(&f.log, first);
    PO_INVARIANT(po__log_reserve(&f.log, 64) == 0);
}

/* Node 1 with what was put into f.log. */
static void start(uint64_t term, uint64_t vote, const struct po__snapshot_meta *snapshot)
{
    static const struct po__snapshot_meta none;
    struct po__core_opts o = {1, "n1", ELECTION_MS, HEARTBEAT_MS, 7, &ops, NULL};
    PO_INVARIANT(po__core_create(&f.core, &o) == 0);
    f.applied = snapshot ? snapshot->index : 0;
    PO_INVARIANT(po__core_start(f.core, f.now, term, vote, snapshot ? snapshot : &none, &f.log) ==
                 0);
}

static int receive(uint64_t peer, struct po__msg *m)
{
    char address[8];
    snprintf(address, sizeof address, "n%u", (unsigned)peer);
    return po__core_receive(f.core, f.now, peer, address, m, &f.log);
}

/* Entries: a string of '.' for commands and digits: '0' + k is roles[k]. */
static int receive_append(uint64_t peer, uint64_t term, uint64_t prev, uint64_t prev_term,
                          uint64_t entry_term, const char *entries, const char *const *roles,
                          uint64_t commit)
{
    struct po__msg m = {.type = PO__MSG_APPEND, .term = term};
    const struct po__rec *recs[64];
    uint8_t *at;

    m.append.prev_index = prev;
    m.append.prev_term = prev_term;
    m.append.commit = commit;
    m.append.count = (uint32_t)strlen(entries);
    m.append.block = po__block_new(64 * PO__REC_BYTES(PO__CONF_MAX_BYTES));
    m.append.recs = recs;
    at = (uint8_t *)m.append.block->data;
    for (unsigned i = 0; i < m.append.count; i++) {
        struct po__block *b =
            record(prev + 1 + i, entry_term, entries[i] == '.' ? NULL : roles[entries[i] - '0']);
        memcpy(at, b->data, b->bytes);
        recs[i] = (void *)at;
        at += b->bytes;
        po__block_unref(b);
    }
    int rv = receive(peer, &m);
    po__block_unref(m.append.block);
    return rv;
}

static void receive_ack(uint64_t peer, uint64_t rejected, uint64_t last)
{
    struct po__msg m = {.type = PO__MSG_APPEND_RESULT, .term = po__core_term(f.core)};
    m.append_result.rejected = rejected;
    m.append_result.last_index = last;
    receive(peer, &m);
}

static void receive_vote(uint64_t peer, uint64_t term, bool pre_vote)
{
    struct po__msg m = {.type = PO__MSG_VOTE_RESULT, .term = term};
    m.vote_result.granted = true;
    m.vote_result.pre_vote = pre_vote;
    receive(peer, &m);
}

static void request_vote(uint64_t peer, uint64_t term, uint64_t last, uint64_t last_term,
                         bool pre_vote, bool disrupt)
{
    struct po__msg m = {.type = PO__MSG_VOTE, .term = term};
    m.vote.candidate = peer;
    m.vote.last_index = last;
    m.vote.last_term = last_term;
    m.vote.pre_vote = pre_vote;
    m.vote.disrupt_leader = disrupt;
    receive(peer, &m);
}

static void persist(void)
{
    if (po__core_last(f.core) > po__core_stored(f.core))
        po__core_persisted(f.core, f.now, po__core_last(f.core));
}

static const struct po__msg *last_sent(uint64_t peer, int type)
{
    for (unsigned i = f.sent_count; i-- > 0;)
        if (f.sent[i].peer == peer && f.sent[i].m.type == type)
            return &f.sent[i].m;
    return NULL;
}

/* Node 1 of "VVV" leads term 2 with the votes of node 2; its barrier is at index last + 1, not yet
 * acknowledged. */
static void lead(void)
{
    f.now += 3 * ELECTION_MS;
    po__core_timeout(f.core, f.now);
    receive_vote(2, po__core_term(f.core) + 1, true);
    receive_vote(2, po__core_term(f.core), false);
    PO_INVARIANT(po__core_role(f.core) == PO_ROLE_LEADER);
    persist();
}

static int submit(uint64_t index, const char *roles)
{
    struct po__block *b = record(index, po__core_term(f.core), roles);
    struct po__core_entry e = {b, rec_of(b)};
    int rv = po__core_submit(f.core, f.now, &e);
    po__block_unref(b);
    return rv;
}

static void start_follower(const char *roles, unsigned commands)
{
    begin(1);
    log_put(1, 1, roles);
    for (uint64_t i = 2; i < 2 + commands; i++)
        log_put(i, 1, NULL);
    start(1, 0, NULL);
}

static bool has_conf(const char *roles)
{
    struct po__conf now, want;
    uint8_t buf[PO__CONF_MAX_BYTES];
    po__core_conf(f.core, &now);
    PO_INVARIANT(po__conf_decode(&want, buf, conf_of(roles, buf)) == 0);
    return po__conf_equal(&now, &want);
}

/* ---- the cases: true if the harm happened ---- */

/* A delayed AppendEntries from the very beginning arrives after a snapshot at 10. */
static bool append_below_snapshot(void)
{
    struct po__snapshot_meta meta;
    begin(11);
    meta_of(&meta, 10, 1, "VVV");
    start(1, 0, &meta);
    const char *roles[] = {"VVV"};
    receive_append(2, 1, 0, 0, 1, "0...........", roles, 1); /* 1..12 */
    return f.truncated_committed || po__core_last(f.core) != 12 || po__log_last(&f.log) != 12;
}

/* A rejection of what the peer has acknowledged since. */
static bool stale_rejection(void)
{
    start_follower("VVV", 4);
    lead();
    uint64_t last = po__core_last(f.core);
    receive_ack(2, 0, last);
    for (int i = 0; i < 15;
         i++) { /* node 2 falls silent: the leader probes it; node 3 keeps it in office */
        f.now += HEARTBEAT_MS;
        receive_ack(3, 0, last);
        po__core_timeout(f.core, f.now);
    }
    f.sent_count = 0;
    receive_ack(2, last, last - 1);
    f.now += HEARTBEAT_MS;
    po__core_timeout(f.core, f.now);
    const struct po__msg *m = last_sent(2, PO__MSG_APPEND);
    return !m || m->append.prev_index < last;
}

/* The only voter starts in a term in which it has voted for another. */
static bool sole_voter_start(void)
{
    begin(1);
    log_put(1, 1, "Vs");
    start(4, 2, NULL);
    return po__core_role(f.core) != PO_ROLE_LEADER || po__core_term(f.core) == 4 ||
           f.vote_term != 5 || f.vote != 1;
}

/* The same after being deposed: it grants a vote in term 6 and its election timer runs out. */
static bool sole_voter_timeout(void)
{
    begin(1);
    log_put(1, 1, "Vs");
    start(1, 0, NULL);
    persist();
    request_vote(2, 6, 9, 5, false, true);
    PO_INVARIANT(f.vote_term == 6 && f.vote == 2);
    f.now += 3 * ELECTION_MS;
    po__core_timeout(f.core, f.now);
    return po__core_role(f.core) != PO_ROLE_LEADER || po__core_term(f.core) == 6 ||
           f.vote_term != 7 || f.vote != 1;
}

/* And when the leader of its term hands over to it. */
static bool sole_voter_timeout_now(void)
{
    begin(1);
    log_put(1, 1, "Vs");
    start(1, 0, NULL);
    persist();
    uint64_t last = po__core_last(f.core), last_term = po__core_term(f.core);
    receive_append(2, 9, last, po__log_get(&f.log, last)->rec->term, 9, "", NULL, 1);
    PO_INVARIANT(po__core_role(f.core) == PO_ROLE_FOLLOWER && po__core_term(f.core) == 9);
    (void)last_term;
    struct po__msg m = {.type = PO__MSG_TIMEOUT_NOW, .term = 9};
    m.timeout_now.last_index = last;
    m.timeout_now.last_term = po__log_get(&f.log, last)->rec->term;
    receive(2, &m);
    return po__core_role(f.core) == PO_ROLE_LEADER && po__core_term(f.core) == 9;
}

/* A transferee that is not elected goes on: it must ask first, and leave a leader in peace. */
static bool candidate_timeout(void)
{
    start_follower("VVV", 2);
    receive_append(2, 2, 3, 1, 3, "", NULL, 1);
    struct po__msg m = {.type = PO__MSG_TIMEOUT_NOW, .term = 2};
    m.timeout_now.last_index = 3;
    m.timeout_now.last_term = 1;
    receive(2, &m);
    PO_INVARIANT(last_sent(3, PO__MSG_VOTE)->vote.disrupt_leader);
    uint64_t term = po__core_term(f.core);
    f.now += 3 * ELECTION_MS;
    po__core_timeout(f.core, f.now);
    const struct po__msg *asked = last_sent(3, PO__MSG_VOTE);
    bool harm =
        !asked->vote.pre_vote || asked->vote.disrupt_leader || po__core_term(f.core) != term;
    receive_vote(2, term + 1, true); /* it is still elected if the others agree */
    receive_vote(2, term + 1, false);
    return harm || po__core_role(f.core) != PO_ROLE_LEADER;
}

/* A CHANGE before the leader has committed anything of its term. */
static bool change_before_own_commit(void)
{
    start_follower("VVV", 2);
    lead();
    if (submit(po__core_last(f.core) + 1, "VVVs") != PO_ESTATE)
        return true;
    receive_ack(2, 0, po__core_last(f.core)); /* the barrier is committed: now it may */
    return submit(po__core_last(f.core) + 1, "VVVs") != 0;
}

/* A CHANGE behind a command in one message. */
static bool change_not_first(void)
{
    const char *roles[] = {"VVVs"};
    start_follower("VVV", 0);
    receive_append(2, 1, 1, 1, 1, ".0.", roles, 1);
    return po__core_last(f.core) != 4 || po__core_uncommitted_conf(f.core) != 3;
}

/* Two CHANGEs in one message, neither known to be committed; the second is rolled back. */
static bool change_proven(void)
{
    const char *roles[] = {"VVVs", "VVVV"};
    start_follower("VVV", 0);
    receive_append(2, 1, 1, 1, 1, "0.1", roles, 1);
    receive_append(3, 2, 3, 1, 2, ".", NULL, 1);
    return !has_conf("VVVs");
}

/* A candidate of the past must learn of our term, or it asks for ever. */
static bool prevote_denial(void)
{
    begin(1);
    log_put(1, 1, "VVV");
    log_put(2, 1, NULL);
    start(9, 0, NULL);
    request_vote(2, 3, 1, 1, true, false);
    const struct po__msg *m = last_sent(2, PO__MSG_VOTE_RESULT);
    return !m || m->vote_result.granted || m->term != 9;
}

/* A standby whose leader is dead, asked by a candidate in whose configuration it votes. */
static bool nonvoter_refuses(void)
{
    start_follower("sVV", 2);
    receive_append(2, 1, 3, 1, 1, "", NULL, 1);
    f.now += ELECTION_MS / 2;
    request_vote(3, 2, 3, 1, false, false);
    const struct po__msg *m = last_sent(3, PO__MSG_VOTE_RESULT);
    if (!m || m->vote_result.granted)
        return true; /* the leader may well be alive: the guard must not go so far */
    f.now += ELECTION_MS;
    request_vote(3, 2, 3, 1, false, false);
    m = last_sent(3, PO__MSG_VOTE_RESULT);
    return !m->vote_result.granted || f.vote != 3;
}

/* The answer to a pre-vote arrives when we are no candidate any more. */
static bool stale_vote_result(void)
{
    start_follower("VVV", 2);
    uint64_t before = f.votes_count;
    receive_vote(2, 5, true);
    return f.votes_count != before || po__core_term(f.core) != 1;
}

/* Our own snapshot at 8 becomes durable while the leader's at 20 is being installed. */
static bool snapshot_during_install(void)
{
    struct po__snapshot_meta own, leaders;
    bool wanted, skipped;

    start_follower("VVV", 9);
    receive_append(2, 1, 10, 1, 1, "", NULL, 10);
    meta_of(&own, 8, 1, "VVV");
    meta_of(&leaders, 20, 1, "VVV");
    po__core_receive_snapshot(f.core, f.now, 2, "n2", 1, &leaders, &wanted);
    PO_INVARIANT(wanted && f.installing);
    po__core_snapshot(f.core, f.now, &own, 0, &skipped);
    f.applied = 20;
    po__log_reset(&f.log, 21);
    po__core_installed(f.core, f.now, &leaders);
    return !skipped || po__core_last(f.core) != 20;
}

/* A voter becomes a spare: nothing is sent to it any more, and its timer must not keep the leader
 * awake. */
static bool timeout_in_the_past(void)
{
    start_follower("VVV", 2);
    lead();
    receive_ack(3, 0, po__core_last(f.core));
    receive_ack(2, 0, po__core_last(f.core));
    PO_INVARIANT(submit(po__core_last(f.core) + 1, "VVS") == 0);
    persist();
    receive_ack(2, 0, po__core_last(f.core));
    for (int i = 0; i < 5; i++) {
        f.now += HEARTBEAT_MS;
        receive_ack(2, 0, po__core_last(f.core));
        po__core_timeout(f.core, f.now);
    }
    PO_INVARIANT(po__core_role(f.core) == PO_ROLE_LEADER);
    return po__core_deadline(f.core) <= f.now;
}

/* A duplicate of an old message with the leader's newest commit index. */
static bool commit_falls(void)
{
    start_follower("VVV", 0);
    receive_append(2, 1, 1, 1, 1, "....", NULL, 5);
    PO_INVARIANT(po__core_commit(f.core) == 5);
    receive_append(2, 1, 1, 1, 1, "..", NULL, 10);
    return po__core_commit(f.core) < 5;
}

/* A crash between "snapshot durable" and "log discarded". */
static bool log_below_snapshot(void)
{
    struct po__snapshot_meta meta;

    begin(3);
    for (uint64_t i = 3; i <= 7; i++)
        log_put(i, 1, NULL);
    meta_of(&meta, 10, 2, "VVV"); /* ends below */
    if (!po__core_discard_log(&meta, &f.log))
        return true;
    meta_of(&meta, 6, 2, "VVV"); /* another history */
    if (!po__core_discard_log(&meta, &f.log))
        return true;
    meta_of(&meta, 1, 1, "VVV"); /* a hole */
    if (!po__core_discard_log(&meta, &f.log))
        return true;
    meta_of(&meta, 6, 1, "VVV");
    return po__core_discard_log(&meta, &f.log); /* this one is fine */
}

/* ---- each with and without its guard ---- */

static bool harmed(bool (*harm)(void), unsigned off)
{
    int status;

    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* A crash without the guard is expected: it ends this child, not only cmocka's test. */
        static const int crashes[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
        for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
            signal(crashes[i], SIG_DFL);
        if (off && !freopen("/dev/null", "w", stderr))
            _exit(2);
        po__guards_off = off;
        _exit(harm() ? 1 : 0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void check(bool (*harm)(void), unsigned guard)
{
    if (harmed(harm, 0))
        fail_msg("harm although guard %u is on", guard);
    if (!harmed(harm, PO__GUARD(guard)))
        fail_msg("no harm with guard %u off: this case does not test it", guard);
}

#define GUARD_TEST(number, name)                                                                   \
    static void test_##number##_##name(void **state)                                               \
    {                                                                                              \
        (void)state;                                                                               \
        check(name, number);                                                                       \
    }
GUARD_TEST(1, append_below_snapshot)
GUARD_TEST(2, stale_rejection)
GUARD_TEST(3, sole_voter_start)
GUARD_TEST(3, sole_voter_timeout)
GUARD_TEST(3, sole_voter_timeout_now)
GUARD_TEST(4, change_before_own_commit)
GUARD_TEST(5, change_not_first)
GUARD_TEST(5, change_proven)
GUARD_TEST(6, prevote_denial)
GUARD_TEST(7, nonvoter_refuses)
GUARD_TEST(8, stale_vote_result)
GUARD_TEST(9, snapshot_during_install)
GUARD_TEST(10, timeout_in_the_past)
GUARD_TEST(13, candidate_timeout)
GUARD_TEST(11, commit_falls)
GUARD_TEST(12, log_below_snapshot)

/* Turned into an acknowledgement by guard 2, it must not acknowledge what only the peer's log of
 * then held. */
static void test_2_acknowledges_nothing(void **state)
{
    (void)state;
    start_follower("VVV", 4);
    lead();
    uint64_t last = po__core_last(f.core);
    receive_ack(2, 0, last);
    assert_int_equal(submit(last + 1, NULL), 0);
    persist();
    receive_ack(2, last, last + 1);
    assert_int_equal(po__core_commit(f.core), last);
    receive_ack(2, 0, last + 1);
    assert_int_equal(po__core_commit(f.core), last + 1);
    po__core_destroy(f.core);
    po__log_fini(&f.log);
}

/* Each condition of guard 4 by itself. */
static void test_4_conditions(void **state)
{
    (void)state;
    struct raft r = {.state = RAFT_LEADER};
    assert_true(po__guard_change_allowed(&r, 7, 1));
    assert_false(po__guard_change_allowed(&r, 0, 1));
    assert_false(po__guard_change_allowed(&r, 7, 2)); /* not alone in its batch */
    r.configuration_uncommitted_index = 6;
    assert_false(po__guard_change_allowed(&r, 7, 1));
    r.configuration_uncommitted_index = 0;
    r.leader_state.promotee_id = 3; /* a catch-up runs */
    assert_false(po__guard_change_allowed(&r, 7, 1));
    r.leader_state.promotee_id = 0;
    r.state = RAFT_FOLLOWER;
    assert_false(po__guard_change_allowed(&r, 7, 1));
}

/* The step is over: the node is a standby again, and a refused candidate leaves it its leader. */
static void test_7_is_undone(void **state)
{
    (void)state;
    start_follower("sVV", 2);
    receive_append(2, 1, 3, 1, 1, "", NULL, 1);
    assert_int_equal(po__core_leader(f.core), 2);
    f.now += 2 * ELECTION_MS;
    request_vote(3, 1, 1, 1, false, false); /* its log is behind */
    const struct po__msg *m = last_sent(3, PO__MSG_VOTE_RESULT);
    assert_true(m && !m->vote_result.granted);
    assert_int_equal(po__core_leader(f.core), 2);
    assert_true(has_conf("sVV"));
    po__core_destroy(f.core);
    po__log_fini(&f.log);
}

/* Each reason of guard 9 by itself. */
static void test_9_conditions(void **state)
{
    (void)state;
    struct raft r = {0};
    r.trail.snapshot.index = 8;
    assert_true(po__guard_skip_snapshot(&r, 8));
    assert_false(po__guard_skip_snapshot(&r, 9));
    r.snapshot.installing = true;
    assert_true(po__guard_skip_snapshot(&r, 9));
}

/* The first entry of a term leaves with the announcement, also from a log that is committed to its
 * end: not a round trip later. What the core is told for that one step is taken back. */
static void test_first_entry_is_announced(void **state)
{
    (void)state;
    start_follower("VVV", 2);
    receive_append(2, 1, 3, 1, 1, "", NULL, 3);
    assert_int_equal(po__core_commit(f.core), 3);
    f.sent_count = 0;
    lead();
    const struct po__msg *m = last_sent(3, PO__MSG_APPEND);
    assert_non_null(m);
    assert_int_equal(m->append.prev_index, 3);
    assert_int_equal(m->append.count, 1);
    assert_int_equal(po__core_commit(f.core), 3);
    po__core_destroy(f.core);
    po__log_fini(&f.log);
}

/* Each condition of it by itself. */
static void test_first_entry_conditions(void **state)
{
    (void)state;
    struct raft r = {.state = RAFT_CANDIDATE};
    assert_int_equal(po__guard_first_entry_begin(&r), 0); /* nothing below */
    assert_int_equal(r.commit_index, 0);
    r.trail.offset = r.trail.snapshot.index = 5;
    r.commit_index = 5;
    r.state = RAFT_FOLLOWER;
    assert_int_equal(po__guard_first_entry_begin(&r), 5);
    assert_int_equal(r.commit_index, 5);
    r.state = RAFT_CANDIDATE;
    assert_int_equal(po__guard_first_entry_begin(&r), 5);
    assert_int_equal(r.commit_index, 4);
    po__guard_first_entry_end(&r, 5);
    assert_int_equal(r.commit_index, 5);
    r.commit_index = 6; /* it rose in the step */
    po__guard_first_entry_end(&r, 5);
    assert_int_equal(r.commit_index, 6);
}

/* A leader does not stop at the core's default of 32 entries on their way to a peer. */
static void test_many_in_flight(void **state)
{
    (void)state;
    start_follower("VVV", 2);
    lead();
    uint64_t last = po__core_last(f.core);
    receive_ack(2, 0, last);
    assert_int_equal(po__log_reserve(&f.log, 256), 0);
    for (uint64_t i = last + 1; i <= last + 200; i++)
        assert_int_equal(submit(i, NULL), 0);
    const struct po__msg *m = last_sent(2, PO__MSG_APPEND);
    assert_true(m && m->append.prev_index + m->append.count == last + 200);
    po__core_destroy(f.core);
    po__log_fini(&f.log);
}

/* What the core never set does not leave the process. */
static void test_answer_to_past(void **state)
{
    (void)state;
    struct raft_message m = {.type = RAFT_APPEND_ENTRIES_RESULT};
    m.append_entries_result.last_log_index = 77;
    po__guard_answer_to_past(false, &m);
    assert_int_equal(m.append_entries_result.last_log_index, 77);
    po__guard_answer_to_past(true, &m);
    assert_int_equal(m.append_entries_result.last_log_index, 0);
}

/* One term has one leader; a second one is lying, and the core would believe it. */
static void test_other_leader(void **state)
{
    struct po__snapshot_meta meta;
    bool wanted;
    (void)state;

    start_follower("VVV", 2);
    lead();
    uint64_t term = po__core_term(f.core);
    assert_int_equal(receive_append(2, term, 3, 1, term, ".", NULL, 3), PO_EPROTO);
    meta_of(&meta, 50, term, "VVV");
    assert_int_equal(po__core_receive_snapshot(f.core, f.now, 2, "n2", term, &meta, &wanted),
                     PO_EPROTO);
    assert_int_equal(po__core_role(f.core), PO_ROLE_LEADER);
    assert_int_equal(po__core_term(f.core), term);
    po__core_destroy(f.core);
    po__log_fini(&f.log);
}

/* A timer that falls due is not postponed by the clamp. */
static void test_due_timer_is_not_postponed(void **state)
{
    (void)state;
    assert_int_equal(po__guard_timeout(150, 100), 150);
    assert_int_equal(po__guard_timeout(101, 100), 101);
    assert_int_equal(po__guard_timeout(100, 100), 100 + PO__TIMEOUT_FLOOR_MS);
    assert_int_equal(po__guard_timeout(7, UINT64_MAX), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_1_append_below_snapshot),
        cmocka_unit_test(test_2_stale_rejection),
        cmocka_unit_test(test_3_sole_voter_start),
        cmocka_unit_test(test_3_sole_voter_timeout),
        cmocka_unit_test(test_3_sole_voter_timeout_now),
        cmocka_unit_test(test_4_change_before_own_commit),
        cmocka_unit_test(test_5_change_not_first),
        cmocka_unit_test(test_5_change_proven),
        cmocka_unit_test(test_6_prevote_denial),
        cmocka_unit_test(test_7_nonvoter_refuses),
        cmocka_unit_test(test_8_stale_vote_result),
        cmocka_unit_test(test_9_snapshot_during_install),
        cmocka_unit_test(test_10_timeout_in_the_past),
        cmocka_unit_test(test_13_candidate_timeout),
        cmocka_unit_test(test_11_commit_falls),
        cmocka_unit_test(test_12_log_below_snapshot),
        cmocka_unit_test(test_2_acknowledges_nothing),
        cmocka_unit_test(test_4_conditions),
        cmocka_unit_test(test_7_is_undone),
        cmocka_unit_test(test_9_conditions),
        cmocka_unit_test(test_first_entry_is_announced),
        cmocka_unit_test(test_first_entry_conditions),
        cmocka_unit_test(test_many_in_flight),
        cmocka_unit_test(test_answer_to_past),
        cmocka_unit_test(test_other_leader),
        cmocka_unit_test(test_due_timer_is_not_postponed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
