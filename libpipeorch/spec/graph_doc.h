/* A pipeline's document while it is checked: what graph*.c share, and pipeline.c uses of it.
 *
 *   graph.c         the passes in their order, and the fields of the document
 *   graph_fields.c  the fields of a step
 *   graph_params.c  params: types and defaults
 *   graph_shape.c   names, edges, cycles, what can never run, the order of the steps
 *   graph_refs.c    templates and conditions: syntax, and whether what they name is there in time
 *   graph_encode.c  the command
 *
 * The document is held twice: as jansson's tree, for fields, and as its text (po__json_*), for
 * templates and values, which are stored as they were written: jansson rounds numbers. */
#ifndef PO__SPEC_GRAPH_DOC_H
#define PO__SPEC_GRAPH_DOC_H

#include "../codec/template.h"
#include "../model/graph.h"
#include "spec.h"

/* "`after` depends on `before`", and where the document says so. */
struct po__gedge {
    uint32_t before, after;
    uint32_t step; /* the step whose depends_on or next_node it is */
    int32_t entry; /* of depends_on; -1: next_node */
};

struct po__gstep {
    const char *name; /* NULL: it has no usable one, which is reported */
    json_t *json;
    struct po__slice text; /* the step's object */
};

struct po__gdoc {
    struct po__doc *d;
    json_t *root, *steps;
    json_t *index;         /* step name -> its index */
    struct po__slice text; /* the document's object */
    struct po__gstep *v;
    uint32_t count;
    struct po__gedge *edges; /* sorted by before, after; no two between the same steps */
    uint32_t edges_count;
    uint32_t *order;  /* of execution: predecessors first, else as in the document */
    uint64_t *before; /* bits: row i has bit j if step j is a direct or indirect predecessor of i */
    bool shaped;      /* edges and before are whole; the order, too, unless there is a cycle */
};

/* Types and ranges of the fields, and unknown ones: of chains alike. */
void po__gdoc_document_keys(struct po__doc *d, json_t *root);
void po__gdoc_step_keys(struct po__doc *d, const char *pointer, json_t *step);

void po__gdoc_not_null(struct po__doc *d, const char *pointer, const json_t *object,
                       const char *key);

/* Each 0 or PO_ENOMEM; problems go to g->d. */
int po__gdoc_shape(struct po__gdoc *g);
int po__gdoc_params(struct po__gdoc *g);
int po__gdoc_refs(struct po__gdoc *g);
void po__gdoc_step_fields(struct po__gdoc *g, uint32_t i);
/* 0, PO_ETOOBIG, PO_ENOMEM. Everything is sound. The command borrows from out and the tree. */
int po__gdoc_encode(const struct po__gdoc *g, struct po__buf *out, struct po__cmd *cmd);

/* ---- reading the document ---- */

void po__gdoc_step_pointer(char out[PO__SPEC_POINTER_MAX_BYTES], size_t i, const char *key);
const char *po__gdoc_string(const json_t *object, const char *key);     /* NULL: none, or empty */
struct po__slice po__gdoc_slice(const json_t *object, const char *key); /* likewise empty */
uint64_t po__gdoc_number(const json_t *object, const char *key);        /* 0: none */
/* The text of a member; empty: there is none. */
struct po__slice po__gdoc_text(struct po__slice object, const char *key);

/* "verb:name@range" as written, or what an alias stands for. False: malformed, or an unknown alias;
 * both are reported if g->d is to hear of it (pointer is not NULL). */
bool po__gdoc_capability(const struct po__gdoc *g, const char *pointer, struct po__slice text,
                         struct po__slice *capability, struct po__slice *range);

/* The index of the step of that name; a problem and PO__GDOC_NO_STEP if there is none. */
#define PO__GDOC_NO_STEP UINT32_MAX
uint32_t po__gdoc_resolve(struct po__gdoc *g, const char *pointer, const char *name);
/* The sentence about a step that is not there. */
void po__gdoc_unknown_step(const struct po__gdoc *g, const char *name, char *out, size_t len);

/* The place of the first edge that leaves the step, in edges. */
uint32_t po__gdoc_first_edge(const struct po__gdoc *g, uint32_t step);
static inline bool po__gdoc_precedes(const struct po__gdoc *g, uint32_t before, uint32_t after)
{
    const size_t words = (g->count + 63) / 64;
    return g->before[after * words + before / 64] >> (before % 64) & 1;
}

#endif
