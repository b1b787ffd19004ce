/* Old state is readable for ever: the data directory of a whole node as version 0.1 wrote it, and
 * what the node must answer from it.
 *
 *   test_node_golden write <file>    how it was made, on this machine's disk
 *
 * A new format adds a file here; a released one is never written again. */
#include <pipeorch/pipeorch.h>

#include <dirent.h>
#include <ftw.h>

#include "../storage/image.h"

static const char *const image[] = {
#include "golden/v0.1-node.inc"
};

static char dir[64];

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int empty_dir(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/po-golden.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int golden_dir(void **state)
{
    int rv = empty_dir(state);
    if (rv == 0)
        image_unpack(image, sizeof image / sizeof *image, dir);
    return rv;
}

static int remove_dir(void **state)
{
    (void)state;
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static po_node *start(int bootstrap)
{
    po_node *node = NULL;
    char error[512] = "";
    struct po_node_opts o = {.size = sizeof o,
                             .name = "solo",
                             .data_dir = dir,
                             .bootstrap = bootstrap,
                             .segment_bytes = 1 << 20,
                             .election_ms = 100};
    if (po_node_start(&node, &o, error, sizeof error))
        fail_msg("starting: %s", error);
    assert_int_equal(po_node_wait_leader(node, 30000), 0);
    return node;
}

/* ---- how it was made ---- */

static const char pipeline[] =
    "{\"name\":\"energy\",\"start_node\":\"s1\",\"steps\":["
    "{\"name\":\"s1\",\"capability\":\"extract:csv\",\"next_node\":\"s2\"},"
    "{\"name\":\"s2\",\"capability\":\"train:ann\"}]}";

static uint64_t submit(po_node *node)
{
    uint64_t id = 0;
    struct po_task_opts t = {.size = sizeof t,
                             .capability = "extract:csv",
                             .input = "{\"file\":\"energy.csv\"}",
                             .input_len = 21,
                             .zone = "aws",
                             .attempts_max = 5};
    struct po_call_opts o = {.size = sizeof o, .key = "golden-1", .key_len = 8};
    assert_int_equal(po_submit_task(po_node_client(node), &t, &o, &id), 0);
    return id;
}

static void history(void)
{
    uint64_t id;
    po_node *node = start(1);
    po_client *c = po_node_client(node);
    assert_int_equal(submit(node), 1);
    if (po_pipeline_define(c, pipeline, sizeof pipeline - 1, NULL))
        fail_msg("%s", po_client_error());
    assert_int_equal(po_run_start(c, "energy", "{\"year\":2018}", "gcp", NULL, &id), 0);
    assert_int_equal(id, 1);
    assert_int_equal(po_run_start(c, "energy", NULL, NULL, NULL, &id), 0);
    assert_int_equal(po_run_cancel(c, id, NULL), 0);
    po_node_stop(node);
}

static void write_file(FILE *out, const char *name)
{
    static uint8_t data[4 << 20];
    char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t len = fread(data, 1, sizeof data, f);
    assert_true(feof(f));
    fclose(f);
    if (len)
        image_write(out, name, data, len);
}

static int write_image(const char *path)
{
    struct dirent *e;
    assert_int_equal(empty_dir(NULL), 0);
    history();
    FILE *out = fopen(path, "w");
    DIR *d = opendir(dir);
    assert_true(out && d);
    while ((e = readdir(d)))
        if (e->d_name[0] != '.' && strcmp(e->d_name, "lock") && strncmp(e->d_name, "tmp-", 4))
            write_file(out, e->d_name);
    closedir(d);
    assert_int_equal(fclose(out), 0);
    return remove_dir(NULL);
}

/* ---- what must be found ---- */

static void ask(po_node *node, int what, uint64_t id, const char *name, const char *const *parts)
{
    char *json = NULL;
    struct po_query q = {.size = sizeof q, .what = what, .id = id, .name = name};
    assert_int_equal(po_query(po_node_client(node), &q, NULL, &json), 0);
    for (; *parts; parts++)
        if (!strstr(json, *parts))
            fail_msg("%s is not in %s", *parts, json);
    po_free(json);
}

#define ASK(node, what, id, name, ...)                                                             \
    ask(node, what, id, name, (const char *const[]){__VA_ARGS__, NULL})

static void test_answers(void **state)
{
    (void)state;
    po_node *node = start(0);
    ASK(node, PO_QUERY_TASK, 1, NULL,
        "\"attempts\":0,\"attempts_max\":5,\"capability\":\"extract:csv\"",
        "\"created_ms\":1795266531840,", "\"id\":1,\"input\":{\"file\":\"energy.csv\"}",
        "\"preferred_zone\":\"aws\"", "\"state\":\"pending\",\"timeout_ms\":600000");
    ASK(node, PO_QUERY_PIPELINE, 0, "energy",
        "\"defined_ms\":1795266531841,\"name\":\"energy\",\"start_node\":\"s1\"",
        "\"capability\":\"extract:csv\",\"config\":null,\"name\":\"s1\",\"next_node\":\"s2\"",
        "\"capability\":\"train:ann\",\"config\":null,\"name\":\"s2\",\"next_node\":null");
    ASK(node, PO_QUERY_RUN, 1, NULL, "\"params\":{\"year\":2018},\"pipeline\":\"energy\"",
        "\"started_ms\":1795266531841,\"state\":\"running\"", "\"state\":\"pending\",\"task_id\":2",
        "\"zone\":\"gcp\"}");
    ASK(node, PO_QUERY_RUN, 2, NULL, "\"finished_ms\":1795266531842,\"id\":2,\"params\":null",
        "\"state\":\"cancelled\",\"steps\"", "\"state\":\"cancelled\",\"task_id\":3");
    ASK(node, PO_QUERY_STATUS, 0, NULL, "\"cluster_id\":\"7b2444c961a7bab38d996b74b5cfff2d\"",
        "\"id\":1,\"leader\":true,\"name\":\"solo\",\"role\":\"voter\"",
        "\"pipelines\":1,\"runs_finished\":1,\"runs_running\":1",
        "\"tasks_finished\":1,\"tasks_pending\":2");
    po_node_stop(node);
}

/* It is not only read: work goes on in it, and a key of then still is one. */
static void test_goes_on(void **state)
{
    (void)state;
    uint64_t id = 0;
    po_node *node = start(0);
    assert_int_equal(submit(node), 1);
    assert_int_equal(po_run_start(po_node_client(node), "energy", NULL, NULL, NULL, &id), 0);
    assert_int_equal(id, 3);
    po_node_stop(node);
    node = start(0);
    ASK(node, PO_QUERY_RUN, 3, NULL, "\"pipeline\":\"energy\"");
    po_node_stop(node);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_answers, golden_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_goes_on, golden_dir, remove_dir),
    };
    if (argc == 3 && !strcmp(argv[1], "write"))
        return write_image(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
