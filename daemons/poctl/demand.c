/* The grammar of the options that say where and when a task may run:
 *
 *   --labels disk=ssd,tier!=spot,gpu,!old      a label has a value, has not, is there, is not there
 *   --resources cpu_milli=500,memory_bytes=8GiB
 *   --run-at 2026-12-24T18:00:00Z, or +90m from now
 *   --rate 100/1m */
#include "demand.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../common/amount.h"
#include "../common/files.h"

static uint64_t wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- lists ---- */

/* Cuts the next element off a comma-separated list that is being consumed. */
static char *next_element(char **list)
{
    char *element = *list, *comma;
    if (!element)
        return NULL;
    comma = strchr(element, ',');
    if (comma)
        *comma = '\0';
    *list = comma ? comma + 1 : NULL;
    return element;
}

static void read_label(struct po_label_wish *l, char *text)
{
    char *equals = strchr(text, '=');
    *l = (struct po_label_wish){.key = text, .op = PO_LABEL_PRESENT};
    if (equals) {
        bool unequal = equals > text && equals[-1] == '!';
        l->op = unequal ? PO_LABEL_UNEQUAL : PO_LABEL_EQUAL;
        l->value = equals + 1;
        equals[unequal ? -1 : 0] = '\0';
    } else if (text[0] == '!') {
        l->op = PO_LABEL_ABSENT;
        l->key = text + 1;
    }
}

static int read_labels(const struct ctl *ctl, struct demand *d)
{
    char *rest = d->labels_text = ctl->s->labels ? strdup(ctl->s->labels) : NULL, *text;
    while ((text = next_element(&rest))) {
        if (d->placement.labels_count == PO_PLACEMENT_LABELS_MAX)
            return ctl_usage(ctl, "--labels: at most %d labels are allowed",
                             PO_PLACEMENT_LABELS_MAX);
        struct po_label_wish *l = &d->labels[d->placement.labels_count++];
        read_label(l, text);
        if (!l->key[0])
            return ctl_usage(ctl,
                             "--labels: element %zu names no label; expected key=value, "
                             "key!=value, key or !key, separated by commas",
                             d->placement.labels_count);
    }
    d->placement.labels = d->labels;
    return EXIT_DONE;
}

static int read_resources(const struct ctl *ctl, struct demand *d)
{
    char *rest = d->resources_text = ctl->s->resources ? strdup(ctl->s->resources) : NULL, *text;
    while ((text = next_element(&rest))) {
        char *equals = strchr(text, '=');
        if (d->placement.resources_count == PO_RESOURCES_MAX)
            return ctl_usage(ctl, "--resources: at most %d are allowed", PO_RESOURCES_MAX);
        struct po_resource *r = &d->resources[d->placement.resources_count++];
        r->name = text;
        if (!equals || !amount_read(equals + 1, &r->amount))
            return ctl_usage(ctl,
                             "--resources: \"%s\" is not an amount; expected name=number, as in "
                             "cpu_milli=500,memory_bytes=8GiB,gpus=1",
                             text);
        *equals = '\0';
    }
    d->placement.resources = d->resources;
    return EXIT_DONE;
}

/* ---- times ---- */

/* "90m", "1500ms", "2h" or plain milliseconds. */
static bool read_duration(const char *text, const char *until, uint64_t *ms)
{
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    unsigned long long v = strtoull(text, &end, 10);
    size_t len = (size_t)(until - end);
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
        if (strlen(units[i].suffix) != len || memcmp(end, units[i].suffix, len) != 0)
            continue;
        *ms = v * units[i].ms;
        return v <= UINT64_MAX / units[i].ms;
    }
    return false;
}

/* RFC 3339 in UTC ("2026-12-24T18:00:00Z", "2026-12-24"), or "+90m" from now. */
static bool read_time(const char *text, uint64_t *ms)
{
    static const char *const forms[] = {"%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%Y-%m-%d"};
    if (text[0] == '+') {
        uint64_t delta;
        if (!read_duration(text + 1, text + strlen(text), &delta))
            return false;
        *ms = wall_ms() + delta;
        return *ms >= delta;
    }
    for (unsigned i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct tm tm = {0};
        const char *end = strptime(text, forms[i], &tm);
        if (!end || *end)
            continue;
        const struct tm given = tm; /* timegm makes February 31st a day of March */
        time_t t = timegm(&tm);
        *ms = (uint64_t)t * 1000;
        return t > 0 && tm.tm_mday == given.tm_mday && tm.tm_mon == given.tm_mon &&
               tm.tm_hour == given.tm_hour;
    }
    return false;
}

static int read_when(const struct ctl *ctl, const char *option, const char *text, uint64_t *ms)
{
    if (!text || read_time(text, ms))
        return EXIT_DONE;
    return ctl_usage(ctl,
                     "--%s: \"%s\" is no time; expected UTC as 2026-12-24T18:00:00Z, or +90m from "
                     "now",
                     option, text);
}

static int read_rate(const struct ctl *ctl, struct po_task_opts *task)
{
    const char *text = ctl->s->rate, *slash = text ? strchr(text, '/') : NULL;
    uint64_t count = 0, period = 0;
    if (!text)
        return EXIT_DONE;
    if (slash) {
        char *end;
        count = text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 10) : 0;
        if (!count || end != slash || !read_duration(slash + 1, text + strlen(text), &period))
            count = 0;
    }
    if (!count || count > UINT32_MAX || !period || period > UINT32_MAX)
        return ctl_usage(ctl, "--rate: \"%s\" is no rate; expected starts per time, as 100/1m",
                         text);
    task->rate_max = (uint32_t)count;
    task->rate_period_ms = (uint32_t)period;
    return EXIT_DONE;
}

/* ---- all ---- */

/* The place of a word in a list separated by '|'. */
static int choice(const char *word, const char *const *words)
{
    int i = 0;
    while (word && words[i] && strcmp(word, words[i]) != 0)
        i++;
    return word ? i : 0;
}

int demand_read(const struct ctl *ctl, struct demand *d, struct po_task_opts *task)
{
    static const char *const gpu[] = {"any", "required", "forbidden", NULL};
    static const char *const prefer[] = {"balance", "spread", "binpack", "local", NULL};
    const struct poctl_settings *s = ctl->s;
    d->placement.size = sizeof d->placement;
    d->placement.zone = s->require_zone;
    d->placement.gpu = choice(s->gpu, gpu);
    d->placement.prefer = choice(s->prefer, prefer);
    task->size = sizeof *task;
    task->zone = s->zone;
    task->attempts_max = (uint32_t)s->attempts;
    task->timeout_ms = (uint32_t)s->timeout_ms;
    task->priority = (uint32_t)s->priority;
    task->retry_ms = (uint32_t)s->retry_delay;
    task->retry_max_ms = (uint32_t)s->retry_delay_max;
    task->concurrency_key = s->concurrency_key;
    task->concurrency_max = (uint32_t)s->concurrency;
    task->keep_ms = s->keep;
    task->placement = &d->placement;
    int rv = read_labels(ctl, d);
    rv = rv ? rv : read_resources(ctl, d);
    rv = rv ? rv : read_when(ctl, "run-at", s->run_at, &task->run_at_ms);
    rv = rv ? rv : read_when(ctl, "deadline", s->deadline, &task->deadline_ms);
    return rv ? rv : read_rate(ctl, task);
}

void demand_fini(struct demand *d)
{
    free(d->labels_text);
    free(d->resources_text);
}
