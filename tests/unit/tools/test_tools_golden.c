/* Old backups are readable for ever: a file as version 0.1 wrote it, what inspect must say of it,
 * and a cluster that goes on from it.
 *
 *   test_tools_golden write <file>    how it was made
 *
 * A new format adds a file here; a released one is never written again. */
#include <ftw.h>

#include "../storage/image.h"
#include "fixture.h"

#include <pipeorch/pipeorch.h>

#define FILE_NAME "v0.1.backup"

static const char *const image[] = {
#include "golden/v0.1-backup.inc"
};

static char dir[64], file[128], data_dir[128];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int golden_file(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/po-golden.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    image_unpack(image, sizeof image / sizeof *image, dir);
    snprintf(file, sizeof file, "%s/" FILE_NAME, dir);
    snprintf(data_dir, sizeof data_dir, "%s/restored", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static int write_image(const char *path)
{
    static uint8_t data[1 << 20];
    char made[160];
    snprintf(made, sizeof made, "%s.made", path);
    make_backup(made, 3, 100);
    FILE *in = fopen(made, "rb"), *out = fopen(path, "w");
    assert_true(in && out);
    size_t len = fread(data, 1, sizeof data, in);
    assert_true(feof(in));
    fclose(in);
    image_write(out, FILE_NAME, data, len);
    assert_int_equal(fclose(out), 0);
    return unlink(made);
}

static void holds(const char *json, const char *const *parts)
{
    for (; *parts; parts++)
        if (!strstr(json, *parts))
            fail_msg("%s is not in %s", *parts, json);
}

#define HOLDS(json, ...) holds(json, (const char *const[]){__VA_ARGS__, NULL})

static void test_inspect(void **state)
{
    (void)state;
    char *json = NULL, error[512];
    if (po_snapshot_inspect(file, &json, error, sizeof error))
        fail_msg("%s", error);
    HOLDS(json, "\"format\":1,", "\"source\":\"online\"", "\"node\":\"cp1\"", "\"index\":100,",
          "\"term\":7,", "\"committed_index\":100,", "\"time_ms\":1,", "\"tasks_pending\":3,",
          "\"cluster_id\":\"746865206f6c6420636c757374657200\"", "\"address\":\"127.0.0.1:3\"",
          "\"sha256\":\"69ad112a3cbdfdc975b64717e6acd92e139f8b89fe08fa81e890770bf251d169\"");
    po_free(json);
}

/* A node starts with it, and what was in it is there: the tasks, their inputs and their keys. */
static void test_restore(void **state)
{
    (void)state;
    char *json = NULL, error[512], input[103];
    struct po_snapshot_restore_opts r = {
        .size = sizeof r, .path = file, .data_dir = data_dir, .name = "new"};
    if (po_snapshot_restore(&r, &json, error, sizeof error))
        fail_msg("%s", error);
    HOLDS(json, "\"format\":1,", "\"new_cluster_id\":\"");
    po_free(json);

    po_node *node = NULL;
    struct po_node_opts o = {
        .size = sizeof o, .name = "new", .data_dir = data_dir, .election_ms = 100};
    if (po_node_start(&node, &o, error, sizeof error))
        fail_msg("%s", error);
    assert_int_equal(po_node_wait_leader(node, 30000), 0);
    po_client *c = po_node_client(node);
    struct po_query q = {.size = sizeof q, .what = PO_QUERY_TASK, .id = 2};
    assert_int_equal(po_query(c, &q, NULL, &json), 0);
    HOLDS(json, "\"capability\":\"text:upper\"", "\"state\":\"pending\"", "\"input\":\"xxxxxxxx");
    po_free(json);

    memset(input, 'x', 102);
    input[0] = input[101] = '"';
    struct po_task_opts t = {
        .size = sizeof t, .capability = "text:upper", .input = input, .input_len = 102};
    struct po_call_opts again = {.size = sizeof again, .key = "key-1", .key_len = 5};
    struct po_call_opts fresh = {.size = sizeof fresh, .key = "key-3", .key_len = 5};
    uint64_t id = 0;
    assert_int_equal(po_submit_task(c, &t, &again, &id), 0);
    assert_int_equal(id, 2);
    assert_int_equal(po_submit_task(c, &t, &fresh, &id), 0);
    assert_int_equal(id, 4);
    po_node_stop(node);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_inspect, golden_file, remove_dir),
        cmocka_unit_test_setup_teardown(test_restore, golden_file, remove_dir),
    };
    if (argc == 3 && !strcmp(argv[1], "write"))
        return write_image(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
