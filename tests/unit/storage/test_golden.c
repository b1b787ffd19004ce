/* Old state is readable for ever: a directory that format version 1 wrote, and what must be found
 * in it.
 *
 *   test_store_golden write <file>    how it was made, on the simulated disk
 *
 * A new format adds a file here; a released one is never written again. */
#include "image.h"
#include "sim_store.h"

#include "base/crc32c.h"

static const char *const image[] = {
#include "golden/v1-directory.inc"
};

/* The log's history: entries 6 to 8 of term 2 give way to those of term 3, which reaches back over
 * the boundary of the segments. A write of several records is one batch. */
struct expected {
    uint64_t index, term;
    uint32_t type, len;
    uint32_t crc; /* CRC-32C of the payload */
};

#define EXPECTED_COUNT 13
static const struct expected expected[EXPECTED_COUNT] = {
    {1, 1, 3, 61, 0x45fb2606},  {2, 2, 2, 8, 0x9ecab816},  {3, 2, 1, 23, 0x5c861618},
    {4, 2, 1, 24, 0x64389612},  {5, 2, 1, 25, 0x472d4d38}, {6, 2, 1, 26, 0x27086d74},
    {7, 2, 1, 27, 0xddc951a6},  {8, 2, 1, 28, 0xa253f287}, {6, 3, 2, 8, 0x438fb23f},
    {7, 3, 1, 200, 0xb39b3366}, {8, 3, 1, 17, 0x6bde3ff0}, {9, 3, 3, 90, 0x1dc7c438},
    {10, 3, 1, 64, 0x85f67c3a},
};

#define TERM           5
#define VOTE           9
#define SNAPSHOT_INDEX 4
#define SNAPSHOT_TERM  2
#define SNAPSHOT_LEN   3000
#define SNAPSHOT_CRC   0xdc467b45
#define CONF_INDEX     1
#define CONF           "three voters"
#define LAST_INDEX     10

static const struct po__identity identity = {
    .cluster_id = "golden cluster",
    .directory_id = "golden directory",
    .node_id = 7,
    .name = "cp-aws-1",
};

static uint8_t snapshot_byte(size_t i)
{
    return (uint8_t)(i / 7 + 3 * i);
}

/* ---- how it was made ---- */

static void put(struct fixture *fx, uint64_t index, uint64_t term, uint32_t type, uint32_t len)
{
    struct po__rec *r = make_record(index, term, (uint32_t)(index * 100 + term), len);
    r->type = type;
    po__rec_seal(r);
    assert_int_equal(po__store_append(fx->store, r, on_durable, fx, index), 0);
    free(r);
}

static void write_out(struct fixture *fx)
{
    po__store_flush(fx->store);
    sim_run(fx);
}

static void history(struct fixture *fx)
{
    struct po__rec *first = make_record(1, 1, 101, 61);
    first->type = 3;
    po__rec_seal(first);
    assert_int_equal(po__store_bootstrap(fx->store, &identity, 1, first), 0);
    free(first);
    assert_int_equal(store_recover(fx), 0);
    sim_run(fx);
    assert_int_equal(po__store_set_vote(fx->store, 2, 7), 0);
    put(fx, 2, 2, 2, 8);
    write_out(fx);
    for (uint64_t i = 3; i <= 8; i++) {
        put(fx, i, 2, 1, (uint32_t)(20 + i));
        write_out(fx);
    }
    assert_int_equal(po__store_set_vote(fx->store, 3, 8), 0);
    put(fx, 6, 3, 2, 8);
    put(fx, 7, 3, 1, 200);
    put(fx, 8, 3, 1, 17);
    write_out(fx);
    put(fx, 9, 3, 3, 90);
    put(fx, 10, 3, 1, 64);
    write_out(fx);
    assert_int_equal(po__store_set_vote(fx->store, TERM, VOTE), 0);
}

static void snapshot(struct fixture *fx)
{
    uint8_t data[SNAPSHOT_LEN];
    uint64_t done = 0;
    struct po__snapshot_writer *w;
    struct po__snapshot_meta meta = {.index = SNAPSHOT_INDEX,
                                     .term = SNAPSHOT_TERM,
                                     .conf_index = CONF_INDEX,
                                     .conf_len = sizeof CONF - 1,
                                     .conf = CONF};
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = snapshot_byte(i);
    assert_int_equal(po__store_snapshot_begin(fx->store, &w, &meta), 0);
    assert_int_equal(po__store_snapshot_write(w, data, sizeof data), 0);
    assert_int_equal(po__store_snapshot_finish(w, on_snapshot_done, &done), 0);
    sim_run(fx);
    assert_int_equal(done, SNAPSHOT_INDEX);
}

static void write_image(const char *path)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    struct po__disk_sim *m = po__disk_sim_new(1);
    fx->spares = 1;
    assert_int_equal(sim_open(fx, m), 0);
    history(fx);
    snapshot(fx);
    po__store_close(fx->store);
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (unsigned i = 0; i < po__disk_sim_files(m); i++) {
        const char *name = po__disk_sim_file_name(m, i);
        image_write(out, name, po__disk_sim_file_data(m, name), po__disk_sim_file_size(m, name));
    }
    assert_int_equal(fclose(out), 0);
    po__disk_sim_free(m);
    free(fx);
}

/* ---- what must be found ---- */

struct found {
    unsigned count;
    struct expected records[EXPECTED_COUNT + 1];
};

static int collect(void *arg, const struct po__rec *r)
{
    struct found *f = arg;
    assert_int_equal(po__rec_check(r, PO__REC_BYTES(r->len)), 0);
    if (f->count > EXPECTED_COUNT)
        return PO_ECORRUPT;
    f->records[f->count++] = (struct expected){r->index, r->term, r->type, r->len,
                                               po__crc32c(0, po__rec_payload(r), r->len)};
    return 0;
}

static void open_golden(struct fixture *fx, struct found *f)
{
    f->count = 0;
    assert_int_equal(real_disk(fx), 0);
    if (store_open(fx, SIM_SEGMENT_BYTES))
        fail_msg("opening: %s", fx->error);
    if (po__store_recover(fx->store, &fx->recovery, collect, f, fx->error, sizeof fx->error))
        fail_msg("recovering: %s", fx->error);
}

static int setup(void **state)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    assert_non_null(fx);
    real_path(fx);
    image_unpack(image, sizeof image / sizeof *image, fx->path);
    *state = fx;
    return 0;
}

static int teardown(void **state)
{
    real_remove(*state);
    free(*state);
    return 0;
}

static void test_identity_and_vote(void **state)
{
    struct fixture *fx = *state;
    struct found f;
    struct po__identity id;
    open_golden(fx, &f);
    assert_int_equal(po__store_identity(fx->store, &id), 1);
    assert_memory_equal(id.cluster_id, identity.cluster_id, sizeof id.cluster_id);
    assert_memory_equal(id.directory_id, identity.directory_id, sizeof id.directory_id);
    assert_int_equal(id.node_id, 7);
    assert_string_equal(id.name, "cp-aws-1");
    assert_int_equal(fx->recovery.term, TERM);
    assert_int_equal(fx->recovery.vote, VOTE);
    po__store_close(fx->store);
}

static void test_log(void **state)
{
    struct fixture *fx = *state;
    struct found f;
    open_golden(fx, &f);
    for (unsigned i = 0; i < f.count; i++) {
        const struct expected *r = &f.records[i], *e = &expected[i];
        if (i >= EXPECTED_COUNT || r->index != e->index || r->term != e->term ||
            r->type != e->type || r->len != e->len || r->crc != e->crc)
            fail_msg("record %u is {%" PRIu64 ", %" PRIu64 ", %u, %u, 0x%08x}", i, r->index,
                     r->term, r->type, r->len, r->crc);
    }
    assert_int_equal(f.count, EXPECTED_COUNT);
    assert_int_equal(fx->recovery.first_index, 1);
    assert_int_equal(fx->recovery.last_index, LAST_INDEX);
    po__store_close(fx->store);
}

static void test_snapshot(void **state)
{
    struct fixture *fx = *state;
    struct found f;
    struct po__snapshot_reader *r;
    struct po__snapshot_meta meta;
    uint8_t data[SNAPSHOT_LEN];
    open_golden(fx, &f);
    assert_int_equal(po__store_snapshot_open(fx->store, &r, &meta), 0);
    assert_int_equal(meta.index, SNAPSHOT_INDEX);
    assert_int_equal(meta.term, SNAPSHOT_TERM);
    assert_int_equal(meta.conf_index, CONF_INDEX);
    assert_int_equal(meta.conf_len, sizeof CONF - 1);
    assert_memory_equal(meta.conf, CONF, sizeof CONF - 1);
    assert_int_equal(meta.size_bytes, SNAPSHOT_LEN);
    assert_int_equal(meta.crc, SNAPSHOT_CRC);
    assert_int_equal(fx->recovery.snapshot.index, SNAPSHOT_INDEX);
    assert_int_equal(fx->recovery.snapshot.crc, SNAPSHOT_CRC);
    assert_int_equal(po__store_snapshot_read(r, 0, data, sizeof data), 0);
    assert_int_equal(po__crc32c(0, data, sizeof data), SNAPSHOT_CRC);
    for (size_t i = 0; i < sizeof data; i++)
        assert_int_equal(data[i], snapshot_byte(i));
    po__store_snapshot_close(r);
    po__store_close(fx->store);
}

/* It is not only read: work goes on in it. */
static void test_goes_on(void **state)
{
    struct fixture *fx = *state;
    struct found f;
    open_golden(fx, &f);
    assert_int_equal(po__store_set_vote(fx->store, TERM + 1, 7), 0);
    assert_int_equal(append(fx, LAST_INDEX + 1, TERM + 1, 1, 100), 0);
    po__store_flush(fx->store);
    while (!fx->durable_count)
        real_wait(fx);
    po__store_close(fx->store);
    open_golden(fx, &f);
    assert_int_equal(fx->recovery.term, TERM + 1);
    assert_int_equal(fx->recovery.vote, 7);
    assert_int_equal(f.count, EXPECTED_COUNT + 1);
    assert_int_equal(f.records[EXPECTED_COUNT].index, LAST_INDEX + 1);
    assert_int_equal(f.records[EXPECTED_COUNT].term, TERM + 1);
    assert_int_equal(fx->recovery.last_index, LAST_INDEX + 1);
    po__store_close(fx->store);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_identity_and_vote, setup, teardown),
        cmocka_unit_test_setup_teardown(test_log, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_goes_on, setup, teardown),
    };
    if (argc == 3 && !strcmp(argv[1], "write")) {
        write_image(argv[2]);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
