/* The public forms of placements and of what else a task may ask for, as the model has them. */
#ifndef PO__API_PLACEMENT_H
#define PO__API_PLACEMENT_H

#include "call.h"

/* What a submission or a route borrows until it is encoded. */
struct po__demand {
    struct po__slice capability; /* without a range */
    struct po__buf placement;    /* encoded; released by po__demand_fini */
};

/* capability: "verb:name" or "verb:name@range"; placement may be NULL. 0 or PO_EINVAL, PO_ENOMEM
 * with a sentence for po_client_error; nothing is to be released then. */
int po__demand_read(struct po__demand *d, const char *capability,
                    const struct po_placement *placement);
void po__demand_fini(struct po__demand *d);

/* 0, or PO_EINVAL. */
int po__resources_read(struct po__resource *out, uint32_t *out_count,
                       const struct po_resource *resources, size_t count);

#endif
