/* Snapshots of the state machine: whatever a restore accepts is a state whose every relation holds,
 * and whose own snapshot is accepted again and gives the same digest. */
#include "fuzz.h"

#include <pipeorch/node.h>
#include "../unit/model/samples.h"
#include "model/model.h"

static int app_apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                     size_t *result_len)
{
    (void)arg, (void)index, (void)cmd, (void)len, (void)result;
    *result_len = 0;
    return 0;
}

static int app_snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len), void *ctx)
{
    (void)arg;
    return write(ctx, "app", 3);
}

static int app_restore(void *arg, const void *data, size_t len)
{
    (void)arg, (void)data, (void)len;
    return 0;
}

static const struct po_state_machine sm = {
    .size = sizeof sm, .apply = app_apply, .snapshot = app_snapshot, .restore = app_restore};

static struct po__model *open_model(void)
{
    struct po__model *m;
    struct po__app app = {&sm};
    FUZZ_CHECK(po__model_open(&m, &app) == 0);
    return m;
}

static void snapshot(struct po__model *m, struct po__buf *out)
{
    int rv;
    FUZZ_CHECK(po__model_snapshot_begin(m) == 0);
    while ((rv = po__model_snapshot_step(m, out, 4096)) == 0)
        ;
    FUZZ_CHECK(rv == 1);
}

static void accepted(struct po__model *m)
{
    char message[512];
    struct po__buf b = {0};
    uint64_t digest, again;
    if (po__model_check(m, message, sizeof message)) {
        fprintf(stderr, "a snapshot was accepted whose state is broken: %s\n", message);
        abort();
    }
    snapshot(m, &b);
    struct po__model *copy = open_model();
    FUZZ_CHECK(po__model_restore_chunk(copy, b.data, b.len) == 0);
    FUZZ_CHECK(po__model_restore_end(copy) == 0);
    FUZZ_CHECK(po__model_digest(m, &digest) == 0 && po__model_digest(copy, &again) == 0);
    FUZZ_CHECK(digest == again);
    po__model_close(copy);
    po__buf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__model *m = open_model();
    size_t half = len / 2;
    int rv = po__model_restore_chunk(m, data, half);
    rv = rv ? rv : po__model_restore_chunk(m, data + half, len - half);
    rv = rv ? rv : po__model_restore_end(m);
    if (rv == 0)
        accepted(m);
    po__model_close(m);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

void fuzz_seeds(void)
{
    static struct po__cmd cmd;
    static const unsigned order[] = {1, 2, 5, 5, 10, 11, 13, 5, 9, 12, 3, 22, 23, 23, 5};
    struct po__buf steps = {0}, b = {0};
    struct po__model *m = open_model();
    for (unsigned i = 0; i < sizeof order / sizeof *order; i++) {
        struct po__cmd_result result;
        char key[16];
        sample(&cmd, order[i], &steps);
        if (cmd.type == PO__CMD_TASK_SUBMIT || cmd.type == PO__CMD_TASK_SUBMIT_MORE)
            cmd.submit.key = po__slice(key, (size_t)snprintf(key, sizeof key, "key-%u", i));
        FUZZ_CHECK(po__model_apply(m, i + 1, 1700000000000 + i, &cmd, &result, NULL) == 0);
        po__buf_reset(&b);
        snapshot(m, &b);
        if (i % 2 == 0)
            fuzz_seed(b.data, b.len);
    }
    po__model_close(m);
    po__buf_fini(&b);
    po__buf_fini(&steps);
}
