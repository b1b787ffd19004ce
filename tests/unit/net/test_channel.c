/* The network channel of a client against nodes that redirect, refuse, keep silent and die. */
#include "asker.h"
#include "fake_node.h"

#include <stdio.h>

#define CALLS_MAX 4096

struct world {
    struct fake_node a, b;
    struct po__channel *ch;
    struct answer answers[CALLS_MAX];
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    fake_open(&w->a, "127.0.0.1:0");
    fake_open(&w->b, "127.0.0.1:0");
    *state = w;
    return 0;
}

static void close_channel(struct world *w)
{
    if (w->ch)
        w->ch->ops->close(w->ch);
    w->ch = NULL;
}

static int teardown(void **state)
{
    struct world *w = *state;
    close_channel(w);
    fake_close(&w->a);
    fake_close(&w->b);
    free(w);
    return 0;
}

static void open_channel(struct world *w, const char *addresses, uint32_t calls_max)
{
    struct po__logger log = {0};
    assert_int_equal(po__channel_net(&w->ch, addresses, calls_max, &log), 0);
}

static void open_to_both(struct world *w)
{
    char addresses[600];
    snprintf(addresses, sizeof addresses, "%s, %s", w->a.host.address, w->b.host.address);
    open_channel(w, addresses, CALLS_MAX);
}

static int call(struct world *w, const struct po__buf *req, uint32_t timeout_ms, struct answer *a)
{
    *a = (struct answer){.ch = w->ch};
    return w->ch->ops->call(w->ch, req->data, req->len, timeout_ms, on_answer, a);
}

static void expect_call(struct world *w, uint32_t timeout_ms, int code, int resp_code)
{
    struct po__buf req = submit();
    struct answer *a = &w->answers[0];
    assert_int_equal(call(w, &req, timeout_ms, a), 0);
    wait_until(atomic_load(&a->done));
    assert_int_equal(a->code, code);
    if (code == 0)
        assert_int_equal(a->resp_code, resp_code);
    po__buf_fini(&req);
}

static void calls_are_answered(void **state)
{
    struct world *w = *state;
    open_to_both(w);
    for (unsigned i = 0; i < 200; i++)
        expect_call(w, 5000, 0, 0);
    assert_true(w->answers[0].on_callback_thread);
    assert_false(w->ch->ops->on_callback_thread(w->ch));
    assert_int_equal(atomic_load(&w->a.requests) + atomic_load(&w->b.requests), 200);
}

static void errors_of_the_node_are_passed_on(void **state)
{
    struct world *w = *state;
    atomic_store(&w->a.code, PO_ENOTFOUND);
    open_channel(w, w->a.host.address, 16);
    expect_call(w, 5000, 0, PO_ENOTFOUND);
    assert_int_equal(atomic_load(&w->a.requests), 1);
}

/* The leader's address is one that the client was not given: it is used as it was written. */
static void redirects_are_followed_and_remembered(void **state)
{
    struct world *w = *state;
    atomic_store(&w->a.mode, FAKE_REDIRECT);
    snprintf(w->a.leader, sizeof w->a.leader, "localhost%s", strchr(w->b.host.address, ':'));
    open_channel(w, w->a.host.address, 16);
    for (unsigned i = 0; i < 20; i++)
        expect_call(w, 5000, 0, 0);
    assert_int_equal(atomic_load(&w->a.requests), 1);
    assert_int_equal(atomic_load(&w->b.requests), 20);
}

static void redirect_to_a_dead_address_comes_back(void **state)
{
    struct world *w = *state;
    atomic_store(&w->a.mode, FAKE_REDIRECT);
    snprintf(w->a.leader, sizeof w->a.leader, "127.0.0.1:1"); /* nobody listens there */
    open_channel(w, w->a.host.address, 16);
    struct po__buf req = submit();
    assert_int_equal(call(w, &req, 15000, &w->answers[0]), 0);
    wait_until(atomic_load(&w->a.requests) >= 2);
    atomic_store(&w->a.mode, FAKE_ANSWER);
    wait_until(atomic_load(&w->answers[0].done));
    assert_int_equal(w->answers[0].code, 0);
    po__buf_fini(&req);
}

static void two_nodes_that_name_each_other_do_not_spin(void **state)
{
    struct world *w = *state;
    atomic_store(&w->a.mode, FAKE_REDIRECT);
    atomic_store(&w->b.mode, FAKE_REDIRECT);
    snprintf(w->a.leader, sizeof w->a.leader, "%s", w->b.host.address);
    snprintf(w->b.leader, sizeof w->b.leader, "%s", w->a.host.address);
    open_to_both(w);
    expect_call(w, 400, 0, PO_ENOTLEADER);
    assert_true(atomic_load(&w->a.requests) + atomic_load(&w->b.requests) < 40);
}

static void no_leader_is_waited_for(void **state)
{
    struct world *w = *state;
    open_channel(w, w->a.host.address, 16);
    atomic_store(&w->a.first_code, PO_ENOLEADER);
    atomic_store(&w->a.first_count, 4);
    expect_call(w, 15000, 0, 0);
    assert_int_equal(atomic_load(&w->a.requests), 5);
    atomic_store(&w->a.first_code, PO_EBUSY);
    atomic_store(&w->a.first_count, 3);
    expect_call(w, 15000, 0, 0);
    atomic_store(&w->a.code, PO_ENOLEADER); /* for ever: nothing was done, and that is known */
    expect_call(w, 200, 0, PO_ENOLEADER);
}

static void lost_connection_repeats_the_same_bytes_elsewhere(void **state)
{
    struct world *w = *state;
    struct po__buf req = submit();
    atomic_store(&w->a.mode, FAKE_PARK);
    atomic_store(&w->b.mode, FAKE_PARK);
    open_to_both(w);
    assert_int_equal(call(w, &req, 15000, &w->answers[0]), 0);
    wait_until(fake_parked(&w->a) + fake_parked(&w->b) == 1);
    struct fake_node *first = fake_parked(&w->a) ? &w->a : &w->b;
    struct fake_node *other = first == &w->a ? &w->b : &w->a;
    fake_close(first);
    wait_until(fake_parked(other) == 1);
    assert_int_equal(other->last.len, req.len);
    assert_memory_equal(other->last.data, req.data, req.len);
    fake_answer_parked(other, 0);
    wait_until(atomic_load(&w->answers[0].done));
    assert_int_equal(w->answers[0].code, 0);
    po__buf_fini(&req);
}

/* A deregistration that arrives twice may remove a worker that registered in between. It is sent
 * again when it certainly was not executed, and only then. */
static void what_has_no_key_is_not_sent_twice(void **state)
{
    struct world *w = *state;
    struct po__cmd cmd = {.type = PO__CMD_WORKER_DEREGISTER};
    struct po__buf req = {0};
    struct answer *a = w->answers;
    cmd.worker_deregister.id = po__str("w1");
    po__request_command(&req, 15000, &cmd);
    open_to_both(w);
    atomic_store(&w->a.code, PO_EUNKNOWN);
    atomic_store(&w->b.code, PO_EUNKNOWN);
    assert_int_equal(call(w, &req, 15000, &a[0]), 0);
    wait_until(atomic_load(&a[0].done));
    assert_int_equal(a[0].code, PO_EUNKNOWN);
    assert_int_equal(atomic_load(&w->a.requests) + atomic_load(&w->b.requests), 1);

    atomic_store(&w->a.mode, FAKE_PARK);
    atomic_store(&w->b.mode, FAKE_PARK);
    assert_int_equal(call(w, &req, 15000, &a[1]), 0);
    wait_until(fake_parked(&w->a) + fake_parked(&w->b) == 1);
    struct fake_node *first = fake_parked(&w->a) ? &w->a : &w->b;
    struct fake_node *other = first == &w->a ? &w->b : &w->a;
    fake_close(first);
    wait_until(atomic_load(&a[1].done));
    assert_int_equal(a[1].code, PO_EUNKNOWN);
    assert_int_equal(fake_parked(other), 0);

    atomic_store(&other->mode, FAKE_ANSWER);
    atomic_store(&other->code, 0);
    atomic_store(&other->first_code, PO_EBUSY);
    atomic_store(&other->first_count, 2);
    assert_int_equal(call(w, &req, 15000, &a[2]), 0);
    wait_until(atomic_load(&a[2].done));
    assert_int_equal(a[2].code, 0);
    assert_int_equal(a[2].resp_code, 0);
    assert_int_equal(atomic_load(&other->first_count), 0);
    po__buf_fini(&req);
}

static void node_that_returns_is_found_again(void **state)
{
    struct world *w = *state;
    char address[300];
    snprintf(address, sizeof address, "%s", w->a.host.address);
    open_channel(w, address, 16);
    expect_call(w, 5000, 0, 0);
    fake_close(&w->a);
    struct po__buf req = submit();
    assert_int_equal(call(w, &req, 15000, &w->answers[0]), 0);
    fake_open(&w->a, address);
    wait_until(atomic_load(&w->answers[0].done));
    assert_int_equal(w->answers[0].code, 0);
    po__buf_fini(&req);
}

static void silence_leaves_a_command_unknown_and_a_query_timed_out(void **state)
{
    struct world *w = *state;
    struct po__buf query = {0};
    struct po__query q = {.what = 1};
    po__request_query(&query, 5000, &q);
    atomic_store(&w->a.mode, FAKE_PARK);
    open_channel(w, w->a.host.address, 16);
    expect_call(w, 200, PO_EUNKNOWN, 0);
    assert_int_equal(call(w, &query, 200, &w->answers[1]), 0);
    wait_until(atomic_load(&w->answers[1].done));
    assert_int_equal(w->answers[1].code, PO_ETIMEDOUT);
    /* Known to have been refused after it was lost once: still unknown. */
    atomic_store(&w->a.mode, FAKE_ANSWER);
    atomic_store(&w->a.first_code, PO_EUNKNOWN);
    atomic_store(&w->a.first_count, 1);
    atomic_store(&w->a.code, PO_ENOLEADER);
    expect_call(w, 300, PO_EUNKNOWN, 0);
    po__buf_fini(&query);
}

static void nobody_there_is_unreachable(void **state)
{
    struct world *w = *state;
    open_channel(w, "127.0.0.1:1,no-such-host.invalid:1", 16);
    expect_call(w, 200, PO_EUNREACHABLE, 0);
}

static void garbage_is_not_believed(void **state)
{
    struct world *w = *state;
    atomic_store(&w->a.mode, FAKE_GARBAGE);
    open_channel(w, w->a.host.address, 16);
    expect_call(w, 300, PO_EUNKNOWN, 0);
    assert_true(atomic_load(&w->a.requests) > 1);
}

static void thousands_are_under_way_at_once(void **state)
{
    struct world *w = *state;
    struct po__buf req = submit();
    atomic_store(&w->a.mode, FAKE_PARK);
    open_channel(w, w->a.host.address, CALLS_MAX);
    for (unsigned i = 0; i < CALLS_MAX; i++)
        assert_int_equal(call(w, &req, 60000, &w->answers[i]), 0);
    struct answer extra;
    assert_int_equal(call(w, &req, 60000, &extra), PO_EBUSY);
    wait_until(fake_parked(&w->a) == CALLS_MAX);
    fake_answer_parked(&w->a, 0); /* all in one burst: none may be dropped */
    for (unsigned i = 0; i < CALLS_MAX; i++) {
        wait_until(atomic_load(&w->answers[i].done));
        assert_int_equal(w->answers[i].code, 0);
        assert_int_equal(w->answers[i].resp_code, 0);
    }
    assert_int_equal(atomic_load(&w->a.requests), CALLS_MAX);
    po__buf_fini(&req);
}

static void closing_completes_what_waits(void **state)
{
    struct world *w = *state;
    struct po__buf req = submit();
    atomic_store(&w->a.mode, FAKE_PARK);
    open_channel(w, w->a.host.address, 16);
    assert_int_equal(call(w, &req, 60000, &w->answers[0]), 0);
    wait_until(fake_parked(&w->a) == 1);
    close_channel(w);
    assert_int_equal(atomic_load(&w->answers[0].done), 1);
    assert_int_equal(w->answers[0].code, PO_EUNKNOWN);
    open_channel(w, "127.0.0.1:1", 16);
    assert_int_equal(call(w, &req, 60000, &w->answers[1]), 0);
    close_channel(w);
    assert_int_equal(w->answers[1].code, PO_ECLOSED);
    po__buf_fini(&req);
}

static void wrong_arguments_are_refused(void **state)
{
    struct world *w = *state;
    struct po__logger log = {0};
    struct po__channel *ch;
    assert_int_equal(po__channel_net(&ch, "", 16, &log), PO_EADDR);
    assert_int_equal(po__channel_net(&ch, "host", 16, &log), PO_EADDR);
    assert_int_equal(po__channel_net(&ch, "a:1,,b:2", 16, &log), PO_EADDR);
    assert_int_equal(po__channel_net(&ch, "a:1", 0, &log), PO_EINVAL);
    assert_int_equal(po__channel_net(&ch, "a:1", 65537, &log), PO_EINVAL);
    open_channel(w, "127.0.0.1:1", 16);
    char *big = calloc(1, PO__REQUEST_MAX_BYTES + 1);
    struct answer a;
    assert_int_equal(w->ch->ops->call(w->ch, big, PO__REQUEST_MAX_BYTES + 1, 1000, on_answer, &a),
                     PO_ETOOBIG);
    assert_int_equal(w->ch->ops->call(w->ch, "x", 1, 1000, on_answer, &a), PO_EPROTO);
    free(big);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(calls_are_answered),
        T(errors_of_the_node_are_passed_on),
        T(redirects_are_followed_and_remembered),
        T(redirect_to_a_dead_address_comes_back),
        T(two_nodes_that_name_each_other_do_not_spin),
        T(no_leader_is_waited_for),
        T(lost_connection_repeats_the_same_bytes_elsewhere),
        T(what_has_no_key_is_not_sent_twice),
        T(node_that_returns_is_found_again),
        T(silence_leaves_a_command_unknown_and_a_query_timed_out),
        T(nobody_there_is_unreachable),
        T(garbage_is_not_believed),
        T(thousands_are_under_way_at_once),
        T(closing_completes_what_waits),
        T(wrong_arguments_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
