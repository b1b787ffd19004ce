/* What checking a schema and validating a value share: the table of keywords, and places. */
#ifndef PO__SCHEMA_INTERNAL_H
#define PO__SCHEMA_INTERNAL_H

#include "schema.h"

enum po__keyword {
    PO__KW_ADDITIONAL_PROPERTIES,
    PO__KW_ALL_OF,
    PO__KW_ANY_OF,
    PO__KW_ANNOTATION, /* any of those without effect; its value is not looked at */
    PO__KW_CONST,
    PO__KW_CONTAINS,
    PO__KW_DEFS,
    PO__KW_DEPENDENT_REQUIRED,
    PO__KW_ELSE,
    PO__KW_ENUM,
    PO__KW_EXCLUSIVE_MAXIMUM,
    PO__KW_EXCLUSIVE_MINIMUM,
    PO__KW_ID,
    PO__KW_IF,
    PO__KW_ITEMS,
    PO__KW_MAX_CONTAINS,
    PO__KW_MAX_ITEMS,
    PO__KW_MAX_LENGTH,
    PO__KW_MAX_PROPERTIES,
    PO__KW_MAXIMUM,
    PO__KW_MIN_CONTAINS,
    PO__KW_MIN_ITEMS,
    PO__KW_MIN_LENGTH,
    PO__KW_MIN_PROPERTIES,
    PO__KW_MINIMUM,
    PO__KW_MULTIPLE_OF,
    PO__KW_NOT,
    PO__KW_ONE_OF,
    PO__KW_PREFIX_ITEMS,
    PO__KW_PROPERTIES,
    PO__KW_PROPERTY_NAMES,
    PO__KW_REF,
    PO__KW_REQUIRED,
    PO__KW_SCHEMA,
    PO__KW_THEN,
    PO__KW_TYPE,
    PO__KW_UNIQUE_ITEMS,
    PO__KW_UNKNOWN
};

/* What the value of a keyword has to be. */
enum po__keyword_shape {
    PO__SHAPE_ANY,
    PO__SHAPE_BOOLEAN,
    PO__SHAPE_COUNT,   /* a whole number from 0 */
    PO__SHAPE_DIVISOR, /* a number above 0, of few digits */
    PO__SHAPE_DRAFT,   /* the address of draft 2020-12 */
    PO__SHAPE_ID,      /* a string, at the top only */
    PO__SHAPE_NUMBER,
    PO__SHAPE_REF, /* "#" or "#/$defs/NAME" */
    PO__SHAPE_SCHEMA,
    PO__SHAPE_SCHEMA_LIST, /* an array of at least one schema */
    PO__SHAPE_SCHEMA_MAP,  /* an object of schemas */
    PO__SHAPE_NAMES,       /* an array of different strings */
    PO__SHAPE_NAMES_MAP,   /* an object of those */
    PO__SHAPE_TYPE,        /* the name of a type, or an array of them */
    PO__SHAPE_VALUES       /* an array of at least one value */
};

struct po__keyword_info {
    const char *name;
    size_t len;
    enum po__keyword keyword;
    enum po__keyword_shape shape;
    bool in_place; /* its schemas look at the same value as the one that they stand in */
};

/* What looking at one more schema is counted as, beside its text and that of the value. */
#define PO__SCHEMA_STEP_BYTES 64

#define PO__KEYWORDS_COUNT 47
extern const struct po__keyword_info po__keywords[PO__KEYWORDS_COUNT]; /* sorted by name */
/* By a member's key (a token); NULL: not supported. */
const struct po__keyword_info *po__keyword_find(struct po__slice key);

/* References of one schema. Those that were found lately are found at once: recursion asks for the
 * same ones again and again. */
#define PO__SCHEMA_REFS_KEPT 16
struct po__schema_refs {
    struct po__slice root;
    struct {
        const char *ref;
        struct po__slice schema;
    } kept[PO__SCHEMA_REFS_KEPT];
};
/* The schema that a $ref (a string token inside of root) names. 1; 0: there is none such;
 * PO_ETOOBIG: *work was used up. */
int po__schema_ref(struct po__schema_refs *refs, struct po__slice ref, struct po__slice *schema,
                   uint64_t *work);

/* Where a walk stands: a list that grows with it, the innermost first. */
struct po__where {
    const struct po__where *up; /* NULL: this is the top, and has no key */
    struct po__slice key;       /* the token of a member's key; data NULL: an element */
    size_t index;               /* of the element */
};
void po__schema_fail(struct po__schema_error *e, const struct po__where *at, const char *rule,
                     const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* A value in a sentence: its text, cut where it is long. */
struct po__shown {
    char text[48];
};
const char *po__schema_show(struct po__shown *shown, struct po__slice value);

/* Whether no two of an array's elements (their values) or of an object's members (their keys) are
 * equal. 1, or 0 with the indexes of two that are; PO_ETOOBIG (*work was used up), PO_ENOMEM. */
int po__schema_distinct(struct po__slice container, size_t pair[2], uint64_t *work);

/* name: a string token. "integer" is a type, too. */
bool po__schema_type_is(struct po__slice name, struct po__slice value);
bool po__schema_type_known(struct po__slice name);

#endif
