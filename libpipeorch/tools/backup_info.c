/* What a backup is and holds: the answer of save, inspect and restore. */
#include "backup.h"
#include "content.h"
#include "out.h"

static void put_members(struct po__buf *b, const struct po__backup_info *info,
                        const struct po__content *content)
{
    struct po__conf conf;
    if (po__conf_decode(&conf, info->snapshot.conf, info->snapshot.conf_len))
        conf.count = 0;
    po__mpw_cstr(b, "members");
    po__mpw_array(b, conf.count);
    for (unsigned i = 0; i < conf.count; i++) {
        const struct po__conf_server *s = &conf.servers[i];
        struct po__member_info m = {0};
        po__model_member(content->model, s->id, &m); /* absent: nothing is known of it */
        po__mpw_map(b, 6);
        po__out_uint(b, "id", s->id);
        po__out_text(b, "name", m.name);
        po__out_cstr(b, "address", s->address);
        po__out_cstr(b, "role", po__role_word(s->role));
        po__out_text(b, "zone", m.zone);
        po__out_text(b, "worker_address", m.worker_address);
    }
}

void po__backup_describe(struct po__buf *b, const char *path, const struct po__backup_info *info,
                         const struct po__content *content, uint32_t more)
{
    struct po__model_counts k;
    po__model_counts(content->model, &k);
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"format", PO__BACKUP_VERSION},
        {"index", info->snapshot.index},
        {"term", info->snapshot.term},
        {"committed_index", info->committed_index},
        {"time_ms", info->time_ms},
        {"workers", k.workers},
        {"workers_online", k.workers_online},
        {"tasks_pending", k.tasks_pending},
        {"tasks_scheduled", k.tasks_scheduled},
        {"tasks_running", k.tasks_running},
        {"tasks_finished", k.tasks_finished},
        {"pipelines", k.pipelines},
        {"runs_running", k.runs_running},
        {"runs_finished", k.runs_finished},
        {"application_bytes", content->app_state.len},
        {"content_bytes", info->snapshot.size_bytes},
        {"file_bytes", info->file_bytes},
    };
    const uint32_t count = sizeof numbers / sizeof *numbers;
    po__mpw_map(b, 7 + count + more);
    po__out_cstr(b, "file", path);
    po__out_cstr(b, "source", info->source == PO__BACKUP_ONLINE ? "online" : "offline");
    po__out_bin(b, "cluster_id", info->cluster_id, sizeof info->cluster_id);
    po__out_cstr(b, "node", info->node_name);
    for (uint32_t i = 0; i < count; i++)
        po__out_uint(b, numbers[i].key, numbers[i].value);
    po__out_bin(b, "sha256", info->digest, sizeof info->digest);
    po__out_bin(b, "state_sha256", content->state_digest, sizeof content->state_digest);
    put_members(b, info, content);
}
