/* What the tests of tools/ share: a backup file made of a small state, and directories on the
 * simulated disk. */
#ifndef TEST_TOOLS_FIXTURE_H
#define TEST_TOOLS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "consensus/replica.h"
#include "model/command.h"
#include "sim/disk_sim.h"
#include "tools/backup.h"
#include "tools/content.h"
#include "tools/directory.h"
#include "tools/tools.h"

static const uint8_t old_cluster[PO__CLUSTER_ID_BYTES] = "the old cluster";

/* The encoded entry of one TASK_SUBMIT. */
static inline void submit_entry(struct po__buf *b, const char *key, const char *input)
{
    static struct po__cmd cmd;
    memset(&cmd, 0, sizeof cmd);
    cmd.type = PO__CMD_TASK_SUBMIT;
    cmd.submit.key = po__str(key);
    cmd.submit.capability = po__str("text:upper");
    cmd.submit.input = po__str(input);
    po__entry_begin(b, 1000);
    po__cmd_encode(b, &cmd);
    po__entry_finish(b, 0, 1);
    assert_int_equal(b->err, 0);
}

static inline void apply(struct po__content *c, uint64_t index, const char *key, const char *input)
{
    static struct po__cmd cmd;
    struct po__buf b = {0};
    struct po__entry_reader er;
    submit_entry(&b, key, input);
    assert_int_equal(po__entry_open(&er, b.data, b.len), 0);
    assert_int_equal(po__entry_next(&er, &cmd), 1);
    assert_int_equal(po__model_apply(c->model, index, er.now_ms, &cmd, NULL, NULL), 0);
    po__buf_fini(&b);
}

static inline void fill_conf(struct po__snapshot_meta *m)
{
    struct po__conf conf = {0};
    assert_int_equal(po__conf_add(&conf, 1, "127.0.0.1:1", PO__VOTER), 0);
    assert_int_equal(po__conf_add(&conf, 2, "127.0.0.1:2", PO__VOTER), 0);
    assert_int_equal(po__conf_add(&conf, 3, "127.0.0.1:3", PO__VOTER), 0);
    m->conf_index = 1;
    m->conf_len = (uint32_t)po__conf_encode(&conf, m->conf);
}

/* A backup of `tasks` tasks with an input of `bytes` bytes each, at index 100, term 7. */
static inline void make_backup(const char *path, unsigned tasks, size_t bytes)
{
    struct po__content c;
    struct po__backup_info *info = calloc(1, sizeof *info);
    struct po__backup_writer *w;
    char error[512], key[32], *input = calloc(1, bytes + 3);
    uint8_t buf[5000];
    memset(input, 'x', bytes + 2);
    input[0] = input[bytes + 1] = '"';
    assert_int_equal(po__content_init(&c, NULL), 0);
    for (unsigned i = 0; i < tasks; i++) {
        snprintf(key, sizeof key, "key-%u", i);
        apply(&c, 2 + i, key, input);
    }
    po__model_set_index(c.model, 100);
    info->source = PO__BACKUP_ONLINE;
    memcpy(info->cluster_id, old_cluster, sizeof info->cluster_id);
    strcpy(info->node_name, "cp1");
    info->time_ms = 1;
    info->committed_index = info->snapshot.index = 100;
    info->snapshot.term = 7;
    fill_conf(&info->snapshot);
    assert_int_equal(po__backup_create(&w, path, true, info, error, sizeof error), 0);
    assert_int_equal(po__content_begin(&c), 0);
    for (size_t n = 1; n;) {
        n = sizeof buf;
        assert_int_equal(po__content_read(&c, buf, &n), 0);
        assert_int_equal(po__backup_write(w, buf, n), 0);
    }
    assert_int_equal(po__backup_finish(w), 0);
    po__content_fini(&c);
    free(info);
    free(input);
}

#endif
