/* One validation: what its rules share. */
#ifndef PO__SCHEMA_RUN_H
#define PO__SCHEMA_RUN_H

#include "schema_internal.h"

struct po__schema_run {
    struct po__schema_refs refs;
    struct po__schema_error *e;
    uint64_t work;
    unsigned depth;
    unsigned quiet; /* a broken rule is an answer here, not the outcome: nothing is written down */
    int fault;      /* PO_ETOOBIG or PO_ENOMEM: whatever is returned no longer counts */
};

/* A rule is broken: false, and the error is written down if it is the outcome. */
#define PO__SCHEMA_FAIL(r, at, rule, ...)                                                          \
    ((r)->quiet || (r)->fault ? false : (po__schema_fail((r)->e, at, rule, __VA_ARGS__), false))

/* The first fault is the outcome. Returns false. */
bool po__schema_fault(struct po__schema_run *r, const struct po__where *at, int code);
/* Count work; false: a fault, there was too much. */
bool po__schema_take(struct po__schema_run *r, const struct po__where *at, size_t bytes);

/* A lookup in an object that goes on where the last one ended: values mostly have their members in
 * the order of their schema. */
struct po__schema_cursor {
    struct po__slice object;
    struct po__json_iter it;
};

bool po__schema_find(struct po__schema_run *r, struct po__schema_cursor *c, struct po__slice key,
                     struct po__slice *found, const struct po__where *at);

/* The rules that need no other schema; true for a keyword that is none of them. */
bool po__schema_assert(struct po__schema_run *r, const struct po__keyword_info *info,
                       struct po__slice rule, struct po__slice value, const struct po__where *at);

#endif
