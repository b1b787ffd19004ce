/* The last events of a run: what a failure report shows.
 *
 * Every event of a run is noted, formatted or not: a note keeps its format and its numbers, and is
 * made a text only when somebody wants to read it, so noting costs little more than a copy. The
 * formats must therefore be literals. The notes are also hashed, so that two runs of one seed can
 * be compared. */
#include <stdio.h>
#include <string.h>

#include "sim.h"

#define NOTES_MAX  200
#define TEXT_BYTES 120

struct note {
    uint64_t us, node; /* node: 0 for none */
    const char *format;
    unsigned long long numbers[SIM_NUMBERS];
    char text[TEXT_BYTES]; /* used if format is NULL */
};

static struct note notes[NOTES_MAX];
static uint64_t noted; /* since the run began */

void trace_reset(void)
{
    noted = 0;
}

static void print(FILE *to, const struct note *n)
{
    const unsigned long long *v = n->numbers;

    fprintf(to, "[%11.6f] ", (double)n->us / 1e6);
    if (n->node)
        fprintf(to, "%llu: ", (unsigned long long)n->node);
    if (n->format)
        fprintf(to, n->format, v[0], v[1], v[2], v[3], v[4], v[5]);
    else
        fputs(n->text, to);
    fputc('\n', to);
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x100000001b3);
}

static struct note *next(struct sim *s, const struct sim_node *n)
{
    struct note *to = &notes[noted++ % NOTES_MAX];

    to->us = s->now_us;
    to->node = n ? n->id : 0;
    s->hash = mix(mix(s->hash, to->us), to->node);
    return to;
}

void trace_numbers(struct sim *s, const struct sim_node *n, const char *format,
                   const unsigned long long numbers[SIM_NUMBERS])
{
    struct note *to = next(s, n);

    to->format = format;
    memcpy(to->numbers, numbers, sizeof to->numbers);
    for (int i = 0; i < SIM_NUMBERS; i++)
        s->hash = mix(s->hash, numbers[i]);
    if (s->verbose)
        print(stderr, to);
}

void trace_text(struct sim *s, const struct sim_node *n, const char *id, const char *message)
{
    struct note *to = next(s, n);

    to->format = NULL;
    snprintf(to->text, sizeof to->text, "%s: %s", id, message);
    if (s->verbose)
        print(stderr, to);
}

void trace_print(FILE *to)
{
    uint64_t count = noted < NOTES_MAX ? noted : NOTES_MAX;

    fprintf(to, "the last %llu of %llu events:\n", (unsigned long long)count,
            (unsigned long long)noted);
    for (uint64_t i = noted - count; i < noted; i++)
        print(to, &notes[i % NOTES_MAX]);
}
