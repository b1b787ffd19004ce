/* Commands of scheduling for the fixture, written shortly: what a worker has and what a task asks
 * for are texts of words separated by blanks. */
#ifndef PO__TEST_SCHED_H
#define PO__TEST_SCHED_H

#include "fixture.h"

/* NULL texts are empty. */
struct host {
    const char *id, *zone;
    const char
        *caps; /* "a:x@1.2.0*3!": version 1.2.0, three slots, with a gpu; only the name is needed */
    const char *labels;    /* "disk=nvme" */
    const char *resources; /* "gpus=2" */
    uint32_t slots;
    uint64_t incarnation; /* 0: 1 */
};

struct wish {
    const char *range, *zone;
    const char *labels;    /* "k=v", "k!=v", "k" (must be there), "!k" */
    const char *resources; /* "gpus=1" */
    uint32_t gpu, prefer, priority;
    uint64_t run_at_ms, deadline_ms, keep_ms;
    uint32_t retry_ms, retry_max_ms;
    const char *gate;
    uint32_t gate_max, rate_max, rate_ms;
    /* of the task itself */
    const char *key, *near;
    uint32_t attempts_max, timeout_ms;
};

static inline struct po__slice text_of(const char *s)
{
    return po__str(s ? s : "");
}

/* The next word of *at; false: there is none. */
static inline bool next_word(const char **at, struct po__slice *word)
{
    if (!*at)
        return false;
    *at += strspn(*at, " ");
    *word = po__slice(*at, strcspn(*at, " "));
    *at += word->len;
    return word->len > 0;
}

/* Splits word at the first c; what is behind it, or empty. */
static inline struct po__slice split(struct po__slice *word, char c)
{
    const char *p = memchr(word->data, c, word->len);
    if (!p)
        return po__slice(NULL, 0);
    struct po__slice rest = po__slice(p + 1, word->len - (size_t)(p + 1 - word->data));
    word->len = (size_t)(p - word->data);
    return rest;
}

static inline uint32_t read_resources(struct po__resource *out, const char *text)
{
    uint32_t n = 0;
    struct po__slice word;
    while (next_word(&text, &word)) {
        struct po__slice amount = split(&word, '=');
        out[n++] = (struct po__resource){word, strtoull(amount.data, NULL, 10)};
    }
    return n;
}

static inline struct po__cap read_cap(struct po__slice word)
{
    struct po__cap c = {.max_concurrency = 1};
    if (word.data[word.len - 1] == '!') {
        c.requires_gpu = true;
        word.len--;
    }
    struct po__slice slots = split(&word, '*');
    if (slots.len)
        c.max_concurrency = (uint32_t)strtoul(slots.data, NULL, 10);
    c.version = split(&word, '@');
    c.name = word;
    return c;
}

static inline int do_host(struct world *w, const struct host *h)
{
    const char *at = h->caps;
    struct po__slice word;
    uint32_t n = 0;
    w->cmd.type = PO__CMD_WORKER_REGISTER_MORE;
    w->cmd.worker_register.id = po__str(h->id);
    w->cmd.worker_register.address = po__str("10.0.0.1:1");
    w->cmd.worker_register.zone = text_of(h->zone);
    w->cmd.worker_register.incarnation = h->incarnation ? h->incarnation : 1;
    w->cmd.worker_register.heartbeat_ms = 1000;
    while (next_word(&at, &word))
        w->cmd.worker_register.caps[n++] = read_cap(word);
    w->cmd.worker_register.caps_count = n;
    n = 0;
    for (at = h->labels; next_word(&at, &word); n++) {
        w->cmd.worker_register.label_values[n] = split(&word, '=');
        w->cmd.worker_register.label_keys[n] = word;
    }
    w->cmd.worker_register.labels_count = n;
    w->cmd.worker_register.resources_count =
        read_resources(w->cmd.worker_register.resources, h->resources);
    w->cmd.worker_register.slots = h->slots;
    return apply(w);
}

static inline struct po__label_wish read_label(struct po__slice word)
{
    struct po__label_wish l = {.op = PO__LABEL_PRESENT};
    if (word.data[0] == '!') {
        l.op = PO__LABEL_ABSENT;
        l.key = po__slice(word.data + 1, word.len - 1);
    } else if (memchr(word.data, '=', word.len)) {
        l.op = PO__LABEL_EQUAL;
        l.value = split(&word, '=');
        if (word.data[word.len - 1] == '!') {
            l.op = PO__LABEL_UNEQUAL;
            word.len--;
        }
        l.key = word;
    } else {
        l.key = word;
    }
    return l;
}

static inline void placement_of(struct po__placement *p, const struct wish *x)
{
    const char *at = x->labels;
    struct po__slice word;
    *p = (struct po__placement){
        .range = text_of(x->range), .zone = text_of(x->zone), .gpu = x->gpu, .prefer = x->prefer};
    while (next_word(&at, &word))
        p->labels[p->labels_count++] = read_label(word);
    p->resources_count = read_resources(p->resources, x->resources);
}

/* Both buffers outlive *e. */
static inline void encode_extra(struct po__buf *extra, struct po__buf *placement,
                                const struct wish *x)
{
    struct po__placement p;
    placement_of(&p, x);
    po__buf_reset(placement);
    po__placement_encode(placement, &p);
    const struct po__extra e = {.placement = po__buf_slice(placement),
                                .priority = x->priority,
                                .run_at_ms = x->run_at_ms,
                                .deadline_ms = x->deadline_ms,
                                .retry_ms = x->retry_ms,
                                .retry_max_ms = x->retry_max_ms,
                                .gate = text_of(x->gate),
                                .gate_max = x->gate_max,
                                .rate_max = x->rate_max,
                                .rate_ms = x->rate_ms,
                                .keep_ms = x->keep_ms};
    po__buf_reset(extra);
    po__extra_encode(extra, &e);
}

/* w->result.id is the task. */
static inline int do_wish_task(struct world *w, const char *cap, const struct wish *x)
{
    static const struct wish nothing;
    struct po__buf extra = {0}, placement = {0};
    x = x ? x : &nothing;
    encode_extra(&extra, &placement, x);
    w->cmd.type = PO__CMD_TASK_SUBMIT_MORE;
    w->cmd.submit.key = text_of(x->key);
    w->cmd.submit.capability = po__str(cap);
    w->cmd.submit.input = po__str("1");
    w->cmd.submit.zone = text_of(x->near);
    w->cmd.submit.attempts_max = x->attempts_max;
    w->cmd.submit.timeout_ms = x->timeout_ms;
    w->cmd.submit.extra = po__buf_slice(&extra);
    int rv = apply(w);
    po__buf_fini(&extra);
    po__buf_fini(&placement);
    return rv;
}

/* data NULL: none; progress above 1000: none. */
static inline int do_checkpoint(struct world *w, uint64_t id, uint64_t token, const char *worker,
                                uint32_t progress, const char *data, uint32_t extend_ms)
{
    w->cmd.type = PO__CMD_TASK_CHECKPOINT;
    w->cmd.checkpoint.task_id = id;
    w->cmd.checkpoint.token = token;
    w->cmd.checkpoint.worker_id = po__str(worker);
    w->cmd.checkpoint.progress = progress;
    w->cmd.checkpoint.has_data = data != NULL;
    w->cmd.checkpoint.data = text_of(data);
    w->cmd.checkpoint.extend_ms = extend_ms;
    return apply(w);
}

static inline int do_retry(struct world *w, uint64_t id)
{
    w->cmd.type = PO__CMD_TASK_RETRY;
    w->cmd.retry.task_id = id;
    return apply(w);
}

#endif
