/* Commands of the replicated state machine: what a log entry carries and what clients ask for.
 *
 * One encoding serves both: a client encodes a command, the leader decodes, checks and
 * re-encodes it (canonical bytes) into the entry, every node decodes it in apply. On the wire
 * and in the log a command is the msgpack array [type, fields...] in the order of the struct
 * below. A reader skips extra trailing fields on the wire (strict = false); in the log (strict =
 * true) an unknown type or a wrong count is PO_EVERSION and stops the node. Type numbers are
 * frozen.
 *
 * An entry is [PO__ENTRY_FORMAT, now_ms, [command, ...]]; see the entry functions below. Slices
 * are borrowed.
 *
 * Strings are msgpack str (UTF-8, no NUL); idempotency keys, the directory id and application
 * data are bin; labels are a map with sorted keys. */
#ifndef PO__COMMAND_H
#define PO__COMMAND_H

#include <pipeorch/types.h>
#include "../codec/mp.h"
#include "graph.h"

#define PO__DIRECTORY_ID_BYTES   16
#define PO__SCHEMA_MAX_BYTES     (64 * 1024)       /* each JSON schema of a capability */
#define PO__LABEL_MAX_BYTES      PO_NAME_MAX_BYTES /* key, and value, of a label */
#define PO__ATTEMPTS_MAX         100
#define PO__ATTEMPT_MIN_MS       100 /* timeout of an attempt, and extension of a lease */
#define PO__ATTEMPT_MAX_MS       86400000
#define PO__HEARTBEAT_MIN_MS     100
#define PO__HEARTBEAT_MAX_MS     60000
#define PO__HEARTBEAT_DEFAULT_MS 5000
#define PO__ENTRY_FORMAT         1
#define PO__ENTRY_COMMANDS_MAX   65536
#define PO__COMMAND_MAX_BYTES    (PO_PAYLOAD_MAX_BYTES + 16 * 1024)
#define PO__PIPELINE_MAX_BYTES   (512 * 1024)          /* an encoded pipeline definition */
#define PO__KEEP_MAX_MS          UINT64_C(31622400000) /* how long a result may be asked to be kept */
#define PO__SLOTS_MAX            (PO_CAPABILITIES_MAX * PO_CONCURRENCY_MAX) /* of one worker */
#define PO__RESOURCE_MAX         (UINT64_C(1) << 62) /* amount of one resource */
#define PO__RATE_MAX             1000000             /* starts of one key in one period */
#define PO__RATE_PERIOD_MAX_MS   86400000
#define PO__TIME_MAX_MS          (UINT64_C(1) << 53) /* points in time that a caller names */
/* Group commit closes an entry at this size; one larger command goes alone */
#define PO__ENTRY_TARGET_BYTES (128 * 1024)

/* Params of the runs that a schedule starts */
#define PO__SCHEDULE_PARAMS_MAX_BYTES (64 * 1024)

/* Feature levels (node/levels.c) of commands beyond the first ones. */
#define PO__LEVEL_WISHES        2
#define PO__LEVEL_ORCHESTRATION 3

enum po__cmd_type {
    PO__CMD_TICK = 1,
    PO__CMD_MEMBER = 2,
    PO__CMD_MEMBER_WISH = 3, /* feature level 2 */
    PO__CMD_LEADER = 4,      /* feature level 3: who leads from here on; changes nothing */
    PO__CMD_WORKER_REGISTER = 10,
    PO__CMD_WORKER_STATUS = 11,
    PO__CMD_WORKER_DEREGISTER = 12,
    PO__CMD_WORKER_REGISTER_MORE = 13, /* feature level 3: with resources and slots */
    PO__CMD_TASK_SUBMIT = 20,
    PO__CMD_TASK_COMPLETE = 21,
    PO__CMD_TASK_FAIL = 22,
    PO__CMD_TASK_CANCEL = 23,
    PO__CMD_TASK_EXTEND = 24,
    PO__CMD_TASK_SUBMIT_MORE = 25, /* feature level 3, as the next two: with `extra` */
    PO__CMD_TASK_CHECKPOINT = 26,
    PO__CMD_TASK_RETRY = 27,
    PO__CMD_PIPELINE_DEFINE = 30,
    PO__CMD_RUN_START = 31,
    PO__CMD_RUN_CANCEL = 32,
    PO__CMD_PIPELINE_DEFINE_GRAPH = 33, /* feature level 3, as the next two */
    PO__CMD_RUN_START_MORE = 34,        /* with priority; of graphs and chains */
    PO__CMD_RUN_RESUME = 35,
    PO__CMD_SCHEDULE_DEFINE = 36, /* feature level 3, as the next two */
    PO__CMD_SCHEDULE_CHANGE = 37,
    PO__CMD_SCHEDULE_FIRE = 38, /* the leader's own */
    PO__CMD_APP = 40,
};

/* What a member of the control plane is to be. The leader brings it about, one change of the
 * configuration at a time; a wish outlives the leader that began to fulfil it. Frozen numbers. */
enum po__wish {
    PO__WISH_VOTER = 0,     /* as soon as it has caught up; the default */
    PO__WISH_STANDBY = 1,   /* replicates without a vote until it is promoted */
    PO__WISH_VOTER_NOW = 2, /* likewise VOTER, also where that makes two voters out of one */
    PO__WISH_GONE = 3,      /* it is no member any more: its record is dropped */
};

/* An amount of something countable that a worker has or a task takes. */
struct po__resource {
    struct po__slice name; /* "cpu_milli", "memory_bytes", "gpus", or any name */
    uint64_t amount;
};

enum po__gpu { PO__GPU_ANY = 0, PO__GPU_REQUIRED = 1, PO__GPU_FORBIDDEN = 2 };
enum po__label_op { /* frozen, as the enums around it */
                    PO__LABEL_EQUAL = 0,
                    PO__LABEL_UNEQUAL = 1, /* also where the label is missing */
                    PO__LABEL_PRESENT = 2,
                    PO__LABEL_ABSENT = 3,
};
enum po__prefer {
    PO__PREFER_BALANCE = 0, /* the least loaded worker; among equals one in the preferred zone */
    PO__PREFER_SPREAD =
        1, /* the zone that runs the fewest tasks of the capability, then as above */
    PO__PREFER_BINPACK = 2, /* the most loaded worker that has room */
    PO__PREFER_LOCAL = 3, /* the preferred zone as long as anybody there has room, then as above */
};

/* Where a task may run, and which of those places it would rather have. One encoding for one
 * meaning (labels and resources sorted): it is what tells classes of tasks apart. */
struct po__placement {
    struct po__slice range; /* of versions, see po__range_ok; empty: any */
    struct po__slice zone;  /* required; empty: any */
    uint32_t gpu;           /* enum po__gpu */
    uint32_t prefer;        /* enum po__prefer */
    uint32_t labels_count, resources_count;
    struct po__label_wish {
        struct po__slice key, value;
        uint32_t op; /* enum po__label_op */
    } labels[PO_PLACEMENT_LABELS_MAX];
    struct po__resource resources[PO_RESOURCES_MAX];
};

/* What a task may ask for beside the essentials. Zero is the default of each. */
struct po__extra {
    struct po__slice placement;      /* encoded; empty: anywhere */
    uint32_t priority;               /* 0..PO_PRIORITY_MAX, higher goes first */
    uint64_t run_at_ms;              /* not before */
    uint64_t deadline_ms;            /* it fails if it is not finished by then */
    uint32_t retry_ms, retry_max_ms; /* wait before attempt 2, and at most; 0: PO__RETRY_DELAY_* */
    struct po__slice gate;           /* concurrency key: empty: none */
    uint32_t gate_max;               /* tasks of that key that run at a time; 0: any number */
    uint32_t rate_max, rate_ms;      /* at most rate_max starts of that key per rate_ms; 0: any */
    uint64_t keep_ms; /* forget it so long after its end; 0: when others need the room */
};

/* Frozen numbers. */
enum po__schedule_change {
    PO__SCHEDULE_DELETE = 0,
    PO__SCHEDULE_PAUSE = 1,
    PO__SCHEDULE_RESUME = 2, /* what would have ticked meanwhile is not made up for */
};

struct po__cap {
    struct po__slice name; /* verb:name */
    struct po__slice version;
    struct po__slice input_schema;  /* JSON text or empty */
    struct po__slice output_schema; /* likewise */
    bool requires_gpu;
    uint32_t max_concurrency;
};

struct po__step {
    struct po__slice name;
    struct po__slice capability;
    struct po__slice next_node; /* empty: the last step */
    struct po__slice config;    /* JSON text handed to the step; empty: null */
    uint32_t timeout_ms;        /* 0: default */
    uint32_t attempts_max;      /* 0: default */
};

struct po__cmd {
    uint32_t type;
    union {
        struct {
            uint64_t node_id;
            struct po__slice name, zone, peer_address, worker_address;
            struct po__slice
                directory_id; /* 16 bytes: which data directory speaks for this node id */
            uint32_t feature_level;
        } member;
        struct {
            uint64_t node_id;
            uint32_t wish; /* enum po__wish */
        } member_wish;
        struct {
            uint64_t node_id, term;
        } leader;
        struct {
            struct po__slice id, address, zone;
            uint64_t incarnation;
            uint32_t heartbeat_ms;
            uint32_t labels_count;
            uint32_t caps_count;
            struct po__slice label_keys[PO_LABELS_MAX];
            struct po__slice label_values[PO_LABELS_MAX];
            struct po__cap caps[PO_CAPABILITIES_MAX];
            uint32_t resources_count; /* these two: REGISTER_MORE, 0 otherwise */
            uint32_t slots;           /* tasks at a time over all capabilities; 0: no such limit */
            struct po__resource resources[PO_RESOURCES_MAX];
        } worker_register;
        struct {
            struct po__slice id;
            uint64_t incarnation; /* 0: any */
            uint32_t status;      /* PO_WORKER_* */
        } worker_status;
        struct {
            struct po__slice id;
            uint64_t incarnation; /* 0: any */
        } worker_deregister;
        struct {
            struct po__slice key, capability, input, zone;
            uint32_t attempts_max, timeout_ms;
            struct po__slice extra; /* SUBMIT_MORE: see po__extra_encode; otherwise empty */
        } submit;
        struct {
            uint64_t task_id, token;
            struct po__slice worker_id, result;
        } complete;
        struct {
            uint64_t task_id, token;
            struct po__slice worker_id, error;
            bool retryable;
        } fail;
        struct {
            uint64_t task_id;
        } cancel;
        struct {
            uint64_t task_id, token;
            struct po__slice worker_id;
            uint32_t extend_ms;
        } extend;
        struct {
            uint64_t task_id, token;
            struct po__slice worker_id;
            uint32_t progress; /* thousandths; above 1000: as it was */
            bool has_data;     /* data replaces the checkpoint; false: as it was */
            struct po__slice data;
            uint32_t extend_ms; /* 0: the lease ends when it did */
        } checkpoint;
        struct {
            uint64_t task_id;
        } retry;
        struct {
            struct po__slice name, start_node;
            struct po__slice
                steps; /* an encoded msgpack array of steps: read with po__step_decode; canonical */
            uint32_t steps_count;
        } pipeline;
        struct {
            struct po__slice key, pipeline, params, zone;
            uint32_t priority; /* START_MORE: of the steps that name none; otherwise 0 */
        } run_start;
        struct po__graph graph; /* PIPELINE_DEFINE_GRAPH */
        struct {                /* a new run of the same definition with the same params */
            struct po__slice key;
            uint64_t run_id;            /* the finished run whose results are taken over */
            struct po__slice from_step; /* run this step and all that follow it; empty: what did
                                           not succeed, and all that follows it */
        } run_resume;
        struct {
            uint64_t run_id;
        } run_cancel;
        struct {
            struct po__slice name, pipeline, cron, time_zone, params, zone;
            uint32_t overlap; /* PO_OVERLAP_ALLOW, PO_OVERLAP_SKIP */
            uint32_t catch_up_ms;
            bool paused;
        } schedule;
        struct {
            struct po__slice name;
            uint32_t change; /* enum po__schedule_change */
        } schedule_change;
        struct {
            struct po__slice name;
            uint64_t generation, fire_ms;
            uint32_t late_count; /* 0: it is due; else this many ticks, fire_ms the last of them,
                                    are too late and passed over */
        } schedule_fire;
        struct {
            struct po__slice key, data;
        } app;
    };
};

/* Append the canonical encoding; errors are sticky in buf. */
void po__cmd_encode(struct po__buf *buf, const struct po__cmd *cmd);

/* Decode the next object of r. Returns 0, PO_EPROTO (malformed), PO_EVERSION (unknown type;
 * strict: or unknown fields). */
int po__cmd_decode(struct po__mpr *r, struct po__cmd *cmd, bool strict);

/* The feature level of the cluster that a command needs: see node/levels.c. */
uint32_t po__cmd_level(uint32_t type);

/* Whether the encoded command may be applied a second time, later, without harm: its idempotency
 * key or fencing token makes it so, or that it only ends what stays ended. Registrations, a
 * worker's status, deregistrations and definitions are not: a repetition that arrives late undoes
 * what others did in between. Reads no more than it needs; true for what cannot be read, which is
 * refused in any case. */
bool po__cmd_repeatable(struct po__slice encoded);

/* Check what can be checked without the state: names, ranges, sizes, chain structure of a
 * pipeline. 0 or PO_EINVAL / PO_ETOOBIG with a sentence in message. The leader calls it before a
 * command enters the log; apply relies on it (PO_INVARIANT). */
int po__cmd_check(const struct po__cmd *cmd, char *message, size_t message_len);

/* Placements and extras. encode sorts what has no order; equal meaning, equal bytes; nothing is
 * appended for a placement without any demand (po__placement_empty). decode: 0, PO_EPROTO. check:
 * 0, PO_EINVAL, PO_ETOOBIG with a sentence. An extra may be the empty array: all defaults. */
bool po__placement_empty(const struct po__placement *p);
void po__placement_encode(struct po__buf *b, const struct po__placement *p);
int po__placement_decode(struct po__slice bytes, struct po__placement *p);
int po__placement_check(const struct po__placement *p, char *message, size_t message_len);
void po__resources_encode(struct po__buf *b, const struct po__resource *r, uint32_t count);
uint32_t po__resources_decode(struct po__mpr *r, struct po__resource *out); /* PO_RESOURCES_MAX */
int po__resources_check(const struct po__resource *r, uint32_t count, char *message,
                        size_t message_len);
void po__extra_encode(struct po__buf *b, const struct po__extra *e);
/* Of an extra that came encoded by somebody else, its placement perhaps in another order. */
void po__extra_recode(struct po__buf *b, struct po__slice bytes);
int po__extra_decode(struct po__slice bytes, struct po__extra *e);
int po__extra_check(const struct po__extra *e, char *message, size_t message_len);

/* The fields behind the type of SCHEDULE_* (command_schedule.c; for command.c). */
void po__schedule_cmd_encode(struct po__buf *buf, const struct po__cmd *cmd);
void po__schedule_cmd_decode(struct po__mpr *r, struct po__cmd *cmd);

void po__step_encode(struct po__buf *buf, const struct po__step *step);
int po__step_decode(struct po__mpr *r, struct po__step *step);

/* Names: [A-Za-z0-9._-]+, at most PO_NAME_MAX_BYTES; capabilities: "verb:name", parts of
 * [a-z0-9_.-]+. */
bool po__name_ok(struct po__slice name);
bool po__capability_ok(struct po__slice name);
bool po__semver_ok(struct po__slice version); /* MAJOR.MINOR.PATCH with optional -pre and +build */
int po__semver_cmp(struct po__slice a, struct po__slice b); /* precedence; both are ok */
/* Ranges of versions: comparators (=, <, <=, >, >=, ^, ~; none: =) before versions, of which parts
 * may be left out or be x or *; all of a blank-separated list must hold; "||" separates
 * alternatives. "" and "*" are any version. As in npm, pre-releases only match if a comparator of
 * the same MAJOR.MINOR.PATCH has a pre-release, too. */
bool po__range_ok(struct po__slice range);
bool po__range_has(struct po__slice range, struct po__slice version); /* both are ok */

/* ---- entries ---- */

/* Begin an entry: writes its head, with the count of commands to be patched by po__entry_finish;
 * commands are appended to buf with po__cmd_encode or po__mpw_raw. Fixed-width header, so that
 * patching moves nothing. */
#define PO__ENTRY_HEADER_BYTES 16
void po__entry_begin(struct po__buf *buf, uint64_t now_ms);
void po__entry_finish(struct po__buf *buf, size_t begin_offset, uint32_t count);

struct po__entry_reader {
    struct po__mpr r;
    uint64_t now_ms;
    uint32_t left;
};
int po__entry_open(struct po__entry_reader *er, const void *data,
                   size_t len); /* 0, PO_EPROTO, PO_EVERSION */
/* 1: *cmd is the next command; 0: no more (and the bytes ended); PO_E*. */
int po__entry_next(struct po__entry_reader *er, struct po__cmd *cmd);

#endif
