/* A node alone on a real disk, the leader of itself, without network or state machine. */
#ifndef PO__TEST_ONE_NODE_H
#define PO__TEST_ONE_NODE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <pipeorch/pipeorch.h>
#include <stdio.h>

#include "api/identity.h"
#include "node/internal.h"

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

/* With all that is in it. */
static inline int remove_folder(const char *dir)
{
    return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Plays the release of this feature level. */
static inline struct po__node *start_one(const char *dir, uint32_t level, uint64_t snapshot_bytes,
                                         uint64_t trailing_bytes)
{
    static const struct po_member alone = {"here", NULL};
    struct po_node_opts po = {.size = sizeof po,
                              .name = "here",
                              .data_dir = dir,
                              .bootstrap = 1,
                              .members = &alone,
                              .members_count = 1};
    struct po__store_opts so = {.segment_bytes = 1 << 20};
    struct po__node_opts o = {.zone = "z",
                              .peer_address = "",
                              .worker_address = "",
                              .election_ms = 100,
                              .heartbeat_ms = 20,
                              .snapshot_bytes = snapshot_bytes,
                              .trailing_bytes = trailing_bytes,
                              .feature_level = level};
    struct po__node *node;
    struct po__disk *disk;
    char error[512] = "";
    assert_int_equal(po__node_create(&node), 0);
    assert_int_equal(po__disk_real(&disk, dir, po__node_disk_wakeup, node, error, sizeof error), 0);
    assert_int_equal(po__store_open(&o.store, disk, &so, error, sizeof error), 0);
    assert_int_equal(po__identity_settle(&o.identity, o.store, &po, "", error, sizeof error), 0);
    assert_int_equal(po__node_start(node, &o, error, sizeof error), 0);
    assert_int_equal(po__node_wait_leader(node, 10000), 0);
    return node;
}

#endif
