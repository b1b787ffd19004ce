/* The mailbox: order, bounds, wake-ups, closing; and many posters against one taker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "node/mailbox.h"

struct letter {
    struct po__mail mail;
    unsigned from, number;
};

static atomic_int signals;

static void count_signal(void *arg)
{
    (void)arg;
    atomic_fetch_add(&signals, 1);
}

static struct letter *letter(unsigned from, unsigned number, size_t bytes)
{
    struct letter *l = po__calloc(1, sizeof *l);
    assert_non_null(l);
    l->from = from;
    l->number = number;
    l->mail.bytes = bytes;
    return l;
}

static size_t drain(struct po__mailbox *mb)
{
    struct po__list mail, *it;
    po__list_init(&mail);
    size_t n = po__mailbox_take(mb, &mail), seen = 0;
    for (; (it = po__list_pop(&mail)); seen++)
        po__free(
            po__container_of(po__container_of(it, struct po__mail, link), struct letter, mail));
    assert_int_equal(n, seen);
    return n;
}

static void test_order_and_signal(void **state)
{
    (void)state;
    struct po__mailbox mb;
    atomic_store(&signals, 0);
    assert_int_equal(po__mailbox_init(&mb, count_signal, NULL), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(po__mailbox_post(&mb, &letter(0, i, 10)->mail), 0);
    assert_int_equal(atomic_load(&signals), 1); /* only the first finds it empty */
    assert_int_equal(po__mailbox_count(&mb), 3);
    struct po__list mail, *it;
    po__list_init(&mail);
    assert_int_equal(po__mailbox_take(&mb, &mail), 3);
    for (unsigned i = 0; (it = po__list_pop(&mail)); i++) {
        struct letter *l =
            po__container_of(po__container_of(it, struct po__mail, link), struct letter, mail);
        assert_int_equal(l->number, i);
        po__free(l);
    }
    assert_int_equal(po__mailbox_take(&mb, &mail), 0);
    assert_int_equal(po__mailbox_post(&mb, &letter(0, 9, 10)->mail), 0);
    assert_int_equal(atomic_load(&signals), 2);
    assert_int_equal(drain(&mb), 1);
    po__mailbox_fini(&mb);
}

static void test_bounds(void **state)
{
    (void)state;
    struct po__mailbox mb;
    assert_int_equal(po__mailbox_init(&mb, count_signal, NULL), 0);
    struct letter *big = letter(0, 0, PO__MAILBOX_MAX_BYTES - 5), *over = letter(0, 1, 6),
                  *fits = letter(0, 2, 5);
    assert_int_equal(po__mailbox_post(&mb, &big->mail), 0);
    assert_int_equal(po__mailbox_post(&mb, &over->mail), PO_EBUSY);
    assert_int_equal(po__mailbox_post(&mb, &fits->mail), 0);
    assert_int_equal(po__mailbox_post_always(&mb, &over->mail), 0);
    assert_int_equal(drain(&mb), 3);
    for (unsigned i = 0; i < PO__MAILBOX_MAX_COUNT; i++)
        assert_int_equal(po__mailbox_post(&mb, &letter(0, i, 1)->mail), 0);
    struct letter *refused = letter(0, 0, 1);
    assert_int_equal(po__mailbox_post(&mb, &refused->mail), PO_EBUSY);
    assert_int_equal(drain(&mb), PO__MAILBOX_MAX_COUNT);
    po__mailbox_close(&mb);
    assert_int_equal(po__mailbox_post(&mb, &refused->mail), PO_ECLOSED);
    assert_int_equal(po__mailbox_post_always(&mb, &refused->mail), PO_ECLOSED);
    po__free(refused);
    po__mailbox_fini(&mb);
}

enum { POSTERS = 4, LETTERS = 20000 };
static struct po__mailbox shared;
static atomic_int posters_left;

static void *post_many(void *arg)
{
    unsigned from = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *l = letter(from, i, sizeof *l);
        while (po__mailbox_post(&shared, &l->mail) == PO_EBUSY)
            sched_yield();
    }
    atomic_fetch_sub(&posters_left, 1);
    return NULL;
}

/* Each poster's letters arrive in its order, none lost, none twice. */
static void test_threads(void **state)
{
    (void)state;
    pthread_t t[POSTERS];
    unsigned next[POSTERS] = {0}, got = 0;
    assert_int_equal(po__mailbox_init(&shared, count_signal, NULL), 0);
    atomic_store(&posters_left, POSTERS);
    for (uintptr_t i = 0; i < POSTERS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, post_many, (void *)i), 0);
    while (got < POSTERS * LETTERS) {
        struct po__list mail, *it;
        po__list_init(&mail);
        if (po__mailbox_take(&shared, &mail) == 0)
            sched_yield();
        while ((it = po__list_pop(&mail))) {
            struct letter *l =
                po__container_of(po__container_of(it, struct po__mail, link), struct letter, mail);
            assert_int_equal(l->number, next[l->from]++);
            po__free(l);
            got++;
        }
    }
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(po__mailbox_count(&shared), 0);
    po__mailbox_fini(&shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_signal),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
