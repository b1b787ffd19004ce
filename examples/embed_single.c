/* One durable node inside a C program: a replicated counter that survives the process.
 *
 *   cc embed_single.c $(pkg-config --cflags --libs pipeorch) && ./a.out /tmp/counter && ./a.out
 * /tmp/counter */
#include <pipeorch/pipeorch.h>
#include <stdio.h>
#include <string.h>

static int apply(void *arg, uint64_t index, const void *cmd, size_t len, void *result,
                 size_t *result_len)
{
    long *counter = arg, delta = 0;
    (void)index;
    memcpy(&delta, cmd, len < sizeof delta ? len : sizeof delta);
    *counter += delta;
    memcpy(result, counter, *result_len = sizeof *counter);
    return 0;
}

static int snapshot(void *arg, int (*write)(void *ctx, const void *data, size_t len), void *ctx)
{
    return write(ctx, arg, sizeof(long));
}

static int restore(void *arg, const void *data, size_t len)
{
    memset(arg, 0, sizeof(long));
    return len == 0 ? 0 : len == sizeof(long) ? (memcpy(arg, data, len), 0) : -1;
}

int main(int argc, char **argv)
{
    long counter = 0, one = 1, now = 0;
    char error[256];
    size_t len = sizeof now;
    struct po_state_machine sm = {sizeof sm, &counter, apply, snapshot, restore};
    struct po_node_opts opts = {
        .size = sizeof opts, .name = "solo", .bootstrap = 1, .state_machine = &sm};
    opts.data_dir = argc > 1 ? argv[1] : "counter-data";
    po_node *node;
    int rv = po_node_start(&node, &opts, error, sizeof error);
    if (rv)
        return fprintf(stderr, "%s: %s\n", po_err_name(rv), error), 1;
    rv = po_apply(node, &one, sizeof one, NULL, &now, &len); /* durable when it returns 0 */
    printf("%s, counter is %ld\n", po_strerror(rv), now);
    po_node_stop(node);
    return rv != 0;
}
