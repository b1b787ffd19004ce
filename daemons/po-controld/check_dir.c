#include "check_dir.h"

#include <jansson.h>
#include <stdio.h>

#include "tools/tools.h"

#define REFUSED 2

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "-";
}

static long long number(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static void print_identity(const json_t *r)
{
    if (!json_object_get(r, "node_id"))
        return;
    printf("node       %s, id %lld, format %lld\n", text(r, "name"), number(r, "node_id"),
           number(r, "format"));
    printf("cluster    %s\n", text(r, "cluster_id"));
}

static void print_log(const json_t *r)
{
    const json_t *snapshot = json_object_get(r, "snapshot"), *m, *s;
    size_t i;
    printf("term       %lld, vote %lld\n", number(r, "term"), number(r, "vote"));
    if (json_is_object(snapshot))
        printf("snapshot   %s: index %lld, term %lld, %lld bytes\n", text(snapshot, "file"),
               number(snapshot, "index"), number(snapshot, "term"), number(snapshot, "bytes"));
    else
        printf("snapshot   none\n");
    printf("log        %lld records, index %lld to %lld, last term %lld, %lld commands\n",
           number(r, "records"), number(r, "first_index"), number(r, "last_index"),
           number(r, "last_term"), number(r, "commands"));
    json_array_foreach(json_object_get(r, "members"), i, m)
        printf("%-10s %lld at %s, %s\n", i ? "" : "members", number(m, "id"), text(m, "address"),
               text(m, "role"));
    printf("\n%-22s %10s %10s %8s %8s %12s %12s %6s\n", "SEGMENT", "BYTES", "USED", "BATCHES",
           "RECORDS", "FIRST", "LAST", "TERM");
    json_array_foreach(json_object_get(r, "segments"), i, s)
        printf("%-22s %10lld %10lld %8lld %8lld %12lld %12lld %6lld%s\n", text(s, "file"),
               number(s, "bytes"), number(s, "used_bytes"), number(s, "batches"),
               number(s, "records"), number(s, "first_index"), number(s, "last_index"),
               number(s, "last_term"), json_is_true(json_object_get(s, "spare")) ? "  spare" : "");
}

static void print_report(const json_t *r)
{
    const json_t *p;
    size_t i;
    printf("directory  %s\n", text(r, "directory"));
    printf("verdict    %s\n", text(r, "verdict"));
    json_array_foreach(json_object_get(r, "problems"), i, p)
        printf("%-10s %s\n", i ? "" : "problems", json_string_value(p));
    print_identity(r);
    if (json_object_get(r, "segments"))
        print_log(r);
}

int check_dir(const char *path, bool as_json)
{
    struct po__buf json = {0};
    json_error_t e;
    int verdict = po__tool_check_dir(path, &json);
    json_t *r = json.len ? json_loadb((const char *)json.data, json.len, JSON_ALLOW_NUL, &e) : NULL;
    po__buf_fini(&json);
    if (!r) {
        fprintf(stderr, "po-controld: out of memory for the report\n");
        return REFUSED;
    }
    if (as_json) {
        json_dumpf(r, stdout, JSON_INDENT(2));
        putchar('\n');
    } else {
        print_report(r);
    }
    json_decref(r);
    if (fflush(stdout) == 0 && !ferror(stdout))
        return verdict;
    fprintf(stderr, "po-controld: the report cannot be written\n");
    return REFUSED;
}
