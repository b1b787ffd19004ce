#include "record.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

uint64_t linear_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t next(struct linear_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * UINT64_C(2685821657736338717);
}

struct linear_random linear_random(uint64_t seed, uint64_t stream)
{
    struct linear_random r = {(seed + 1) * UINT64_C(0x9E3779B97F4A7C15) ^ (stream + 1) << 32};
    if (r.state == 0)
        r.state = 1;
    for (int i = 0; i < 8; i++)
        next(&r);
    return r;
}

uint64_t linear_below(struct linear_random *r, uint64_t bound)
{
    return next(r) % bound;
}

void linear_open(struct linear_history *h, const char *prefix)
{
    char path[512];
    snprintf(path, sizeof path, "%s.%llu.jsonl", prefix, (unsigned long long)linear_now_ns());
    h->next_id = 0;
    h->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (h->fd < 0) {
        perror(path);
        exit(1);
    }
}

__attribute__((format(printf, 2, 3))) static void line(struct linear_history *h, const char *format,
                                                       ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof text || write(h->fd, text, (size_t)len) != len) {
        perror("the history cannot be written");
        _exit(1);
    }
}

uint64_t linear_call(struct linear_history *h, const char *model, const char *op, const char *key,
                     uint64_t a, uint64_t b)
{
    uint64_t id = __atomic_fetch_add(&h->next_id, 1, __ATOMIC_RELAXED);
    line(h,
         "{\"event\":\"call\",\"id\":%llu,\"ns\":%llu,\"model\":\"%s\",\"op\":\"%s\","
         "\"key\":\"%s\",\"a\":%llu,\"b\":%llu}\n",
         (unsigned long long)id, (unsigned long long)linear_now_ns(), model, op, key,
         (unsigned long long)a, (unsigned long long)b);
    return id;
}

void linear_return(struct linear_history *h, uint64_t id, const struct linear_outcome *outcome)
{
    uint64_t now = linear_now_ns(); /* not later: what is written meanwhile is not part of it */
    line(h,
         "{\"event\":\"return\",\"id\":%llu,\"ns\":%llu,\"code\":%d,\"value\":%llu,"
         "\"version\":%llu,\"state\":\"%s\"}\n",
         (unsigned long long)id, (unsigned long long)now, outcome->code,
         (unsigned long long)outcome->value, (unsigned long long)outcome->version,
         outcome->state ? outcome->state : "");
}

void linear_refused(struct linear_history *h, uint64_t id)
{
    line(h, "{\"event\":\"refused\",\"id\":%llu,\"ns\":%llu}\n", (unsigned long long)id,
         (unsigned long long)linear_now_ns());
}
