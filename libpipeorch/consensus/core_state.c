/* What the core knows, in our own types; and the allocator that libraft is given. */
#include "core_impl.h"

#include <string.h>

#include <pipeorch/node.h>
#include "../base/assert.h"

/* ---- memory ---- */

static struct po__heap_functions heap_functions;

static void *heap_malloc(void *data, size_t size)
{
    (void)data;
    return heap_functions.malloc(size);
}
static void heap_free(void *data, void *ptr)
{
    (void)data;
    heap_functions.free(ptr);
}
static void *heap_calloc(void *data, size_t count, size_t size)
{
    (void)data;
    return heap_functions.calloc(count, size);
}
static void *heap_realloc(void *data, void *ptr, size_t size)
{
    (void)data;
    return heap_functions.realloc(ptr, size);
}
/* Only the library's file layer, which we do not use, asks for aligned memory. */
static void *heap_aligned_alloc(void *data, size_t alignment, size_t size)
{
    (void)data, (void)alignment, (void)size;
    PO_INVARIANT(!"aligned allocation is not used");
    return NULL;
}
static void heap_aligned_free(void *data, size_t alignment, void *ptr)
{
    (void)data, (void)alignment, (void)ptr;
    PO_INVARIANT(!"aligned allocation is not used");
}

void po__core_set_heap(const struct po__heap_functions *f)
{
    static struct raft_heap heap = {NULL,         heap_malloc,        heap_free,        heap_calloc,
                                    heap_realloc, heap_aligned_alloc, heap_aligned_free};
    heap_functions = *f;
    raft_heap_set(&heap);
}

/* ---- what it knows ---- */

int po__core_role(const struct po__core *c)
{
    if (c->dead)
        return PO_ROLE_STOPPED;
    return c->raft.state == RAFT_LEADER      ? PO_ROLE_LEADER
           : c->raft.state == RAFT_CANDIDATE ? PO_ROLE_CANDIDATE
                                             : PO_ROLE_FOLLOWER;
}

uint64_t po__core_leader(const struct po__core *c)
{
    if (c->dead)
        return 0;
    return c->raft.state == RAFT_LEADER     ? c->raft.id
           : c->raft.state == RAFT_FOLLOWER ? c->raft.follower_state.current_leader.id
                                            : 0;
}

uint64_t po__core_term(const struct po__core *c)
{
    return c->raft.current_term;
}

uint64_t po__core_vote(const struct po__core *c)
{
    return c->raft.voted_for;
}

uint64_t po__core_commit(const struct po__core *c)
{
    return c->commit;
}

uint64_t po__core_last(const struct po__core *c)
{
    return raft_last_index((struct raft *)&c->raft);
}

uint64_t po__core_stored(const struct po__core *c)
{
    return c->raft.last_stored;
}

void po__core_leader_gone(struct po__core *c, uint64_t id)
{
    c->gone = id;
}

uint64_t po__core_gone(const struct po__core *c)
{
    return c->gone;
}

bool po__core_installing(const struct po__core *c)
{
    return c->raft.snapshot.installing;
}

uint64_t po__core_uncommitted_conf(const struct po__core *c)
{
    return c->raft.configuration_uncommitted_index;
}

uint64_t po__core_match(const struct po__core *c, uint64_t id)
{
    raft_index match = 0;
    return raft_match_index(&c->raft, id, &match) == 0 ? match : 0;
}

enum po__catch_up po__core_catch_up_state(const struct po__core *c, uint64_t id)
{
    int status = RAFT_CATCH_UP_NONE;

    if (raft_catch_up(&c->raft, id, &status) != 0)
        return PO__CATCH_UP_NONE;
    return status == RAFT_CATCH_UP_RUNNING    ? PO__CATCH_UP_RUNNING
           : status == RAFT_CATCH_UP_ABORTED  ? PO__CATCH_UP_FAILED
           : status == RAFT_CATCH_UP_FINISHED ? PO__CATCH_UP_DONE
                                              : PO__CATCH_UP_NONE;
}

uint64_t po__core_transferee(const struct po__core *c)
{
    return raft_transferee(&c->raft);
}

void po__core_conf(const struct po__core *c, struct po__conf *conf)
{
    memset(conf, 0, sizeof *conf);
    for (unsigned i = 0; i < c->raft.configuration.n; i++) {
        const struct raft_server *s = &c->raft.configuration.servers[i];
        PO_INVARIANT(po__conf_add(conf, s->id, s->address, s->role) == 0);
    }
}

uint64_t po__core_deadline(const struct po__core *c)
{
    return c->dead ? UINT64_MAX : po__guard_timeout(raft_timeout(&c->raft), c->last_timeout_ms);
}

const char *po__core_error(const struct po__core *c)
{
    return c->error;
}
