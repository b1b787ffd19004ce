/* What heartbeats say about this worker: its tasks, its machine, and how long a message takes.
 *
 * Polls are heartbeats, but a parked one says nothing about the way: so a heartbeat proper, which
 * any node that leads answers at once and without a log entry, goes out once per interval, and the
 * time until its answer is the round trip. It is smoothed as TCP does it (an eighth of each new
 * one); the smallest of the last minute is what the way costs when nothing else is going on. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "worker_internal.h"

#define SMOOTHING 8

/* ---- the machine ---- */

/* In kB, of a line like "MemTotal:       32663232 kB". */
static uint64_t meminfo_kb(const char *line, const char *key)
{
    size_t len = strlen(key);
    return strncmp(line, key, len) == 0 ? strtoull(line + len, NULL, 10) : 0;
}

static void read_memory(struct po__worker_load *load)
{
    char line[128];
    uint64_t total = 0, available = 0, kb;
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && (!total || !available) && fgets(line, sizeof line, f)) {
        if ((kb = meminfo_kb(line, "MemTotal:")) != 0)
            total = kb;
        else if ((kb = meminfo_kb(line, "MemAvailable:")) != 0)
            available = kb;
    }
    if (f)
        fclose(f);
    load->memory_available_bytes = available << 10;
    load->memory_used_bytes = total && total >= available ? (total - available) << 10 : 0;
}

static void read_machine(struct po_worker *w, uint64_t now)
{
    double average;
    if (w->load_ms && now < w->load_ms + PO__WORKER_LOAD_MS)
        return;
    w->load_ms = now;
    read_memory(&w->load);
    w->load.cpu_load_centi =
        getloadavg(&average, 1) == 1 && average < 1e6 ? (uint32_t)(average * 100 + 0.5) : 0;
}

void po__worker_load(struct po__plane *p, struct po__worker_load *load)
{
    struct po_worker *w = p->worker;
    uint64_t now = po__worker_now_ms();
    read_machine(w, now);
    *load = w->load;
    load->running = w->in_handler_count;
    load->queued = p->unanswered_count - p->in_handler_count;
    load->rtt_us = p->rtt.smoothed_us;
    load->rtt_min_us = po__rtt_min_us(&p->rtt, now);
}

/* ---- round trips ---- */

/* The window has two halves; the older one is dropped when a new one begins. */
static void turn(struct po__rtt *rtt, uint64_t now_ms)
{
    const uint64_t half = PO__WORKER_RTT_WINDOW_MS / 2;
    uint64_t passed = now_ms - rtt->half_ms;
    if (passed < half)
        return;
    rtt->min_us[1] = passed < 2 * half ? rtt->min_us[0] : 0;
    rtt->min_us[0] = 0;
    rtt->half_ms = now_ms;
}

void po__rtt_sample(struct po__rtt *rtt, uint32_t us, uint64_t now_ms)
{
    us = us ? us : 1;
    turn(rtt, now_ms);
    if (!rtt->min_us[0] || us < rtt->min_us[0])
        rtt->min_us[0] = us;
    if (!rtt->smoothed_us)
        rtt->smoothed_us = us;
    else
        rtt->smoothed_us =
            (uint32_t)(((uint64_t)rtt->smoothed_us * (SMOOTHING - 1) + us + SMOOTHING / 2) /
                       SMOOTHING);
}

uint32_t po__rtt_min_us(const struct po__rtt *rtt, uint64_t now_ms)
{
    struct po__rtt r = *rtt;
    turn(&r, now_ms);
    return !r.min_us[0]                                ? r.min_us[1]
           : !r.min_us[1] || r.min_us[0] < r.min_us[1] ? r.min_us[0]
                                                       : r.min_us[1];
}

/* ---- heartbeats ---- */

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void on_beat(void *arg, int code, const void *data, size_t len)
{
    struct po__plane *p = arg;
    uint64_t at_us = now_us();
    struct po__response resp;
    if (code == 0)
        code = po__response_decode(data, len, &resp);
    if (code == 0)
        code = resp.code;
    pthread_mutex_lock(&p->worker->lock);
    p->beat_under_way = false;
    uint64_t us = at_us - p->beat_sent_us;
    if (code == 0) {
        if (!p->rtt.smoothed_us)
            p->beat_at_ms = 0; /* the first one is news */
        po__rtt_sample(&p->rtt, us < UINT32_MAX ? (uint32_t)us : UINT32_MAX, at_us / 1000);
    }
    if (po__worker_beat_due_ms(p) < p->worker->sleeping_until_ms)
        po__worker_wake(p->worker);
    pthread_mutex_unlock(&p->worker->lock);
}

/* What a refused heartbeat means, the next poll is told as well. */
void po__worker_beat(struct po__plane *p)
{
    struct po_worker *w = p->worker;
    struct po__worker_load load;
    struct po__buf request;
    uint64_t now = po__worker_now_ms();
    if (!po__plane_converses(p) || p->beat_under_way || now < p->beat_at_ms)
        return;
    p->beat_at_ms = now + w->heartbeat_ms;
    po__worker_load(p, &load);
    po__buf_init(&request, PO__REQUEST_MAX_BYTES);
    po__request_heartbeat(&request, w->heartbeat_ms, po__str(w->id), w->incarnation, &load);
    p->beat_under_way = true;
    p->beat_sent_us = now_us();
    if (request.err ||
        p->channel->ops->call(p->channel, request.data, request.len, w->heartbeat_ms, on_beat, p))
        p->beat_under_way = false;
    po__buf_fini(&request);
}

uint64_t po__worker_beat_due_ms(const struct po__plane *p)
{
    return po__plane_converses(p) && !p->beat_under_way ? p->beat_at_ms : UINT64_MAX;
}
