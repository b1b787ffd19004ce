/* A node that plays an older release (po__node_opts.feature_level): what that release does not know
 * is refused with the reason, and is done once the node is upgraded. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "one_node.h"

static char dir[64];

static int setup(void **state)
{
    (void)state;
    strcpy(dir, "/tmp/po-levels.XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    return remove_folder(dir);
}

struct answer {
    sem_t came;
    int code;
    char message[512];
};

static void take(void *arg, int code, const void *resp, size_t len)
{
    struct answer *a = arg;
    struct po__response r = {0};
    a->code = code ? code : po__response_decode(resp, len, &r);
    a->code = a->code ? a->code : r.code;
    snprintf(a->message, sizeof a->message, "%.*s", (int)r.message.len,
             r.message.data ? (const char *)r.message.data : "");
    sem_post(&a->came);
}

static struct answer send_request(struct po__node *node, struct po__buf *b)
{
    struct answer a = {.code = 0};
    assert_int_equal(b->err, 0);
    sem_init(&a.came, 0, 0);
    assert_int_equal(
        po__node_request(node, b->data, b->len, true, 0, (struct po__reply_to){take, &a}), 0);
    sem_wait(&a.came);
    sem_destroy(&a.came);
    po__buf_fini(b);
    return a;
}

static struct answer ask(struct po__node *node, const struct po__member_request *m)
{
    struct po__buf b;
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_member(&b, 10000, m);
    return send_request(node, &b);
}

static struct answer join(struct po__node *node, uint32_t level)
{
    static const uint8_t directory_id[PO__DIRECTORY_ID_BYTES] = {7};
    return ask(node, &(struct po__member_request){.op = PO__MEMBER_JOIN,
                                                  .name = po__str("there"),
                                                  .zone = po__str("z"),
                                                  .address = po__str("127.0.0.1:1"),
                                                  .directory_id =
                                                      po__slice(directory_id, sizeof directory_id),
                                                  .feature_level = level});
}

static void expect(struct answer a, int code, const char *part)
{
    if (a.code != code || !strstr(a.message, part))
        print_error("%s: %s\n", po_err_name(a.code), a.message);
    assert_int_equal(a.code, code);
    assert_non_null(strstr(a.message, part));
}

static void test_upgrade(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 1, 1 << 20, 1 << 20);
    expect(join(node, PO__FEATURE_LEVEL), PO_EVERSION,
           "runs a version that knows no membership changes");
    po__node_destroy(node);

    node = start_one(dir, 0, 1 << 20, 1 << 20); /* this release */
    expect(join(node, 1), PO_EVERSION, "node there, which is to join, has feature level 1");
    struct answer a;
    do
        a = join(node, PO__FEATURE_LEVEL);
    while (a.code == PO_EVERSION); /* the record of the upgrade is on its way */
    expect(a, 0, "");
    po__node_destroy(node);

    /* Going back holds the others back, too: nothing is asked of the newcomer. */
    node = start_one(dir, 1, 1 << 20, 1 << 20);
    a = ask(node,
            &(struct po__member_request){.op = PO__MEMBER_ADD, .address = po__str("127.0.0.1:2")});
    expect(a, PO_EVERSION, "runs a version that knows no membership changes");
    po__node_destroy(node);
}

/* A wish is the leader's to make: as a client's command it would get round every refusal. */
static void test_wishes_are_the_nodes_own(void **state)
{
    (void)state;
    struct po__node *node = start_one(dir, 0, 1 << 20, 1 << 20);
    uint64_t id = po__node_identity(node)->node_id;
    struct po__cmd *cmd = calloc(1, sizeof *cmd);
    struct po__buf b;
    assert_non_null(cmd);
    cmd->type = PO__CMD_MEMBER_WISH;
    cmd->member_wish.node_id = id;
    cmd->member_wish.wish = PO__WISH_GONE;
    po__buf_init(&b, PO__REQUEST_MAX_BYTES);
    po__request_command(&b, 10000, cmd);
    free(cmd);
    expect(send_request(node, &b), PO_EREFUSED, "the nodes' own");
    struct po__member_request m = {.op = PO__MEMBER_REMOVE, .node_id = id};
    expect(ask(node, &m), PO_EREFUSED, "it is the only voter");
    struct answer a;
    m.op = PO__MEMBER_DEMOTE;
    do
        a = ask(node, &m);
    while (a.code == PO_ESTATE); /* its record is on its way */
    expect(a, PO_EREFUSED, "it is the only voter");
    po__node_destroy(node);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_upgrade), TEST(test_wishes_are_the_nodes_own)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
