/* What the files of queries share. Inside of the model. */
#ifndef PO__QUERY_H
#define PO__QUERY_H

#include <pipeorch/client.h>
#include "impl.h"

/* "key": value. Empty texts, zero times and NULL words are nil. */
void po__kv_uint(struct po__buf *b, const char *key, uint64_t v);
void po__kv_time(struct po__buf *b, const char *key, uint64_t ms);
void po__kv_text(struct po__buf *b, const char *key, struct po__slice s);
void po__kv_word(struct po__buf *b, const char *key, const char *word);
void po__kv_bool(struct po__buf *b, const char *key, bool v);
void po__kv_placement(struct po__buf *b, const struct po__placement *p); /* "placement" */

const char *po__worker_word(uint32_t status);
const char *po__task_word(uint32_t state);
const char *po__run_word(uint32_t state);

/* One list of an answer: elements are collected in items; po__page_full is asked before each
 * object is looked at. */
struct po__page {
    struct po__buf items;
    uint32_t count, limit, looked_at;
    bool more;
    uint64_t last_id;
    struct po__slice last_name;
};
void po__page_begin(struct po__page *p, const struct po__query *q);
bool po__page_full(struct po__page *p);
void po__page_items(struct po__page *p, struct po__buf *out, const char *key); /* releases p */
void po__page_next_id(const struct po__page *p, struct po__buf *out);
void po__page_next_name(const struct po__page *p, struct po__buf *out);

/* query_workers.c */
int po__query_workers(const struct po__model *m, const struct po__query *q, struct po__buf *b);
int po__query_capabilities(const struct po__model *m, const struct po__query *q, struct po__buf *b);
/* query_explain.c */
int po__query_route(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                    const char **message);
int po__query_explain(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                      const char **message);
int po__query_fence(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                    const char **message);

/* query_runs.c */
int po__query_pipelines(const struct po__model *m, const struct po__query *q, struct po__buf *b);
int po__query_pipeline(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                       const char **message);
int po__query_run(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                  const char **message);
int po__query_runs(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                   const char **message);
void po__put_chain_steps(const struct po__model *m, const struct po__run *r, struct po__buf *b);

/* query_graph.c */
void po__put_graph_head(struct po__buf *b, const struct po__def *d);
void po__put_graph(struct po__buf *b, const struct po__def *d);
void po__put_run_line(const struct po__model *m, const struct po__run *r, struct po__buf *b);
int po__query_run_more(const struct po__model *m, const struct po__query *q,
                       const struct po__run *r, struct po__buf *b, const char **message);

/* query_schedules.c */
int po__query_schedules(const struct po__model *m, const struct po__query *q, struct po__buf *b);
int po__query_schedule(const struct po__model *m, const struct po__query *q, struct po__buf *b,
                       const char **message);

#endif
