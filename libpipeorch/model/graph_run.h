/* Inside of the model: runs of pipelines that are graphs, and what any run has beyond those that
 * feature level 2 knows.
 *
 * A run goes from event to event. An event (the run's start, the end of one of its tasks or child
 * runs, its cancellation) changes counters and marks what can be done now; what is marked is done
 * at the end of the same command, unit by unit, run by run (po__runs_advance). There is no
 * recursion: a unit that marks more, in its run or in another one, leaves it to the loop. A command
 * does so many units at most; what is left makes a tick due at once.
 *
 *    waiting ──▶ running ──▶ succeeded | failed | cancelled (with its run)
 *       └──▶ skipped | succeeded (cached, reused, empty map) | failed (no input could be made)
 *
 * `ending` decides how a run ends: nothing new starts, what is under way is cancelled as units of
 * work, and when nothing is left the run has that state. */
#ifndef PO__GRAPH_RUN_H
#define PO__GRAPH_RUN_H

#include "../base/tree.h"
#include "../codec/json_value.h"
#include "../codec/utf8.h"
#include "command.h"

struct po__model;
struct po__run;
struct po__def;
struct po__task;
struct po__origin;

#define PO__RUN_STARTS_MAX 1024 /* units of work in one command: starts, skips, cancellations */
/* Bytes that the templates of one command look at and write, before the rest waits for the next */
#define PO__RUN_WORK_MAX_BYTES (32u << 20)
/* Bytes that one template may look at: a step that wants more fails */
#define PO__TEMPLATE_WORK_MAX_BYTES (64u << 20)
#define PO__STEP_ERROR_MAX_BYTES    1024 /* of an error kept with a step; its task has it all */
#define PO__STEP_BYTES              128  /* what a step counts, and an element of a map that is */
#define PO__ITEM_BYTES              32   /* under way, beside their texts */
#define PO__NO_ITEM                 UINT32_MAX

/* ---- definitions ---- */

struct po__graph_node {
    struct po__graph_step step; /* slices into the definition */
    uint32_t *needs, *feeds;    /* positions of the steps before and behind it */
    uint32_t needs_count, feeds_count;
};

struct po__def_graph {
    struct po__slice version, params, output;
    struct po__param *declared;
    uint32_t params_count;
    struct po__graph_node *nodes; /* steps_count of the definition */
    struct po__named *by_name;
    uint32_t *edges;
    uint32_t ends_count, end; /* steps that nothing depends on; the last of them */
    char text[];
};

/* graph_def.c. 0, PO_ENOMEM (the definition is to be freed). */
int po__def_graph_make(struct po__def *d, const struct po__graph *from);
void po__def_graph_free(struct po__def_graph *g);

/* ---- runs ---- */

enum po__step_phase { /* numbers in the snapshot format: frozen */
                      PO__STEP_WAITING = 1,
                      PO__STEP_RUNNING = 2,
                      PO__STEP_SUCCEEDED = 3,
                      PO__STEP_FAILED = 4,
                      PO__STEP_SKIPPED = 5,
                      PO__STEP_CANCELLED = 6,
};

struct po__item { /* an element of a map, from its start on */
    uint64_t id;  /* of its task or child run; 0: none */
    struct po__slice output;
    uint32_t state; /* PO__STEP_RUNNING, _SUCCEEDED, _FAILED, _CANCELLED */
};

struct po__map_run { /* a map that is under way */
    struct po__slice list;
    struct po__json_iter next; /* in list: before the element to start next */
    uint32_t total, started, running, succeeded, failed;
    struct po__item items[];
};

struct po__step_state {
    uint32_t state;                 /* enum po__step_phase */
    bool cached;                    /* the output was kept from an earlier task */
    bool reused;                    /* the output is that of the run that this one resumes */
    uint32_t needs_left, needs_bad; /* steps before it: not over; over without success */
    uint32_t attempts;
    uint64_t id; /* of its task or child run; 0: none. A cached step: of the task that made it */
    uint64_t started_ms, finished_ms;
    struct po__origin *origin;
    struct po__slice output, error; /* owned */
    struct po__map_run *map;        /* while it is under way, or its run ends */
    uint32_t items_total, items_succeeded, items_failed; /* of a map that is over */
};

struct po__job { /* a task or child run that is under way */
    struct po__tree_node by_id;
    uint64_t id;
    bool child;
    uint32_t step, item;
};

struct po__run_more {
    struct po__run *run;
    uint64_t parent; /* run that waits for this one; 0: none */
    uint32_t parent_step, parent_item, depth;
    uint32_t priority;
    uint64_t scheduled_ms; /* of the schedule that started it; 0: none did */
    uint64_t resumed_from; /* run whose results were taken over; 0: none */
    uint32_t reused_count; /* of a chain: its first steps are those of that run */

    /* graphs only; steps is NULL otherwise */
    struct po__step_state *steps;
    uint64_t *ready; /* a bit for each step that has something to do */
    uint32_t left;   /* steps that are not over */
    uint32_t ending; /* PO_RUN_*: what the run becomes when nothing is under way; 0: it goes on */
    struct po__tree jobs;
    uint64_t bytes;            /* kept: outputs, errors, maps */
    struct po__slice output;   /* owned; empty: that of the only end step */
    struct po__tree_node todo; /* in po__model.runs_todo while there is something to do */
};

/* What became of a task or child run. Slices are copied. */
struct po__ending {
    uint32_t state; /* PO__STEP_SUCCEEDED, _FAILED, _CANCELLED (a kind of failure), _SKIPPED */
    bool cached;
    uint32_t attempts;
    uint64_t id, started_ms;
    struct po__origin *origin;
    struct po__slice output, error;
};

/* What a run is to be made of. */
struct po__run_spec {
    struct po__def *def;
    struct po__slice params, zone, key;
    uint32_t priority;
    uint64_t scheduled_ms;
    uint64_t parent;
    uint32_t parent_step, parent_item, depth;
    uint64_t resumed_from;
};

/* runs.c */
/* A new run, started: the first step of a chain has its task, a graph is marked. NULL: refused (the
 * command's result says why), or no memory. */
struct po__run *po__run_begin(struct po__model *m, const struct po__run_spec *spec);
/* As the command says, for that tick of a schedule; 0: of none. */
void po__run_start(struct po__model *m, const struct po__cmd *cmd, uint64_t scheduled_ms);
/* The run that a key belongs to; NULL: none does. */
struct po__run *po__run_keyed(const struct po__model *m, struct po__slice key);
/* All that a run is made of but its start: unlinked; NULL: no memory. */
struct po__run *po__run_new(struct po__model *m, const struct po__run_spec *spec);
/* Link it under the next number. */
void po__run_enter(struct po__model *m, struct po__run *r);
bool po__runs_full(struct po__model *m); /* and the refusal is set */
void po__run_finish(struct po__model *m, struct po__run *r, uint32_t state);
/* The next step of a chain, with the output of the last one (NULL: it is the first). False:
 * refused, or no memory. */
bool po__run_go_on(struct po__model *m, struct po__run *r, const struct po__task *last);
/* One that is running; why: of a graph, may be empty. */
void po__run_cancel(struct po__model *m, struct po__run *r, struct po__slice why);
/* Encoded; valid until the next call. */
struct po__slice po__run_extra(struct po__model *m, const struct po__run *r, struct po__slice step);
void po__run_set_error(struct po__model *m, struct po__slice *field, struct po__slice text);
struct po__slice po__run_result(const struct po__model *m, const struct po__run *r);

/* graph_state.c: objects and counters. */
int po__graph_make(struct po__run *r); /* r->more with all steps waiting; 0, PO_ENOMEM */
void po__graph_free(struct po__model *m, struct po__run_more *g, uint32_t steps_count);
/* Everything that follows from the states of the steps: counters, marks, jobs. 0, PO_ENOMEM,
 * PO_ECORRUPT (a task stands twice). */
int po__graph_derive(struct po__run *r);
struct po__job *po__job_find(const struct po__run *r, bool child, uint64_t id);
int po__job_add(struct po__run *r, bool child, uint64_t id, uint32_t step, uint32_t item);
void po__job_drop(struct po__run *r, struct po__job *j);
bool po__graph_has_work(const struct po__run *r);
uint32_t po__graph_first_ready(const struct po__run *r); /* UINT32_MAX: none */
void po__graph_mark(struct po__run *r, uint32_t step);   /* if it has something to do, else not */
uint64_t po__run_bytes(const struct po__run *r);         /* as counted against PO__RUNS_MAX_BYTES */
/* Own a copy of text, counted. False: no memory, or *full: the run or all runs keep too much. */
bool po__graph_keep(struct po__model *m, struct po__run *r, struct po__slice *field,
                    struct po__slice text, const char **full);
bool po__graph_charge(struct po__model *m, struct po__run *r, uint64_t bytes, const char **full);
void po__graph_release(struct po__model *m, struct po__run *r, struct po__slice *field);
void po__graph_refund(struct po__model *m, struct po__run *r, uint64_t bytes);

/* graph_run.c: the engine. */
void po__graph_start(struct po__model *m, struct po__run *r); /* linked; marks what has no needs */
void po__graph_todo(struct po__model *m, struct po__run *r);  /* into the list, or out of it */
void po__runs_advance(struct po__model *m);                   /* at the end of a command */
void po__graph_task_finished(struct po__model *m, struct po__run *r, struct po__task *t);
void po__graph_child_finished(struct po__model *m, struct po__run *child);
void po__graph_end(struct po__model *m, struct po__run *r, uint32_t state, struct po__slice error);
void po__graph_end_with_step(struct po__model *m, struct po__run *r, uint32_t step, uint32_t state,
                             struct po__slice why);
/* One task or child run for the step, or for an element of its map. */
void po__graph_start_part(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                          struct po__slice value);
/* The only place where a step is over. */
void po__graph_step_over(struct po__model *m, struct po__run *r, uint32_t step,
                         const struct po__ending *e);

/* graph_map.c */
void po__map_open(struct po__model *m, struct po__run *r, uint32_t step);
void po__map_next(struct po__model *m, struct po__run *r, uint32_t step);
bool po__map_has_room(const struct po__run *r, uint32_t step);
void po__map_item_over(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                       const struct po__ending *e);
void po__map_item_dropped(struct po__run *r, uint32_t step, uint32_t item); /* its run ends */
void po__map_drop(struct po__model *m, struct po__run *r, uint32_t step);
struct po__map_run *po__map_make(struct po__slice list, uint32_t total); /* NULL: no memory */
void po__map_free(struct po__map_run *map);
uint64_t po__map_bytes(const struct po__map_run *map);

/* graph_input.c: what templates give. Each returns 0, or a code with a sentence in e; PO_ENOMEM
 * stops the model. Texts are appended to out, which is emptied before. */
struct po__error_text {
    char text[PO__STEP_ERROR_MAX_BYTES + 1];
};
int po__graph_when(struct po__model *m, struct po__run *r, uint32_t step, bool *yes,
                   struct po__error_text *e);
int po__graph_list(struct po__model *m, struct po__run *r, uint32_t step, struct po__buf *out,
                   struct po__error_text *e);
int po__graph_input(struct po__model *m, struct po__run *r, uint32_t step, uint32_t item,
                    struct po__slice value, struct po__buf *out, struct po__error_text *e);
int po__graph_output(struct po__model *m, struct po__run *r, struct po__buf *out,
                     struct po__error_text *e);

/* graph_record.c: the part of a run's snapshot record that is po__run_more. */
void po__record_more(struct po__buf *b, const struct po__run *r);
/* The first fields make the run and are read before it is there. Both return 0, PO_ECORRUPT,
 * PO_ENOMEM. */
int po__restore_more_head(struct po__mpr *r, struct po__run_spec *spec, uint32_t *reused_count,
                          uint32_t *ending);
int po__restore_more(struct po__model *m, struct po__mpr *r, struct po__run *run);

/* graph_resume.c */
void po__cmd_run_resume(struct po__model *m, const struct po__cmd *cmd);

/* ---- results that are kept: graph_cache.c ---- */

struct po__cached {
    struct po__tree_node by_id, by_key, by_use;
    uint64_t id; /* of the task that made it */
    uint64_t made_ms, used_ms;
    uint64_t hash; /* of the input */
    uint32_t epoch;
    struct po__slice capability, version, input, output;
    char text[];
};

struct po__cache {
    struct po__tree by_id, by_key, by_use;
    uint64_t bytes;
};

/* What is kept for that input by the version that would get it now; NULL: nothing. */
const struct po__cached *po__cache_find(struct po__model *m, const struct po__graph_step *s,
                                        struct po__slice input);
void po__cache_add(struct po__model *m, const struct po__graph_step *s, const struct po__task *t);
struct po__cached *po__cached_make(uint64_t id, struct po__slice capability,
                                   struct po__slice version, struct po__slice input,
                                   struct po__slice output);     /* NULL: no memory */
bool po__cached_link(struct po__model *m, struct po__cached *c); /* false: it is there */
void po__cached_free(struct po__model *m, struct po__cached *c);
struct po__tree_node *po__cached_after(const struct po__model *m, uint64_t id);
void po__record_cached(struct po__buf *b, const struct po__cached *c);
int po__restore_cached(struct po__model *m, struct po__mpr *r, uint64_t id);
uint64_t po__cached_bytes(const struct po__cached *c);

#endif
