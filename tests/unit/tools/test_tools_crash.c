/* The power is cut during every call of a restore and of a recover that touches the disk, with
 * several outcomes each. Afterwards the directory is what it was, or what it was to become; nothing
 * in between, and nothing that a node would refuse. What was not done can be done again. */
#include "fixture.h"

#define OUTCOMES 3

static char backup[64];

static int make_file(void **state)
{
    (void)state;
    strcpy(backup, "/tmp/po-tools-XXXXXX");
    int fd = mkstemp(backup);
    assert_true(fd >= 0);
    close(fd);
    make_backup(backup, 3, 200000);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(backup);
}

/* What is in a directory now; true if there is anything. */
static bool look(struct po__disk_sim *m, struct po__directory *d, struct po__content *c)
{
    struct po__disk *disk;
    uint64_t committed;
    char error[512];
    memset(d, 0, sizeof *d);
    po__disk_sim_attach(m, &disk);
    int rv = po__directory_open_disk(d, disk, error, sizeof error);
    if (rv == PO_ENOTBOOTSTRAPPED) {
        po__directory_close(d);
        return false;
    }
    if (rv)
        fail_msg("%s: %s", po_err_name(rv), error);
    assert_int_equal(po__content_init(c, NULL), 0);
    rv = po__directory_replay(d, c, &committed, error, sizeof error);
    if (rv)
        fail_msg("replay: %s: %s", po_err_name(rv), error);
    return true;
}

static void look_away(struct po__directory *d, struct po__content *c)
{
    po__content_fini(c);
    po__directory_close(d);
}

static uint64_t pending(const struct po__content *c)
{
    struct po__model_counts k;
    po__model_counts(c->model, &k);
    return k.tasks_pending;
}

/* ---- restore ---- */

static const struct po_member members[] = {{"a", "127.0.0.1:11"}, {"b", "127.0.0.1:12"}};
static const struct po__tool_restore restore_b = {
    .path = backup, .data_dir = "new", .name = "b", .members = members, .members_count = 2};

static int do_restore(struct po__disk_sim *m)
{
    struct po__disk *disk;
    struct po__buf json = {0};
    char error[1024] = "";
    po__disk_sim_attach(m, &disk);
    int rv = po__tool_restore_disk(&restore_b, disk, &json, error, sizeof error);
    po__buf_fini(&json);
    return rv;
}

static void check_restored(struct po__directory *d, struct po__content *c)
{
    assert_string_equal(d->identity.name, "b");
    assert_int_equal(d->identity.node_id, 2);
    assert_memory_not_equal(d->identity.cluster_id, old_cluster, sizeof old_cluster);
    assert_true(d->recovery.snapshot.index > 100);
    assert_int_equal(d->recovery.last_index, d->recovery.snapshot.index);
    assert_int_equal(d->recovery.term, 7);
    assert_int_equal(d->recovery.vote, 0);
    assert_int_equal(po__conf_voters(&d->conf), 2);
    assert_int_equal(pending(c), 3);
}

static void test_restore(void **state)
{
    (void)state;
    static struct po__directory d;
    struct po__content c;
    unsigned points = 0, done = 0, nothing = 0;
    for (uint64_t at = 1;; at++) {
        struct po__disk_sim *m = po__disk_sim_new(at);
        po__disk_sim_cut_at(m, at);
        int rv = do_restore(m);
        bool last =
            po__disk_sim_calls(m) < at; /* a call that finds no file is no instant of a cut */
        assert_true(po__disk_sim_is_off(m) || rv == 0);
        for (uint64_t outcome = 0; outcome < OUTCOMES; outcome++) {
            struct po__disk_sim *after = po__disk_sim_clone(m);
            po__disk_sim_power_on(after, outcome);
            if (look(after, &d, &c)) {
                check_restored(&d, &c);
                look_away(&d, &c);
                done++;
                assert_int_equal(do_restore(after), PO_EEXISTS);
            } else {
                assert_int_not_equal(rv, 0); /* a restore that returned 0 is there */
                nothing++;
                assert_int_equal(do_restore(after), 0);
                assert_true(look(after, &d, &c));
                check_restored(&d, &c);
                look_away(&d, &c);
            }
            po__disk_sim_free(after);
        }
        po__disk_sim_free(m);
        points++;
        if (last)
            break;
    }
    print_message("restore: %u points, %u whole, %u nothing\n", points, done, nothing);
    assert_true(points > 30 && done > OUTCOMES && nothing > OUTCOMES);
}

/* ---- recover ---- */

static void on_durable(void *arg, uint64_t token)
{
    *(uint64_t *)arg = token;
}

static void poll_store(void *store)
{
    po__store_poll(store);
}

static int ignore(void *arg, const struct po__rec *r)
{
    (void)arg, (void)r;
    return 0;
}

/* Node 2 of three: a configuration and four tasks, term 5, voted for 1. */
static struct po__disk_sim *make_node(void)
{
    struct po__identity id = {.directory_id = "directory", .node_id = 2, .name = "cp2"};
    struct po__server servers[] = {{1, "127.0.0.1:1", PO__VOTER},
                                   {2, "127.0.0.1:2", PO__VOTER},
                                   {3, "127.0.0.1:3", PO__VOTER}};
    struct po__store_opts opts = {.segment_bytes = 32768, .segments_spare = 1};
    static struct po__recovery recovery;
    struct po__disk_sim *m = po__disk_sim_new(1);
    struct po__store *s;
    struct po__rec *first;
    struct po__disk *disk;
    uint64_t durable = 0;
    char error[512], key[16];
    memcpy(id.cluster_id, old_cluster, sizeof id.cluster_id);
    po__disk_sim_attach(m, &disk);
    assert_int_equal(po__store_open(&s, disk, &opts, error, sizeof error), 0);
    assert_int_equal(po__replica_bootstrap_record(&first, servers, 3), 0);
    assert_int_equal(po__store_bootstrap(s, &id, 1, first), 0);
    assert_int_equal(po__store_recover(s, &recovery, ignore, NULL, error, sizeof error), 0);
    assert_int_equal(po__store_set_vote(s, 5, 1), 0);
    for (uint64_t i = 2; i <= 5; i++) {
        struct po__buf b = {0};
        snprintf(key, sizeof key, "key-%u", (unsigned)i);
        submit_entry(&b, key, "1");
        struct po__rec *rec = calloc(1, PO__REC_BYTES(b.len));
        *rec = (struct po__rec){.len = (uint32_t)b.len, .index = i, .term = 5, .type = 1};
        memcpy(rec + 1, b.data, b.len);
        po__rec_seal(rec);
        assert_int_equal(po__store_append(s, rec, on_durable, &durable, i), 0);
        po__store_flush(s);
        po__disk_sim_run(disk, poll_store, s);
        assert_int_equal(durable, i);
        free(rec);
        po__buf_fini(&b);
    }
    po__store_close(s);
    free(first);
    return m;
}

static int do_recover(struct po__disk_sim *m, struct po__disk_sim *copy, uint64_t accept)
{
    struct po__tool_recover o = {.data_dir = "dir", .backup_dir = "copy", .accept = accept};
    struct po__disk *disk, *backup_disk;
    struct po__buf json = {0};
    char error[1024] = "";
    po__disk_sim_attach(m, &disk);
    po__disk_sim_attach(copy, &backup_disk);
    int rv = po__tool_recover_disk(&o, disk, backup_disk, &json, error, sizeof error);
    backup_disk->ops->destroy(backup_disk);
    po__buf_fini(&json);
    return rv;
}

static void check_old(struct po__directory *d, struct po__content *c)
{
    assert_memory_equal(d->identity.cluster_id, old_cluster, sizeof old_cluster);
    assert_int_equal(d->recovery.last_index, 5);
    assert_int_equal(d->recovery.term, 5);
    assert_int_equal(d->recovery.vote, 1);
    assert_int_equal(po__conf_voters(&d->conf), 3);
    assert_int_equal(pending(c), 4);
}

static void check_recovered(struct po__directory *d, struct po__content *c)
{
    assert_memory_not_equal(d->identity.cluster_id, old_cluster, sizeof old_cluster);
    assert_int_equal(d->identity.node_id, 2);
    assert_int_equal(d->recovery.last_index, 7);
    assert_int_equal(d->recovery.term, 6);
    assert_int_equal(d->recovery.vote, 0);
    assert_int_equal(d->conf.count, 1);
    assert_true(po__conf_is_voter(&d->conf, 2));
    assert_int_equal(pending(c), 4);
}

static void check_one(struct po__disk_sim *after, struct po__disk_sim *copy, unsigned *old,
                      unsigned *new)
{
    static struct po__directory d;
    struct po__content c;
    assert_true(look(after, &d, &c));
    bool recovered = memcmp(d.identity.cluster_id, old_cluster, sizeof old_cluster) != 0;
    if (recovered)
        check_recovered(&d, &c);
    else
        check_old(&d, &c);
    look_away(&d, &c);
    if (recovered) { /* so the copy is whole */
        ++*new;
        assert_true(look(copy, &d, &c));
        check_old(&d, &c);
        look_away(&d, &c);
        return;
    }
    ++*old;
    struct po__disk_sim *elsewhere = po__disk_sim_new(3);
    assert_int_equal(do_recover(after, elsewhere, 5), 0);
    assert_true(look(after, &d, &c));
    check_recovered(&d, &c);
    look_away(&d, &c);
    po__disk_sim_free(elsewhere);
}

static void test_recover(void **state)
{
    (void)state;
    struct po__disk_sim *original = make_node();
    unsigned points = 0, old = 0, new = 0;
    for (uint64_t at = 1;; at++) {
        struct po__disk_sim *m = po__disk_sim_clone(original), *copy = po__disk_sim_new(2);
        uint64_t before = po__disk_sim_calls(m);
        po__disk_sim_cut_at(m, at);
        int rv = do_recover(m, copy, 5);
        bool last = po__disk_sim_calls(m) - before < at;
        assert_true(po__disk_sim_is_off(m) || rv == 0);
        for (uint64_t outcome = 0; outcome < OUTCOMES; outcome++) {
            struct po__disk_sim *after = po__disk_sim_clone(m);
            struct po__disk_sim *copy_after = po__disk_sim_clone(copy);
            po__disk_sim_power_on(after, outcome);
            po__disk_sim_power_on(copy_after, outcome);
            check_one(after, copy_after, &old, &new);
            po__disk_sim_free(after);
            po__disk_sim_free(copy_after);
        }
        po__disk_sim_free(m);
        po__disk_sim_free(copy);
        points++;
        if (last)
            break;
    }
    print_message("recover: %u points, %u old, %u new\n", points, old, new);
    assert_true(points > 30 && old > OUTCOMES && new > OUTCOMES);
    po__disk_sim_free(original);
}

static void test_recover_needs_the_right_index(void **state)
{
    (void)state;
    struct po__disk_sim *m = make_node(), *copy = po__disk_sim_new(2);
    assert_int_equal(do_recover(m, copy, 4), PO_EREFUSED);
    assert_int_equal(do_recover(m, copy, 6), PO_EREFUSED);
    assert_int_equal(po__disk_sim_files(copy), 0);
    assert_int_equal(do_recover(m, copy, 5), 0);
    assert_int_equal(do_recover(m, copy, 7), PO_ESTATE); /* it is the only voter now */
    po__disk_sim_free(m);
    po__disk_sim_free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restore),
        cmocka_unit_test(test_recover),
        cmocka_unit_test(test_recover_needs_the_right_index),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
