#include "ctl.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/files.h"
#include "replay.h"
#include "spec/spec.h"
#include "table.h"

#define PAGE_MAX 1000 /* objects of one question; the server's own bound */

bool ctl_json(const struct ctl *ctl)
{
    return strcmp(ctl->s->output, "json") == 0;
}

struct po_call_opts ctl_opts(const struct ctl *ctl)
{
    return (struct po_call_opts){
        .size = sizeof(struct po_call_opts),
        .timeout_ms = (uint32_t)ctl->s->timeout,
        .key = ctl->s->key,
        .key_len = ctl->s->key ? strlen(ctl->s->key) : 0,
    };
}

struct po_call_opts ctl_wait_opts(const struct ctl *ctl)
{
    struct po_call_opts opts = ctl_opts(ctl);
    opts.key = NULL;
    opts.key_len = 0;
    if (!opt_given(ctl->run, "timeout"))
        opts.timeout_ms = WAIT_DEFAULT_MS;
    return opts;
}

static int exit_code(int rv)
{
    switch (rv) {
    case PO_EUNREACHABLE:
    case PO_ENOLEADER:
    case PO_ETIMEDOUT:
    case PO_EUNKNOWN:
        return EXIT_UNREACHABLE;
    case PO_EINVAL:
    case PO_ETOOBIG:
    case PO_EADDR:
        return EXIT_USAGE;
    default:
        return EXIT_REFUSED;
    }
}

static const char *advice(int rv)
{
    switch (rv) {
    case PO_EUNREACHABLE:
        return "check --controllers (PO_CONTROLLERS) and that a control node runs there";
    case PO_ENOLEADER:
        return "a majority of the control nodes must be up; poctl status tells which are";
    case PO_ETIMEDOUT:
        return "give it more time with --timeout";
    case PO_EUNKNOWN:
        return "it may or may not have been done; with --key it can be repeated safely";
    case PO_ESTALE_READ:
        return "name other nodes with --controllers, or allow more with --stale";
    case PO_EBUSY:
    case PO_EQUOTA:
        return "try again later";
    default:
        return NULL;
    }
}

int ctl_fail(const struct ctl *ctl, int rv)
{
    const char *what = po_client_error();
    fprintf(stderr, "poctl %s: ", ctl->verb->words);
    print_clean(stderr, *what ? what : po_strerror(rv), true);
    fprintf(stderr, " (%s)\n", po_err_name(rv));
    if (advice(rv))
        fprintf(stderr, "poctl %s: %s\n", ctl->verb->words, advice(rv));
    return exit_code(rv);
}

int ctl_usage(const struct ctl *ctl, const char *fmt, ...)
{
    va_list ap;
    fprintf(stderr, "poctl %s: ", ctl->verb->words);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

/* Answers may hold integers beyond 63 bits (incarnations), which jansson takes only as reals. */
json_t *ctl_parse(const char *text, size_t len)
{
    json_error_t e;
    json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, &e);
    if (!root && json_error_code(&e) == json_error_numeric_overflow)
        root = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
    return root;
}

static int ask_once(const struct ctl *ctl, const struct po_query *query, json_t **answer)
{
    struct po_call_opts opts = ctl_opts(ctl);
    char *text = NULL;
    struct po__buf replayed = {0};
    int rv = ctl->replay ? replay_ask(ctl, query, &replayed)
                         : po_query(ctl->client, query, &opts, &text);
    if (rv)
        return ctl->replay ? rv : ctl_fail(ctl, rv);
    const char *json = text ? text : (const char *)replayed.data;
    *answer = json ? ctl_parse(json, strlen(json)) : NULL;
    po_free(text);
    po__buf_fini(&replayed);
    if (json_is_object(*answer))
        return EXIT_DONE;
    json_decref(*answer);
    *answer = NULL;
    fprintf(stderr, "poctl %s: the answer cannot be read; is poctl older than the cluster?\n",
            ctl->verb->words);
    return EXIT_REFUSED;
}

int ctl_ask(const struct ctl *ctl, struct po_query query, const char *list, json_t **answer)
{
    *answer = NULL;
    query.size = sizeof query;
    query.stale_ms = (uint32_t)ctl->s->stale;
    if (list && !query.limit)
        query.limit = PAGE_MAX;
    int rv = ask_once(ctl, &query, answer);
    json_t *page = rv ? NULL : json_incref(*answer);
    while (!rv && list && json_is_string(json_object_get(page, "next"))) {
        json_t *next = NULL;
        query.name = json_string_value(json_object_get(page, "next"));
        rv = ask_once(ctl, &query, &next); /* the name is copied by then */
        json_decref(page);
        page = next;
        if (!rv)
            json_array_extend(json_object_get(*answer, list), json_object_get(page, list));
    }
    json_decref(page);
    if (!rv && list && query.name)
        json_object_set_new(*answer, "next", json_null());
    if (rv) {
        json_decref(*answer);
        *answer = NULL;
    }
    return rv;
}

int ctl_list(const struct ctl *ctl, struct po_query query, const char *key, const char *heads,
             void (*row)(struct table *t, const json_t *object))
{
    json_t *a, *object;
    size_t i;
    int rv = ctl_ask(ctl, query, query.limit ? NULL : key, &a);
    if (rv)
        return rv;
    if (ctl_json(ctl)) {
        rv = ctl_print_json(a);
    } else {
        struct table t;
        table_open(&t, heads);
        json_array_foreach(json_object_get(a, key), i, object) row(&t, object);
        rv = ctl_out(ctl, table_close(&t, stdout));
        if (number_of(a, "next"))
            fprintf(stderr, "there may be more: add --after %lld\n",
                    (long long)number_of(a, "next"));
    }
    json_decref(a);
    return rv;
}

int ctl_out(const struct ctl *ctl, int table_rv)
{
    if (table_rv == 0 && fflush(stdout) == 0 && !ferror(stdout))
        return EXIT_DONE;
    fprintf(stderr, "poctl %s: the answer cannot be written: %s\n", ctl->verb->words,
            table_rv ? "out of memory" : "standard output is closed or full");
    return EXIT_REFUSED;
}

int ctl_print_json(const json_t *value)
{
    int rv = json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
    putchar('\n');
    if (rv == 0 && fflush(stdout) == 0)
        return EXIT_DONE;
    fprintf(stderr, "poctl: the answer cannot be written\n");
    return EXIT_REFUSED;
}

bool ctl_id(const struct ctl *ctl, uint64_t *id)
{
    const char *p = ctl->arg;
    *id = 0;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(*id, 10, id) || __builtin_add_overflow(*id, *p - '0', id))
            break;
    if (*p == '\0' && *id > 0)
        return true;
    ctl_usage(ctl, "\"%.64s\" is not an id; ids are numbers, as printed by submit and run",
              ctl->arg);
    return false;
}

int ctl_on_id(const struct ctl *ctl,
              int (*call)(po_client *client, uint64_t id, const struct po_call_opts *opts))
{
    struct po_call_opts opts = ctl_opts(ctl);
    uint64_t id;
    if (!ctl_id(ctl, &id))
        return EXIT_USAGE;
    int rv = call(ctl->client, id, &opts);
    return rv ? ctl_fail(ctl, rv) : EXIT_DONE;
}

int ctl_payload(const struct ctl *ctl, const char *name, const char *direct, const char *file,
                struct po__buf *keep, const char **text)
{
    char place[OPT_VALUE_MAX_BYTES + 64], why[256];
    *text = NULL;
    if (direct && file)
        return ctl_usage(ctl, "--%s and --%s-file exclude each other; give one", name, name);
    if (!direct && !file)
        return EXIT_DONE;
    po__buf_init(keep, PO_PAYLOAD_MAX_BYTES + 1);
    snprintf(place, sizeof place, "%s%s", direct ? "--" : "", direct ? name : file);
    if (file && !file_read(keep, file, PO_PAYLOAD_MAX_BYTES, why, sizeof why))
        return ctl_usage(ctl,
                         "%s: %s; keep what is larger as an artifact (a file or an object that "
                         "workers can read) and give its name",
                         file, why);
    if (direct)
        po__buf_append(keep, direct, strlen(direct));
    po__buf_append(keep, "", 1);
    if (keep->err)
        return ctl_usage(ctl, "%s: %s", place, po_strerror(keep->err));
    *text = (const char *)keep->data;
    if (po__spec_json_ok(*text, keep->len - 1))
        return EXIT_DONE;
    struct po__doc d = {.file = place};
    json_decref(po__doc_parse(&d, *text, keep->len - 1)); /* for its message */
    ctl_usage(ctl, "%.*s", (int)d.problems.len, (const char *)d.problems.data);
    po__buf_fini(&d.problems);
    return EXIT_USAGE;
}

const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

json_int_t number_of(const json_t *object, const char *key)
{
    return (json_int_t)json_number_value(json_object_get(object, key));
}

const char *utc_of(char out[UTC_BYTES], const json_t *ms)
{
    time_t s = (time_t)(json_integer_value(ms) / 1000);
    struct tm tm;
    out[0] = '\0';
    if (json_is_integer(ms) && gmtime_r(&s, &tm))
        strftime(out, UTC_BYTES, "%Y-%m-%d %H:%M:%SZ", &tm);
    return out;
}

json_int_t elapsed_ms(const json_t *object, const char *from, const char *to)
{
    json_int_t a = number_of(object, from), b = number_of(object, to);
    return a && b && b >= a ? b - a : -1;
}

void print_text(FILE *out, const char *title, const char *text)
{
    if (!*text)
        return;
    fprintf(out, "%s: ", title);
    print_clean(out, text, true);
    fputc('\n', out);
}

void print_value(const char *title, const json_t *value)
{
    if (!value || json_is_null(value))
        return;
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    print_text(stdout, title, text ? text : "(out of memory)");
    free(text); /* jansson's allocator */
}
