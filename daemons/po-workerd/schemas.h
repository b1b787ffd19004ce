/* The schemas of a capabilities file. They are taken from its text as they are written: through a
 * parser's floating point, "multipleOf": 0.1 would become another number. */
#ifndef PO_WORKERD_SCHEMAS_H
#define PO_WORKERD_SCHEMAS_H

#include "spec/spec.h"

/* Every problem of input_schema and output_schema of the capability of that index, at `at`; d->text
 * is the whole file, of which jansson made something. PO_ENOMEM or 0. */
int schemas_check(struct po__doc *d, const char *at, size_t index);

/* The schema's text, without white space; NULL in *out if there is none. 0 or PO_ENOMEM. */
int schemas_text(char **out, struct po__slice file, size_t index, const char *key);

#endif
