/* A program of somebody else: knows the installed headers and pkg-config, nothing of the source
 * tree. Runs a cluster of one node, puts a task into it, and finds it again after a restart. */
#include <pipeorch/pipeorch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fail(const char *what, int rv, const char *message)
{
    fprintf(stderr, "%s: %s: %s\n", what, po_err_name(rv), message);
    return 1;
}

static int submit(const char *folder, uint64_t *task)
{
    struct po_node_opts opts = {
        .size = sizeof opts, .name = "solo", .data_dir = folder, .bootstrap = 1};
    struct po_task_opts t = {
        .size = sizeof t, .capability = "print:page", .input = "{\"page\":1}", .input_len = 10};
    struct po_call_opts call = {
        .size = sizeof call, .timeout_ms = 10000, .key = "k1", .key_len = 2};
    po_node *node = NULL;
    char error[512];
    int rv = po_node_start(&node, &opts, error, sizeof error);
    if (rv)
        return fail("po_node_start", rv, error);
    rv = po_submit_task(po_node_client(node), &t, &call, task);
    if (rv)
        rv = fail("po_submit_task", rv, po_client_error());
    po_node_stop(node);
    return rv;
}

int main(int argc, char **argv)
{
    uint64_t first = 0, second = 0;
    if (argc != 2 || strcmp(po_version(), PO_VERSION_STRING) != 0)
        return fail("usage", PO_EINVAL,
                    "consumer FOLDER, with the library that the headers belong to");
    if (submit(argv[1], &first) || submit(argv[1], &second))
        return 1;
    printf("pipeorch %s: task %llu, after a restart %llu\n", po_version(),
           (unsigned long long)first, (unsigned long long)second);
    return first != 0 && first == second ? EXIT_SUCCESS : EXIT_FAILURE;
}
