/* Operations of the control plane, recorded: any client of any process may be under them.
 *
 *   tasks     submitted under keys, again under the same keys, cancelled, looked at one by one and
 *             in lists
 *   registry  a few workers registered, deregistered and routed to by everyone at once */
#ifndef LINEAR_CONTROL_H
#define LINEAR_CONTROL_H

#include <pipeorch/pipeorch.h>

#include "record.h"

#define LINEAR_CAPABILITY "linear:work" /* of the tasks */
#define LINEAR_WORKERS    4             /* in the registry under test */

/* Before anything else; the client and the history are borrowed. One per process. */
void linear_control_init(po_client *client, struct linear_history *history, const char *name);

/* One operation. Any thread; `seen` is its own, zeroed at first. */
void linear_control_use(struct linear_random *r, uint64_t seen[LINEAR_WORKERS]);

/* Look at every worker and every recent task of this process. NULL, or what could not be read. */
const char *linear_control_look(uint64_t until_ns);

#endif
