/* What the commands of poctl share: the client, questions, answers, errors. */
#ifndef PO_POCTL_CTL_H
#define PO_POCTL_CTL_H

#include <jansson.h>
#include <pipeorch/client.h>
#include "settings.h"

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_UNREACHABLE = 3 };

#define WAIT_DEFAULT_MS PO_TIMEOUT_MAX_MS

struct verb;
struct table;
struct po__replay;
struct ctl {
    struct opt_run *run;
    const struct poctl_settings *s;
    const struct verb *verb;
    const char *arg; /* the argument, NULL if the verb has none */
    po_client *client;
    struct po__replay *replay; /* answers come from it instead of the client; NULL: from that */
};

struct verb {
    const char *words;    /* "task submit" */
    const char *argument; /* name of the one argument, NULL: none */
    const char *options;  /* allowed beside the common ones, separated by spaces */
    const char *help;
    int (*execute)(struct ctl *ctl); /* returns the exit code */
    bool offline;                    /* no client needed */
    bool optional;                   /* the argument may be left out */
    const char *offline_with;        /* likewise offline with this option, NULL: none */
    bool alone;                      /* further words make it another command */
};

extern const struct verb cluster_verbs[], member_verbs[], task_verbs[], pipeline_verbs[],
    schedule_verbs[], backup_verbs[], sim_verbs[], replay_verbs[], watch_verbs[],
    worker_verbs[]; /* each ends with words NULL */

bool ctl_json(const struct ctl *ctl);                     /* -o json */
struct po_call_opts ctl_opts(const struct ctl *ctl);      /* timeout, and the key if given */
struct po_call_opts ctl_wait_opts(const struct ctl *ctl); /* the longer timeout of waits */

/* Says on stderr what went wrong with the last call and what to do; returns the exit code. */
int ctl_fail(const struct ctl *ctl, int rv);
/* A problem of usage; returns EXIT_USAGE. */
int ctl_usage(const struct ctl *ctl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Ask; *answer is the parsed object. Returns EXIT_DONE, or an exit code after saying why. With what
 * = one of the lists by name, all pages are fetched and joined under `list`. */
int ctl_ask(const struct ctl *ctl, struct po_query query, const char *list, json_t **answer);
/* Ask for a list and show it, one row per object under `key`. A query with a limit shows one page,
 * and says on stderr how the next is had; any other all pages. */
int ctl_list(const struct ctl *ctl, struct po_query query, const char *key, const char *heads,
             void (*row)(struct table *t, const json_t *object));
json_t *ctl_parse(const char *text, size_t len); /* an answer; NULL: no JSON, or out of memory */
int ctl_print_json(const json_t *value);         /* to stdout, indented; an exit code */
int ctl_out(const struct ctl *ctl,
            int table_rv); /* exit code after a table: memory or stdout may have failed */

/* The argument as an id: digits. false: said on stderr. */
bool ctl_id(const struct ctl *ctl, uint64_t *id);

/* The verb is one call about its argument, an id. Returns the exit code. */
int ctl_on_id(const struct ctl *ctl,
              int (*call)(po_client *client, uint64_t id, const struct po_call_opts *opts));

/* JSON text from --NAME or --NAME-file (at most one of them given). *text is NULL if neither;
 * release with po__buf_fini(keep). */
int ctl_payload(const struct ctl *ctl, const char *name, const char *direct, const char *file,
                struct po__buf *keep, const char **text);

/* Fields of answers; "-" stands for null in text. */
const char *text_of(const json_t *object, const char *key); /* "" if null or missing */
json_int_t number_of(const json_t *object, const char *key);
/* Leader milliseconds as a time of day in UTC: times of all zones side by side. "" for null. */
#define UTC_BYTES 32
const char *utc_of(char out[UTC_BYTES], const json_t *ms);
/* Milliseconds between two times of an object, -1 if one is null. */
json_int_t elapsed_ms(const json_t *object, const char *from, const char *to);

/* "KEY: value" blocks under a table: a JSON value indented, or a text with its line breaks. */
void print_value(const char *title, const json_t *value);
void print_text(FILE *out, const char *title, const char *text);

#endif
