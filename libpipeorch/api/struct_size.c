/* Sizes of the public structs, for hosts that lay them out without a C compiler. */
#include <pipeorch/pipeorch.h>
#include <pipeorch/sim.h>
#include <string.h>

#define STRUCTS(X)                                                                                 \
    X(po_call_opts)                                                                                \
    X(po_capability)                                                                               \
    X(po_client_opts)                                                                              \
    X(po_grant)                                                                                    \
    X(po_label)                                                                                    \
    X(po_label_wish)                                                                               \
    X(po_log_event)                                                                                \
    X(po_log_opts)                                                                                 \
    X(po_member)                                                                                   \
    X(po_node_opts)                                                                                \
    X(po_node_status)                                                                              \
    X(po_placement)                                                                                \
    X(po_query)                                                                                    \
    X(po_queue_item)                                                                               \
    X(po_queue_opts)                                                                               \
    X(po_read_info)                                                                                \
    X(po_resource)                                                                                 \
    X(po_result)                                                                                   \
    X(po_route_info)                                                                               \
    X(po_route_opts)                                                                               \
    X(po_run_opts)                                                                                 \
    X(po_schedule_opts)                                                                            \
    X(po_sim_opts)                                                                                 \
    X(po_snapshot_restore_opts)                                                                    \
    X(po_snapshot_save_opts)                                                                       \
    X(po_state_machine)                                                                            \
    X(po_task_info)                                                                                \
    X(po_task_opts)                                                                                \
    X(po_watch_event)                                                                              \
    X(po_watch_opts)                                                                               \
    X(po_worker_info)                                                                              \
    X(po_worker_opts)

size_t po_struct_size(const char *name)
{
#define X(s)                                                                                       \
    if (name && strcmp(name, #s) == 0)                                                             \
        return sizeof(struct s);
    STRUCTS(X)
#undef X
    return 0;
}
