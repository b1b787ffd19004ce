/* A store on the simulated disk, and one fixed piece of work that passes through everything a store
 * does. */
#ifndef TEST_STORAGE_SIM_STORE_H
#define TEST_STORAGE_SIM_STORE_H

#include "fixture.h"

#include "sim/disk_sim.h"

#define SIM_SEGMENT_BYTES (32 * 1024)
#define SNAPSHOT_BYTES    300000

static inline void sim_poll(void *arg)
{
    po__store_poll(((struct fixture *)arg)->store);
}

static inline void sim_run(struct fixture *fx)
{
    po__disk_sim_run(fx->disk, sim_poll, fx);
}

static inline int sim_open(struct fixture *fx, struct po__disk_sim *m)
{
    po__disk_sim_attach(m, &fx->disk);
    return store_open(fx, SIM_SEGMENT_BYTES);
}

static inline int sim_bootstrap(struct fixture *fx)
{
    struct po__rec *first = make_record(1, 1, 0, 100);
    int rv = po__store_bootstrap(fx->store, &test_identity, 1, first);
    free(first);
    return rv;
}

static inline int sim_append_to(struct fixture *fx, uint64_t *last, uint64_t to, uint64_t term,
                                uint32_t len)
{
    while (*last < to) {
        int rv = append(fx, *last + 1, term, 0, len);
        if (rv)
            return rv;
        ++*last;
        po__store_flush(fx->store);
        sim_run(fx);
    }
    return 0;
}

static inline void on_snapshot_done(void *arg, uint64_t token)
{
    *(uint64_t *)arg = token;
}

static inline int sim_snapshot(struct fixture *fx, uint64_t index, uint64_t term)
{
    static uint8_t data[SNAPSHOT_BYTES];
    struct po__snapshot_meta meta = {
        .index = index, .term = term, .conf_index = 1, .conf_len = 4, .conf = "conf"};
    struct po__snapshot_writer *w;
    uint64_t done = 0;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(index + i * i);
    int rv = po__store_snapshot_begin(fx->store, &w, &meta);
    if (rv)
        return rv;
    rv = po__store_snapshot_write(w, data, sizeof data);
    if (!rv)
        rv = po__store_snapshot_finish(w, on_snapshot_done, &done);
    if (rv) {
        po__store_snapshot_abort(w);
        sim_run(fx);
        return rv;
    }
    sim_run(fx);
    rv = po__store_broken(fx->store);
    if (!rv)
        assert_int_equal(done, index);
    return rv;
}

static inline int sim_read_snapshot(struct fixture *fx, uint64_t index)
{
    struct po__snapshot_reader *r;
    struct po__snapshot_meta meta;
    uint8_t part[1000];
    int rv = po__store_snapshot_open(fx->store, &r, &meta);
    if (rv)
        return rv;
    assert_int_equal(meta.index, index);
    assert_int_equal(meta.size_bytes, SNAPSHOT_BYTES);
    for (uint64_t at = 500; !rv && at + sizeof part <= meta.size_bytes; at += 49000) {
        rv = po__store_snapshot_read(r, at, part, sizeof part);
        for (size_t i = 0; !rv && i < sizeof part; i++)
            assert_int_equal(part[i], (uint8_t)(index + (at + i) * (at + i)));
    }
    po__store_snapshot_close(r);
    return rv;
}

#endif
