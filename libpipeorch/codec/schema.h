/* JSON Schema: a subset of draft 2020-12, read from the text of the schema itself.
 *
 * Pure: no regular expressions, no floating point, nothing fetched. What a supported keyword means
 * is the draft's business. Supported, and checked when a value is validated:
 *
 *   any type   type, enum, const, allOf, anyOf, oneOf, not, if, then, else, $ref
 *   objects    properties, required, additionalProperties, propertyNames, minProperties,
 *              maxProperties, dependentRequired
 *   arrays     items, prefixItems, minItems, maxItems, uniqueItems, contains, minContains,
 *              maxContains
 *   numbers    minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf: by exact decimal
 *              value; multipleOf has at most PO__JSON_DIVISOR_DIGITS_MAX significant digits
 *   strings    minLength, maxLength: in code points
 *   $defs, and `true` and `false` as schemas. $ref is "#" or "#/$defs/NAME", of the whole schema's
 *   $defs; a schema may refer to itself, but not without going into the value.
 *
 * Accepted and without effect: title, description, default, examples, $comment, format, deprecated,
 * readOnly, writeOnly, contentMediaType, contentEncoding; $schema if it names draft 2020-12, and
 * $id at the top. Everything else is refused: a keyword that is ignored is a check that people
 * believe in and nobody makes.
 *
 * Schemas and values are texts that po__json_ok accepted. */
#ifndef PO__SCHEMA_H
#define PO__SCHEMA_H

#include "json_value.h"

/* Schemas inside of each other while one value is validated; each $ref is one. */
#define PO__SCHEMA_DEPTH_MAX 256
/* Bytes of schema and value that one validation may look at. A flat value of 1 MiB needs a few
 * times its own size; what needs more is refused, with an error of its own. */
#define PO__SCHEMA_WORK_MAX ((uint64_t)64 * 1024 * 1024)
#define PO__SCHEMA_POINTER_MAX_BYTES                                                               \
    256                               /* of a JSON pointer, the NUL included; longer ones are cut */
#define PO__SCHEMA_TEXT_MAX_BYTES 256 /* of a sentence, likewise */

struct po__schema_error {
    char pointer[PO__SCHEMA_POINTER_MAX_BYTES]; /* JSON pointer into the value, or into the schema
                                                   that is checked; "" is the whole */
    char rule[32];                              /* the keyword */
    char text[PO__SCHEMA_TEXT_MAX_BYTES];       /* "200 is above maximum 150" */
};
/* The pointer for a sentence: "/age", or "the top level". */
const char *po__schema_place(const struct po__schema_error *e);

/* "input of classify:image 1.2.0 breaks its schema at /age: 200 is above the maximum 150 (maximum)"
 */
void po__schema_say(char *out, size_t len, const char *what, struct po__slice capability,
                    struct po__slice version, const struct po__schema_error *e);

/* Whether the schema is one of the subset. 0; PO_EINVAL: e names the keyword, what is wrong with
 * it, and the nearest supported one; PO_ENOMEM. */
int po__schema_check(struct po__slice schema, struct po__schema_error *e);

/* Whether the schema allows the value. 0; PO_EINVAL: e says which rule is broken where;
 * PO_ETOOBIG: that takes more than PO__SCHEMA_WORK_MAX or PO__SCHEMA_DEPTH_MAX (e says so);
 * PO_ENOMEM. Of a schema that was never checked, what is outside of the subset has no effect. */
int po__schema_validate(struct po__slice schema, struct po__slice value,
                        struct po__schema_error *e);

#endif
