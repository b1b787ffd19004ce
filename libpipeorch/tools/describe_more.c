/* What tasks and workers may say beside the essentials (feature level 3), in readable form. Only
 * what was said is shown. */
#include "../model/command.h"
#include "out.h"

/* A map whose length is known when it is complete. */
struct fields {
    struct po__buf b;
    uint32_t count;
};

static void number(struct fields *f, const char *key, uint64_t v)
{
    if (!v)
        return;
    po__out_uint(&f->b, key, v);
    f->count++;
}

static void text(struct fields *f, const char *key, struct po__slice s)
{
    if (!s.len)
        return;
    po__out_text(&f->b, key, s);
    f->count++;
}

static void word(struct fields *f, const char *key, const char *const *words, uint32_t n,
                 uint32_t i)
{
    if (!i)
        return;
    po__out_cstr(&f->b, key, i < n ? words[i] : "unknown");
    f->count++;
}

static void finish(struct po__buf *out, struct fields *f)
{
    po__mpw_map(out, f->count);
    po__buf_append(out, f->b.data, f->b.len);
    if (f->b.err)
        out->err = f->b.err;
    po__buf_fini(&f->b);
}

void po__describe_resources(struct po__buf *b, const struct po__resource *r, uint32_t count)
{
    po__mpw_map(b, count);
    for (uint32_t i = 0; i < count; i++) {
        po__mpw_str(b, r[i].name);
        po__mpw_uint(b, r[i].amount);
    }
}

static void labels(struct po__buf *b, const struct po__placement *p)
{
    static const char *const ops[] = {"equal", "unequal", "present", "absent"};
    po__mpw_array(b, p->labels_count);
    for (uint32_t i = 0; i < p->labels_count; i++) {
        po__mpw_map(b, 3);
        po__out_text(b, "key", p->labels[i].key);
        po__out_cstr(b, "is", p->labels[i].op < 4 ? ops[p->labels[i].op] : "unknown");
        po__out_text(b, "value", p->labels[i].value);
    }
}

static void placement(struct po__buf *b, const struct po__placement *p)
{
    static const char *const gpu[] = {"any", "required", "forbidden"};
    static const char *const prefer[] = {"balance", "spread", "binpack", "local"};
    struct fields f = {0};
    text(&f, "version", p->range);
    text(&f, "zone", p->zone);
    word(&f, "gpu", gpu, 3, p->gpu);
    word(&f, "prefer", prefer, 4, p->prefer);
    if (p->labels_count) {
        po__mpw_cstr(&f.b, "labels");
        labels(&f.b, p);
        f.count++;
    }
    if (p->resources_count) {
        po__mpw_cstr(&f.b, "resources");
        po__describe_resources(&f.b, p->resources, p->resources_count);
        f.count++;
    }
    finish(b, &f);
}

void po__describe_extra(struct po__buf *b, struct po__slice encoded)
{
    struct po__extra e = {0};
    struct po__placement p = {0};
    struct fields f = {0};
    bool ok = po__extra_decode(encoded, &e) == 0 && po__placement_decode(e.placement, &p) == 0;
    if (!ok)
        text(&f, "problem", po__str("malformed"));
    if (ok && e.placement.len) {
        po__mpw_cstr(&f.b, "placement");
        placement(&f.b, &p);
        f.count++;
    }
    number(&f, "priority", e.priority);
    number(&f, "run_at_ms", e.run_at_ms);
    number(&f, "deadline_ms", e.deadline_ms);
    number(&f, "retry_ms", e.retry_ms);
    number(&f, "retry_max_ms", e.retry_max_ms);
    text(&f, "concurrency_key", e.gate);
    number(&f, "concurrency_max", e.gate_max);
    number(&f, "rate_max", e.rate_max);
    number(&f, "rate_ms", e.rate_ms);
    number(&f, "keep_ms", e.keep_ms);
    finish(b, &f);
}
