/* What the files share that read a snapshot back. Inside of the model. */
#ifndef PO__RESTORE_H
#define PO__RESTORE_H

#include "impl.h"

#define PO__TASK_FIELDS 22 /* of a task's record in the first release, the section included */

/* Fields; errors are sticky in r. */
static inline uint64_t u64(struct po__mpr *r)
{
    return po__mpr_uint(r, UINT64_MAX);
}

static inline uint32_t u32(struct po__mpr *r)
{
    return (uint32_t)po__mpr_uint(r, UINT32_MAX);
}

static inline struct po__slice name(struct po__mpr *r)
{
    return po__mpr_str(r, PO_NAME_MAX_BYTES);
}

static inline struct po__slice key(struct po__mpr *r)
{
    return po__mpr_bin(r, PO_KEY_MAX_BYTES);
}

static inline struct po__slice payload(struct po__mpr *r)
{
    return po__mpr_str(r, PO_PAYLOAD_MAX_BYTES);
}

static inline struct po__slice error_text(struct po__mpr *r)
{
    return po__mpr_str(r, PO_ERROR_TEXT_MAX_BYTES + PO_NAME_MAX_BYTES + 64);
}

/* A text of its own; false: no memory. */
static inline bool own(struct po__slice *field, struct po__slice text)
{
    *field = po__slice(text.len ? po__strndup(text.data, text.len) : NULL, text.len);
    return text.len == 0 || field->data;
}

/* NULL for an absent one; *err is set if it is malformed or there is no memory. */
struct po__origin *po__restore_origin(struct po__model *m, struct po__mpr *r, int *err);

/* restore_tasks.c: what follows the key of a record. 0, PO_ECORRUPT, PO_ENOMEM. */
int po__restore_task(struct po__model *m, struct po__mpr *r, uint64_t id, uint32_t more);
int po__restore_gate(struct po__model *m, struct po__mpr *r, uint64_t number);

#endif
