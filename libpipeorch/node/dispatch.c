/* What a request asks for, and who serves it: this node if it leads, else the leader. */
#include "internal.h"

#include <pipeorch/error.h>

/* Commands that only the node itself may propose. */
static bool internal_only(const struct po__cmd *cmd)
{
    return cmd->type == PO__CMD_TICK || cmd->type == PO__CMD_MEMBER ||
           cmd->type == PO__CMD_MEMBER_WISH || cmd->type == PO__CMD_LEADER ||
           cmd->type == PO__CMD_SCHEDULE_FIRE;
}

/* Nothing enters the log that a member's program does not know; and what is known everywhere is
 * written in its present form, so that it has all that this form brings. */
static int fit_level(struct po__node *n, struct po__cmd *cmd, char *message, size_t message_len)
{
    uint32_t needed = po__cmd_level(cmd->type);
    if (!po__level_reached(n, needed)) {
        snprintf(message, message_len,
                 "this needs feature level %u, and a member of the cluster runs an older program; "
                 "upgrade all control nodes first",
                 needed);
        return PO_EVERSION;
    }
    if (cmd->type == PO__CMD_TASK_SUBMIT && po__level_reached(n, PO__LEVEL_ORCHESTRATION)) {
        cmd->type = PO__CMD_TASK_SUBMIT_MORE;
        cmd->submit.extra = po__str("\x90"); /* the empty array: all defaults */
    }
    return 0;
}

/* Decode, check and stage one command of a request. *message is set for an error that is the
 * caller's. */
static int stage_one(struct po__node *n, struct po__call *c, struct po__mpr *r, uint32_t sub,
                     char *message, size_t message_len)
{
    int rv = po__cmd_decode(r, &n->cmd, false);
    if (rv) {
        snprintf(message, message_len, "the command cannot be read: %s", po_strerror(rv));
        return rv;
    }
    rv = po__cmd_check(&n->cmd, message, message_len);
    if (rv)
        return rv;
    if (internal_only(&n->cmd)) {
        snprintf(message, message_len, "command type %u is the nodes' own", n->cmd.type);
        return PO_EREFUSED;
    }
    if (n->cmd.type == PO__CMD_APP && !n->app.sm) {
        snprintf(message, message_len, "this cluster's nodes have no application state machine");
        return PO_EREFUSED;
    }
    const char *why;
    if (!po__finish_allows(n, &n->cmd, &why)) {
        snprintf(message, message_len, "%s", why);
        return PO_EREFUSED;
    }
    rv = fit_level(n, &n->cmd, message, message_len);
    if (!rv && n->cmd.type == PO__CMD_SCHEDULE_DEFINE)
        rv = po__schedule_check(n, &n->cmd, message, message_len);
    if (!rv)
        rv = po__schemas_enforce(n, &n->cmd, message, message_len);
    if (rv)
        return rv;
    if (n->cmd.type == PO__CMD_SCHEDULE_DEFINE || n->cmd.type == PO__CMD_SCHEDULE_CHANGE)
        po__schedules_tick(n); /* what was due before it comes before it in the log, too */
    rv = po__stage_command(n, &n->cmd, c, sub);
    if (rv)
        snprintf(message, message_len, "%s", po_strerror(rv));
    return rv;
}

static void serve_command(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    char message[PO__SENTENCE_MAX_BYTES] = "";
    struct po__mpr r;
    po__mpr_init(&r, req->body.data, req->body.len);
    int rv = stage_one(n, c, &r, 0, message, sizeof message);
    if (rv)
        po__call_error(n, c, rv, message);
}

/* A command of a batch that was refused before it entered the log: its outcome is known at once. */
static void refuse_one(struct po__call *c, uint32_t sub, int code, const char *message)
{
    struct po__batch_result *br = &c->results[sub];
    br->code = c->uncertain && code == PO_ENOMEM ? PO_EUNKNOWN : code;
    br->message = po__strndup(message, strlen(message));
    c->pending--;
}

static int begin_results(struct po__call *c, uint32_t count)
{
    c->results = po__calloc(count, sizeof *c->results);
    if (!c->results)
        return PO_ENOMEM;
    c->results_count = c->pending = count;
    return 0;
}

static void serve_batch(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    struct po__mpr r;
    po__mpr_init(&r, req->body.data, req->body.len);
    uint32_t count = po__mpr_array(&r, PO__BATCH_MAX);
    if (r.err || count == 0) {
        po__call_error(n, c, PO_EPROTO, "a batch is an array of 1 to 1024 commands");
        return;
    }
    /* All or none: refused as a whole, an earlier try of the same batch is not forgotten. */
    if (!po__stage_room(n, count, req->body.len)) {
        po__call_error(n, c, PO_EBUSY, "the leader has too many commands waiting; retry later");
        return;
    }
    if (begin_results(c, count)) {
        po__call_error(n, c, PO_ENOMEM, NULL);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        char message[PO__SENTENCE_MAX_BYTES] = "";
        struct po__slice raw = po__mpr_raw(&r);
        struct po__mpr one;
        po__mpr_init(&one, raw.data, raw.len);
        int rv = r.err ? r.err : stage_one(n, c, &one, i, message, sizeof message);
        if (rv)
            refuse_one(c, i, rv, message);
    }
    if (c->pending == 0)
        po__batch_answer(n, c); /* every one was refused */
}

static void serve(struct po__node *n, struct po__call *c, const struct po__request *req)
{
    switch (req->type) {
    case PO__REQ_COMMAND:
        serve_command(n, c, req);
        break;
    case PO__REQ_BATCH:
        serve_batch(n, c, req);
        break;
    case PO__REQ_QUERY:
        po__read_query(n, c, req);
        break;
    case PO__REQ_WAIT:
        po__read_wait(n, c, req);
        break;
    case PO__REQ_BARRIER:
        po__read_barrier(n, c);
        break;
    case PO__REQ_MEMBER:
        po__members_request(n, c, req);
        break;
    case PO__REQ_SNAPSHOT:
        po__stream_request(n, c, req);
        break;
    case PO__REQ_WATCH:
        po__watch_request(n, c, req);
        break;
    case PO__REQ_HEARTBEAT:
        po__session_heartbeat(n, c, req);
        break;
    case PO__REQ_POLL:
        po__session_poll(n, c, req);
        break;
    default:
        po__call_error(n, c, PO_EVERSION,
                       "unknown request type; is the client newer than this node?");
    }
}

/* This node does not lead: who is to be asked instead? */
static void redirect(struct po__node *n, struct po__call *c)
{
    if (c->origin == PO__FROM_APPLY || c->origin == PO__FROM_LOCAL)
        po__forward(n, c);
    else if (n->role == PO_ROLE_LEADER) /* elected, not ready yet: a matter of one commit */
        po__list_push(&n->leaderless, &c->link);
    else if (n->leader_id)
        po__call_error(n, c, PO_ENOTLEADER, "this node is not the leader");
    else
        po__call_error(n, c, PO_ENOLEADER, "no leader is known at the moment");
}

void po__dispatch(struct po__node *n, struct po__call *c)
{
    struct po__request req;
    if (n->fault) {
        po__call_error(n, c, PO_EFAULT, n->fault_message);
        return;
    }
    if (c->stale_ms) {
        po__stale_read(n, c);
        return;
    }
    if (!n->ready) {
        redirect(n, c);
        return;
    }
    if (c->origin == PO__FROM_APPLY && c->type == PO__REQ_COMMAND && c->keyed.len == 0) {
        int rv =
            po__stage_bytes(n, po__slice(c->data, c->len), c, 0); /* encoded by po__node_apply */
        if (rv)
            po__call_error(n, c, rv, NULL);
        return;
    }
    const void *data = c->keyed.len ? c->keyed.data : c->data;
    size_t len = c->keyed.len ? c->keyed.len : c->len;
    int rv = po__request_decode(data, len, &req);
    if (rv)
        po__call_error(n, c, rv, "the request cannot be read");
    else
        serve(n, c, &req);
}
