/* Snapshots while commands go on.
 *
 * A view is frozen by increasing snap.epoch. Each object carries the epoch in which the view had no
 * more interest in it: it was written, or it was saved just before its first change (po__touch), or
 * it is younger than the view. The writer walks the indexes in key order and, at each point, takes
 * the smaller of the next saved image and the next object that still has an older epoch. So the
 * bytes are those of an immediate snapshot at begin, the cost of a command grows by at most one
 * encoding of each object it changes, and the memory by the objects changed before their turn.
 *
 * Running out of memory while saving fails the snapshot, not the command: the next step reports it.
 *
 * Format: frames of a 32-bit big-endian length and a record (records.c), sections in the order of
 * their numbers, keys increasing within each. */
#include "impl.h"

#define APP_CHUNK_BYTES (64 * 1024)

struct image {
    struct po__tree_node node;
    uint32_t section;
    uint64_t key;
    size_t len;
    uint8_t record[];
};

static struct image *image_of(const struct po__tree_node *n)
{
    return n ? po__container_of(n, struct image, node) : NULL;
}

static int image_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    const struct image *x = image_of(a), *y = image_of(b);
    uint32_t a_rank = po__section_rank(x->section), b_rank = po__section_rank(y->section);
    int c = po__cmp_u64(a_rank, b_rank);
    return c ? c : po__cmp_u64(x->key, y->key);
}

static void drop_images(struct po__snap *s)
{
    struct image *i;
    while ((i = image_of(po__tree_first(&s->images)))) {
        po__tree_remove(&s->images, &i->node);
        po__free(i);
    }
}

static void fail(struct po__snap *s, int err)
{
    s->err = err;
    s->active = false;
    drop_images(s);
}

static void save(struct po__model *m, enum po__section section, uint64_t key, const void *object)
{
    struct po__buf b = {0};
    po__record(&b, section, object);
    struct image *i = b.err ? NULL : po__malloc(sizeof *i + b.len);
    if (!i) {
        fail(&m->snap, PO_ENOMEM);
    } else {
        i->section = section;
        i->key = key;
        i->len = b.len;
        memcpy(i->record, b.data, b.len);
        PO_INVARIANT(!po__tree_insert(&m->snap.images, &i->node, image_cmp));
    }
    po__buf_fini(&b);
}

void po__touch(struct po__model *m, enum po__section section, uint64_t key, uint32_t *epoch,
               const void *object)
{
    save(m, section, key, object);
    *epoch = m->snap.epoch;
}

/* These have no epoch: they never change, and the view is a range of them. */
void po__touch_app_key(struct po__model *m, const struct po__app_key *k)
{
    if (m->snap.active && k->seq >= m->snap.app_keys_next && k->seq < m->snap.app_keys_end)
        save(m, PO__SECTION_APP_KEYS, k->seq, k);
}

/* ---- writing ---- */

static size_t frame_begin(struct po__buf *out)
{
    po__buf_append(out, "\0\0\0\0", 4);
    return out->len;
}

static void frame_end(struct po__model *m, struct po__buf *out, size_t from)
{
    if (out->err)
        return;
    size_t len = out->len - from;
    PO_INVARIANT(len <= PO__SNAPSHOT_RECORD_MAX_BYTES);
    for (unsigned i = 0; i < 4; i++)
        out->data[from - 1 - i] = (uint8_t)(len >> (8 * i));
    m->snap.records++;
}

static void write_raw(struct po__model *m, struct po__buf *out, struct po__slice record)
{
    size_t from = frame_begin(out);
    po__mpw_raw(out, record);
    frame_end(m, out, from);
}

static void write_image(struct po__model *m, struct po__buf *out, struct image *i)
{
    write_raw(m, out, po__slice(i->record, i->len));
    m->snap.cursor = i->key;
    po__tree_remove(&m->snap.images, &i->node);
    po__free(i);
}

/* The object of the section at or behind n (in the tree of the section) that the view still wants.
 */
static void *wanted(struct po__model *m, struct po__tree_node *n, uint64_t *key, uint32_t **epoch)
{
    for (; n; n = po__tree_next(n)) {
        void *object = po__section_object(m->snap.section, n, key, epoch);
        if (**epoch != m->snap.epoch)
            return object;
    }
    return NULL;
}

/* One object of a section that is a tree. False: the section is complete. */
static bool write_object(struct po__model *m, struct po__buf *out, struct po__tree_node **at)
{
    struct po__snap *s = &m->snap;
    uint64_t key = 0;
    uint32_t *epoch = NULL;
    struct po__tree_node *from =
        *at ? po__tree_next(*at) : po__section_after(m, s->section, s->cursor);
    void *object = wanted(m, from, &key, &epoch);
    struct image *i = image_of(po__tree_first(&s->images));
    if (i && i->section == s->section && (!object || i->key < key)) {
        write_image(m, out, i);
        return true;
    }
    if (!object)
        return false;
    size_t begin = frame_begin(out);
    po__record(out, s->section, object);
    frame_end(m, out, begin);
    *epoch = s->epoch;
    s->cursor = key;
    *at = po__section_node(s->section, object);
    return true;
}

static bool write_app_key(struct po__model *m, struct po__buf *out)
{
    struct po__snap *s = &m->snap;
    if (s->app_keys_next == s->app_keys_end)
        return false;
    if (s->app_keys_next < m->app_keys.first) { /* evicted meanwhile */
        struct image *i = image_of(po__tree_first(&s->images));
        PO_INVARIANT(i && i->section == PO__SECTION_APP_KEYS && i->key == s->app_keys_next);
        write_image(m, out, i);
    } else {
        size_t begin = frame_begin(out);
        po__record(out, PO__SECTION_APP_KEYS, po__app_key_at(&m->app_keys, s->app_keys_next));
        frame_end(m, out, begin);
    }
    s->app_keys_next++;
    return true;
}

static bool write_app(struct po__model *m, struct po__buf *out)
{
    struct po__snap *s = &m->snap;
    size_t n = s->app.len - s->app_at;
    if (n == 0)
        return false;
    n = n < APP_CHUNK_BYTES ? n : APP_CHUNK_BYTES;
    size_t begin = frame_begin(out);
    po__mpw_array(out, 2);
    po__mpw_uint(out, PO__SECTION_APP);
    po__mpw_bin(out, po__slice(s->app.data + s->app_at, n));
    frame_end(m, out, begin);
    s->app_at += n;
    return true;
}

static void write_end(struct po__model *m, struct po__buf *out)
{
    uint64_t records = m->snap.records;
    size_t begin = frame_begin(out);
    po__mpw_array(out, 2);
    po__mpw_uint(out, PO__SECTION_END);
    po__mpw_uint(out, records);
    frame_end(m, out, begin);
}

static bool write_next(struct po__model *m, struct po__buf *out, struct po__tree_node **at)
{
    switch (m->snap.section) {
    case PO__SECTION_HEADER:
        write_raw(m, out, po__buf_slice(&m->snap.header));
        return false;
    case PO__SECTION_APP_KEYS:
        return write_app_key(m, out);
    case PO__SECTION_APP:
        return write_app(m, out);
    default:
        return write_object(m, out, at);
    }
}

static int write_app_state(void *arg, const void *data, size_t len)
{
    return po__buf_append(arg, data, len);
}

static int take_app_state(struct po__model *m, struct po__buf *b)
{
    if (!m->sm || !m->sm->snapshot)
        return 0;
    int rv = m->sm->snapshot(m->sm->arg, write_app_state, b);
    if (b->err)
        return b->err == PO_ENOMEM ? PO_ENOMEM : PO_EFAULT;
    return rv ? PO_EFAULT : 0;
}

int po__model_snapshot_begin(struct po__model *m)
{
    struct po__snap *s = &m->snap;
    PO_PRE(!s->active && !m->restore);
    po__model_snapshot_abort(m);
    po__record_header(&s->header, m);
    int rv = s->header.err ? PO_ENOMEM : take_app_state(m, &s->app);
    if (rv) {
        po__model_snapshot_abort(m);
        return rv;
    }
    s->epoch++;
    s->section = PO__SECTION_HEADER;
    s->cursor = 0;
    s->records = 0;
    s->app_at = 0;
    s->app_keys_next = m->app_keys.first;
    s->app_keys_end = m->app_keys.next;
    s->active = true;
    return 0;
}

int po__model_snapshot_step(struct po__model *m, struct po__buf *out, size_t budget_bytes)
{
    struct po__snap *s = &m->snap;
    size_t start = out->len;
    struct po__tree_node *at =
        NULL; /* the last node written; stands only as long as no command is applied */
    PO_PRE((s->active || s->err) && budget_bytes > 0);
    while (!s->err && !out->err && s->section != PO__SECTION_END) {
        if (out->len - start >= budget_bytes)
            return 0;
        if (!write_next(m, out, &at)) {
            s->section = po__section_next(s->section);
            s->cursor = 0;
            at = NULL;
        }
    }
    int err = s->err ? s->err : out->err;
    if (!err)
        write_end(m, out);
    err = err ? err : out->err;
    PO_INVARIANT(err || !s->images.root);
    po__model_snapshot_abort(m);
    return err ? err : 1;
}

void po__model_snapshot_abort(struct po__model *m)
{
    struct po__snap *s = &m->snap;
    drop_images(s);
    po__buf_fini(&s->header);
    po__buf_fini(&s->app);
    s->active = false;
    s->err = 0;
}

/* ---- digest ---- */

static void mix(uint64_t *h, struct po__slice bytes) /* FNV-1a */
{
    for (size_t i = 0; i < bytes.len; i++)
        *h = (*h ^ (uint8_t)bytes.data[i]) * UINT64_C(0x100000001b3);
}

static int mix_app_state(void *arg, const void *data, size_t len)
{
    mix(arg, po__slice(data, len));
    return 0;
}

static int mix_record(uint64_t *h, struct po__buf *b)
{
    mix(h, po__buf_slice(b));
    int err = b->err;
    po__buf_reset(b);
    return err;
}

/* Of the records rather than of the stream: it may be asked for while a snapshot is being written.
 */
int po__model_digest(struct po__model *m, uint64_t *digest)
{
    struct po__buf b = {0};
    uint64_t h = UINT64_C(0xcbf29ce484222325), key;
    uint32_t *epoch;
    po__record_header(&b, m);
    int rv = mix_record(&h, &b);
    for (uint32_t s = PO__SECTION_MEMBERS; po__section_is_tree(s) && !rv; s = po__section_next(s)) {
        for (struct po__tree_node *n = po__section_after(m, s, 0); n && !rv; n = po__tree_next(n)) {
            po__record(&b, s, po__section_object(s, n, &key, &epoch));
            rv = mix_record(&h, &b);
        }
    }
    for (uint64_t seq = m->app_keys.first; seq < m->app_keys.next && !rv; seq++) {
        po__record(&b, PO__SECTION_APP_KEYS, po__app_key_at(&m->app_keys, seq));
        rv = mix_record(&h, &b);
    }
    if (!rv && m->sm && m->sm->snapshot && m->sm->snapshot(m->sm->arg, mix_app_state, &h))
        rv = PO_EFAULT;
    po__buf_fini(&b);
    *digest = h;
    return rv;
}
