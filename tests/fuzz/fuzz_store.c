/* Data directories: whatever lies on the disk, opening and recovering it ends, within bounded work
 * and memory, with a log that hangs together or with a refusal that left it as it was. What was
 * accepted reads the same a second time, and can be written to.
 *
 * An input is a flag byte and runs of bytes of some files; everything else in them is zero, as in
 * a real directory:
 *
 *   u8 file | u8 kind | u16 len | u32 offset | bytes      kind SIZE: the file's size, no bytes
 *
 * Checksums would hide from the mutations what lies behind them: with the flag FUZZ_MENDED they
 * are put right, inside out, before the directory is opened. */
#include "fuzz.h"

#include <pipeorch/error.h>
#include <sys/resource.h>

#include "base/alloc.h"
#include "base/crc32c.h"
#include "sim/disk_sim.h"
#include "storage/store.h"
#include "storage/store_format.h"

#define FUZZ_MENDED 1 /* in the flag byte */

#define FILES            9
#define FILE_BYTES_MAX   ((size_t)48 * 1024)
#define SEGMENT_BYTES    ((size_t)32 * 1024)
#define CELL_BYTES       16                  /* blank ones are not part of a run */
#define RUN_BYTES_MAX    1024                /* of a seed */
#define DISK_CALLS_MAX   3000                /* of one open and recovery */
#define ALLOCATIONS_MAX  2000                /* of one open and recovery */
#define MEMORY_BYTES_MAX ((size_t)512 << 20) /* address space of this process */

enum kind { BYTES, SIZE };

struct run {
    uint8_t file, kind;
    uint16_t len;
    uint32_t offset;
};

static const char *const names[FILES] = {
    "identity",
    "meta",
    "wal-0000000000000001",
    "wal-0000000000000002",
    "wal-0000000000000003",
    "wal-0000000000000004",
    "snap-0000000000000004-0000000000000002",
    "snap-0000000000000009-0000000000000003",
    "tmp-file",
};

static struct image {
    _Alignas(4096) uint8_t data[FILE_BYTES_MAX];
    size_t size; /* 0: no such file */
} images[FILES];

/* ---- the input to files ---- */

static void unpack(const uint8_t *data, size_t len)
{
    struct run r;
    for (unsigned i = 0; i < FILES; i++) {
        memset(images[i].data, 0, sizeof images[i].data);
        images[i].size = 0;
    }
    for (size_t at = 1; at + sizeof r <= len;) {
        memcpy(&r, data + at, sizeof r);
        at += sizeof r;
        struct image *im = &images[r.file % FILES];
        if (r.kind % 2 == SIZE) {
            im->size = r.offset % (FILE_BYTES_MAX + 1);
            continue;
        }
        size_t offset = r.offset % FILE_BYTES_MAX, n = r.len;
        n = n < len - at ? n : len - at;
        n = n < FILE_BYTES_MAX - offset ? n : FILE_BYTES_MAX - offset;
        memcpy(im->data + offset, data + at, n);
        at += n;
    }
    for (unsigned i = 0; i < FILES; i++) /* as a shorter file would be */
        memset(images[i].data + images[i].size, 0, FILE_BYTES_MAX - images[i].size);
}

static void mend_head(uint8_t *p, size_t bytes)
{
    struct po__fmt_head *h = (struct po__fmt_head *)(void *)p;
    size_t from = offsetof(struct po__fmt_head, version);
    h->crc = po__crc32c(0, p + from, bytes - from);
}

static void mend_batch(struct po__fmt_batch *b, size_t avail)
{
    if (b->magic != PO__MAGIC_BATCH || avail < sizeof *b || b->len > avail - sizeof *b)
        return;
    uint8_t *p = (uint8_t *)(b + 1);
    for (size_t at = 0; at + sizeof(struct po__rec) <= b->len;) {
        struct po__rec *r = (struct po__rec *)(void *)(p + at);
        if (PO__REC_BYTES(r->len) > b->len - at)
            break;
        po__rec_seal(r);
        at += PO__REC_BYTES(r->len);
    }
    po__fmt_batch_seal(b);
}

static void mend_snapshot(struct image *im)
{
    size_t least = PO__SNAPSHOT_HEADER_BYTES + 2 * PO__BLOCK_BYTES;
    if (im->size < least || im->size % PO__BLOCK_BYTES)
        return;
    struct po__fmt_frame *f =
        (struct po__fmt_frame *)(void *)(im->data + PO__SNAPSHOT_HEADER_BYTES);
    struct po__fmt_footer *ft =
        (struct po__fmt_footer *)(void *)(im->data + im->size - PO__BLOCK_BYTES);
    if (f->len <= im->size - least + PO__BLOCK_BYTES - sizeof *f) {
        size_t summed = sizeof *f - offsetof(struct po__fmt_frame, number) + f->len;
        f->crc = po__crc32c(0, &f->number, summed);
        ft->crc = po__crc32c(0, f + 1, f->len);
    }
    mend_head((uint8_t *)ft, PO__BLOCK_BYTES);
    mend_head(im->data, PO__SNAPSHOT_HEADER_BYTES);
}

static void mend(void)
{
    mend_head(images[0].data, PO__BLOCK_BYTES);
    for (size_t at = 0; at < 2 * PO__BLOCK_BYTES; at += PO__SECTOR_BYTES)
        mend_head(images[1].data + at, PO__SECTOR_BYTES);
    for (unsigned i = 2; i < 6; i++) {
        mend_head(images[i].data, PO__BLOCK_BYTES);
        for (size_t at = PO__BLOCK_BYTES; at + PO__BLOCK_BYTES <= images[i].size;
             at += PO__BLOCK_BYTES)
            mend_batch((struct po__fmt_batch *)(void *)(images[i].data + at), images[i].size - at);
    }
    mend_snapshot(&images[6]);
    mend_snapshot(&images[7]);
}

static struct po__disk_sim *make_disk(void)
{
    struct po__disk_sim *m = po__disk_sim_new(1);
    struct po__disk *d;
    po__disk_sim_attach(m, &d);
    for (unsigned i = 0; i < FILES; i++) {
        struct po__file *f;
        if (images[i].size == 0)
            continue;
        FUZZ_CHECK(d->ops->open(d, &f, names[i], PO__FILE_CREATE | PO__FILE_DURABLE) == 0);
        FUZZ_CHECK(d->ops->write(f, images[i].data, images[i].size, 0) == 0);
        d->ops->close(f);
    }
    FUZZ_CHECK(d->ops->sync_dir(d) == 0);
    d->ops->destroy(d);
    return m;
}

/* ---- files to a store ---- */

/* What a recovery gave. */
struct found {
    struct po__disk *disk;
    struct po__store *store;
    struct po__recovery recovery;
    uint64_t first, last; /* of the records; last 0: none */
    uint64_t term;        /* the last one's */
    uint32_t digest;
    unsigned faults;
};

static void on_fault(void *arg, int code, const char *message)
{
    (void)code, (void)message;
    ((struct found *)arg)->faults++;
}

static int on_record(void *arg, const struct po__rec *r)
{
    struct found *f = arg;
    FUZZ_CHECK(po__rec_check(r, PO__REC_BYTES(r->len)) == 0);
    FUZZ_CHECK(r->index > 0 && (f->last == 0 || r->index <= f->last + 1));
    if (f->last == 0 || r->index < f->first)
        f->first = r->index;
    f->last = r->index;
    f->term = r->term;
    f->digest = po__crc32c(f->digest, r, PO__REC_BYTES(r->len));
    return 0;
}

static int open_store(struct po__disk_sim *m, struct found *f)
{
    char error[512] = "";
    struct po__store_opts opts = {
        .segment_bytes = SEGMENT_BYTES, .segments_spare = 1, .fault = on_fault, .arg = f};
    uint64_t calls = po__disk_sim_calls(m);
    *f = (struct found){0};
    po__alloc_fail_at(UINT64_MAX); /* counts */
    po__disk_sim_attach(m, &f->disk);
    int rv = po__store_open(&f->store, f->disk, &opts, error, sizeof error);
    if (!rv)
        rv = po__store_recover(f->store, &f->recovery, on_record, f, error, sizeof error);
    FUZZ_CHECK(po__disk_sim_calls(m) - calls <= DISK_CALLS_MAX);
    FUZZ_CHECK(po__alloc_count() <= ALLOCATIONS_MAX);
    FUZZ_CHECK(rv == 0 || rv == PO_ECORRUPT || rv == PO_EVERSION || rv == PO_EIDENTITY ||
               rv == PO_ENOTBOOTSTRAPPED);
    FUZZ_CHECK((rv == 0) == (error[0] == '\0'));
    return rv;
}

static void poll_store(void *arg)
{
    po__store_poll(((struct found *)arg)->store);
}

static void close_store(struct found *f)
{
    po__store_close(f->store);
    f->store = NULL;
}

/* Nobody repairs what he does not understand. */
static void check_untouched(const struct po__disk_sim *m)
{
    for (unsigned i = 0; i < FILES; i++) {
        if (images[i].size == 0 || !strncmp(names[i], "tmp-", 4) || !strncmp(names[i], "snap-", 5))
            continue;
        FUZZ_CHECK(po__disk_sim_file_size(m, names[i]) == images[i].size);
        FUZZ_CHECK(!memcmp(po__disk_sim_file_data(m, names[i]), images[i].data, images[i].size));
    }
}

static void check_snapshot(struct found *f)
{
    static uint8_t data[FILE_BYTES_MAX];
    struct po__snapshot_reader *r;
    struct po__snapshot_meta meta;
    int rv = po__store_snapshot_open(f->store, &r, &meta);
    FUZZ_CHECK(rv == (f->recovery.snapshot.index ? 0 : PO_ENOTFOUND));
    if (rv)
        return;
    FUZZ_CHECK(meta.size_bytes <= sizeof data && meta.conf_len <= sizeof meta.conf);
    FUZZ_CHECK(po__store_snapshot_read(r, 0, data, (size_t)meta.size_bytes) == 0);
    FUZZ_CHECK(po__crc32c(0, data, (size_t)meta.size_bytes) == meta.crc);
    FUZZ_CHECK(po__store_snapshot_read(r, meta.size_bytes, data, 1) == PO_EINVAL);
    po__store_snapshot_close(r);
}

static void check_found(struct found *f)
{
    FUZZ_CHECK(f->recovery.first_index <= f->recovery.last_index + 1);
    if (f->last) {
        FUZZ_CHECK(f->recovery.last_index == f->last && f->recovery.first_index == f->first);
        FUZZ_CHECK(f->first <= f->recovery.snapshot.index + 1);
        FUZZ_CHECK(f->last >= f->recovery.snapshot.index);
    } else {
        FUZZ_CHECK(f->recovery.last_index == f->recovery.snapshot.index);
    }
    check_snapshot(f);
}

static void on_durable(void *arg, uint64_t token)
{
    *(uint64_t *)arg = token;
}

/* One more record. Terms never decrease in a log, and a forged meta may hold a lower one. */
static void go_on(struct found *f)
{
    uint64_t durable = 0, next = f->recovery.last_index + 1;
    uint64_t snapshot_term = f->recovery.snapshot.term;
    uint64_t term = f->term > snapshot_term ? f->term : snapshot_term;
    struct {
        struct po__rec rec;
        uint8_t payload[8];
    } one = {{.len = 8, .index = next, .term = term, .type = 1}, "payload"};
    po__rec_seal(&one.rec);
    FUZZ_CHECK(po__store_append(f->store, &one.rec, on_durable, &durable, next) == 0);
    po__store_flush(f->store);
    po__disk_sim_run(f->disk, poll_store, f);
    FUZZ_CHECK(durable == next && f->faults == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct found f, again;
    unpack(data, len);
    if (len && (data[0] & FUZZ_MENDED))
        mend();
    struct po__disk_sim *m = make_disk();
    int rv = open_store(m, &f);
    if (rv) {
        close_store(&f);
        if (rv != PO_ENOTBOOTSTRAPPED) /* which removes what an interrupted bootstrap left */
            check_untouched(m);
        po__disk_sim_free(m);
        return 0;
    }
    check_found(&f);
    close_store(&f);
    FUZZ_CHECK(open_store(m, &again) == 0);
    FUZZ_CHECK(again.digest == f.digest && again.recovery.last_index == f.recovery.last_index);
    FUZZ_CHECK(again.recovery.term == f.recovery.term && again.recovery.vote == f.recovery.vote);
    if (f.recovery.last_index < UINT64_MAX / 2) { /* beyond, no log gets in a lifetime */
        go_on(&again);
        close_store(&again);
        FUZZ_CHECK(open_store(m, &again) == 0);
        FUZZ_CHECK(again.recovery.last_index == f.recovery.last_index + 1);
    }
    close_store(&again);
    po__disk_sim_free(m);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    if (len)
        data[0] |= FUZZ_MENDED;
}

/* ---- seeds: a directory at several points of its life ---- */

static bool blank(const uint8_t *p)
{
    static const uint8_t zeros[CELL_BYTES];
    return !memcmp(p, zeros, CELL_BYTES);
}

static void pack_run(struct po__buf *b, uint8_t file, enum kind kind, size_t offset,
                     const uint8_t *bytes, size_t len)
{
    struct run r = {file, (uint8_t)kind, (uint16_t)len, (uint32_t)offset};
    FUZZ_CHECK(po__buf_append(b, &r, sizeof r) == 0);
    FUZZ_CHECK(len == 0 || po__buf_append(b, bytes, len) == 0);
}

static void pack_file(struct po__buf *b, uint8_t file, const uint8_t *data, size_t size)
{
    FUZZ_CHECK(size <= FILE_BYTES_MAX && size % CELL_BYTES == 0);
    pack_run(b, file, SIZE, size, NULL, 0);
    for (size_t at = 0, len; at < size; at += len ? len : CELL_BYTES) {
        for (len = 0; at + len < size && len < RUN_BYTES_MAX && !blank(data + at + len);)
            len += CELL_BYTES;
        if (len)
            pack_run(b, file, BYTES, at, data + at, len);
    }
}

static void pack(const struct po__disk_sim *m)
{
    struct po__buf b = {0};
    uint8_t flags = 0;
    FUZZ_CHECK(po__buf_append(&b, &flags, 1) == 0);
    for (uint8_t i = 0; i < FILES; i++)
        if (po__disk_sim_file_size(m, names[i]))
            pack_file(&b, i, po__disk_sim_file_data(m, names[i]),
                      po__disk_sim_file_size(m, names[i]));
    fuzz_seed(b.data, b.len);
    po__buf_fini(&b);
}

static void append(struct found *f, uint64_t index, uint64_t term, uint32_t len, bool write)
{
    struct po__rec *r = calloc(1, PO__REC_BYTES(len));
    uint64_t durable;
    FUZZ_CHECK(r);
    *r = (struct po__rec){.len = len, .index = index, .term = term, .type = 1};
    memset(r + 1, (int)(index + term), len);
    po__rec_seal(r);
    FUZZ_CHECK(po__store_append(f->store, r, on_durable, &durable, index) == 0);
    free(r);
    if (!write)
        return;
    po__store_flush(f->store);
    po__disk_sim_run(f->disk, poll_store, f);
}

static void snapshot(struct found *f, uint64_t index, uint64_t term, size_t len)
{
    static uint8_t data[8192];
    uint64_t done;
    struct po__snapshot_writer *w;
    struct po__snapshot_meta meta = {
        .index = index, .term = term, .conf_index = 1, .conf_len = 4, .conf = "conf"};
    memset(data, 's', sizeof data);
    FUZZ_CHECK(po__store_snapshot_begin(f->store, &w, &meta) == 0);
    FUZZ_CHECK(po__store_snapshot_write(w, data, len) == 0);
    FUZZ_CHECK(po__store_snapshot_finish(w, on_durable, &done) == 0);
    po__disk_sim_run(f->disk, poll_store, f);
}

static void new_store(struct po__disk_sim *m, struct found *f)
{
    static const struct po__identity id = {"cluster", "directory", 7, "cp-aws-1"};
    char error[512];
    struct po__store_opts opts = {.segment_bytes = SEGMENT_BYTES, .segments_spare = 1};
    *f = (struct found){0};
    po__disk_sim_attach(m, &f->disk);
    FUZZ_CHECK(po__store_open(&f->store, f->disk, &opts, error, sizeof error) == 0);
    FUZZ_CHECK(po__store_bootstrap(f->store, &id, 0, NULL) == 0);
    FUZZ_CHECK(po__store_recover(f->store, &f->recovery, on_record, f, error, sizeof error) == 0);
    po__disk_sim_run(f->disk, poll_store, f);
}

void fuzz_seeds(void)
{
    struct found f;
    struct po__disk_sim *m = po__disk_sim_new(1);
#ifndef __SANITIZE_ADDRESS__ /* which maps terabytes for itself, and refuses what is huge */
    struct rlimit memory = {MEMORY_BYTES_MAX, MEMORY_BYTES_MAX};
    FUZZ_CHECK(setrlimit(RLIMIT_AS, &memory) == 0);
#endif
    new_store(m, &f);
    pack(m);
    FUZZ_CHECK(po__store_set_vote(f.store, 2, 7) == 0);
    for (uint64_t i = 1; i <= 5; i++)
        append(&f, i, 2, (uint32_t)(8 * i), true);
    pack(m);
    snapshot(&f, 4, 2, 100);
    pack(m);
    FUZZ_CHECK(po__store_set_vote(f.store, 3, 8) == 0);
    for (uint64_t i = 4; i <= 9; i++) /* 4 and 5 again, three to a write, into the next segment */
        append(&f, i, 3, 30, i % 3 == 0);
    append(&f, 10, 3, 6000, true);
    append(&f, 11, 3, 10, true);
    pack(m);
    snapshot(&f, 9, 3, 5000);
    pack(m);
    po__store_reset_log(f.store, 10);
    append(&f, 10, 3, 10, true);
    append(&f, 11, 3, 50, true);
    pack(m);
    close_store(&f);
    po__disk_sim_free(m);
}
