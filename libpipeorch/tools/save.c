/* Looking at a backup, and making one of a stopped node. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <pipeorch/error.h>
#include "../base/alloc.h"
#include "backup.h"
#include "directory.h"
#include "out.h"
#include "tools.h"

static int answer(struct po__buf *json, const char *path, const struct po__backup_info *info,
                  const struct po__content *content, char *error, size_t error_len)
{
    struct po__buf b = {0};
    po__backup_describe(&b, path, info, content, 0);
    int rv = po__out_json(json, &b);
    if (rv)
        snprintf(error, error_len, "%s: the answer: %s", path, po_strerror(rv));
    return rv;
}

/* Read back from the file, so that what is reported is what is there. */
int po__tool_inspect(const char *path, struct po__buf *json, char *error, size_t error_len)
{
    struct po__content content;
    struct po__backup_info *info = po__calloc(1, sizeof *info);
    int rv = po__content_init(&content, NULL);
    snprintf(error, error_len, "out of memory");
    if (!info)
        rv = PO_ENOMEM;
    if (!rv)
        rv = po__backup_read(path, info, po__content_feed, &content, error, error_len);
    if (!rv && (rv = po__content_end(&content)))
        snprintf(error, error_len, "%s: the file is intact, but its content is no state: %s", path,
                 po_strerror(rv));
    if (!rv)
        rv = answer(json, path, info, &content, error, error_len);
    po__content_fini(&content);
    po__free(info);
    return rv;
}

struct save {
    struct po__directory dir;
    struct po__content content;
    struct po__backup_info info;
    uint8_t buf[65536];
};

static void fill_info(struct save *s, uint64_t committed)
{
    const struct po__directory *d = &s->dir;
    struct po__snapshot_meta *m = &s->info.snapshot;
    s->info.source = PO__BACKUP_OFFLINE;
    s->info.time_ms = (uint64_t)time(NULL) * 1000;
    s->info.committed_index = committed;
    memcpy(s->info.cluster_id, d->identity.cluster_id, sizeof s->info.cluster_id);
    snprintf(s->info.node_name, sizeof s->info.node_name, "%s", d->identity.name);
    m->index = d->recovery.last_index;
    m->term = d->last_term;
    m->conf_index = d->conf_index;
    m->conf_len = (uint32_t)po__conf_encode(&d->conf, m->conf);
}

static int write_file(struct save *s, const char *path, bool overwrite, char *error,
                      size_t error_len)
{
    struct po__backup_writer *w;
    int rv = po__backup_create(&w, path, overwrite, &s->info, error, error_len);
    if (rv)
        return rv;
    rv = po__content_begin(&s->content);
    for (size_t n = 1; !rv && n;) {
        n = sizeof s->buf;
        rv = po__content_read(&s->content, s->buf, &n);
        if (rv)
            snprintf(error, error_len, "serialising the state: %s", po_strerror(rv));
        else if (n)
            rv = po__backup_write(w, s->buf, n);
    }
    if (rv)
        po__backup_abort(w);
    return rv ? rv : po__backup_finish(w);
}

int po__tool_save_dir(const char *path, bool overwrite, const char *data_dir,
                      const struct po_state_machine *sm, struct po__buf *json, char *error,
                      size_t error_len)
{
    uint64_t committed = 0;
    struct save *s = po__calloc(1, sizeof *s);
    snprintf(error, error_len, "out of memory");
    if (!s)
        return PO_ENOMEM;
    int rv = po__content_init(&s->content, sm);
    if (!rv)
        rv = po__directory_open(&s->dir, data_dir, true, error, error_len);
    if (!rv && (s->dir.recovery.last_index == 0 || s->dir.conf.count == 0)) {
        snprintf(error, error_len, "%s holds no state yet", data_dir);
        rv = PO_ENOTFOUND;
    }
    if (!rv)
        rv = po__directory_replay(&s->dir, &s->content, &committed, error, error_len);
    if (!rv) {
        fill_info(s, committed);
        rv = write_file(s, path, overwrite, error, error_len);
    }
    po__directory_close(&s->dir);
    po__content_fini(&s->content);
    po__free(s);
    return rv ? rv : po__tool_inspect(path, json, error, error_len);
}
