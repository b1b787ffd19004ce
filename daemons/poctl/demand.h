/* What options of `task submit` ask for, as the library takes it. */
#ifndef PO_POCTL_DEMAND_H
#define PO_POCTL_DEMAND_H

#include "ctl.h"

/* Memory behind a po_task_opts; zeroed to begin with. */
struct demand {
    struct po_placement placement;
    struct po_label_wish labels[PO_PLACEMENT_LABELS_MAX];
    struct po_resource resources[PO_RESOURCES_MAX];
    char *labels_text, *resources_text; /* owned copies that the pointers above point into */
};

/* Fills task from the options, but for capability and input. EXIT_DONE, or EXIT_USAGE after saying
 * what was wrong with which option. demand_fini in any case. */
int demand_read(const struct ctl *ctl, struct demand *d, struct po_task_opts *task);
void demand_fini(struct demand *d);

#endif
