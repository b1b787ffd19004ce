/* Placements and extras of tasks: their encoding, and what can be said about them without the
 * state.
 *
 *   placement  [range, zone, gpu, prefer, [[key, value, op], ...], {resource: amount}]
 *   extra      [] or [placement bytes, priority, run_at_ms, deadline_ms, retry_ms, retry_max_ms,
 *              gate, gate_max, rate_max, rate_ms, keep_ms] */
#include "command.h"

#include "../base/assert.h"
#include "refuse.h"

#define PLACEMENT_FIELDS    6
#define EXTRA_FIELDS        11
#define PLACEMENT_MAX_BYTES (16 * 1024)

bool po__placement_empty(const struct po__placement *p)
{
    return !p->range.len && !p->zone.len && !p->gpu && !p->prefer && !p->labels_count &&
           !p->resources_count;
}

/* At most PO_PLACEMENT_LABELS_MAX and PO_RESOURCES_MAX of them: insertion sort of indexes. */
static int label_cmp(const struct po__label_wish *a, const struct po__label_wish *b)
{
    int c = po__slice_cmp(a->key, b->key);
    c = c ? c : (a->op > b->op) - (a->op < b->op);
    return c ? c : po__slice_cmp(a->value, b->value);
}

static void encode_labels(struct po__buf *b, const struct po__placement *p)
{
    uint32_t order[PO_PLACEMENT_LABELS_MAX];
    for (uint32_t i = 0; i < p->labels_count; i++) {
        uint32_t at = i;
        for (; at > 0 && label_cmp(&p->labels[i], &p->labels[order[at - 1]]) < 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    po__mpw_array(b, p->labels_count);
    for (uint32_t i = 0; i < p->labels_count; i++) {
        const struct po__label_wish *l = &p->labels[order[i]];
        po__mpw_array(b, 3);
        po__mpw_str(b, l->key);
        po__mpw_str(b, l->value);
        po__mpw_uint(b, l->op);
    }
}

void po__resources_encode(struct po__buf *b, const struct po__resource *r, uint32_t count)
{
    uint32_t order[PO_RESOURCES_MAX];
    PO_PRE(count <= PO_RESOURCES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && po__slice_cmp(r[i].name, r[order[at - 1]].name) < 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    po__mpw_map(b, count);
    for (uint32_t i = 0; i < count; i++) {
        po__mpw_str(b, r[order[i]].name);
        po__mpw_uint(b, r[order[i]].amount);
    }
}

uint32_t po__resources_decode(struct po__mpr *r, struct po__resource *out)
{
    uint32_t count = po__mpr_map(r, PO_RESOURCES_MAX);
    for (uint32_t i = 0; i < count && !r->err; i++) {
        out[i].name = po__mpr_str(r, PO_NAME_MAX_BYTES);
        out[i].amount = po__mpr_uint(r, UINT64_MAX);
    }
    return r->err ? 0 : count;
}

void po__placement_encode(struct po__buf *b, const struct po__placement *p)
{
    PO_PRE(p->labels_count <= PO_PLACEMENT_LABELS_MAX);
    if (po__placement_empty(p))
        return;
    po__mpw_array(b, PLACEMENT_FIELDS);
    po__mpw_str(b, p->range);
    po__mpw_str(b, p->zone);
    po__mpw_uint(b, p->gpu);
    po__mpw_uint(b, p->prefer);
    encode_labels(b, p);
    po__resources_encode(b, p->resources, p->resources_count);
}

int po__placement_decode(struct po__slice bytes, struct po__placement *p)
{
    struct po__mpr r;
    *p = (struct po__placement){0};
    if (bytes.len == 0)
        return 0;
    po__mpr_init(&r, bytes.data, bytes.len);
    if (po__mpr_array(&r, PLACEMENT_FIELDS) != PLACEMENT_FIELDS)
        po__mpr_fail(&r);
    p->range = po__mpr_str(&r, PO_NAME_MAX_BYTES);
    p->zone = po__mpr_str(&r, PO_NAME_MAX_BYTES);
    p->gpu = (uint32_t)po__mpr_uint(&r, PO__GPU_FORBIDDEN);
    p->prefer = (uint32_t)po__mpr_uint(&r, PO__PREFER_LOCAL);
    uint32_t labels = po__mpr_array(&r, PO_PLACEMENT_LABELS_MAX);
    p->labels_count = labels;
    for (uint32_t i = 0; i < labels && !r.err; i++) {
        if (po__mpr_array(&r, 3) != 3)
            po__mpr_fail(&r);
        p->labels[i].key = po__mpr_str(&r, PO_NAME_MAX_BYTES);
        p->labels[i].value = po__mpr_str(&r, PO_NAME_MAX_BYTES);
        p->labels[i].op = (uint32_t)po__mpr_uint(&r, PO__LABEL_ABSENT);
    }
    p->resources_count = po__resources_decode(&r, p->resources);
    return po__mpr_end(&r);
}

static bool extra_empty(const struct po__extra *e)
{
    return !e->placement.len && !e->priority && !e->run_at_ms && !e->deadline_ms && !e->retry_ms &&
           !e->retry_max_ms && !e->gate.len && !e->gate_max && !e->rate_max && !e->rate_ms &&
           !e->keep_ms;
}

void po__extra_encode(struct po__buf *b, const struct po__extra *e)
{
    bool empty = extra_empty(e);
    po__mpw_array(b, empty ? 0 : EXTRA_FIELDS);
    if (empty)
        return;
    po__mpw_bin(b, e->placement);
    po__mpw_uint(b, e->priority);
    po__mpw_uint(b, e->run_at_ms);
    po__mpw_uint(b, e->deadline_ms);
    po__mpw_uint(b, e->retry_ms);
    po__mpw_uint(b, e->retry_max_ms);
    po__mpw_str(b, e->gate);
    po__mpw_uint(b, e->gate_max);
    po__mpw_uint(b, e->rate_max);
    po__mpw_uint(b, e->rate_ms);
    po__mpw_uint(b, e->keep_ms);
}

void po__extra_recode(struct po__buf *b, struct po__slice bytes)
{
    struct po__extra e;
    struct po__placement p;
    struct po__buf placement = {0};
    if (po__extra_decode(bytes, &e) || po__placement_decode(e.placement, &p)) {
        b->err = b->err ? b->err : PO_EPROTO;
        return;
    }
    po__placement_encode(&placement, &p);
    e.placement = po__buf_slice(&placement);
    po__extra_encode(b, &e);
    b->err = b->err ? b->err : placement.err;
    po__buf_fini(&placement);
}

int po__extra_decode(struct po__slice bytes, struct po__extra *e)
{
    struct po__mpr r;
    *e = (struct po__extra){0};
    po__mpr_init(&r, bytes.data, bytes.len);
    uint32_t n = po__mpr_array(&r, EXTRA_FIELDS);
    if (n == 0 && !r.err)
        return po__mpr_end(&r);
    if (n != EXTRA_FIELDS)
        po__mpr_fail(&r);
    e->placement = po__mpr_bin(&r, PLACEMENT_MAX_BYTES);
    e->priority = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    e->run_at_ms = po__mpr_uint(&r, UINT64_MAX);
    e->deadline_ms = po__mpr_uint(&r, UINT64_MAX);
    e->retry_ms = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    e->retry_max_ms = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    e->gate = po__mpr_str(&r, PO_NAME_MAX_BYTES);
    e->gate_max = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    e->rate_max = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    e->rate_ms = (uint32_t)po__mpr_uint(&r, UINT32_MAX);
    e->keep_ms = po__mpr_uint(&r, UINT64_MAX);
    struct po__placement p;
    if (!r.err && po__placement_decode(e->placement, &p))
        po__mpr_fail(&r);
    return po__mpr_end(&r);
}

/* ---- checks ---- */

int po__resources_check(const struct po__resource *r, uint32_t count, char *message,
                        size_t message_len)
{
    const struct po__refusal c = {message, message_len};
    if (count > PO_RESOURCES_MAX)
        return po__refuse(&c, PO_EINVAL, "%u resources are named; at most %d are allowed", count,
                          PO_RESOURCES_MAX);
    for (uint32_t i = 0; i < count; i++) {
        if (!po__name_ok(r[i].name))
            return po__refuse(
                &c, PO_EINVAL,
                "resource \"%.*s\" is not a name; expected cpu_milli, memory_bytes, gpus "
                "or another name of A-Z a-z 0-9 . _ -",
                PO__SHOWN(r[i].name));
        if (r[i].amount == 0 || r[i].amount > PO__RESOURCE_MAX)
            return po__refuse(&c, PO_EINVAL,
                              "resource \"%.*s\" has the amount %llu; expected 1..%llu",
                              PO__SHOWN(r[i].name), (unsigned long long)r[i].amount,
                              (unsigned long long)PO__RESOURCE_MAX);
        for (uint32_t k = 0; k < i; k++)
            if (po__slice_eq(r[i].name, r[k].name))
                return po__refuse(&c, PO_EINVAL, "resource \"%.*s\" is named twice",
                                  PO__SHOWN(r[i].name));
    }
    return 0;
}

static int check_label(const struct po__refusal *c, const struct po__label_wish *l)
{
    bool valued = l->op == PO__LABEL_EQUAL || l->op == PO__LABEL_UNEQUAL;
    if (l->key.len == 0 || l->key.len > PO__LABEL_MAX_BYTES || l->value.len > PO__LABEL_MAX_BYTES)
        return po__refuse(
            c, PO_EINVAL,
            "label \"%.*s\" of a placement is empty or too long; expected a key of 1..%d "
            "bytes and a value of at most as many",
            PO__SHOWN(l->key), PO__LABEL_MAX_BYTES);
    if (!valued && l->value.len)
        return po__refuse(c, PO_EINVAL,
                          "label \"%.*s\": whether it is there is asked, so no value may be given",
                          PO__SHOWN(l->key));
    return l->op <= PO__LABEL_ABSENT
               ? 0
               : po__refuse(c, PO_EINVAL, "label \"%.*s\": unknown operator %u", PO__SHOWN(l->key),
                            l->op);
}

int po__placement_check(const struct po__placement *p, char *message, size_t message_len)
{
    const struct po__refusal c = {message, message_len};
    if (!po__range_ok(p->range))
        return po__refuse(
            &c, PO_EINVAL,
            "\"%.*s\" is not a range of versions; expected such as \"1.2.3\", \"^1.2\", "
            "\"~1.2.3\" or \">=1.2 <2\"",
            PO__SHOWN(p->range));
    if (p->zone.len && !po__name_ok(p->zone))
        return po__refuse(&c, PO_EINVAL, "the required zone \"%.*s\" is not a name",
                          PO__SHOWN(p->zone));
    if (p->gpu > PO__GPU_FORBIDDEN || p->prefer > PO__PREFER_LOCAL)
        return po__refuse(&c, PO_EINVAL, "gpu is %u and prefer %u; expected 0..%d and 0..%d",
                          p->gpu, p->prefer, PO__GPU_FORBIDDEN, PO__PREFER_LOCAL);
    if (p->labels_count > PO_PLACEMENT_LABELS_MAX)
        return po__refuse(&c, PO_EINVAL, "%u labels are asked for; at most %d are allowed",
                          p->labels_count, PO_PLACEMENT_LABELS_MAX);
    for (uint32_t i = 0; i < p->labels_count; i++) {
        int rv = check_label(&c, &p->labels[i]);
        if (rv)
            return rv;
    }
    return po__resources_check(p->resources, p->resources_count, message, message_len);
}

static int check_gate(const struct po__refusal *c, const struct po__extra *e)
{
    if (e->gate.len == 0)
        return e->gate_max || e->rate_max || e->rate_ms
                   ? po__refuse(
                         c, PO_EINVAL,
                         "a limit of concurrency or rate is given, but no concurrency key that "
                         "it is for")
                   : 0;
    if (!po__name_ok(e->gate))
        return po__refuse(
            c, PO_EINVAL,
            "concurrency key \"%.*s\" is not a name; expected 1..%d characters of A-Z a-z "
            "0-9 . _ -",
            PO__SHOWN(e->gate), PO_NAME_MAX_BYTES);
    if (!e->gate_max && !e->rate_max)
        return po__refuse(
            c, PO_EINVAL,
            "concurrency key \"%.*s\" has no limit; give how many may run at a time, or "
            "a rate",
            PO__SHOWN(e->gate));
    if ((e->rate_max == 0) != (e->rate_ms == 0) || e->rate_max > PO__RATE_MAX ||
        e->rate_ms > PO__RATE_PERIOD_MAX_MS || e->rate_max > (uint64_t)e->rate_ms * 1000)
        return po__refuse(c, PO_EINVAL,
                          "the rate of key \"%.*s\" is %u per %u ms; expected 1..%d per 1..%d ms, "
                          "at most 1000 per ms, or both 0",
                          PO__SHOWN(e->gate), e->rate_max, e->rate_ms, PO__RATE_MAX,
                          PO__RATE_PERIOD_MAX_MS);
    return 0;
}

int po__extra_check(const struct po__extra *e, char *message, size_t message_len)
{
    const struct po__refusal c = {message, message_len};
    struct po__placement p;
    if (po__placement_decode(e->placement, &p))
        return po__refuse(&c, PO_EINVAL, "the placement cannot be read");
    int rv = po__placement_check(&p, message, message_len);
    if (rv)
        return rv;
    if (e->priority > PO_PRIORITY_MAX)
        return po__refuse(&c, PO_EINVAL, "priority is %u; expected 0..%d", e->priority,
                          PO_PRIORITY_MAX);
    if (e->run_at_ms > PO__TIME_MAX_MS || e->deadline_ms > PO__TIME_MAX_MS)
        return po__refuse(
            &c, PO_EINVAL,
            "run_at_ms or deadline_ms is out of range; expected milliseconds since 1970");
    if (e->deadline_ms && e->deadline_ms <= e->run_at_ms)
        return po__refuse(&c, PO_EINVAL,
                          "deadline_ms %llu is not behind run_at_ms %llu: it could never run",
                          (unsigned long long)e->deadline_ms, (unsigned long long)e->run_at_ms);
    if (e->retry_ms > PO__ATTEMPT_MAX_MS || e->retry_max_ms > PO__ATTEMPT_MAX_MS ||
        (e->retry_max_ms && e->retry_max_ms < e->retry_ms))
        return po__refuse(
            &c, PO_EINVAL,
            "retry_ms is %u and retry_max_ms %u; expected at most %d, the first not above "
            "the second",
            e->retry_ms, e->retry_max_ms, PO__ATTEMPT_MAX_MS);
    if (e->keep_ms > PO__KEEP_MAX_MS)
        return po__refuse(&c, PO_EINVAL, "keep_ms is %llu; expected 0..%llu",
                          (unsigned long long)e->keep_ms, (unsigned long long)PO__KEEP_MAX_MS);
    return check_gate(&c, e);
}
