/* Types shared by the public headers. SPDX-License-Identifier: MIT
 *
 * Option structs begin with `size_t size`: set it to sizeof the struct and zero the rest. They
 * grow only at the end; a library newer than its caller treats the missing tail as zero, and
 * zero always means "the documented default". */
#ifndef PIPEORCH_TYPES_H
#define PIPEORCH_TYPES_H

#include <stddef.h>
#include <stdint.h>

#include <pipeorch/error.h>
#include <pipeorch/version.h>

/* Limits. Everything the library queues, stores or sends is bounded; these are the bounds that
 * callers meet. */
#define PO_NAME_MAX_BYTES    128 /* names: nodes, workers, zones, pipelines, steps, capabilities */
#define PO_ADDRESS_MAX_BYTES 256 /* "host:port" */
#define PO_KEY_MAX_BYTES     64  /* idempotency keys */
/* Task input, result, application command, application result */
#define PO_PAYLOAD_MAX_BYTES (1024 * 1024)
#define PO_ERROR_TEXT_MAX_BYTES                                                                    \
    4096 /* error text of an attempt; longer text is cut, the start is kept */
#define PO_CAPABILITIES_MAX     64   /* capabilities of one worker */
#define PO_LABELS_MAX           32   /* labels of one worker */
#define PO_CONCURRENCY_MAX      1024 /* max_concurrency of one capability of one worker */
#define PO_STEPS_MAX            1024 /* steps of a pipeline */
#define PO_PRIORITY_MAX         9    /* of a task; higher goes first */
#define PO_RESOURCES_MAX        16   /* kinds of resources that a worker has or a task takes */
#define PO_PLACEMENT_LABELS_MAX 16   /* demands on labels of one task */
#define PO_CHECKPOINT_MAX_BYTES (256 * 1024) /* what an attempt leaves for the next one */
#define PO_TIMEOUT_MAX_MS       3600000      /* every timeout_ms of a call */
#define PO_MEMBERS_MAX          7            /* control nodes of a cluster */

/* Schedules: bytes of the cron expression and of the time zone's name, and how late a tick may
 * still be fired. */
#define PO_CRON_MAX_BYTES      256
#define PO_TIME_ZONE_MAX_BYTES 64
#define PO_CATCH_UP_MAX_MS     604800000
#define PO_CATCH_UP_DEFAULT_MS 3600000
#define PO_CATCH_UP_NONE       UINT32_MAX /* po_schedule_opts.catch_up_ms: not at all */

/* Log levels; an event is delivered if its level is not above the level asked for. */
#define PO_LOG_ERROR 1
#define PO_LOG_WARN  2
#define PO_LOG_INFO  3
#define PO_LOG_DEBUG 4

struct po_log_event {
    size_t size;         /* of this struct, as the library knows it */
    int level;           /* PO_LOG_* */
    uint64_t time_ms;    /* wall clock, Unix epoch */
    const char *id;      /* stable id of the kind of event, e.g. "raft.leader" */
    const char *name;    /* of the node, worker or client that speaks; may be NULL */
    const char *message; /* one line, no line break */
};

/* Called from any thread of the library, possibly from several at once; must not call back into
 * the library. The event is valid during the call only. */
typedef void (*po_log_cb)(void *arg, const struct po_log_event *event);

struct po_log_opts {
    po_log_cb cb; /* NULL: no logging */
    void *arg;
    int level; /* 0: PO_LOG_INFO */
};

/* Options of one call. NULL stands for all defaults. */
struct po_call_opts {
    size_t size;
    uint32_t timeout_ms; /* 1..PO_TIMEOUT_MAX_MS; 0: 10000. Bounds the wait, not the outcome (see
                            PO_EUNKNOWN) */
    const void *key; /* idempotency key of a mutating call, 1..PO_KEY_MAX_BYTES; NULL: one is drawn
                        for this call */
    size_t key_len;
};

/* Outcome of an asynchronous call; valid during the callback only. */
struct po_result {
    size_t size;
    int code;    /* 0 or PO_E* */
    uint64_t id; /* task id, run id; or 0 */
    uint64_t
        index; /* log index at which the call took effect, or whose state was read; 0 if none */
    const void *data; /* application result, or JSON text for queries; may be NULL */
    size_t len;
    const char *message;   /* for code != 0: what was wrong, where, what to do; never NULL */
    uint64_t term;         /* queries and stale reads: of the node that answered; else 0 */
    uint32_t staleness_ms; /* likewise: how old the state is at most; 0: linearizable */
};

/* Runs exactly once for each call that was accepted. On which thread: see the function that
 * takes it. Must not block. */
typedef void (*po_result_cb)(void *arg, const struct po_result *result);

/* Worker status. */
#define PO_WORKER_ONLINE   1
#define PO_WORKER_OFFLINE  2
#define PO_WORKER_DRAINING 3

/* Task state. */
#define PO_TASK_PENDING   1
#define PO_TASK_SCHEDULED 2 /* waits for its time or its retry */
#define PO_TASK_RUNNING   3
#define PO_TASK_SUCCEEDED 4
#define PO_TASK_FAILED    5
#define PO_TASK_CANCELLED 6

/* State of a step of a run: that of its task, or, of a step of a graph, also: */
#define PO_STEP_SKIPPED 7 /* it did not run, because of its condition or of the steps before it */

/* Run state. */
#define PO_RUN_RUNNING   1
#define PO_RUN_SUCCEEDED 2
#define PO_RUN_FAILED    3
#define PO_RUN_CANCELLED 4

/* What a schedule does with a tick while a run that it started is still under way. */
#define PO_OVERLAP_ALLOW 0 /* start another one */
#define PO_OVERLAP_SKIP                                                                            \
    1 /* none; the tick counts as skipped. Of the ten latest that ticks started */

/* One capability that a worker offers. Strings are borrowed for the call.
 *
 * The schemas are JSON Schema, draft 2020-12, a subset of it: type, enum, const; allOf, anyOf,
 * oneOf, not, if, then, else; $ref to "#" and "#/$defs/NAME", $defs; properties, required,
 * additionalProperties, propertyNames, minProperties, maxProperties, dependentRequired; items,
 * prefixItems, minItems, maxItems, uniqueItems, contains, minContains, maxContains; minimum,
 * maximum, exclusiveMinimum, exclusiveMaximum, multipleOf (exact, in decimal); minLength, maxLength
 * (in code points). title, description, default, examples, $comment, format, deprecated, readOnly,
 * writeOnly, contentMediaType and contentEncoding say nothing that is checked. A schema with
 * anything else is refused where it is registered.
 *
 * Since 0.2 they are enforced. A task is not accepted if its input breaks the input_schema of the
 * highest version among those that are registered and that the request allows; should it reach a
 * worker whose input_schema it breaks, it fails there, for good. A result that breaks the worker's
 * output_schema is not accepted from the handler (po_task_complete), and fails the attempt. Where
 * nobody is registered, or there is no schema, everything is allowed. */
struct po_capability {
    size_t size;
    const char *name;    /* "verb:name", each part [a-z0-9_.-]+, as "classify:image_category" */
    const char *version; /* semantic version "1.2.3"; NULL: "1.0.0" */
    const char *input_schema;  /* JSON Schema text; NULL or "": none */
    const char *output_schema; /* likewise */
    int requires_gpu;
    uint32_t max_concurrency; /* 1..PO_CONCURRENCY_MAX; 0: 1 */
};

struct po_label {
    const char *key;
    const char *value;
};

/* An amount of something countable that a worker has and tasks take while they run. Names are free;
 * by convention "cpu_milli" (thousandths of a processor), "memory_bytes", "gpus". Amounts are
 * 1..2^62. What is called alike is counted alike; nobody measures what tasks really use. */
struct po_resource {
    const char *name;
    uint64_t amount;
};

/* Demands on a worker's label. */
#define PO_LABEL_EQUAL   0 /* it has that value */
#define PO_LABEL_UNEQUAL 1 /* it has another value, or is missing */
#define PO_LABEL_PRESENT 2 /* it is there; value: NULL */
#define PO_LABEL_ABSENT  3 /* it is not there; value: NULL */
struct po_label_wish {
    const char *key;
    const char *value;
    int op; /* PO_LABEL_* */
};

#define PO_GPU_ANY       0
#define PO_GPU_REQUIRED  1 /* only where the capability requires a gpu */
#define PO_GPU_FORBIDDEN 2

/* Which of the workers that satisfy the demands a task would rather have. */
#define PO_PREFER_BALANCE 0 /* the least loaded; among equals one in the preferred zone */
#define PO_PREFER_SPREAD  1 /* the zone that runs the fewest tasks of the capability */
#define PO_PREFER_BINPACK 2 /* the most loaded one that has room */
#define PO_PREFER_LOCAL   3 /* the preferred zone while anybody there has room */

/* Where a task may run. Zeroed: anywhere. Strings and arrays are borrowed for the call. */
struct po_placement {
    size_t size;
    const char
        *version;     /* range of versions of the capability, as npm writes them: "^1.2", "~1.2.3",
                         ">=1.2 <2", "1.x || 2.1.0"; NULL: any. Also behind the capability's name,
                         "verb:name@^1.2" */
    const char *zone; /* only there; NULL: any */
    int gpu;          /* PO_GPU_* */
    int prefer;       /* PO_PREFER_* */
    const struct po_label_wish *labels;  /* all of them must hold */
    size_t labels_count;                 /* 0..PO_PLACEMENT_LABELS_MAX */
    const struct po_resource *resources; /* what it takes while it runs */
    size_t resources_count;              /* 0..PO_RESOURCES_MAX */
};

#endif
