/* Term and vote: two slots of one block, written in turn, each sector of a slot with the same
 * record (store_format.h). */
#include <stdio.h>
#include <string.h>

#include <pipeorch/error.h>
#include "store_internal.h"

#define META_NAME "meta"
#define SECTORS   (PO__BLOCK_BYTES / PO__SECTOR_BYTES)

static void fill_slot(struct po__store *s, uint64_t serial, uint64_t term, uint64_t vote)
{
    struct po__fmt_meta *m = (struct po__fmt_meta *)(void *)s->meta_block.data;
    memset(m, 0, PO__BLOCK_BYTES);
    m->serial = serial;
    m->term = term;
    m->vote = vote;
    po__fmt_seal(m, sizeof *m, PO__MAGIC_META);
    for (size_t i = 1; i < SECTORS; i++)
        m[i] = m[0];
}

static int write_slot(struct po__store *s, uint64_t term, uint64_t vote)
{
    uint64_t serial = s->meta_serial + 1;
    fill_slot(s, serial, term, vote);
    int rv =
        s->ops->write(s->meta, s->meta_block.data, PO__BLOCK_BYTES, (serial % 2) * PO__BLOCK_BYTES);
    if (rv)
        return rv;
    s->meta_serial = serial;
    s->term = term;
    s->vote = vote;
    return 0;
}

/* Called for a new directory. Both slots are written, so that from then on an invalid slot means
 * something. */
int po__meta_create(struct po__store *s, uint64_t term)
{
    const struct po__disk_ops *ops = s->ops;
    PO_PRE(!s->meta);
    int rv = ops->open(s->disk, &s->meta, META_NAME,
                       PO__FILE_CREATE | PO__FILE_DIRECT | PO__FILE_DURABLE);
    for (int i = 0; i < 2 && !rv; i++)
        rv = write_slot(s, term, 0);
    if (!rv)
        rv = ops->sync(s->meta);
    if (!rv)
        rv = ops->sync_dir(s->disk);
    return rv;
}

/* Take over what a slot says, if it is newer. Returns the number of its sound sectors, or
 * PO_EVERSION. */
static int judge_slot(struct po__store *s, bool *found)
{
    const struct po__fmt_meta *m = (const struct po__fmt_meta *)(const void *)s->meta_block.data;
    int good = 0;
    for (size_t i = 0; i < SECTORS; i++) {
        int rv = po__fmt_check(&m[i], sizeof m[i], PO__MAGIC_META);
        if (rv == PO_EVERSION)
            return rv;
        if (rv)
            continue;
        good++;
        if (!*found || m[i].serial > s->meta_serial) {
            *found = true;
            s->meta_serial = m[i].serial;
            s->term = m[i].term;
            s->vote = m[i].vote;
        }
    }
    return good;
}

int po__meta_open(struct po__store *s, char *error, size_t error_len)
{
    const struct po__disk_ops *ops = s->ops;
    uint64_t size = 0;
    bool found = false;
    int rv = 0;
    if (!s->meta)
        rv = ops->open(s->disk, &s->meta, META_NAME, PO__FILE_DIRECT | PO__FILE_DURABLE);
    if (!rv)
        rv = ops->size(s->meta, &size);
    if (rv == PO_ENOTFOUND) {
        snprintf(error, error_len,
                 "meta: missing; without the vote in it this node could vote "
                 "twice; rejoin the cluster as a new node");
        return PO_ECORRUPT;
    }
    if (rv)
        return po__store_open_error(s, rv, "opening meta", error, error_len);
    /* A killed process may have left a vote that is only in a cache; it is repeated to candidates
     * without being written again. */
    rv = ops->sync(s->meta);
    if (rv)
        return po__store_open_error(s, rv, "syncing meta", error, error_len);
    for (uint64_t slot = 0; slot < 2 && size >= (slot + 1) * PO__BLOCK_BYTES; slot++) {
        rv = ops->read(s->meta, s->meta_block.data, PO__BLOCK_BYTES, slot * PO__BLOCK_BYTES);
        if (rv)
            return po__store_open_error(s, rv, "reading meta", error, error_len);
        int good = judge_slot(s, &found);
        if (good < 0) {
            snprintf(error, error_len, "meta: a newer format version, this program knows up to %d",
                     PO__FORMAT_VERSION);
            return good;
        }
        if ((size_t)good < SECTORS)
            po__warn(&s->opts.log, "store.meta",
                     "meta: %d of %d sectors at offset %llu are damaged; the intact ones are used",
                     (int)SECTORS - good, (int)SECTORS,
                     (unsigned long long)(slot * PO__BLOCK_BYTES));
    }
    if (!found) {
        snprintf(error, error_len,
                 "meta: both slots are damaged (offsets 0 and %zu); without the "
                 "vote in it this node could vote twice; rejoin the cluster as a new node",
                 PO__BLOCK_BYTES);
        return PO_ECORRUPT;
    }
    return 0;
}

int po__store_set_vote(struct po__store *s, uint64_t term, uint64_t vote)
{
    if (s->broken)
        return s->broken;
    PO_PRE(s->recovered);
    if (term == s->term && vote == s->vote)
        return 0;
    int rv = write_slot(s, term, vote);
    return rv ? po__store_fail(s, rv, "writing term and vote") : 0;
}
