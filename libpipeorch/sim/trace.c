#include "trace.h"

#include <stdio.h>
#include <string.h>

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * UINT64_C(0xBF58476D1CE4E5B9);
    return h ^ (h >> 29);
}

static uint64_t mix_text(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = mix(h, (unsigned char)*s);
    return h;
}

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void format(const struct po__trace_entry *e, char line[PO__TRACE_LINE_MAX_BYTES])
{
    int n = snprintf(line, PO__TRACE_LINE_MAX_BYTES, "[%11.6f] ", (double)e->us / 1e6);
    const uint64_t *v = e->values;
    snprintf(line + n, PO__TRACE_LINE_MAX_BYTES - (size_t)n, e->what, e->who,
             (unsigned long long)v[0], (unsigned long long)v[1], (unsigned long long)v[2],
             (unsigned long long)v[3], (unsigned long long)v[4]);
}
#pragma GCC diagnostic pop

void po__trace_add(struct po__trace *t, uint64_t us, const char *what, const char *who, uint64_t a,
                   uint64_t b, uint64_t c, uint64_t d, uint64_t e)
{
    struct po__trace_entry *x = &t->ring[t->count++ % PO__TRACE_ENTRIES];
    *x = (struct po__trace_entry){us, what, who, {a, b, c, d, e}};
    uint64_t h = mix_text(mix_text(mix(t->hash, us), what), who);
    for (unsigned i = 0; i < PO__TRACE_VALUES; i++)
        h = mix(h, x->values[i]);
    t->hash = h;
    if (t->echo) {
        char line[PO__TRACE_LINE_MAX_BYTES];
        format(x, line);
        t->echo(t->echo_arg, line);
    }
}

void po__trace_each(const struct po__trace *t, void (*line)(void *arg, const char *line), void *arg)
{
    uint64_t first = t->count > PO__TRACE_ENTRIES ? t->count - PO__TRACE_ENTRIES : 0;
    for (uint64_t i = first; i < t->count; i++) {
        char text[PO__TRACE_LINE_MAX_BYTES];
        format(&t->ring[i % PO__TRACE_ENTRIES], text);
        line(arg, text);
    }
}
