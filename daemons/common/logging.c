#include "logging.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "codec/json.h"
#include "codec/utf8.h"

static struct {
    bool json;
    struct po__logger logger;
} log_state;

static const char *level_name(int level)
{
    static const char *const names[] = {"none", "error", "warn", "info", "debug"};
    return level >= 0 && level <= PO_LOG_DEBUG ? names[level] : "debug";
}

static void format_time(char *out, size_t len, uint64_t time_ms)
{
    time_t s = (time_t)(time_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    size_t n = strftime(out, len, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, len - n, ".%03uZ", (unsigned)(time_ms % 1000));
}

/* Events may quote bytes of strangers; a log line must stay one line of UTF-8 whatever they sent.
 */
static void clean(char *out, size_t len, const char *text)
{
    snprintf(out, len, "%s", text ? text : "");
    bool valid = po__utf8_ok(po__str(out));
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f || (!valid && (unsigned char)*p >= 0x80))
            *p = '?';
}

static void json_field(struct po__buf *out, const char *key, const char *value)
{
    po__buf_printf(out, "%s\"%s\":", out->len > 1 ? "," : "", key);
    po__json_string(out, po__str(value));
}

void logging_format(struct po__buf *out, bool json, const struct po_log_event *event)
{
    char time[40], name[PO_NAME_MAX_BYTES + 1], message[2048];
    format_time(time, sizeof time, event->time_ms);
    clean(name, sizeof name, event->name);
    clean(message, sizeof message, event->message);
    if (!json) {
        po__buf_printf(out, "%s %-5s %s %s %s\n", time, level_name(event->level), event->id,
                       name[0] ? name : "-", message);
        return;
    }
    po__buf_append(out, "{", 1);
    json_field(out, "time", time);
    json_field(out, "level", level_name(event->level));
    json_field(out, "id", event->id);
    json_field(out, "name", name);
    json_field(out, "message", message);
    po__buf_append(out, "}\n", 2);
}

static void write_event(void *arg, const struct po_log_event *event)
{
    (void)arg;
    struct po__buf line = {0};
    logging_format(&line, log_state.json, event);
    size_t done = 0;
    while (!line.err && done < line.len) {
        ssize_t n = write(STDERR_FILENO, line.data + done, line.len - done);
        if (n < 0 && errno != EINTR)
            break; /* nowhere is left to say it */
        done += n > 0 ? (size_t)n : 0;
    }
    po__buf_fini(&line);
}

void logging_init(const char *format, const char *level, const char *name)
{
    log_state.json = strcmp(format, "json") == 0;
    log_state.logger = (struct po__logger){.cb = write_event, .level = PO_LOG_INFO, .name = name};
    for (int i = PO_LOG_ERROR; i <= PO_LOG_DEBUG; i++)
        if (strcmp(level_name(i), level) == 0)
            log_state.logger.level = i;
}

struct po_log_opts logging_opts(void)
{
    return (struct po_log_opts){.cb = write_event, .level = log_state.logger.level};
}

const struct po__logger *logging(void)
{
    return &log_state.logger;
}
