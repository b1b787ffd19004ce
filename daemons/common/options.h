/* Options of a program: one table drives flags, the JSON config file, PO_* environment variables,
 * --help and every error.
 *
 * An option "worker_listen" is the flag --worker-listen, the config key "worker_listen" and the
 * variable PO_WORKER_LISTEN. A flag wins over the environment, that over the config file, that over
 * the default. A value that is overridden is checked all the same. Whatever is not in the table is
 * refused with its place and the nearest known name: a typo never becomes a silent default.
 * Variables beginning with PO_ are reserved for pipeorch; those of its other programs are known and
 * ignored. */
#ifndef PO_DAEMONS_OPTIONS_H
#define PO_DAEMONS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/buf.h"

#define OPT_OPTIONS_MAX        128  /* of one program */
#define OPT_WORDS_MAX          16   /* arguments that are no flags */
#define OPT_VALUE_MAX_BYTES    4096 /* of one text value, except OPT_TEXT (a mebibyte) */
#define OPT_PLACE_MAX_BYTES    640
#define OPT_SETTINGS_MAX_BYTES 1024 /* of a settings struct */

enum opt_type {                /* member of the settings struct */
                OPT_BOOL,      /* bool: true, false, 1, 0; the bare flag means true */
                OPT_UINT,      /* uint64_t: min..max */
                OPT_BYTES,     /* uint64_t: bytes, or with suffix KiB, MiB, GiB */
                OPT_DURATION,  /* uint64_t: milliseconds, or with suffix ms, s, m, h */
                OPT_NAME,      /* const char *: [A-Za-z0-9._-]+ */
                OPT_CHOICE,    /* const char *: one of the words of `values`, separated by '|' */
                OPT_PATH,      /* const char *: any non-empty text */
                OPT_TEXT,      /* const char *: likewise, up to a mebibyte */
                OPT_ADDRESS,   /* const char *: host:port or [v6]:port */
                OPT_ADDRESSES, /* const char *: comma-separated; in the config file also an array of
                                  strings */
                OPT_MEMBERS,   /* const char *: comma-separated name=host:port; likewise */
};

#define OPT_REQUIRED  1u  /* must be given somewhere */
#define OPT_FLAG_ONLY 2u  /* neither in the config file nor in the environment */
#define OPT_ENV_TOO   4u  /* with OPT_FLAG_ONLY: the environment is allowed */
#define OPT_ALONE     8u  /* with it, nothing else is required */
#define OPT_BARE      16u /* OPT_CHOICE: the first word, if no value follows the flag */

struct opt {
    const char *name; /* snake_case */
    enum opt_type type;
    size_t offset;        /* of the member in the settings struct */
    const char *values;   /* shown after the flag in --help: "HOST:PORT"; OPT_CHOICE: the words */
    const char *fallback; /* the default, as text; NULL: none */
    const char *help;
    uint64_t min, max; /* numbers: range of the stored value */
    unsigned flags;
    char letter; /* short form, 0: none */
};

/* A program. Its table always gets --help, --version and, with config_file, --config. */
struct opt_tool {
    const char *name;
    const char *synopsis; /* after the name, one line */
    const char *about;    /* paragraphs of --help before the options */
    const char *after;    /* of --help after them; may be NULL */
    const struct opt *options;
    unsigned count;
    bool config_file;
    bool words; /* arguments that are no flags are allowed */
};

/* All programs of pipeorch: whose variables are known. */
extern const struct opt_tool controld_tool, workerd_tool, poctl_tool;

enum opt_source { OPT_DEFAULT, OPT_FILE, OPT_ENV, OPT_FLAG };

/* One reading of all sources. */
struct opt_run {
    const struct opt_tool *tool;
    void *settings;
    struct po__buf problems; /* one line each */
    unsigned problems_count;
    const char *config; /* path of the config file, NULL: none */
    bool help, version;
    const char *words[OPT_WORDS_MAX];
    unsigned words_count;
    struct {
        enum opt_source source;
        bool given;  /* by any source but the default */
        char *text;  /* owned, what the settings' string points to */
        char *place; /* owned, for messages */
    } values[OPT_OPTIONS_MAX];
};

/* Read every source into settings (zeroed by the caller; strings live until opt_fini). Returns true
 * if nothing was wrong; otherwise problems lists everything that was. With --help or --version
 * nothing else is checked. */
bool opt_read(struct opt_run *run, const struct opt_tool *tool, void *settings, char **argv,
              char **envp);
void opt_fini(struct opt_run *run);

/* A further problem, for checks between options; it is put at the place where `name` was given. */
void opt_problem(struct opt_run *run, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool opt_given(const struct opt_run *run, const char *name);

/* The page that --help prints; and parts of it: one option, a text wrapped to the width of the
 * page. */
void opt_help(struct po__buf *out, const struct opt_tool *tool);
void opt_help_option(struct po__buf *out, const struct opt *option);
void opt_help_text(struct po__buf *out, const char *text, unsigned indent);

/* Lines found by another check (one problem each) join those of the options. */
void opt_add_problems(struct opt_run *run, const struct po__buf *lines, unsigned count);

/* After opt_read and whatever the program checked beyond it: prints the help page, the version, or
 * all problems on stderr. Returns -1 to go on, or the exit code: 0, 1 (the page could not be
 * written) or 2. */
int opt_finish(struct opt_run *run);

/* ---- for the files of the engine ---- */

/* Parse text as the value of o; stores it in the settings. false: *why says what was wrong and what
 * was expected. */
bool opt__store(struct opt_run *run, unsigned index, const char *text, char *why, size_t why_len);
void opt__problem(struct opt_run *run, const char *place, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void opt__take(struct opt_run *run, unsigned index, enum opt_source source, const char *place,
               const char *text);
void opt__read_file(struct opt_run *run, const char *path);
void opt__read_env(struct opt_run *run, char **envp);
void opt__kebab(char *out, size_t len, const char *name);
void opt__variable(char *out, size_t len, const char *name); /* PO_UPPER_SNAKE */

#endif
