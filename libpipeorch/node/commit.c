/* Group commit: everything that is staged when the loop turns goes into one log entry.
 *
 * Staged commands lie encoded, one after the other, in a buffer, with a ring of slots beside it
 * that says who waits for each. Proposing copies a run of them behind an entry header; the slots
 * travel with the proposal as its token and meet the results in apply, in the same order. While the
 * window of entries in flight is full, commands go on gathering: under load entries grow by
 * themselves, when idle a command leaves in the turn in which it came. */
#include "internal.h"

#include <pipeorch/error.h>

static int push_slot(struct po__stage *st, struct po__slot slot)
{
    if (st->count == st->cap) {
        uint32_t cap = st->cap ? st->cap * 2 : 64;
        struct po__slot *slots = po__malloc(cap * sizeof *slots);
        if (!slots)
            return PO_ENOMEM;
        for (uint32_t i = 0; i < st->count; i++)
            slots[i] = st->slots[(st->first + i) % st->cap];
        po__free(st->slots);
        st->slots = slots;
        st->cap = cap;
        st->first = 0;
    }
    st->slots[(st->first + st->count++) % st->cap] = slot;
    return 0;
}

/* Room for more? Also moves what is left to the front when the head has run far ahead. */
static int stage_ready(struct po__stage *st)
{
    if (st->count >= PO__STAGE_MAX_COUNT || st->bytes.len - st->head >= PO__STAGE_MAX_BYTES)
        return PO_EBUSY;
    if (st->head && (st->count == 0 || st->head >= st->bytes.len / 2)) {
        memmove(st->bytes.data, st->bytes.data + st->head, st->bytes.len - st->head);
        st->bytes.len -= st->head;
        st->head = 0;
    }
    return 0;
}

/* The command's bytes were appended at `start`: give them a slot, or take them back. */
static int stage_finish(struct po__stage *st, size_t start, struct po__call *call, uint32_t sub)
{
    int rv = st->bytes.err;
    if (rv == 0)
        rv = push_slot(st, (struct po__slot){call, sub, (uint32_t)(st->bytes.len - start),
                                             call && call->sent});
    if (rv) {
        st->bytes.len = start;
        st->bytes.err = 0;
        return rv;
    }
    if (call) {
        call->refs++;
        call->sent = true;
    }
    return 0;
}

bool po__stage_room(const struct po__node *n, uint32_t count, size_t bytes)
{
    const struct po__stage *st = &n->stage;
    return st->count == 0 || (st->count + count <= PO__STAGE_MAX_COUNT &&
                              st->bytes.len - st->head + bytes <= PO__STAGE_MAX_BYTES);
}

int po__stage_command(struct po__node *n, const struct po__cmd *cmd, struct po__call *call,
                      uint32_t sub)
{
    int rv = stage_ready(&n->stage);
    if (rv)
        return rv;
    size_t start = n->stage.bytes.len;
    po__cmd_encode(&n->stage.bytes, cmd);
    return stage_finish(&n->stage, start, call, sub);
}

int po__stage_bytes(struct po__node *n, struct po__slice encoded, struct po__call *call,
                    uint32_t sub)
{
    int rv = stage_ready(&n->stage);
    if (rv)
        return rv;
    size_t start = n->stage.bytes.len;
    po__buf_append(&n->stage.bytes, encoded.data, encoded.len);
    return stage_finish(&n->stage, start, call, sub);
}

uint64_t po__stamp_ms(struct po__node *n)
{
    uint64_t t = n->clock_base_ms + (po__node_now(n) - n->clock_base_mono);
    if (t > n->last_stamp_ms)
        n->last_stamp_ms = t;
    return n->last_stamp_ms;
}

/* How many staged commands make the next entry, and their bytes. */
static uint32_t next_run(const struct po__stage *st, size_t *bytes)
{
    uint32_t k = 0;
    *bytes = 0;
    while (k < st->count && k < PO__ENTRY_COMMANDS_MAX) {
        uint32_t len = st->slots[(st->first + k) % st->cap].len;
        if (k && *bytes + len > PO__ENTRY_TARGET_BYTES)
            break;
        *bytes += len;
        k++;
    }
    return k;
}

static int propose_run(struct po__node *n, uint32_t k, size_t bytes)
{
    struct po__stage *st = &n->stage;
    struct po__proposal p;
    struct po__batch *b = po__malloc(sizeof *b + k * sizeof *b->slots);
    if (!b)
        return PO_ENOMEM;
    int rv = po__proposal_alloc(&p, PO__ENTRY_HEADER_BYTES + bytes);
    if (rv)
        goto err_after_batch;
    struct po__buf entry = {.data = p.payload, .cap = p.cap, .max_bytes = p.cap};
    po__entry_begin(&entry, po__stamp_ms(n));
    po__buf_append(&entry, st->bytes.data + st->head, bytes);
    po__entry_finish(&entry, 0, k);
    PO_INVARIANT(entry.err == 0 && entry.data == p.payload);
    b->count = k;
    for (uint32_t i = 0; i < k; i++)
        b->slots[i] = st->slots[(st->first + i) % st->cap];
    po__list_push(&n->batches, &b->link);
    rv = po__replica_propose(n->replica, &p, entry.len, b, po__node_now(n));
    if (rv)
        goto err_after_proposal;
    st->first = (st->first + k) % st->cap;
    st->count -= k;
    st->head += bytes;
    return 0;

err_after_proposal:
    po__list_remove(&b->link);
    po__proposal_free(&p);
err_after_batch:
    po__free(b);
    return rv;
}

void po__stage_propose(struct po__node *n)
{
    while (n->ready && n->stage.count && !n->fault && n->handover.state == PO__HANDOVER_IDLE) {
        size_t bytes;
        uint32_t k = next_run(&n->stage, &bytes);
        int rv = propose_run(n, k, bytes);
        if (rv == 0)
            continue;
        if (rv != PO_EBUSY && rv != PO_ENOTLEADER)
            po__warn(&n->log, "node.propose",
                     "cannot propose an entry of %u commands: %s; they wait", k, po_strerror(rv));
        return; /* the window is full: they go with the next turn */
    }
}

void po__stage_drop(struct po__node *n)
{
    struct po__stage *st = &n->stage;
    for (; st->count; st->count--) {
        struct po__call *c = st->slots[st->first].call;
        bool sent_before = st->slots[st->first].sent;
        st->first = (st->first + 1) % st->cap;
        if (!c)
            continue;
        if (c->type == PO__REQ_COMMAND)
            c->sent = sent_before; /* this time it never left the stage */
        po__call_retry(n, c);
        po__call_unref(c);
    }
    st->head = st->bytes.len = 0;
    n->tick_staged = false;
}

void po__batch_answer(struct po__node *n, struct po__call *c)
{
    po__buf_reset(&n->body);
    po__mpw_array(&n->body, c->results_count);
    for (uint32_t i = 0; i < c->results_count; i++) {
        const struct po__batch_result *br = &c->results[i];
        po__mpw_array(&n->body, 4);
        po__mpw_int(&n->body, br->code);
        po__mpw_uint(&n->body, br->id);
        po__mpw_cstr(&n->body, br->message ? br->message : "");
        po__mpw_bin(&n->body, po__slice(br->data, br->len));
    }
    if (n->body.err)
        po__call_error(n, c, n->body.err, "the results do not fit into one answer");
    else
        po__call_answer(n, c, 0, "", c->index, po__buf_slice(&n->body), 1);
}

/* One outcome of a request that carries several. */
static void batch_result(struct po__node *n, struct po__call *c, uint32_t sub, uint64_t index,
                         const struct po__cmd_result *r)
{
    PO_INVARIANT(sub < c->results_count && c->pending > 0);
    struct po__batch_result *br = &c->results[sub];
    br->code = r->code;
    br->id = r->id;
    if (c->type == PO__REQ_BATCH) {
        if (r->code && r->message)
            br->message =
                po__strndup(r->message, strlen(r->message)); /* text only: none is no fault */
        if (r->data.len && (br->data = po__memdup(r->data.data, r->data.len)))
            br->len = r->data.len;
        else if (r->data.len)
            br->code = PO_ENOMEM;
    }
    c->index = index;
    if (--c->pending)
        return;
    if (c->type == PO__REQ_POLL)
        po__session_poll_done(n, c);
    else
        po__batch_answer(n, c);
}

static void give_result(struct po__node *n, const struct po__slot *s, uint64_t index,
                        const struct po__cmd_result *r)
{
    struct po__call *c = s->call;
    if (!c)
        return;
    if (!c->answered) {
        if (c->type == PO__REQ_BATCH || c->type == PO__REQ_POLL)
            batch_result(n, c, s->sub, index, r);
        else
            po__call_result(n, c, index, r);
    }
    po__call_unref(c);
}

static void act_on_effects(struct po__node *n)
{
    for (size_t i = 0; i < n->fx.count; i++) {
        const struct po__fx *fx = &n->fx.items[i];
        if (fx->type == PO__FX_TASK_FINISHED)
            po__read_finished(n, 1, fx->id);
        else if (fx->type == PO__FX_RUN_FINISHED)
            po__read_finished(n, 2, fx->id);
        else if (fx->type == PO__FX_MEMBER)
            po__members_recorded(n);
        else if (fx->type == PO__FX_SCHEDULE)
            po__schedules_effect(n, fx->id);
        else
            po__session_effect(n, fx);
    }
}

int po__commit_apply(struct po__node *n, uint64_t index, const void *data, size_t len,
                     struct po__batch *batch)
{
    struct po__entry_reader er;
    int rv = po__entry_open(&er, data, len), more = 0;
    uint32_t i = 0;
    bool leads = n->ready; /* the others only derive events */
    if (rv == 0)
        po__watch_entry(n, index, er.now_ms);
    while (rv == 0 && (more = po__entry_next(&er, &n->cmd)) == 1) {
        struct po__cmd_result r = {.message = ""};
        struct po__slot *s = batch && i < batch->count ? &batch->slots[i] : NULL;
        if (n->env.applying)
            n->env.applying(n->env.arg, index, &n->cmd);
        rv = po__model_apply(n->model, index, er.now_ms, &n->cmd, s && s->call ? &r : NULL, &n->fx);
        if (rv)
            break;
        if (n->cmd.type == PO__CMD_TICK)
            n->tick_staged = false;
        if (s)
            give_result(n, s, index, &r);
        i++;
    }
    if (rv == 0 && more < 0)
        rv = more;
    if (er.now_ms > n->last_stamp_ms)
        n->last_stamp_ms = er.now_ms;
    if (rv == 0) {
        PO_INVARIANT(!batch || i == batch->count);
        po__model_set_index(n->model, index);
        if (n->env.applied)
            n->env.applied(n->env.arg, index);
        po__watch_applied(n, index);
        if (leads)
            act_on_effects(n);
        n->fx.count = 0;
    } else {
        po__error(&n->log, "node.apply", "entry %llu cannot be applied: %s",
                  (unsigned long long)index, po_strerror(rv));
        for (; batch && i < batch->count; i++) /* the fault answers them */
            if (batch->slots[i].call)
                po__call_unref(batch->slots[i].call);
    }
    if (batch) {
        po__list_remove(&batch->link);
        po__free(batch);
    }
    return rv;
}

void po__commit_dropped(struct po__node *n, struct po__batch *batch)
{
    for (uint32_t i = 0; i < batch->count; i++) {
        struct po__call *c = batch->slots[i].call;
        if (!c)
            continue;
        if (c->type == PO__REQ_BATCH || c->type == PO__REQ_POLL)
            c->repeatable = c->repeatable &&
                            c->origin != PO__FROM_LOCAL; /* its other outcomes may still come */
        po__call_retry(n, c);
        po__call_unref(c);
    }
    po__list_remove(&batch->link);
    po__free(batch);
}
