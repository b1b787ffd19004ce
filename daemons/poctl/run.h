/* Runs and definitions of pipelines, chains and graphs, as people read them. */
#ifndef PO_POCTL_RUN_H
#define PO_POCTL_RUN_H

#include "ctl.h"
#include "table.h"

#define RUN_HEADS "RUN|PIPELINE|VERSION|STATE|STARTED|MS|PREFERRED ZONE"
void run_row(struct table *t, const json_t *run);

/* A run with its steps; a definition. Exit codes. */
int run_print(const struct ctl *ctl, const json_t *run);
int definition_print(const struct ctl *ctl, const json_t *pipeline);

/* The exit code of a run that was waited for; says on stderr why it did not succeed. */
int run_verdict(const struct ctl *ctl, const json_t *run);

#endif
