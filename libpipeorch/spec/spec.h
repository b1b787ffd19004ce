/* JSON documents: checked as a whole, every problem listed with its place, then turned into
 * commands.
 *
 * jansson parses (duplicate keys refused, UTF-8 checked). Each problem is one line,
 * "file:line:column: /json/pointer: what was wrong; what to do"; a syntax error has no pointer.
 * Unknown keys are named with the nearest known one. */
#ifndef PO__SPEC_H
#define PO__SPEC_H

#include <jansson.h>
#include "../base/buf.h"
#include "../base/nearest.h"
#include "../model/command.h"

#define PO__SPEC_MAX_BYTES         (1024 * 1024)
#define PO__SPEC_PROBLEMS_MAX      100 /* lines listed; further problems are only counted */
#define PO__SPEC_PROBLEM_MAX_BYTES 768 /* text of one problem; longer text is cut */
#define PO__SPEC_POINTER_MAX_BYTES 512 /* a JSON pointer; longer ones are cut */

/* A check in progress: collects problems, one line each. Zeroed memory with `file` set is ready for
 * use. */
struct po__doc {
    const char *file;        /* put in front of each place; may be NULL */
    struct po__buf problems; /* the caller releases it with po__buf_fini */
    unsigned count;
    struct po__slice
        text; /* what po__doc_parse was given (borrowed): lines and columns are found in it */
};
json_t *po__doc_parse(struct po__doc *d, const char *json,
                      size_t len); /* NULL: a problem was added */
#define po__doc_problem(d, pointer, ...) po__doc_problem_at((d), (pointer), NULL, __VA_ARGS__)
/* where: what the problem is about, a place inside of d->text; NULL: what the pointer names. */
void po__doc_problem_at(struct po__doc *d, const char *pointer, const char *where, const char *fmt,
                        ...) __attribute__((format(printf, 4, 5)));

/* pointer + "/" + key (escaped) or index. out may not be `pointer`. */
void po__doc_pointer_key(char out[PO__SPEC_POINTER_MAX_BYTES], const char *pointer,
                         const char *key);
void po__doc_pointer_index(char out[PO__SPEC_POINTER_MAX_BYTES], const char *pointer, size_t index);
/* Line and column (from 1, in characters) of what `pointer` names in a valid JSON text, or of its
 * nearest existing parent. */
void po__doc_locate(struct po__slice text, const char *pointer, unsigned *line, unsigned *column);
/* Likewise of a place inside of the text. */
void po__doc_place(struct po__slice text, const char *where, unsigned *line, unsigned *column);

/* A table of the keys that an object may have. */
enum po__doc_type {
    PO__DOC_STRING,
    PO__DOC_INT,
    PO__DOC_BOOL,
    PO__DOC_OBJECT,
    PO__DOC_ARRAY,
    PO__DOC_ANY
};
struct po__doc_key {
    const char *name;
    enum po__doc_type type;
    bool required;       /* also: a string, array or object must not be empty */
    json_int_t min, max; /* INT; for STRING: lengths in bytes, max 0: PO_NAME_MAX_BYTES */
};
/* Checks types, ranges, missing, empty and unknown keys of `object` at `pointer`. Returns the
 * number of problems added. */
unsigned po__doc_object(struct po__doc *d, const char *pointer, json_t *object,
                        const struct po__doc_key *keys, unsigned count);

/* Pipeline document -> command (strings borrow from *keep, which the caller frees with json_decref
 * and po__buf_fini). 0, PO_EINVAL (d->problems), PO_ENOMEM.
 *   {"name": "energy", "description": "...", "start_node": "ingest",
 *    "steps": [{"name": "ingest", "capability": "ingest:csv", "next_node": "clean", "config":
 * {...}, "timeout_ms": 60000, "attempts_max": 3}, ...]} Reported: missing, empty, unknown, mistyped
 * or out-of-range fields, duplicate step names, start_node or next_node that names no step, cycles
 * (with the steps on it), unreachable steps, steps with two predecessors, malformed capabilities.
 * On failure *keep is NULL. */
int po__spec_pipeline(struct po__doc *d, const char *json, size_t len, struct po__cmd *cmd,
                      json_t **keep, struct po__buf *steps);

/* graph.c: the documents that are more than a chain, and their command; out owns what it borrows.
 */
bool po__spec_is_graph(const json_t *root);
int po__spec_graph(struct po__doc *d, json_t *root, struct po__cmd *cmd, struct po__buf *out);

/* The document that a pipeline can be defined with again, from the answer to PO_QUERY_PIPELINE: for
 * chains and graphs. Defaults are left out, aliases stand resolved. NULL: no memory. The caller
 * releases it. */
json_t *po__spec_document(const json_t *answer);

/* 1 if data is one whole JSON text (any type), bounded depth (PO__JSON_DEPTH_MAX). Empty is not. */
int po__spec_json_ok(const void *data, size_t len);

/* A msgpack object (query answers) as JSON text. Strings that hold JSON text under the keys
 * "input", "result", "params", "config", "input_schema", "output_schema", "output", "map" and
 * "default" are embedded as JSON
 * (empty ones as null); binary strings become lower-case hexadecimal. 0, PO_EPROTO, PO_ENOMEM,
 * PO_ETOOBIG. */
int po__spec_json_from_mp(struct po__buf *out, const void *data, size_t len);

#endif
