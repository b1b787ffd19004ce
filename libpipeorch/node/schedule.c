/* The leader's part in schedules: it knows when they tick.
 *
 * What a tick becomes is decided in the state (model/schedules.c), once, whoever proposes it. So
 * everything here may be lost at any time, and is, with the leadership: the next leader goes on
 * from the last tick that was decided. It sees that one, as it is ready only when everything of its
 * predecessors is applied: a tick of theirs is in the log, and decided, or it is not, and still to
 * be proposed. A leader that is none any more gets nothing into the log.
 *
 *   tick T is due          T <= stamp: SCHEDULE_FIRE is staged, one of a schedule at a time, so
 *                          that they are decided in order
 *   ... and too late       all that are too late are passed over by one SCHEDULE_FIRE, up to
 *                          STEPS_MAX per turn
 *
 * Time is the leader's stamp, which starts at the wall clock or where its predecessor's stood,
 * whatever is later. A new leader whose clock is behind therefore goes on from there: ticks that
 * were decided stay decided, and none comes again.
 *
 * Definitions are checked here, too, before they enter the log: the model cannot read zones' files.
 * A leader that lacks the file of a zone that another one had says so in its log, and tries again:
 * the ticks wait. Zones are read again once a day, as laws change. */
#include "internal.h"

#include <pipeorch/error.h>
#include "../calendar/cron.h"

#define STEPS_MAX     4096 /* ticks computed in one turn; the rest waits for the next */
#define RETRY_MS      60000
#define ZONES_MAX     1024
#define ZONES_AGE_MS  UINT64_C(86400000)
#define PROBLEM_BYTES 512

struct zone {
    struct po__tree_node by_name;
    struct po__zone *zone;
    struct po__slice name;
    char text[];
};

struct entry { /* one schedule, as far as the leader has to do with it */
    struct po__tree_node by_generation;
    uint64_t generation;
    uint64_t round; /* in which it was seen last */
    const struct po__zone *zone;
    struct po__cron cron;
    bool staged;       /* a tick of it is on its way through the log */
    uint64_t retry_ms; /* its zone or cron is not understood here: ask again then; 0: it is */
    uint64_t after_ms; /* next_ms is the first tick after it; UINT64_MAX: none */
    uint64_t next_ms;
};

static int zone_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return po__slice_cmp(po__container_of(a, struct zone, by_name)->name,
                         po__container_of(b, struct zone, by_name)->name);
}

static int zone_key(const void *key, const struct po__tree_node *n)
{
    return po__slice_cmp(*(const struct po__slice *)key,
                         po__container_of(n, struct zone, by_name)->name);
}

static int entry_cmp(const struct po__tree_node *a, const struct po__tree_node *b)
{
    uint64_t x = po__container_of(a, struct entry, by_generation)->generation;
    uint64_t y = po__container_of(b, struct entry, by_generation)->generation;
    return (x > y) - (x < y);
}

static int entry_key(const void *key, const struct po__tree_node *n)
{
    uint64_t x = *(const uint64_t *)key;
    uint64_t y = po__container_of(n, struct entry, by_generation)->generation;
    return (x > y) - (x < y);
}

/* ---- zones ---- */

static void forget_entries(struct po__node *n)
{
    struct po__tree_node *node;
    while ((node = po__tree_first(&n->schedules.entries))) {
        po__tree_remove(&n->schedules.entries, node);
        po__free(po__container_of(node, struct entry, by_generation));
    }
    n->schedules.look = true;
}

/* With the entries, which hold on to zones. A tick that is proposed a second time for that reason
 * is refused by the state. */
static void forget_zones(struct po__node *n)
{
    struct po__tree_node *node;
    forget_entries(n);
    while ((node = po__tree_first(&n->schedules.zones))) {
        struct zone *z = po__container_of(node, struct zone, by_name);
        po__tree_remove(&n->schedules.zones, node);
        po__zone_close(z->zone);
        po__free(z);
    }
}

static int find_zone(struct po__node *n, struct po__slice name, const struct po__zone **zone,
                     char *why, size_t why_len)
{
    struct po__tree_node *node = po__tree_find(&n->schedules.zones, &name, zone_key);
    if (node) {
        *zone = po__container_of(node, struct zone, by_name)->zone;
        return 0;
    }
    struct zone *z = po__calloc(1, sizeof *z + name.len + 1);
    if (!z) {
        snprintf(why, why_len, "out of memory for a time zone");
        return PO_ENOMEM;
    }
    int rv = po__zone_open(&z->zone, n->time_zone_dir, name, why, why_len);
    if (rv) {
        po__free(z);
        return rv;
    }
    if (n->schedules.zones.count == 0)
        n->schedules.zones_ms = po__node_now(n); /* the age of the oldest */
    memcpy(z->text, name.data, name.len);
    z->name = po__slice(z->text, name.len);
    po__tree_node_init(&z->by_name);
    PO_INVARIANT(po__tree_insert(&n->schedules.zones, &z->by_name, zone_cmp) == NULL);
    *zone = z->zone;
    return 0;
}

static void refresh_zones(struct po__node *n)
{
    uint64_t count = n->schedules.zones.count;
    if (count > ZONES_MAX || (count && po__node_now(n) - n->schedules.zones_ms >= ZONES_AGE_MS))
        forget_zones(n);
}

static int understand(struct po__node *n, struct po__slice cron_text, struct po__slice zone_name,
                      struct po__cron *cron, const struct po__zone **zone, char *why,
                      size_t why_len)
{
    int rv = po__cron_parse(cron, cron_text, why, why_len);
    return rv ? rv : find_zone(n, zone_name, zone, why, why_len);
}

int po__schedule_check(struct po__node *n, const struct po__cmd *cmd, char *message,
                       size_t message_len)
{
    struct po__cron cron;
    const struct po__zone *zone;
    refresh_zones(n);
    int rv = understand(n, cmd->schedule.cron, cmd->schedule.time_zone, &cron, &zone, message,
                        message_len);
    return rv == PO_ENOTFOUND ? PO_EINVAL : rv;
}

void po__schedule_ticks(void *node, const struct po__schedule *s, struct po__ticks *t)
{
    struct po__node *n = node;
    char why[PROBLEM_BYTES];
    struct po__cron cron;
    const struct po__zone *zone;
    uint64_t at_ms = po__schedule_decided_ms(s);
    refresh_zones(n);
    if (understand(n, s->cron, s->time_zone, &cron, &zone, why, sizeof why))
        return; /* no ticks; the leader's log says why */
    while (t->count < t->wanted && po__cron_next(&cron, zone, at_ms, &at_ms) == 0)
        t->at_ms[t->count++] = at_ms;
}

/* ---- ticks ---- */

/* NULL: no memory for it now. */
static struct entry *entry_of(struct po__node *n, const struct po__schedule *s)
{
    struct po__tree_node *node = po__tree_find(&n->schedules.entries, &s->generation, entry_key);
    if (node)
        return po__container_of(node, struct entry, by_generation);
    struct entry *e = po__calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->generation = s->generation;
    e->after_ms = UINT64_MAX;
    e->retry_ms = 1; /* not tried yet */
    po__tree_node_init(&e->by_generation);
    PO_INVARIANT(po__tree_insert(&n->schedules.entries, &e->by_generation, entry_cmp) == NULL);
    return e;
}

static void learn(struct po__node *n, const struct po__schedule *s, struct entry *e, uint64_t stamp)
{
    char why[PROBLEM_BYTES] = "";
    if (e->retry_ms == 0 || e->retry_ms > stamp)
        return;
    e->retry_ms = 0;
    if (understand(n, s->cron, s->time_zone, &e->cron, &e->zone, why, sizeof why) == 0)
        return;
    e->retry_ms = stamp + RETRY_MS;
    po__error(&n->log, "schedule.zone", "the ticks of schedule %s wait: %s", s->name.data, why);
}

/* Ticks of e after after_ms that are too late: how many in a row, and the last of them. */
static uint32_t late_ticks(const struct po__schedule *s, const struct entry *e, uint64_t stamp,
                           unsigned *steps, uint64_t *last_ms)
{
    uint32_t count = 0;
    uint64_t at_ms = e->next_ms;
    while (stamp - at_ms > po__schedule_late_after_ms(s)) {
        *last_ms = at_ms;
        count++;
        if (*steps == 0 || po__cron_next(&e->cron, e->zone, at_ms, &at_ms) || at_ms > stamp)
            break;
        (*steps)--;
    }
    return count;
}

static bool stage_fire(struct po__node *n, const struct po__schedule *s, struct entry *e,
                       uint64_t stamp, unsigned *steps)
{
    uint64_t fire_ms = e->next_ms;
    uint32_t late_count = late_ticks(s, e, stamp, steps, &fire_ms);
    struct po__cmd cmd = {.type = PO__CMD_SCHEDULE_FIRE};
    cmd.schedule_fire.name = s->name;
    cmd.schedule_fire.generation = s->generation;
    cmd.schedule_fire.fire_ms = fire_ms;
    cmd.schedule_fire.late_count = late_count;
    e->staged = po__stage_command(n, &cmd, NULL, 0) == 0;
    if (e->staged && late_count)
        po__warn(&n->log, "schedule.late",
                 "schedule %s: %u ticks are too late to be caught up; they are passed over",
                 s->name.data, late_count);
    return e->staged;
}

/* Do for one schedule what is to be done; returns the stamp at which to look at it again. */
static uint64_t attend(struct po__node *n, const struct po__schedule *s, struct entry *e,
                       uint64_t stamp, unsigned *steps)
{
    uint64_t decided_ms = po__schedule_decided_ms(s);
    learn(n, s, e, stamp);
    if (s->paused || e->staged)
        return UINT64_MAX; /* news of it come as an effect */
    if (n->finish_only[0])
        return UINT64_MAX; /* nothing new begins here */
    if (e->retry_ms)
        return e->retry_ms;
    if (e->after_ms != decided_ms) {
        if (*steps == 0)
            return stamp;
        (*steps)--;
        e->after_ms = decided_ms;
        if (po__cron_next(&e->cron, e->zone, decided_ms, &e->next_ms))
            e->next_ms = UINT64_MAX;
    }
    if (e->next_ms > stamp)
        return e->next_ms;
    return stage_fire(n, s, e, stamp, steps) ? UINT64_MAX : stamp + PO__SWEEP_MS;
}

/* Entries of schedules that there are no more, or that were defined anew. */
static void forget_unseen(struct po__node *n)
{
    struct po__tree_node *next, *node = po__tree_first(&n->schedules.entries);
    for (; node; node = next) {
        struct entry *e = po__container_of(node, struct entry, by_generation);
        next = po__tree_next(node);
        if (e->round == n->schedules.round)
            continue;
        po__tree_remove(&n->schedules.entries, node);
        po__free(e);
    }
}

void po__schedules_tick(struct po__node *n)
{
    uint64_t stamp = po__stamp_ms(n);
    unsigned steps = STEPS_MAX;
    refresh_zones(n);
    if (!n->schedules.look && stamp < n->schedules.next_ms)
        return;
    n->schedules.look = false;
    n->schedules.next_ms = UINT64_MAX;
    n->schedules.round++;
    const struct po__schedule *s = po__model_schedule_after(n->model, po__slice(NULL, 0));
    for (; s; s = po__model_schedule_after(n->model, s->name)) {
        struct entry *e = entry_of(n, s);
        uint64_t at = stamp + PO__SWEEP_MS;
        if (e) {
            e->round = n->schedules.round;
            at = attend(n, s, e, stamp, &steps);
        }
        if (at < n->schedules.next_ms)
            n->schedules.next_ms = at;
    }
    forget_unseen(n);
}

uint64_t po__schedules_deadline(struct po__node *n, uint64_t now)
{
    uint64_t stamp = po__stamp_ms(n), at = UINT64_MAX;
    if (n->schedules.look || n->schedules.next_ms <= stamp)
        return now;
    if (n->schedules.next_ms != UINT64_MAX)
        at = now + (n->schedules.next_ms - stamp);
    uint64_t refresh = n->schedules.zones_ms + ZONES_AGE_MS;
    return n->schedules.zones.count && refresh < at ? refresh : at;
}

void po__schedules_effect(struct po__node *n, uint64_t generation)
{
    struct po__tree_node *node = po__tree_find(&n->schedules.entries, &generation, entry_key);
    if (node)
        po__container_of(node, struct entry, by_generation)->staged = false;
    n->schedules.look = true;
}

void po__schedules_clear(struct po__node *n)
{
    forget_zones(n);
}
