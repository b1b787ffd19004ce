/* log dump: one line per command, from the JSON of each entry. */
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "table.h"
#include "tools/tools.h"

#define VALUE_SHOWN_BYTES 80 /* of one field in the table; -o json has it whole */

static int emit_json(void *arg, const char *text, size_t len)
{
    (void)arg;
    return fwrite(text, 1, len, stdout) == len && putchar('\n') != EOF ? 0 : PO_EIO;
}

void log_time(char when[LOG_TIME_BYTES], json_int_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    snprintf(when, LOG_TIME_BYTES, "-");
    if (ms) {
        size_t n = strftime(when, LOG_TIME_BYTES, "%Y-%m-%d %H:%M:%S", gmtime_r(&s, &tm));
        snprintf(when + n, LOG_TIME_BYTES - n, ".%03lld", (long long)(ms % 1000));
    }
}

static void print_head(const json_t *e, const char *what)
{
    char when[LOG_TIME_BYTES];
    log_time(when, number_of(e, "time_ms"));
    printf("%8lld %5lld  %-23s  %s", (long long)number_of(e, "index"),
           (long long)number_of(e, "term"), when, what);
}

static void print_field(const char *key, const json_t *value)
{
    char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    const char *shown = text ? text : json_string_value(value);
    size_t len = shown ? strlen(shown) : 0;
    if (len) {
        char cut[VALUE_SHOWN_BYTES + 8];
        snprintf(cut, sizeof cut, "%.*s%s", VALUE_SHOWN_BYTES, shown,
                 len > VALUE_SHOWN_BYTES ? "..." : "");
        printf(" %s=", key);
        print_clean(stdout, cut, false);
    }
    free(text); /* jansson's allocator */
}

static void print_command(const json_t *e, const json_t *command)
{
    const char *key;
    const json_t *value;
    print_head(e, text_of(command, "type"));
    json_object_foreach((json_t *)command, key, value)
    {
        if (strcmp(key, "type") != 0)
            print_field(key, value);
    }
    putchar('\n');
}

static int emit_table(void *arg, const char *text, size_t len)
{
    size_t i;
    const json_t *c;
    (void)arg;
    json_t *e = ctl_parse(text, len);
    if (!e)
        return PO_ENOMEM;
    const json_t *commands = json_object_get(e, "commands");
    json_array_foreach(commands, i, c) print_command(e, c);
    if (json_array_size(commands) == 0) {
        print_head(e, text_of(e, "type"));
        print_field("members", json_object_get(e, "members"));
        putchar('\n');
    }
    if (*text_of(e, "problem"))
        printf("%8s %5s  %-23s  the rest cannot be read: %s\n", "", "", "", text_of(e, "problem"));
    json_decref(e);
    return ferror(stdout) ? PO_EIO : 0;
}

int log_dump(struct ctl *ctl)
{
    char error[1024] = "";
    if (!ctl->s->dir)
        return ctl_usage(ctl, "--dir is missing");
    uint64_t to = opt_given(ctl->run, "to") ? ctl->s->to : UINT64_MAX;
    if (!ctl_json(ctl))
        printf("%8s %5s  %-23s  %s\n", "INDEX", "TERM", "TIME (UTC)", "ENTRY");
    int rv = po__tool_log_dump(ctl->s->dir, ctl->s->from, to,
                               ctl_json(ctl) ? emit_json : emit_table, NULL, error, sizeof error);
    int code = ctl_out(ctl, 0);
    return rv && !ferror(stdout) ? backup_fail(ctl, rv, error) : code;
}
