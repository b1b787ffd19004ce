/* Damage: every kind of file, bit by bit. What was durable is never silently lost or changed: it is
 * recovered, or refused with the file and the offset; only the last write may be cut, because it
 * looks like one that was torn. */
#include "sim_store.h"

#include "base/crc32c.h"
#include "storage/store_format.h"

#define LAST 24

struct world {
    struct fixture *fx;
    struct po__disk_sim *m;
};

/* A directory with an identity, a vote, a snapshot of index 10, a log 1..24 over several segments,
 * and a spare. */
static void make_world(struct world *w, const struct po__identity *id)
{
    struct po__rec *first = make_record(1, 1, 0, 100);
    uint64_t last = 1;
    w->fx = calloc(1, sizeof *w->fx);
    w->fx->spares = 1;
    w->m = po__disk_sim_new(5);
    assert_int_equal(sim_open(w->fx, w->m), 0);
    assert_int_equal(po__store_bootstrap(w->fx->store, id, 1, first), 0);
    assert_int_equal(store_recover(w->fx), 0);
    sim_run(w->fx);
    assert_int_equal(po__store_set_vote(w->fx->store, 3, 1), 0);
    assert_int_equal(po__store_set_vote(w->fx->store, 4, 2), 0);
    assert_int_equal(sim_append_to(w->fx, &last, LAST, 4, 5000), 0);
    assert_int_equal(sim_snapshot(w->fx, 10, 4), 0);
    po__store_close(w->fx->store);
    free(first);
}

static void free_world(struct world *w)
{
    po__disk_sim_free(w->m);
    free(w->fx);
}

/* Open and recover a copy; the store is closed again. */
static int try_copy(struct world *w, void (*damage)(struct po__disk_sim *m, void *arg), void *arg)
{
    struct po__disk_sim *copy = po__disk_sim_clone(w->m);
    if (damage)
        damage(copy, arg);
    int rv = sim_open(w->fx, copy);
    if (!rv)
        rv = store_recover(w->fx);
    po__store_close(w->fx->store);
    w->fx->store = NULL;
    po__disk_sim_free(copy);
    return rv;
}

struct flip {
    const char *name;
    uint64_t offset;
    unsigned bit;
};

static void do_flip(struct po__disk_sim *m, void *arg)
{
    struct flip *f = arg;
    po__disk_sim_flip(m, f->name, f->offset, f->bit);
}

enum expectation { INTACT, REFUSED, CUT };

static void expect(struct world *w, const char *name, uint64_t offset, enum expectation e)
{
    struct flip f = {name, offset, (unsigned)(offset % 8)};
    int rv = try_copy(w, do_flip, &f);
    if (rv != (e == REFUSED ? PO_ECORRUPT : 0))
        fail_msg("%s, offset %llu: %s: %s", name, (unsigned long long)offset, po_err_name(rv),
                 w->fx->error);
    if (e == REFUSED) {
        if (!strstr(w->fx->error, name) || !strstr(w->fx->error, "offset"))
            fail_msg("%s: the message names no file or no offset: %s", name, w->fx->error);
        return;
    }
    uint64_t last = e == CUT ? LAST - 1 : LAST;
    if (w->fx->recovery.last_index != last || w->fx->found.last != last)
        fail_msg("%s, offset %llu: log ends at %llu", name, (unsigned long long)offset,
                 (unsigned long long)w->fx->found.last);
    assert_int_equal(w->fx->recovery.term, 4);
    assert_int_equal(w->fx->recovery.vote, 2);
    assert_int_equal(w->fx->recovery.snapshot.index, 10);
}

/* Step widths are odd, so that all bits of a byte and all parts of a structure are met. */
static void flip_range(struct world *w, const char *name, uint64_t from, uint64_t to, uint64_t step,
                       enum expectation e)
{
    for (; from < to; from += step)
        expect(w, name, from, e);
}

/* The i-th file whose name begins so, in the order of names. */
static bool nth_file(const struct po__disk_sim *m, const char *prefix, unsigned nth,
                     char name[PO__FILE_NAME_BYTES])
{
    const char *found = NULL;
    char floor[PO__FILE_NAME_BYTES] = "";
    for (unsigned n = 0; n <= nth; n++) {
        found = NULL;
        for (unsigned i = 0; i < po__disk_sim_files(m); i++) {
            const char *c = po__disk_sim_file_name(m, i);
            if (!strncmp(c, prefix, strlen(prefix)) && strcmp(c, floor) > 0 &&
                (!found || strcmp(c, found) < 0))
                found = c;
        }
        if (!found)
            return false;
        snprintf(floor, sizeof floor, "%s", found);
    }
    snprintf(name, PO__FILE_NAME_BYTES, "%s", found);
    return true;
}

static bool is_last_record(const struct po__fmt_batch *b)
{
    const struct po__rec *r = (const struct po__rec *)(const void *)(b + 1);
    return r->index == LAST;
}

static void flip_segment(struct world *w, const char *name, unsigned *batches)
{
    const uint8_t *data = po__disk_sim_file_data(w->m, name);
    uint64_t number, at = PO__BLOCK_BYTES;
    assert_true(po__wal_parse(name, &number));
    uint64_t epoch = po__fmt_epoch(test_identity.directory_id, number);
    flip_range(w, name, 0, 80, 3, REFUSED);
    flip_range(w, name, 81, PO__BLOCK_BYTES, 501, REFUSED);
    while (at < po__disk_sim_file_size(w->m, name)) {
        const struct po__fmt_batch *b = (const struct po__fmt_batch *)(const void *)(data + at);
        if (!po__fmt_batch_header_ok(b, epoch))
            break;
        uint64_t end = at + sizeof *b + b->len;
        enum expectation e = is_last_record(b) ? CUT : REFUSED;
        flip_range(w, name, at, at + sizeof *b, 5, e);
        flip_range(w, name, at + sizeof *b, end, 1009, e);
        at = po__block_round(end);
        if (end < at)
            expect(w, name, at - 1, INTACT); /* padding carries nothing */
        ++*batches;
    }
    if (at < po__disk_sim_file_size(w->m, name))
        expect(w, name, at + 100, INTACT); /* not used yet */
}

static void test_bit_flips(void **state)
{
    (void)state;
    struct world w;
    char name[PO__FILE_NAME_BYTES];
    unsigned batches = 0, segments = 0;
    make_world(&w, &test_identity);
    assert_int_equal(try_copy(&w, NULL, NULL), 0);
    for (unsigned i = 0; nth_file(w.m, "wal-", i, name); i++, segments++)
        flip_segment(&w, name, &batches);
    assert_int_equal(batches, LAST);
    assert_true(segments > 4);
    flip_range(&w, "identity", 0, 200, 3, REFUSED);
    flip_range(&w, "identity", 201, PO__BLOCK_BYTES, 301, REFUSED);
    flip_range(&w, "meta", 0, 2 * PO__BLOCK_BYTES, 37, INTACT);
    assert_true(nth_file(w.m, "snap-", 0, name));
    flip_range(&w, name, 0, 64, 5, REFUSED);
    flip_range(&w, name, 65, PO__SNAPSHOT_HEADER_BYTES, 1501, REFUSED);
    flip_range(&w, name, PO__SNAPSHOT_HEADER_BYTES, PO__SNAPSHOT_HEADER_BYTES + 32, 3, REFUSED);
    flip_range(&w, name, PO__SNAPSHOT_HEADER_BYTES + 33, PO__SNAPSHOT_HEADER_BYTES + SNAPSHOT_BYTES,
               20011, REFUSED);
    uint64_t size = po__disk_sim_file_size(w.m, name);
    flip_range(&w, name, size - PO__BLOCK_BYTES, size - PO__BLOCK_BYTES + 44, 3, REFUSED);
    free_world(&w);
}

/* Whole files lost */

static void do_remove(struct po__disk_sim *m, void *arg)
{
    po__disk_sim_remove(m, arg);
}

static void test_missing_files(void **state)
{
    (void)state;
    struct world w;
    char name[PO__FILE_NAME_BYTES];
    static const char *const files[] = {"identity", "meta"};
    make_world(&w, &test_identity);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(try_copy(&w, do_remove, (void *)(uintptr_t)files[i]), PO_ECORRUPT);
        assert_non_null(strstr(w.fx->error, files[i]));
    }
    for (unsigned i = 0; i < 3;
         i++) { /* the oldest: a hole before the log; another: one inside it */
        assert_true(nth_file(w.m, "wal-", i, name));
        int rv = try_copy(&w, do_remove, name);
        /* Without the oldest segment the log still begins at or below the snapshot. */
        assert_int_equal(rv, i ? PO_ECORRUPT : 0);
    }
    assert_true(nth_file(w.m, "snap-", 0, name));
    assert_int_equal(try_copy(&w, do_remove, name), 0); /* the log is whole, nothing was trimmed */
    free_world(&w);
}

static void do_remove_four(struct po__disk_sim *m, void *arg)
{
    char name[PO__FILE_NAME_BYTES];
    (void)arg;
    for (int i = 0; i < 4; i++) {
        assert_true(nth_file(m, "wal-", 0, name));
        po__disk_sim_remove(m, name);
    }
}

static void test_hole_behind_the_snapshot(void **state)
{
    (void)state;
    struct world w;
    make_world(&w, &test_identity);
    assert_int_equal(try_copy(&w, do_remove_four, NULL), PO_ECORRUPT);
    assert_non_null(strstr(w.fx->error, "between the snapshot and the log"));
    free_world(&w);
}

/* Another directory's segment */

static void do_foreign(struct po__disk_sim *m, void *arg)
{
    struct po__disk_sim *other = arg;
    const char *name = "wal-0000000000000002";
    po__disk_sim_put(m, name, 0, po__disk_sim_file_data(other, name), PO__BLOCK_BYTES);
}

static void test_foreign_files(void **state)
{
    (void)state;
    struct world w, other;
    struct po__identity id = test_identity;
    make_world(&w, &test_identity);
    id.node_id++;
    make_world(&other, &id);
    assert_int_equal(try_copy(&w, do_foreign, other.m), PO_EIDENTITY);
    free_world(&other);
    id = test_identity;
    id.cluster_id[3] ^= 1;
    make_world(&other, &id);
    assert_int_equal(try_copy(&w, do_foreign, other.m), PO_EIDENTITY);
    free_world(&other);
    id = test_identity;
    id.directory_id[3] ^= 1;
    make_world(&other, &id);
    assert_int_equal(try_copy(&w, do_foreign, other.m), PO_EIDENTITY);
    free_world(&other);
    free_world(&w);
}

/* A newer format */

struct newer {
    const char *name;
    uint64_t offset;
    size_t bytes, copies;
};

static void do_newer(struct po__disk_sim *m, void *arg)
{
    struct newer *n = arg;
    uint8_t *copy = malloc(n->bytes);
    for (size_t i = 0; i < n->copies; i++) {
        uint64_t at = n->offset + i * n->bytes;
        memcpy(copy, po__disk_sim_file_data(m, n->name) + at, n->bytes);
        struct po__fmt_head *h = (struct po__fmt_head *)(void *)copy;
        h->version = PO__FORMAT_VERSION + 1;
        h->crc = po__crc32c(0, &h->version, n->bytes - offsetof(struct po__fmt_head, version));
        po__disk_sim_put(m, n->name, at, copy, n->bytes);
    }
    free(copy);
}

static void test_newer_formats(void **state)
{
    (void)state;
    struct world w;
    char snap[PO__FILE_NAME_BYTES];
    make_world(&w, &test_identity);
    assert_true(nth_file(w.m, "snap-", 0, snap));
    struct newer n[] = {
        {"identity", 0, PO__BLOCK_BYTES, 1},
        {"wal-0000000000000001", 0, PO__BLOCK_BYTES, 1},
        {"meta", 0, PO__SECTOR_BYTES, 16},
        {snap, 0, PO__SNAPSHOT_HEADER_BYTES, 1},
    };
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        assert_int_equal(try_copy(&w, do_newer, &n[i]), PO_EVERSION);
        assert_non_null(strstr(w.fx->error, "version"));
    }
    free_world(&w);
}

/* Meta: one slot gone entirely is a torn write; both are damage. */

static void do_wipe_meta(struct po__disk_sim *m, void *arg)
{
    static const uint8_t junk[2 * PO__BLOCK_BYTES] = {1, 2, 3};
    unsigned slots = *(unsigned *)arg;
    if (slots & 1)
        po__disk_sim_put(m, "meta", 0, junk, PO__BLOCK_BYTES);
    if (slots & 2)
        po__disk_sim_put(m, "meta", PO__BLOCK_BYTES, junk, PO__BLOCK_BYTES);
}

static void test_meta_slots(void **state)
{
    (void)state;
    struct world w;
    unsigned slots = 3;
    make_world(&w, &test_identity);
    assert_int_equal(try_copy(&w, do_wipe_meta, &slots), PO_ECORRUPT);
    slots = 2; /* serials 3 (slot 1) and 4 (slot 0): votes of terms 3 and 4 */
    assert_int_equal(try_copy(&w, do_wipe_meta, &slots), 0);
    assert_int_equal(w.fx->recovery.term, 4);
    slots = 1;
    assert_int_equal(try_copy(&w, do_wipe_meta, &slots), 0);
    assert_int_equal(w.fx->recovery.term, 3);
    free_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_missing_files),
        cmocka_unit_test(test_hole_behind_the_snapshot),
        cmocka_unit_test(test_foreign_files),
        cmocka_unit_test(test_newer_formats),
        cmocka_unit_test(test_meta_slots),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
