/* Pipelines as graphs: the definition that PO__CMD_PIPELINE_DEFINE_GRAPH carries.
 *
 * A definition is [name, version, [param, ...], output, [step, ...]], each param and step an array
 * of its own in the order of the structs below; text fields are msgpack str and empty where nothing
 * was said. Steps stand in topological order and name those that they depend on by their position,
 * which is below their own: what can be decoded has no cycle.
 *
 * Texts that are templates or conditions are evaluated inside apply (codec/template.h) over the
 * roots params, steps, run and, within a map, item and index.
 *
 * A step runs a capability or, as a child run, another pipeline. What a step of either kind gets:
 *   capability  the input template evaluated; without one
 *               {"pipeline":..,"run_id":..,"step":..,"params":..,"config":..,"input":..}, where
 *               input is null, the output of the only predecessor, or an object of the outputs by
 *               the predecessors' names (null for one that has none); in a map followed by
 *               "item" and "index"
 *   pipeline    the input template gives the child's params; without one they are {}, and in a map
 *               the element itself. config, attempts_max, timeout_ms, cache and extra belong to
 *               capabilities and must be empty
 *
 * Numbers of the enums are frozen. Slices are borrowed. */
#ifndef PO__GRAPH_H
#define PO__GRAPH_H

#include <pipeorch/types.h>
#include "../codec/mp.h"

#define PO__GRAPH_PARAMS_MAX  64
#define PO__GRAPH_EDGES_MAX   16384             /* dependencies of all steps of one pipeline */
#define PO__VERSION_MAX_BYTES PO_NAME_MAX_BYTES /* the author's label of a definition */
#define PO__MAP_PARALLEL_MAX  1024              /* elements of one map that are under way at once */
#define PO__MAP_PARALLEL      256               /* as many where the definition does not say */
#define PO__MAP_MAX           10000             /* elements of one map */

enum po__param_type {
    PO__PARAM_ANY = 0,
    PO__PARAM_STRING = 1,
    PO__PARAM_NUMBER = 2,
    PO__PARAM_INTEGER = 3, /* a number without fraction and exponent */
    PO__PARAM_BOOLEAN = 4,
    PO__PARAM_OBJECT = 5,
    PO__PARAM_ARRAY = 6,
};

struct po__param {
    struct po__slice name;
    uint32_t type; /* enum po__param_type */
    bool required;
    struct po__slice value; /* default, a JSON text; empty: none (then null unless required) */
};

/* When a step is ready: all its predecessors are over. What then: */
enum po__join {
    PO__JOIN_ALL_SUCCEEDED = 0, /* run if all succeeded, else it is skipped */
    PO__JOIN_ALL_DONE = 1,      /* run, whatever became of them */
    PO__JOIN_ANY_SUCCEEDED = 2, /* run if at least one succeeded, else it is skipped */
};

enum po__on_failure {
    PO__ON_FAILURE_FAIL = 0,     /* the run fails; what else runs is cancelled */
    PO__ON_FAILURE_CONTINUE = 1, /* the step has failed, the run goes on */
};

struct po__graph_step {
    struct po__slice name;
    struct po__slice capability; /* verb:name; empty: a pipeline */
    struct po__slice pipeline;   /* name of the pipeline; empty: a capability */
    struct po__slice depends;    /* an encoded array of positions, increasing: po__depends_decode */
    uint32_t depends_count;
    uint32_t join;           /* enum po__join */
    struct po__slice when;   /* condition; empty: true. False: the step is skipped */
    struct po__slice map;    /* template of an array: one task for each element; empty: one task.
                                The output is the array of outputs */
    uint32_t map_parallel;   /* 1..PO__MAP_PARALLEL_MAX; 0: PO__MAP_PARALLEL */
    struct po__slice input;  /* template */
    struct po__slice config; /* JSON text; empty: null */
    uint32_t attempts_max;   /* 0: default */
    uint32_t timeout_ms;     /* 0: default */
    uint32_t on_failure;     /* enum po__on_failure */
    bool cache;              /* take the result of an equal input if one is kept; needs an input
                                template, because the default input names the run */
    uint64_t cache_ms;       /* results older than this are not taken; 0: any age */
    struct po__slice extra;  /* encoded struct po__extra: placement (with the range of versions),
                                priority, delays between attempts, keys, keep_ms; never the points in
                                time. Empty: all defaults */
};

struct po__graph {
    struct po__slice name;
    struct po__slice version; /* the author's label; may be empty */
    struct po__slice params;  /* an encoded array of params: po__param_decode */
    struct po__slice output;  /* template of the result; empty: the output of the last step, where
                                 more than one step is last an object of their outputs by name */
    struct po__slice steps;   /* an encoded array of steps: po__graph_step_decode */
    uint32_t params_count, steps_count;
};

/* Append the canonical encoding; errors are sticky in buf. */
void po__param_encode(struct po__buf *buf, const struct po__param *p);
void po__graph_step_encode(struct po__buf *buf, const struct po__graph_step *s);
void po__depends_encode(struct po__buf *buf, const uint32_t *positions, uint32_t count);
/* What is encoded in g may be in any form; it is decoded and encoded again. */
void po__graph_encode(struct po__buf *buf, const struct po__graph *g);

/* Decode the next object of r. Returns 0 or PO_EPROTO. */
int po__param_decode(struct po__mpr *r, struct po__param *p);
int po__graph_step_decode(struct po__mpr *r, struct po__graph_step *s);
/* The five fields of a definition (not the array around them). strict: a param or step with more
 * fields than are known sets *version. */
int po__graph_decode(struct po__mpr *r, struct po__graph *g, bool strict, bool *version);

/* As po__mpr_fields; strict: any other count than `known` is refused, and *version says so. */
uint32_t po__cmd_fields(struct po__mpr *r, uint32_t known, bool strict, bool *version);
/* The positions that s depends on, s->depends_count of them. 0 or PO_EPROTO. */
int po__depends_decode(const struct po__graph_step *s, uint32_t *positions);

/* Everything about a definition that can be known without the state: names, ranges, sizes,
 * structure, templates and what they refer to (params that are declared, steps that come before
 * for sure). 0, or PO_EINVAL / PO_ETOOBIG / PO_ENOMEM with the first problem in message. */
int po__graph_check(const struct po__graph *g, char *message, size_t message_len);

/* Steps by name: positions in the order of names, to be searched. */
struct po__named {
    struct po__slice name;
    uint32_t at;
};
void po__named_sort(struct po__named *items, uint32_t count);
uint32_t po__named_find(const struct po__named *items, uint32_t count,
                        struct po__slice name); /* at; UINT32_MAX: there is none */

/* Whether a JSON value is of that type. */
bool po__param_fits(uint32_t type, struct po__slice value);
/* The params of a run, from those that were given (a JSON text; empty: none) and the n declared
 * ones: an object of all declared params in the order of their declaration. 0; PO_EINVAL with every
 * problem, as far as there is room; PO_ENOMEM, PO_ETOOBIG. */
int po__params_fill(struct po__buf *out, const struct po__param *declared, uint32_t n,
                    struct po__slice given, char *message, size_t message_len);

/* The words of documents and queries; NULL and UINT32_MAX for what is none. */
const char *po__param_type_word(uint32_t type);
const char *po__join_word(uint32_t join);
const char *po__on_failure_word(uint32_t on_failure);
uint32_t po__param_type_named(struct po__slice word);
uint32_t po__join_named(struct po__slice word);
uint32_t po__on_failure_named(struct po__slice word);

#endif
