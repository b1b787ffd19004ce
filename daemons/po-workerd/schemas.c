#include "schemas.h"

#include <pipeorch/error.h>
#include <stdio.h>

#include "base/alloc.h"
#include "codec/schema.h"

static bool find(struct po__slice file, size_t index, const char *key, struct po__slice *schema)
{
    struct po__slice caps, cap;
    return po__json_member(po__json_root(file), po__str("capabilities"), &caps) &&
           po__json_element(caps, index, &cap) && po__json_member(cap, po__str(key), schema);
}

static int check_one(struct po__doc *d, const char *at, size_t index, const char *key)
{
    char pointer[PO__SPEC_POINTER_MAX_BYTES + PO__SCHEMA_POINTER_MAX_BYTES];
    struct po__schema_error e;
    struct po__slice schema;
    if (!find(d->text, index, key, &schema) || po__json_type(schema) != PO__JSON_OBJECT)
        return 0; /* another type is a problem of its own */
    po__doc_pointer_key(pointer, at, key);
    if (!po__json_ok(schema)) { /* jansson takes what is deeper */
        po__doc_problem(d, pointer, "has more than %d objects and arrays inside of each other",
                        PO__JSON_DEPTH_MAX);
        return 0;
    }
    int rv = po__schema_check(schema, &e);
    if (rv == PO_EINVAL) {
        size_t len = strlen(pointer);
        snprintf(pointer + len, sizeof pointer - len, "%s", e.pointer);
        po__doc_problem(d, pointer, "%s", e.text);
    }
    return rv == PO_ENOMEM ? rv : 0;
}

int schemas_check(struct po__doc *d, const char *at, size_t index)
{
    int rv = check_one(d, at, index, "input_schema");
    return rv ? rv : check_one(d, at, index, "output_schema");
}

int schemas_text(char **out, struct po__slice file, size_t index, const char *key)
{
    struct po__slice schema;
    struct po__buf b = {0};
    if (!find(file, index, key, &schema))
        return 0;
    po__json_compact(&b, schema);
    if (po__buf_append(&b, "", 1)) {
        po__buf_fini(&b);
        return PO_ENOMEM;
    }
    *out = (char *)b.data;
    return 0;
}
