/* What simulated workers answer to the steps of a graph, so that its templates find what they name.
 *
 * Nobody knows what a capability returns, but the templates tell which parts of it they use: a
 * placeholder has just these. Where that is not enough (a condition compares texts), the file of
 * workers says what a capability returns. All templates are evaluated once before anything runs, so
 * that a simulation does not end with what only says that placeholders are no results. */
#ifndef PO__SIM_OUTPUTS_H
#define PO__SIM_OUTPUTS_H

#include "../spec/spec.h"

#define PO__SIM_OUTPUT_ITEMS     3   /* elements of an array that a map is over */
#define PO__SIM_OUTPUT_INDEX_MAX 999 /* of an element that a template names */

/* *outputs: capability -> what it returns, for the capabilities whose outputs the graph uses; given
 * (may be NULL) has what is known of them. params: JSON text of the runs. 0, PO_ENOMEM, or
 * PO_EINVAL with a sentence in error. */
int po__sim_outputs(json_t **outputs, const struct po__graph *g, json_t *given,
                    struct po__slice params, char *error, size_t error_len);

#endif
