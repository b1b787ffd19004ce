/* A store under test, on either disk, with helpers that append made-up records and wait for what
 * they cause. */
#ifndef TEST_STORAGE_FIXTURE_H
#define TEST_STORAGE_FIXTURE_H

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "storage/store.h"

#define SEGMENT_BYTES (64 * 1024)

/* What the test believes or found: one entry per index. */
struct log_model {
    uint64_t first, last; /* last < first: empty */
    uint64_t term[4096];
    uint32_t stamp[4096]; /* distinguishes records of the same index and term */
};

struct fixture {
    char path[64];
    int event; /* wakeup of the real disk; -1: simulated */
    struct po__disk *disk;
    struct po__store *store;
    struct po__recovery recovery;
    struct log_model found;
    unsigned faults;
    int fault_code;
    char fault_text[512];
    unsigned durable_count;
    uint64_t durable_token;
    char error[512];
    uint32_t spares; /* 0: the default */
};

static const struct po__identity test_identity = {
    .cluster_id = "cluster",
    .directory_id = "directory",
    .node_id = 7,
    .name = "cp-aws-1",
};

static inline void on_wakeup(void *arg)
{
    uint64_t one = 1;
    struct fixture *fx = arg;
    ssize_t n = write(fx->event, &one, sizeof one);
    (void)n; /* a full counter is a pending wakeup already */
}

static inline void on_fault(void *arg, int code, const char *message)
{
    struct fixture *fx = arg;
    fx->faults++;
    fx->fault_code = code;
    snprintf(fx->fault_text, sizeof fx->fault_text, "%s", message);
}

static inline void on_durable(void *arg, uint64_t token)
{
    struct fixture *fx = arg;
    fx->durable_count++;
    fx->durable_token = token;
}

/* Content that any reader can check: a function of index, term and stamp. */
static inline struct po__rec *make_record(uint64_t index, uint64_t term, uint32_t stamp,
                                          uint32_t len)
{
    struct po__rec *r = calloc(1, PO__REC_BYTES(len));
    assert_non_null(r);
    r->len = len;
    r->index = index;
    r->term = term;
    r->type = 1;
    uint8_t *p = (uint8_t *)(r + 1);
    assert_true(len >= 8);
    memcpy(p, &stamp, 4);
    for (uint32_t i = 4; i < len; i++)
        p[i] = (uint8_t)(index * 31 + term * 17 + stamp * 7 + i);
    po__rec_seal(r);
    return r;
}

static inline void model_put(struct log_model *m, uint64_t index, uint64_t term, uint32_t stamp)
{
    assert_true(index < 4096);
    if (m->last < m->first || index < m->first)
        m->first = index;
    else
        assert_true(index <= m->last + 1);
    m->last = index;
    m->term[index] = term;
    m->stamp[index] = stamp;
}

static inline int on_record(void *arg, const struct po__rec *r)
{
    struct log_model *m = arg;
    uint32_t stamp;
    const uint8_t *p = po__rec_payload(r);
    memcpy(&stamp, p, 4);
    for (uint32_t i = 4; i < r->len; i++)
        assert_int_equal(p[i], (uint8_t)(r->index * 31 + r->term * 17 + stamp * 7 + i));
    model_put(m, r->index, r->term, stamp);
    return 0;
}

static inline void log_model_clear(struct log_model *m)
{
    m->first = 1;
    m->last = 0;
}

static inline int store_open(struct fixture *fx, uint64_t segment_bytes)
{
    struct po__store_opts opts = {
        .segment_bytes = segment_bytes, .segments_spare = fx->spares, .fault = on_fault, .arg = fx};
    fx->store = NULL;
    fx->error[0] = '\0';
    return po__store_open(&fx->store, fx->disk, &opts, fx->error, sizeof fx->error);
}

static inline int store_recover(struct fixture *fx)
{
    log_model_clear(&fx->found);
    return po__store_recover(fx->store, &fx->recovery, on_record, &fx->found, fx->error,
                             sizeof fx->error);
}

static inline int append(struct fixture *fx, uint64_t index, uint64_t term, uint32_t stamp,
                         uint32_t len)
{
    struct po__rec *r = make_record(index, term, stamp, len);
    int rv = po__store_append(fx->store, r, on_durable, fx, index);
    free(r);
    return rv;
}

/* The real disk */

static inline void real_path(struct fixture *fx)
{
    snprintf(fx->path, sizeof fx->path, "/tmp/po-store-XXXXXX");
    assert_non_null(mkdtemp(fx->path));
    fx->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_true(fx->event >= 0);
}

static inline int real_disk(struct fixture *fx)
{
    return po__disk_real(&fx->disk, fx->path, on_wakeup, fx, fx->error, sizeof fx->error);
}

static inline void real_wait(struct fixture *fx)
{
    struct pollfd p = {.fd = fx->event, .events = POLLIN};
    uint64_t n;
    assert_int_equal(poll(&p, 1, 30000), 1); /* a hang, not slowness */
    assert_int_equal(read(fx->event, &n, sizeof n), sizeof n);
    po__store_poll(fx->store);
}

static inline void real_remove(struct fixture *fx)
{
    char command[128];
    close(fx->event);
    snprintf(command, sizeof command, "rm -rf '%s'", fx->path);
    assert_int_equal(system(command), 0);
}

#endif
