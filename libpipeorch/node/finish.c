/* A node that is to end when its work is done takes no new work, and says why. What it has is
 * finished: workers answer, attempts are repeated, runs go on, callers cancel and wait.
 *
 * A submission that was accepted before may be repeated: its key is known, and it is told again
 * what became of it. A refusal would say that there is no such task. */
#include "internal.h"

#include <pipeorch/error.h>

struct finish_mail {
    struct po__mail mail;
    char why[PO__FINISH_REASON_MAX_BYTES + 1];
};

static void deliver(void *node, struct po__mail *mail)
{
    struct po__node *n = node;
    struct finish_mail *f = po__container_of(mail, struct finish_mail, mail);
    memcpy(n->finish_only, f->why, sizeof n->finish_only);
    po__free(f);
}

int po__node_finish_only(struct po__node *n, const char *why)
{
    struct finish_mail *f = po__calloc(1, sizeof *f);
    if (!f)
        return PO_ENOMEM;
    f->mail.deliver = deliver;
    snprintf(f->why, sizeof f->why, "%s", why);
    int rv = po__mailbox_post_always(&n->mailbox, &f->mail);
    if (rv)
        po__free(f);
    return rv;
}

bool po__finish_allows(const struct po__node *n, const struct po__cmd *cmd, const char **why)
{
    *why = n->finish_only;
    if (!n->finish_only[0])
        return true;
    switch (cmd->type) {
    case PO__CMD_WORKER_REGISTER:
    case PO__CMD_WORKER_REGISTER_MORE:
    case PO__CMD_WORKER_STATUS:
    case PO__CMD_WORKER_DEREGISTER:
    case PO__CMD_TASK_COMPLETE:
    case PO__CMD_TASK_FAIL:
    case PO__CMD_TASK_CANCEL:
    case PO__CMD_TASK_EXTEND:
    case PO__CMD_TASK_CHECKPOINT:
    case PO__CMD_RUN_CANCEL:
        return true;
    case PO__CMD_TASK_SUBMIT:
    case PO__CMD_TASK_SUBMIT_MORE:
        return po__model_task_by_key(n->model, cmd->submit.key) != NULL;
    case PO__CMD_RUN_START:
    case PO__CMD_RUN_START_MORE:
        return po__model_run_key_known(n->model, cmd->run_start.key);
    case PO__CMD_RUN_RESUME:
        return po__model_run_key_known(n->model, cmd->run_resume.key);
    default:
        return false;
    }
}
