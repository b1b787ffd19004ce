/* The log in readable form, entry by entry. */
#include <stdio.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "../model/command.h"
#include "directory.h"
#include "out.h"
#include "tools.h"

struct dump {
    uint64_t from, to;
    int (*emit)(void *arg, const char *line, size_t len);
    void *arg;
    struct po__cmd cmd;
    char *error;
    size_t error_len;
};

/* The commands of an entry; what cannot be decoded is said in their place. */
static void put_commands(struct dump *d, struct po__buf *b, const struct po__rec *r)
{
    struct po__entry_reader er;
    struct po__buf list = {0};
    uint32_t count = 0;
    int more = 0, rv = po__entry_open(&er, po__rec_payload(r), r->len);
    while (!rv && (more = po__entry_next(&er, &d->cmd)) == 1) {
        po__describe_command(&list, &d->cmd);
        count++;
    }
    rv = rv ? rv : more;
    po__out_uint(b, "time_ms", er.now_ms);
    po__out_cstr(b, "problem", rv ? po_strerror(rv) : "");
    po__mpw_cstr(b, "commands");
    po__mpw_array(b, count);
    po__buf_append(b, list.data, list.len);
    if (list.err)
        b->err = list.err;
    po__buf_fini(&list);
}

static void put_entry(struct dump *d, struct po__buf *b, const struct po__rec *r, uint64_t segment,
                      uint64_t offset)
{
    struct po__conf conf;
    po__mpw_map(b, r->type == 1 ? 9 : r->type == 3 ? 7 : 6);
    po__out_uint(b, "index", r->index);
    po__out_uint(b, "term", r->term);
    po__out_cstr(b, "type",
                 r->type == 1   ? "command"
                 : r->type == 2 ? "barrier"
                 : r->type == 3 ? "configuration"
                                : "unknown");
    po__out_uint(b, "bytes", r->len);
    po__out_uint(b, "segment", segment);
    po__out_uint(b, "offset", offset);
    if (r->type == 1)
        put_commands(d, b, r);
    if (r->type == 3) {
        if (po__conf_decode(&conf, po__rec_payload(r), r->len))
            conf.count = 0;
        po__mpw_cstr(b, "members");
        po__describe_conf(b, &conf);
    }
}

static int dump_record(void *arg, const struct po__rec *r, uint64_t segment, uint64_t offset)
{
    struct dump *d = arg;
    struct po__buf mp = {0}, json = {0};
    if (r->index < d->from || r->index > d->to)
        return 0;
    put_entry(d, &mp, r, segment, offset);
    int rv = po__out_json(&json, &mp);
    if (rv)
        snprintf(d->error, d->error_len, "entry %llu: %s", (unsigned long long)r->index,
                 po_strerror(rv));
    else
        rv = d->emit(d->arg, (const char *)json.data, json.len);
    po__buf_fini(&json);
    return rv;
}

int po__tool_log_dump(const char *data_dir, uint64_t from, uint64_t to,
                      int (*emit)(void *arg, const char *line, size_t len), void *arg, char *error,
                      size_t error_len)
{
    struct po__directory *dir = po__calloc(1, sizeof *dir);
    struct dump *d = po__calloc(1, sizeof *d);
    int rv = PO_ENOMEM;
    snprintf(error, error_len, "out of memory");
    if (dir && d) {
        *d = (struct dump){.from = from,
                           .to = to,
                           .emit = emit,
                           .arg = arg,
                           .error = error,
                           .error_len = error_len};
        rv = po__directory_open(dir, data_dir, true, error, error_len);
        if (!rv)
            rv = po__store_each_record(dir->store, dump_record, d, error, error_len);
        po__directory_close(dir);
    }
    po__free(d);
    po__free(dir);
    return rv;
}
