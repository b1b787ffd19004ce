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
#define PO__PIPELINE_MAX_BYTES   (512 * 1024) /* an encoded pipeline definition */
/* Group commit closes an entry at this size; one larger command goes alone */
#define PO__ENTRY_TARGET_BYTES (128 * 1024)

enum po__cmd_type {
    PO__CMD_TICK = 1,
    PO__CMD_MEMBER = 2,
    PO__CMD_MEMBER_WISH = 3, /* feature level 2 */
    PO__CMD_WORKER_REGISTER = 10,
    PO__CMD_WORKER_STATUS = 11,
    PO__CMD_WORKER_DEREGISTER = 12,
    PO__CMD_TASK_SUBMIT = 20,
    PO__CMD_TASK_COMPLETE = 21,
    PO__CMD_TASK_FAIL = 22,
    PO__CMD_TASK_CANCEL = 23,
    PO__CMD_TASK_EXTEND = 24,
    PO__CMD_PIPELINE_DEFINE = 30,
    PO__CMD_RUN_START = 31,
    PO__CMD_RUN_CANCEL = 32,
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
            struct po__slice id, address, zone;
            uint64_t incarnation;
            uint32_t heartbeat_ms;
            uint32_t labels_count;
            uint32_t caps_count;
            struct po__slice label_keys[PO_LABELS_MAX];
            struct po__slice label_values[PO_LABELS_MAX];
            struct po__cap caps[PO_CAPABILITIES_MAX];
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
            struct po__slice name, start_node;
            struct po__slice
                steps; /* an encoded msgpack array of steps: read with po__step_decode; canonical */
            uint32_t steps_count;
        } pipeline;
        struct {
            struct po__slice key, pipeline, params, zone;
        } run_start;
        struct {
            uint64_t run_id;
        } run_cancel;
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

void po__step_encode(struct po__buf *buf, const struct po__step *step);
int po__step_decode(struct po__mpr *r, struct po__step *step);

/* Names: [A-Za-z0-9._-]+, at most PO_NAME_MAX_BYTES; capabilities: "verb:name", parts of
 * [a-z0-9_.-]+. */
bool po__name_ok(struct po__slice name);
bool po__capability_ok(struct po__slice name);
bool po__semver_ok(struct po__slice version); /* MAJOR.MINOR.PATCH with optional -pre and +build */

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
