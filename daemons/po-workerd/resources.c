#include "resources.h"

#include "../common/amount.h"

#define CPUS_MAX 1000000

/* Names for people, and what is counted. */
static const char *counted(const char *name)
{
    return strcmp(name, "cpus") == 0     ? "cpu_milli"
           : strcmp(name, "memory") == 0 ? "memory_bytes"
                                         : name;
}

/* A number with at most three decimals. */
static bool read_cpus(const json_t *value, uint64_t *milli)
{
    double v = json_number_value(value) * 1000;
    if (!json_is_number(value) || v < 1 || v > CPUS_MAX * 1000.0)
        return false;
    *milli = (uint64_t)(v + 0.5);
    double off = v - (double)*milli;
    return off < 1e-6 && off > -1e-6;
}

static bool read_value(const char *name, const json_t *value, uint64_t *amount)
{
    if (strcmp(name, "cpus") == 0)
        return read_cpus(value, amount);
    if (json_is_string(value)) {
        if (!amount_read(json_string_value(value), amount))
            return false;
    } else if (json_is_integer(value) && json_integer_value(value) > 0) {
        *amount = (uint64_t)json_integer_value(value);
    } else {
        return false;
    }
    return *amount > 0 && *amount <= PO__RESOURCE_MAX;
}

void resources_check(struct po__doc *d, json_t *resources)
{
    static const char at[] = "/resources";
    const char *name;
    json_t *value;
    uint64_t amount;
    if (json_object_size(resources) > PO_RESOURCES_MAX)
        po__doc_problem(d, at, "has %zu resources; at most %d are allowed",
                        json_object_size(resources), PO_RESOURCES_MAX);
    json_object_foreach(resources, name, value)
    {
        char p[PO__SPEC_POINTER_MAX_BYTES];
        po__doc_pointer_key(p, at, name);
        if (!po__name_ok(po__str(name)))
            po__doc_problem(d, p, "the key is not a name; use letters, digits, '.', '_' and '-'");
        if (counted(name) != name && json_object_get(resources, counted(name)))
            po__doc_problem(d, p, "is the same as \"%s\", which is given too; keep one of them",
                            counted(name));
        if (read_value(name, value, &amount))
            continue;
        if (strcmp(name, "cpus") == 0)
            po__doc_problem(d, p, "must be a number from 0.001 to %d with at most three decimals",
                            CPUS_MAX);
        else
            po__doc_problem(d, p,
                            "must be a whole number from 1, or a text as \"512MiB\" or \"8GiB\"");
    }
}

unsigned resources_build(struct po_resource *out, json_t *resources)
{
    const char *name;
    json_t *value;
    unsigned count = 0;
    json_object_foreach(resources, name, value)
    {
        out[count].name = counted(name);
        if (read_value(name, value, &out[count].amount))
            count++;
    }
    return count;
}
