/* Reading a snapshot back. Bytes come in pieces of any size; frames are put together here and
 * decoded when they are whole.
 *
 * Nothing in a snapshot is believed: records must come in the order that the writer has, fields
 * pass the same checks as commands, every reference must hold, and the finished state must satisfy
 * po__model_check. PO_ECORRUPT otherwise. */
#include "restore.h"

struct po__restore {
    struct po__buf pending; /* a frame that is not whole yet */
    struct po__buf app;
    struct po__cmd cmd; /* too big for the stack of who knows whom */
    uint32_t section;
    uint64_t last_key, records;
    uint64_t index;
    bool ended;
    int err;
};

#define FRAME_HEAD_BYTES 4

void po__restore_free(struct po__model *m)
{
    if (!m->restore)
        return;
    po__buf_fini(&m->restore->pending);
    po__buf_fini(&m->restore->app);
    po__free(m->restore);
    m->restore = NULL;
}

struct po__origin *po__restore_origin(struct po__model *m, struct po__mpr *r, int *err)
{
    struct po__slice id = name(r), zone = name(r);
    if (r->err || (id.len == 0 && zone.len == 0))
        return NULL;
    if (!po__name_ok(id) || !po__name_ok(zone)) {
        *err = PO_ECORRUPT;
        return NULL;
    }
    struct po__origin *o = po__origin_get(m, id, zone);
    if (!o)
        *err = PO_ENOMEM;
    return o;
}

/* ---- sections; each returns 0, PO_ECORRUPT, PO_ENOMEM ---- */

static int read_header(struct po__model *m, struct po__mpr *r)
{
    uint64_t format = u64(r);
    if (r->err)
        return PO_ECORRUPT;
    if (format != PO__SNAPSHOT_FORMAT)
        return PO_EVERSION;
    m->restore->index = u64(r);
    m->now_ms = u64(r);
    m->last_token = u64(r);
    m->next_worker = u64(r);
    m->next_task = u64(r);
    m->next_run = u64(r);
    m->next_def = u64(r);
    m->app_keys.first = m->app_keys.next = u64(r);
    uint64_t end = u64(r);
    if (end < m->app_keys.first || end - m->app_keys.first > PO__APP_KEYS_MAX)
        return PO_ECORRUPT;
    m->snap.app_keys_end = end; /* compared when all are there */
    return m->next_worker && m->next_task && m->next_run && m->next_def ? 0 : PO_ECORRUPT;
}

static int read_member(struct po__model *m, struct po__mpr *r, bool wish)
{
    struct po__cmd *cmd = &m->restore->cmd;
    cmd->type = PO__CMD_MEMBER;
    struct po__member_info i = {.node_id = m->restore->last_key};
    i.name = cmd->member.name = name(r);
    i.zone = cmd->member.zone = name(r);
    i.peer_address = cmd->member.peer_address = po__mpr_str(r, PO_ADDRESS_MAX_BYTES);
    i.worker_address = cmd->member.worker_address = po__mpr_str(r, PO_ADDRESS_MAX_BYTES);
    i.directory_id = cmd->member.directory_id = po__mpr_bin(r, PO__DIRECTORY_ID_BYTES);
    i.feature_level = u32(r);
    if (wish && ((i.wish = u32(r)) == 0 || i.wish >= PO__WISH_GONE))
        return PO_ECORRUPT;
    cmd->member.node_id = i.node_id;
    if (r->err || po__cmd_check(cmd, NULL, 0) || m->members.count >= PO_MEMBERS_MAX)
        return PO_ECORRUPT;
    struct po__member *mb = po__member_make(m, &i);
    if (!mb)
        return PO_ENOMEM;
    PO_INVARIANT(po__member_link(m, mb)); /* keys increase */
    return 0;
}

static int read_command(struct po__model *m, struct po__mpr *r, uint32_t type, uint32_t or_type)
{
    struct po__cmd *cmd = &m->restore->cmd;
    if (po__cmd_decode(r, cmd, true) || (cmd->type != type && cmd->type != or_type))
        return PO_ECORRUPT;
    int rv = po__cmd_check(cmd, NULL, 0);
    return rv == PO_ENOMEM ? rv : rv ? PO_ECORRUPT : 0;
}

static int read_worker(struct po__model *m, struct po__mpr *r)
{
    uint64_t number = m->restore->last_key;
    uint32_t status = (uint32_t)po__mpr_uint(r, PO_WORKER_DRAINING);
    uint64_t last_token = u64(r);
    if (read_command(m, r, PO__CMD_WORKER_REGISTER, PO__CMD_WORKER_REGISTER_MORE) ||
        status < PO_WORKER_ONLINE || number >= m->next_worker || last_token > m->last_token ||
        m->workers.count >= PO__WORKERS_MAX)
        return PO_ECORRUPT;
    struct po__worker *w = po__worker_make(m, number, &m->restore->cmd);
    if (!w)
        return PO_ENOMEM;
    w->status = status; /* its offers are linked when the leases are known */
    w->last_token = last_token;
    if (po__worker_link(m, w))
        return 0;
    po__worker_free(m, w);
    return PO_ECORRUPT;
}

static int read_def(struct po__model *m, struct po__mpr *r)
{
    uint64_t number = m->restore->last_key;
    bool current = po__mpr_bool(r);
    uint64_t defined_ms = u64(r);
    int rv = read_command(m, r, PO__CMD_PIPELINE_DEFINE, PO__CMD_PIPELINE_DEFINE_GRAPH);
    if (rv || number >= m->next_def)
        return rv ? rv : PO_ECORRUPT;
    struct po__def *d = po__def_make(m, number, &m->restore->cmd);
    if (!d)
        return PO_ENOMEM;
    d->defined_ms = defined_ms;
    if (po__def_link(m, d, current))
        return 0;
    po__def_free(m, d);
    return PO_ECORRUPT;
}

static int read_steps(struct po__model *m, struct po__mpr *r, struct po__run *run)
{
    int err = 0;
    uint32_t n = po__mpr_array(r, run->def->steps_count);
    for (uint32_t i = 0; i < n && !r->err && !err; i++) {
        struct po__step_run *s = &run->steps[run->started_count++];
        if (po__mpr_array(r, 8) != 8)
            po__mpr_fail(r);
        s->task_id = u64(r);
        s->state = (uint32_t)po__mpr_uint(r, PO_TASK_CANCELLED);
        s->attempts = u32(r);
        s->started_ms = u64(r);
        s->finished_ms = u64(r);
        s->origin = po__restore_origin(m, r, &err);
        if (!own(&s->error, error_text(r)))
            err = PO_ENOMEM;
    }
    return err ? err : r->err || n == 0 ? PO_ECORRUPT : 0;
}

/* What feature level 2 does not know stands at the end and is needed first: *rest is a cursor of
 * its own on it. r stands at the steps. */
static int read_run_head(struct po__mpr r, uint32_t more, struct po__run_spec *spec,
                         struct po__mpr *rest, uint32_t *reused_count, uint32_t *ending)
{
    *reused_count = *ending = 0;
    if (!more)
        return spec->def->graph ? PO_ECORRUPT : 0;
    po__mpr_skip(&r);
    int rv = po__restore_more_head(&r, spec, reused_count, ending);
    *rest = r;
    return rv;
}

static int read_run_rest(struct po__model *m, struct po__mpr *r, struct po__run *run,
                         struct po__mpr *rest, uint32_t more)
{
    int rv = 0;
    if (!run->def->graph)
        rv = read_steps(m, r, run);
    else if (po__mpr_array(r, 0) || r->err)
        rv = PO_ECORRUPT;
    if (rv || !more)
        return rv;
    if (!run->more || (run->more->ending && run->state != PO_RUN_RUNNING && !run->def->graph))
        return PO_ECORRUPT;
    rv = po__restore_more(m, rest, run);
    *r = *rest;
    return rv;
}

static int read_run(struct po__model *m, struct po__mpr *r, uint32_t more)
{
    struct po__run_spec spec = {.def = po__def_find(m, u64(r))};
    uint64_t id = m->restore->last_key;
    uint32_t state = (uint32_t)po__mpr_uint(r, PO_RUN_CANCELLED), reused_count, ending;
    uint64_t started_ms = u64(r), finished_ms = u64(r);
    struct po__mpr rest;
    spec.params = payload(r);
    spec.zone = name(r);
    spec.key = key(r);
    struct po__slice error = error_text(r);
    if (r->err || !spec.def || state < PO_RUN_RUNNING || id >= m->next_run ||
        (spec.zone.len && !po__name_ok(spec.zone)) ||
        read_run_head(*r, more, &spec, &rest, &reused_count, &ending))
        return PO_ECORRUPT;
    struct po__run *run = po__run_new(m, &spec);
    if (!run)
        return PO_ENOMEM;
    run->id = id;
    run->state = state;
    run->started_ms = started_ms;
    run->finished_ms = finished_ms;
    if (run->more) {
        run->more->reused_count = reused_count;
        run->more->ending = ending;
    }
    int rv = read_run_rest(m, r, run, &rest, more);
    if (!rv && !own(&run->error, error))
        rv = PO_ENOMEM;
    if (!rv && po__run_link(m, run)) {
        if (run->def->graph)
            po__graph_todo(m, run);
        return 0;
    }
    po__run_free(m, run);
    return rv ? rv : PO_ECORRUPT;
}

static int read_app_key(struct po__model *m, struct po__mpr *r)
{
    struct po__slice k = key(r), result = po__mpr_bin(r, PO_PAYLOAD_MAX_BYTES);
    if (r->err || k.len == 0 || m->restore->last_key != m->app_keys.next ||
        po__app_key_find(&m->app_keys, k) ||
        m->app_keys.bytes + result.len > PO__APP_KEYS_MAX_BYTES ||
        m->app_keys.next == m->snap.app_keys_end)
        return PO_ECORRUPT;
    return po__app_key_add(m, k, result);
}

static int read_app(struct po__model *m, struct po__mpr *r)
{
    struct po__slice s = po__mpr_bin(r, PO__SNAPSHOT_RECORD_MAX_BYTES);
    if (r->err)
        return PO_ECORRUPT;
    int rv = po__buf_append(&m->restore->app, s.data, s.len);
    return rv == PO_ETOOBIG ? PO_ECORRUPT : rv;
}

/* ---- frames ---- */

/* Number of fields of a record, the section included. */
static const uint8_t fields[PO__SECTIONS_COUNT] = {
    [PO__SECTION_HEADER] = 11,  [PO__SECTION_MEMBERS] = 8,    [PO__SECTION_WORKERS] = 5,
    [PO__SECTION_DEFS] = 5,     [PO__SECTION_RUNS] = 11,      [PO__SECTION_TASKS] = PO__TASK_FIELDS,
    [PO__SECTION_APP_KEYS] = 4, [PO__SECTION_APP] = 2,        [PO__SECTION_END] = 2,
    [PO__SECTION_GATES] = 9,    [PO__SECTION_SCHEDULES] = 12, [PO__SECTION_CACHE] = 8,
};

/* Trailing fields that are only there when they say something: what came after the first release.
 */
static const uint8_t optional[PO__SECTIONS_COUNT] = {
    [PO__SECTION_MEMBERS] = 1, /* a wish */
    [PO__SECTION_RUNS] = 1,    /* see graph_record.c */
    [PO__SECTION_TASKS] = 2,   /* the extra, and what attempts left behind */
};

/* The section may stay or go forward; the key, which every object has first, must grow within it.
 */
static int order(struct po__restore *rs, struct po__mpr *r, uint32_t section)
{
    bool first = rs->records == 0;
    if (rs->ended || (section == PO__SECTION_HEADER) != first ||
        po__section_rank(section) < po__section_rank(rs->section))
        return PO_ECORRUPT;
    bool same = section == rs->section;
    rs->section = section;
    if (!po__section_is_tree(section) && section != PO__SECTION_APP_KEYS)
        return 0;
    uint64_t k = u64(r);
    if (r->err || (same && k <= rs->last_key) || (k == 0 && section != PO__SECTION_APP_KEYS))
        return PO_ECORRUPT;
    rs->last_key = k;
    return 0;
}

/* more: how many optional fields there are. */
static int read_section(struct po__model *m, struct po__mpr *r, uint32_t section, uint32_t more)
{
    switch (section) {
    case PO__SECTION_HEADER:
        return read_header(m, r);
    case PO__SECTION_MEMBERS:
        return read_member(m, r, more > 0);
    case PO__SECTION_WORKERS:
        return read_worker(m, r);
    case PO__SECTION_DEFS:
        return read_def(m, r);
    case PO__SECTION_RUNS:
        return read_run(m, r, more);
    case PO__SECTION_TASKS:
        return po__restore_task(m, r, m->restore->last_key, more);
    case PO__SECTION_CACHE:
        return po__restore_cached(m, r, m->restore->last_key);
    case PO__SECTION_GATES:
        return po__restore_gate(m, r, m->restore->last_key);
    case PO__SECTION_SCHEDULES:
        return po__restore_schedule(m, r, m->restore->last_key, &m->restore->cmd);
    case PO__SECTION_APP_KEYS:
        return read_app_key(m, r);
    case PO__SECTION_APP:
        return read_app(m, r);
    default:
        m->restore->ended = true;
        return u64(r) == m->restore->records ? 0 : PO_ECORRUPT;
    }
}

static int read_record(struct po__model *m, const uint8_t *data, size_t len)
{
    struct po__restore *rs = m->restore;
    struct po__mpr r;
    po__mpr_init(&r, data, len);
    uint32_t n = po__mpr_array(&r, UINT8_MAX);
    uint32_t section = (uint32_t)po__mpr_uint(&r, UINT8_MAX);
    if (r.err || !po__section_rank(section))
        return PO_ECORRUPT;
    uint32_t more = n > fields[section] ? n - fields[section] : 0;
    if (n < fields[section] || more > optional[section]) /* of a header: another format, perhaps */
        return section == PO__SECTION_HEADER && n > 1 &&
                       po__mpr_uint(&r, UINT64_MAX) != PO__SNAPSHOT_FORMAT && !r.err
                   ? PO_EVERSION
                   : PO_ECORRUPT;
    int rv = order(rs, &r, section);
    rv = rv ? rv : read_section(m, &r, section, more);
    rv = rv ? rv : po__mpr_end(&r) ? PO_ECORRUPT : 0;
    rs->records++;
    return rv;
}

/* Reads the whole frames at the start of data; *used: their bytes. */
static int read_frames(struct po__model *m, const uint8_t *data, size_t len, size_t *used)
{
    *used = 0;
    while (len - *used >= FRAME_HEAD_BYTES) {
        const uint8_t *p = data + *used;
        size_t n = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        if (n > PO__SNAPSHOT_RECORD_MAX_BYTES)
            return PO_ECORRUPT;
        if (len - *used - FRAME_HEAD_BYTES < n)
            return 0;
        int rv = read_record(m, p + FRAME_HEAD_BYTES, n);
        if (rv)
            return rv;
        *used += FRAME_HEAD_BYTES + n;
    }
    return 0;
}

static int read_chunk(struct po__model *m, const void *data, size_t len)
{
    struct po__buf *b = &m->restore->pending;
    size_t used;
    if (po__buf_append(b, data, len))
        return b->err == PO_ENOMEM ? PO_ENOMEM : PO_ECORRUPT;
    int rv = read_frames(m, b->data, b->len, &used);
    if (used) {
        memmove(b->data, b->data + used, b->len - used);
        b->len -= used;
    }
    return rv;
}

int po__model_restore_chunk(struct po__model *m, const void *data, size_t len)
{
    PO_PRE(!m->snap.active);
    if (!m->restore) {
        PO_PRE(m->index == 0 && !m->tasks.root && !m->workers.root && !m->members.root &&
               !m->defs.root);
        m->restore = po__calloc(1, sizeof *m->restore);
        if (!m->restore)
            return PO_ENOMEM;
    }
    struct po__restore *rs = m->restore;
    if (!rs->err)
        rs->err = read_chunk(m, data, len);
    return rs->err;
}

/* ---- the end ---- */

static void link_workers(struct po__model *m)
{
    for (const struct po__worker *w = NULL; (w = po__model_worker_next(m, w));) {
        m->workers_online += w->status == PO_WORKER_ONLINE;
        po__offers_online((struct po__worker *)w);
        po__offers_link((struct po__worker *)w);
    }
    /* Pending tasks marked their capabilities: nothing was left to assign, as the check sees. */
    for (struct po__list *l; (l = po__list_pop(&m->dirty));) {
        struct po__capability *cap = po__container_of(l, struct po__capability, dirty);
        struct po__tree_node *n;
        while ((n = po__tree_first(&cap->waiting)))
            po__class_block(po__container_of(n, struct po__class, queue), true);
    }
}

static int restore_app(struct po__model *m)
{
    const struct po__buf *b = &m->restore->app;
    if (!m->sm || !m->sm->restore)
        return b->len ? PO_EFAULT : 0;
    return m->sm->restore(m->sm->arg, b->len ? b->data : NULL, b->len) ? PO_EFAULT : 0;
}

int po__model_restore_end(struct po__model *m)
{
    struct po__restore *rs = m->restore;
    if (!rs)
        return PO_ECORRUPT; /* nothing came */
    int rv = rs->err;
    if (!rv && (!rs->ended || rs->pending.len || m->app_keys.next != m->snap.app_keys_end))
        rv = PO_ECORRUPT;
    if (!rv) {
        link_workers(m);
        m->index = rs->index;
        char message[PO__MESSAGE_MAX_BYTES];
        rv = po__model_check(m, message, sizeof message) ? PO_ECORRUPT : 0;
    }
    rv = rv ? rv : restore_app(m);
    po__restore_free(m);
    m->snap.app_keys_end = 0;
    return rv;
}
