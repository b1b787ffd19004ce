/* The exported functions of sim.h: arguments into a world, a world into a report. */
#include <pipeorch/sim.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pipeorch/client.h>
#include "../spec/spec.h"
#include "checks.h"
#include "outputs.h"

#define CAPS_MAX         16 /* of one worker given as JSON */
#define RUNS_MAX         1000
#define LIMIT_DEFAULT_S  3600
#define LIMIT_MAX_S      86400
#define LIMIT_MIN_S      10
#define DEFAULT_WORKERS  3
#define DURATION_MAX_MS  86400000
#define SIM_VERSION      "1.0.0" /* of a capability, where the file of workers names none */
#define REPORT_MAX_BYTES ((size_t)64 << 20)

/* Everything that a run is given, decoded. */
struct given {
    struct po__world_opts world;
    struct po__cmd pipeline;
    json_t *keep;
    struct po__buf steps;
    json_t *known;   /* capability -> what the file of workers says that it returns */
    json_t *results; /* capability -> JSON text of what it returns */
    struct po__simworker workers[PO__SIM_WORKERS_MAX];
    struct po__simcap caps[PO__SIM_WORKERS_MAX][PO_CAPABILITIES_MAX];
};

const char *po_sim_preset(unsigned i, const char **what)
{
    const struct po__preset *p = po__preset_at(i);
    if (p && what)
        *what = p->what;
    return p ? p->name : NULL;
}

/* ---- workers ---- */

static const struct po__doc_key worker_keys[] = {
    {"id", PO__DOC_STRING, true},
    {"zone", PO__DOC_STRING, false},
    {"capabilities", PO__DOC_ARRAY, true},
};

static const struct po__doc_key capability_keys[] = {
    {"name", PO__DOC_STRING, true},
    {"concurrency", PO__DOC_INT, false, 1, PO__SIM_HELD_MAX},
    {"min_ms", PO__DOC_INT, false, 0, DURATION_MAX_MS},
    {"max_ms", PO__DOC_INT, false, 0, DURATION_MAX_MS},
    {"failure_percent", PO__DOC_INT, false, 0, 100},
    {"version", PO__DOC_STRING, false, 1},
    {"output", PO__DOC_ANY, false},
};

static uint64_t number_or(const json_t *object, const char *key, uint64_t otherwise)
{
    const json_t *v = json_object_get(object, key);
    return v ? (uint64_t)json_integer_value(v) : otherwise;
}

static void read_capability(struct po__doc *d, const char *at, json_t *v, struct given *g,
                            struct po__simcap *cap)
{
    if (po__doc_object(d, at, v, capability_keys, sizeof capability_keys / sizeof *capability_keys))
        return;
    const char *name = json_string_value(json_object_get(v, "name"));
    if (!po__capability_ok(po__str(name)))
        po__doc_problem(d, at, "\"%s\" is no capability; expected verb:name", name);
    const char *version = json_string_value(json_object_get(v, "version"));
    if (version && !po__semver_ok(po__str(version)))
        po__doc_problem(d, at, "\"%s\" is no version; expected such as 1.2.3", version);
    snprintf(cap->name, sizeof cap->name, "%s", name);
    snprintf(cap->version, sizeof cap->version, "%s", version ? version : SIM_VERSION);
    if (json_object_get(v, "output") &&
        json_object_set(g->known, name, json_object_get(v, "output")))
        d->problems.err = PO_ENOMEM;
    cap->concurrency = (uint32_t)number_or(v, "concurrency", 1);
    cap->min_ms = number_or(v, "min_ms", 100);
    cap->max_ms = number_or(v, "max_ms", cap->min_ms > 1000 ? cap->min_ms : 1000);
    cap->failure_percent = (double)number_or(v, "failure_percent", 0);
    if (cap->max_ms < cap->min_ms)
        po__doc_problem(d, at, "max_ms is less than min_ms");
}

static void read_worker(struct po__doc *d, const char *at, json_t *v, struct given *g,
                        struct po__simworker *x, struct po__simcap *caps)
{
    char list[PO__SPEC_POINTER_MAX_BYTES], item[PO__SPEC_POINTER_MAX_BYTES];
    size_t i;
    json_t *cap;
    if (po__doc_object(d, at, v, worker_keys, sizeof worker_keys / sizeof *worker_keys))
        return;
    const char *id = json_string_value(json_object_get(v, "id")),
               *zone = json_string_value(json_object_get(v, "zone"));
    if (!po__name_ok(po__str(id)) || (zone && !po__name_ok(po__str(zone))))
        po__doc_problem(d, at, "id and zone consist of letters, digits, '.', '_' and '-'");
    snprintf(x->id, sizeof x->id, "%s", id);
    snprintf(x->zone, sizeof x->zone, "%s", zone ? zone : "default");
    po__doc_pointer_key(list, at, "capabilities");
    json_t *array = json_object_get(v, "capabilities");
    if (json_array_size(array) > CAPS_MAX) {
        po__doc_problem(d, list, "has more than %d capabilities", CAPS_MAX);
        return;
    }
    json_array_foreach(array, i, cap)
    {
        po__doc_pointer_index(item, list, i);
        read_capability(d, item, cap, g, &caps[i]);
    }
    x->caps = caps;
    x->caps_count = (unsigned)json_array_size(array);
}

static void read_workers(struct po__doc *d, struct given *g, const char *text, size_t len)
{
    char at[PO__SPEC_POINTER_MAX_BYTES];
    size_t i;
    json_t *worker, *root = po__doc_parse(d, text, len);
    size_t count = json_array_size(root);
    if (root && (!json_is_array(root) || count == 0 || count > PO__SIM_WORKERS_MAX))
        po__doc_problem(d, "", "expected an array of 1 to %d workers", PO__SIM_WORKERS_MAX);
    json_array_foreach(root, i, worker)
    {
        if (i == PO__SIM_WORKERS_MAX)
            break;
        po__doc_pointer_index(at, "", i);
        read_worker(d, at, worker, g, &g->workers[i], g->caps[i]);
        for (size_t k = 0; k < i; k++)
            if (strcmp(g->workers[k].id, g->workers[i].id) == 0)
                po__doc_problem(d, at, "another worker has the id %s", g->workers[i].id);
    }
    g->world.workers_count = (unsigned)(count < PO__SIM_WORKERS_MAX ? count : PO__SIM_WORKERS_MAX);
    json_decref(root);
}

/* ---- what the pipeline needs ---- */

static bool is_graph(const struct given *g)
{
    return g->pipeline.type == PO__CMD_PIPELINE_DEFINE_GRAPH;
}

/* The steps of either kind of pipeline: calls back with what each asks for. */
typedef bool (*step_fn)(void *arg, struct po__slice step, struct po__slice capability,
                        const struct po__placement *p);

static bool each_step(const struct given *g, step_fn fn, void *arg)
{
    struct po__slice encoded = is_graph(g) ? g->pipeline.graph.steps : g->pipeline.pipeline.steps;
    struct po__placement p = {0};
    struct po__extra extra;
    struct po__graph_step node;
    struct po__step step;
    struct po__mpr r;
    bool on = true;
    po__mpr_init(&r, encoded.data, encoded.len);
    uint32_t steps = po__mpr_array(&r, PO_STEPS_MAX);
    for (uint32_t i = 0; on && i < steps; i++) {
        if (!is_graph(g)) {
            on = po__step_decode(&r, &step) || fn(arg, step.name, step.capability, &p);
            continue;
        }
        extra = (struct po__extra){0};
        PO_INVARIANT(po__graph_step_decode(&r, &node) == 0); /* just encoded */
        PO_INVARIANT(node.extra.len == 0 || po__extra_decode(node.extra, &extra) == 0);
        PO_INVARIANT(po__placement_decode(extra.placement, &p) == 0);
        on = node.capability.len == 0 || fn(arg, node.name, node.capability, &p);
    }
    return on;
}

struct needs {
    struct po__slice names[PO_STEPS_MAX]; /* capabilities, each once */
    unsigned count;
};

static bool add_need(void *arg, struct po__slice step, struct po__slice capability,
                     const struct po__placement *p)
{
    struct needs *n = arg;
    unsigned k = 0;
    (void)step;
    (void)p;
    while (k < n->count && !po__slice_eq(n->names[k], capability))
        k++;
    if (k == n->count)
        n->names[n->count++] = capability;
    return true;
}

/* Simulated workers have a zone and versions, but neither labels nor resources. */
static bool has_place(const struct given *g, struct po__slice capability,
                      const struct po__placement *p)
{
    if (p->gpu == PO__GPU_REQUIRED || p->resources_count)
        return false;
    for (uint32_t i = 0; i < p->labels_count; i++)
        if (p->labels[i].op == PO__LABEL_EQUAL || p->labels[i].op == PO__LABEL_PRESENT)
            return false;
    for (unsigned i = 0; i < g->world.workers_count; i++) {
        const struct po__simworker *x = &g->workers[i];
        for (unsigned k = 0; k < x->caps_count; k++)
            if (po__slice_eq(capability, po__str(x->caps[k].name)) &&
                po__range_has(p->range, po__str(x->caps[k].version)) &&
                (p->zone.len == 0 || po__slice_eq(p->zone, po__str(x->zone))))
                return true;
    }
    return false;
}

struct placing {
    const struct given *g;
    char *error;
    size_t error_len;
};

static bool check_place(void *arg, struct po__slice step, struct po__slice capability,
                        const struct po__placement *p)
{
    struct placing *c = arg;
    if (has_place(c->g, capability, p))
        return true;
    snprintf(
        c->error, c->error_len,
        "step \"%.*s\": no worker offers %.*s%s%.*s where the step may run; workers of your own "
        "can have a zone and versions, but no simulated worker has labels or resources",
        (int)step.len, step.data, (int)capability.len, capability.data, p->range.len ? "@" : "",
        (int)p->range.len, p->range.data ? p->range.data : "");
    return false;
}

static int default_workers(struct given *g, const struct po__slice *names, unsigned count,
                           char *error, size_t error_len)
{
    if (count > PO_CAPABILITIES_MAX) {
        snprintf(error, error_len,
                 "the pipeline needs %u capabilities; more than %d need workers of your own", count,
                 PO_CAPABILITIES_MAX);
        return PO_EINVAL;
    }
    g->world.workers_count = DEFAULT_WORKERS;
    for (unsigned i = 0; i < DEFAULT_WORKERS; i++) {
        struct po__simworker *x = &g->workers[i];
        snprintf(x->id, sizeof x->id, "worker-%u", i + 1);
        snprintf(x->zone, sizeof x->zone, "zone-%u", i);
        x->caps = g->caps[i];
        x->caps_count = count;
        for (unsigned k = 0; k < count; k++) {
            g->caps[i][k] = (struct po__simcap){
                .version = SIM_VERSION, .concurrency = 1, .min_ms = 100, .max_ms = 1000};
            snprintf(g->caps[i][k].name, sizeof g->caps[i][k].name, "%.*s", (int)names[k].len,
                     names[k].data);
        }
    }
    return 0;
}

/* ---- arguments ---- */

static int problems(struct po__doc *d, int rv, char *error, size_t error_len)
{
    if (d->count || rv) {
        snprintf(error, error_len, "%.*s", (int)d->problems.len, (const char *)d->problems.data);
        rv = rv ? rv : PO_EINVAL;
    }
    po__buf_fini(&d->problems);
    return rv;
}

/* The results of the workers' capabilities, so that the templates of a graph find what they name.
 */
static int make_results(struct given *g, char *error, size_t error_len)
{
    json_t *outputs, *value;
    const char *capability;
    int rv =
        po__sim_outputs(&outputs, &g->pipeline.graph, g->known, g->world.params, error, error_len);
    if (rv)
        return rv;
    g->results = json_object();
    json_object_foreach(outputs, capability, value)
    {
        char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
        if (!text || json_object_set_new(g->results, capability, json_string(text)))
            rv = PO_ENOMEM;
        free(text); /* jansson's allocator */
    }
    json_decref(outputs);
    for (unsigned i = 0; i < g->world.workers_count; i++)
        for (unsigned k = 0; k < g->workers[i].caps_count; k++)
            g->caps[i][k].output =
                json_string_value(json_object_get(g->results, g->caps[i][k].name));
    return rv;
}

static int find_workers(struct given *g, bool own, char *error, size_t error_len)
{
    struct placing c = {.g = g, .error = error, .error_len = error_len};
    struct needs *n = po__calloc(1, sizeof *n);
    if (!n)
        return PO_ENOMEM;
    each_step(g, add_need, n);
    int rv = own ? 0 : default_workers(g, n->names, n->count, error, error_len);
    po__free(n);
    return rv || each_step(g, check_place, &c) ? rv : PO_EINVAL;
}

static int read_documents(struct given *g, const struct po_sim_opts *o, char *error,
                          size_t error_len)
{
    struct po__doc d = {.file = "pipeline"};
    int rv = po__spec_pipeline(&d, o->pipeline, o->pipeline_len, &g->pipeline, &g->keep, &g->steps);
    rv = problems(&d, rv, error, error_len);
    if (rv)
        return rv;
    g->known = json_object();
    if (!g->known)
        return PO_ENOMEM;
    if (o->workers) {
        d = (struct po__doc){.file = "workers"};
        read_workers(&d, g, o->workers, o->workers_len);
        rv = problems(&d, d.problems.err, error, error_len);
        if (rv)
            return rv;
    }
    rv = find_workers(g, o->workers != NULL, error, error_len);
    return rv ? rv : make_results(g, error, error_len);
}

static int read_opts(struct given *g, const struct po_sim_opts *o, char *error, size_t error_len)
{
    if (o->nodes > PO_MEMBERS_MAX || o->runs > RUNS_MAX || o->limit_s > LIMIT_MAX_S ||
        (o->limit_s && o->limit_s < LIMIT_MIN_S)) {
        snprintf(error, error_len, "nodes: 1..%d, runs: 1..%d, limit_s: %d..%d", PO_MEMBERS_MAX,
                 RUNS_MAX, LIMIT_MIN_S, LIMIT_MAX_S);
        return PO_EINVAL;
    }
    const char *preset = o->faults ? o->faults : "lan";
    uint64_t limit_us = (uint64_t)(o->limit_s ? o->limit_s : LIMIT_DEFAULT_S) * 1000000;
    g->world = (struct po__world_opts){.seed = o->seed,
                                       .preset = po__preset_find(preset),
                                       .hint = true,
                                       .voters = o->nodes ? o->nodes : 3,
                                       .workers = g->workers,
                                       .clients = 1,
                                       .chaos_us = limit_us / 2,
                                       .pipeline = &g->pipeline,
                                       .params = po__str(o->params ? o->params : "null"),
                                       .runs = o->runs ? o->runs : 1,
                                       .limit_us = limit_us,
                                       .log = o->log,
                                       .stop = o->stop};
    if (!g->world.preset) {
        size_t len =
            (size_t)snprintf(error, error_len, "no preset is called %s; there are", preset);
        for (unsigned i = 0; po__preset_at(i) && len < error_len; i++)
            len += (size_t)snprintf(error + len, error_len - len, " %s", po__preset_at(i)->name);
        return PO_ENOTFOUND;
    }
    if (!po__spec_json_ok(g->world.params.data, g->world.params.len)) {
        snprintf(error, error_len, "params is no JSON text");
        return PO_EINVAL;
    }
    return read_documents(g, o, error, error_len);
}

/* ---- the report ---- */

static json_t *counts_json(const struct po__world_stats *t)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"acknowledged", t->acked},
        {"attempts", t->granted},
        {"attempts_failed", t->failed},
        {"attempts_stale", t->stale},
        {"crashes", t->crashes},
        {"disk_faults", t->disk_faults},
        {"elections", t->elections},
        {"failovers", t->failovers},
        {"faults", t->faults},
        {"memory_faults", t->memory_faults},
        {"messages", t->frames + t->calls},
        {"messages_lost", t->frames_lost + t->calls_lost},
        {"outcomes_unknown", t->unknown},
        {"partitions", t->partitions},
        {"restarts", t->starts},
        {"worker_crashes", t->worker_crashes},
        {"worker_freezes", t->zombies},
    };
    json_t *object = json_object();
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        json_object_set_new(object, numbers[i].key, json_integer((json_int_t)numbers[i].value));
    return object;
}

/* The runs as the cluster answers for them. */
static json_t *runs_json(struct po__world *w)
{
    struct po__simnode *leader = po__world_leader(w);
    json_t *array = json_array();
    for (uint64_t id = 1; leader && id <= w->opts.runs; id++) {
        struct po__query q = {.what = PO_QUERY_RUN, .id = id};
        struct po__buf mp = {0}, text = {0};
        const char *message;
        if (po__model_query(leader->core->model, &q, &mp, &message) == 0 &&
            po__spec_json_from_mp(&text, mp.data, mp.len) == 0)
            json_array_append_new(
                array, json_loadb((const char *)text.data, text.len, JSON_DECODE_ANY, NULL));
        po__buf_fini(&mp);
        po__buf_fini(&text);
    }
    return array;
}

static int write_report(struct po__world *w, char **report)
{
    char hash[24];
    const char *failure = po__world_failure(w);
    json_t *o = json_object();
    snprintf(hash, sizeof hash, "%016" PRIx64, w->trace.hash);
    json_object_set_new(o, "counts", counts_json(&w->stats));
    json_object_set_new(o, "failure", failure ? json_string(failure) : json_null());
    json_object_set_new(o, "faults", json_string(w->opts.preset->name));
    json_object_set_new(o, "kept", json_boolean(!failure));
    json_object_set_new(o, "nodes", json_integer(w->nodes_count));
    json_object_set_new(o, "runs", runs_json(w));
    json_object_set_new(o, "seed", json_integer((json_int_t)w->opts.seed));
    json_object_set_new(o, "trace", json_string(hash));
    json_object_set_new(o, "virtual_ms", json_integer((json_int_t)w->stats.virtual_ms));
    char *text = json_dumps(o, JSON_SORT_KEYS);
    *report = text ? po__strndup(text, strlen(text)) : NULL;
    free(text);
    json_decref(o);
    return *report ? 0 : PO_ENOMEM;
}

int po_sim_run(const struct po_sim_opts *opts, char **report, char *error, size_t error_len)
{
    char ignored[1];
    if (!error || error_len == 0) {
        error = ignored;
        error_len = sizeof ignored;
    }
    error[0] = '\0';
    if (!opts || !report || opts->size != sizeof *opts || !opts->pipeline) {
        snprintf(error, error_len,
                 "opts of this version, with a pipeline, and report are required");
        return PO_EINVAL;
    }
    *report = NULL;
    struct given *g = po__calloc(1, sizeof *g);
    if (!g)
        return PO_ENOMEM;
    int rv = read_opts(g, opts, error, error_len);
    if (rv == 0) {
        struct po__world *w = po__world_new(&g->world);
        po__world_run(w);
        if (po__world_stopped(w)) {
            rv = PO_ECANCELLED;
            snprintf(error, error_len, "the simulation was stopped by its caller");
        } else {
            rv = write_report(w, report);
        }
        po__world_free(w);
    }
    json_decref(g->keep);
    json_decref(g->known);
    json_decref(g->results);
    po__buf_fini(&g->steps);
    po__free(g);
    return rv;
}
