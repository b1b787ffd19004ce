/* The rewrite journal: whatever it says, carrying it out ends with a code, reads nothing outside
 * of the journal's own bytes, and leaves the journal exactly if it failed: whoever opens the
 * directory next must not start with half of it. */
#include "fuzz.h"

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "sim/disk_sim.h"
#include "storage/rewrite.h"
#include "storage/store_format.h"

#define FILE_BYTES 200

static void put_file(struct po__disk *d, const char *name, const void *data, size_t len)
{
    struct po__file *f;
    FUZZ_CHECK(d->ops->open(d, &f, name, PO__FILE_CREATE) == 0);
    FUZZ_CHECK(d->ops->write(f, data, len, 0) == 0 && d->ops->sync(f) == 0);
    d->ops->close(f);
}

static struct po__disk *directory(struct po__disk_sim **m)
{
    static const uint8_t bytes[FILE_BYTES] = "what was there";
    struct po__disk *d;
    *m = po__disk_sim_new(1);
    po__disk_sim_attach(*m, &d);
    put_file(d, "meta", bytes, sizeof bytes);
    put_file(d, "wal-1", bytes, sizeof bytes);
    FUZZ_CHECK(d->ops->sync_dir(d) == 0);
    return d;
}

static bool has_journal(struct po__disk *d)
{
    struct po__file *f;
    if (d->ops->open(d, &f, PO__REWRITE_NAME, 0))
        return false;
    d->ops->close(f);
    return true;
}

/* In one go, and interrupted by the process' death somewhere, then finished. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__disk_sim *m, *killed;
    char error[512] = "";
    struct po__disk *d = directory(&m), *e = directory(&killed);
    put_file(d, PO__REWRITE_NAME, data, len);
    put_file(e, PO__REWRITE_NAME, data, len);
    int rv = po__rewrite_finish(d, error, sizeof error);
    FUZZ_CHECK(rv == 0 || error[0]);
    FUZZ_CHECK(has_journal(d) == (rv != 0));
    po__disk_sim_cut_at(killed, 1 + len % 13);
    po__rewrite_finish(e, error, sizeof error);
    e->ops->destroy(e);
    po__disk_sim_killed(killed);
    po__disk_sim_attach(killed, &e);
    rv = po__rewrite_finish(e, error, sizeof error);
    FUZZ_CHECK(has_journal(e) == (rv != 0));
    d->ops->destroy(d);
    e->ops->destroy(e);
    po__disk_sim_free(m);
    po__disk_sim_free(killed);
    return 0;
}

/* The simulated disk holds every byte of a file in memory, also those that were never written. */
static void bound_offsets(uint8_t *data, size_t len)
{
    enum { HEADER = 32, CHANGE = 16 + 2 * PO__FILE_NAME_BYTES };
    for (size_t at = HEADER; len >= CHANGE && at <= len - CHANGE;) {
        uint32_t bytes;
        uint64_t offset;
        memcpy(&bytes, data + at + 4, sizeof bytes);
        memcpy(&offset, data + at + 8, sizeof offset);
        offset %= 65536;
        memcpy(data + at + 8, &offset, sizeof offset);
        at += CHANGE + (((size_t)bytes + 7) & ~(size_t)7);
    }
}

void fuzz_mend(uint8_t *data, size_t len)
{
    struct po__fmt_head *h = (struct po__fmt_head *)(void *)data;
    uint64_t bytes = len;
    if (len < sizeof *h + sizeof bytes)
        return;
    memcpy(data + sizeof *h, &bytes, sizeof bytes);
    bound_offsets(data, len);
    po__fmt_seal(data, len, h->magic);
}

void fuzz_seeds(void)
{
    static const uint8_t bytes[100] = "new";
    for (unsigned kinds = 1; kinds < 32; kinds++) {
        struct po__buf b;
        struct po__disk_sim *m;
        struct po__disk *d = directory(&m);
        po__rewrite_begin(&b);
        if (kinds & 1)
            po__rewrite_add(&b, PO__REWRITE_RENAME, "wal-1", "wal-2", 0, NULL, 0);
        if (kinds & 2)
            po__rewrite_add(&b, PO__REWRITE_REMOVE, "wal-1", NULL, 0, NULL, 0);
        if (kinds & 4)
            po__rewrite_add(&b, PO__REWRITE_CREATE, "wal-3", NULL, 0, bytes, 37);
        if (kinds & 8)
            po__rewrite_add(&b, PO__REWRITE_WRITE, "meta", NULL, 64, bytes, sizeof bytes);
        if (kinds & 16)
            po__rewrite_add(&b, PO__REWRITE_WRITE, "meta", NULL, 0, bytes, 8);
        FUZZ_CHECK(po__rewrite_commit(d, &b) == 0); /* seals it */
        fuzz_seed(b.data, b.len);
        po__buf_fini(&b);
        d->ops->destroy(d);
        po__disk_sim_free(m);
    }
}
