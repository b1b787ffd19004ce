/* What a worker has, as the capabilities file says it:
 *
 *   "resources": {"cpu_milli": 2000, "memory_bytes": 8589934592, "gpus": 1, "licences": 3}
 *
 * and as people say it: "cpus": 2.5 is cpu_milli 2500, "memory": "8GiB" is memory_bytes; every
 * other name stands for itself. An amount is a whole number, or a text with KiB, MiB, GiB or TiB.
 */
#ifndef PO_WORKERD_RESOURCES_H
#define PO_WORKERD_RESOURCES_H

#include <pipeorch/types.h>
#include "spec/spec.h"

void resources_check(struct po__doc *d, json_t *resources); /* NULL: nothing to check */
/* What the check let pass; names live as long as `resources`. out: PO_RESOURCES_MAX. */
unsigned resources_build(struct po_resource *out, json_t *resources);

#endif
