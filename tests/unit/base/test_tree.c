/* The ordered map against a sorted array, over random operations; after each one the whole tree is
 * checked. */
#include <setjmp.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/tree.h"

#define KEYS 300

struct item {
    struct po__tree_node node;
    int key;
};

static struct item items[KEYS];
static bool present[KEYS];
static uint64_t rng = 42;

static unsigned draw(unsigned below)
{
    rng = rng * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((rng >> 33) % below);
}

static const struct item *item_of(const struct po__tree_node *n)
{
    return (const struct item *)(const void *)((const char *)n - offsetof(struct item, node));
}

static int compare(const struct po__tree_node *a, const struct po__tree_node *b)
{
    return item_of(a)->key - item_of(b)->key;
}

static int compare_key(const void *key, const struct po__tree_node *n)
{
    return *(const int *)key - item_of(n)->key;
}

/* Returns the height; checks order, links and balance of every node below. */
static int check_subtree(const struct po__tree_node *n, const struct po__tree_node *parent, int low,
                         int high, uint64_t *count)
{
    if (!n)
        return 0;
    int key = item_of(n)->key;
    assert_ptr_equal(n->parent, parent);
    assert_true(key > low && key < high);
    ++*count;
    int left = check_subtree(n->left, n, low, key, count);
    int right = check_subtree(n->right, n, key, high, count);
    assert_int_equal(n->balance, right - left);
    assert_true(n->balance >= -1 && n->balance <= 1);
    return 1 + (left > right ? left : right);
}

static void check_tree(const struct po__tree *t)
{
    uint64_t count = 0, expected = 0;
    check_subtree(t->root, NULL, -1, KEYS, &count);
    const struct po__tree_node *n = po__tree_first(t), *last = NULL;
    for (int k = 0; k < KEYS; k++) {
        if (!present[k])
            continue;
        assert_ptr_equal(n, &items[k].node);
        assert_ptr_equal(po__tree_prev(n), last);
        last = n;
        n = po__tree_next(n);
        expected++;
    }
    assert_null(n);
    assert_ptr_equal(po__tree_last(t), last);
    assert_int_equal(t->count, expected);
    assert_int_equal(count, expected);
}

static void check_lookup(const struct po__tree *t, int key)
{
    int bound = key;
    while (bound < KEYS && (bound < 0 || !present[bound]))
        bound++;
    assert_ptr_equal(po__tree_find(t, &key, compare_key),
                     key >= 0 && key < KEYS && present[key] ? &items[key].node : NULL);
    assert_ptr_equal(po__tree_lower_bound(t, &key, compare_key),
                     bound < KEYS ? &items[bound].node : NULL);
}

static void random_operations(unsigned rounds, unsigned insert_percent, struct po__tree *t)
{
    for (unsigned i = 0; i < rounds; i++) {
        unsigned k = draw(KEYS);
        if (draw(100) < insert_percent) {
            struct item twin = {.key = (int)k};
            struct item *it = present[k] ? &twin : &items[k];
            struct po__tree_node *there = po__tree_insert(t, &it->node, compare);
            assert_ptr_equal(there, present[k] ? &items[k].node : NULL);
            present[k] = true;
        } else if (present[k]) {
            assert_true(po__tree_linked(&items[k].node));
            po__tree_remove(t, &items[k].node);
            assert_false(po__tree_linked(&items[k].node));
            present[k] = false;
        }
        check_tree(t);
        check_lookup(t, (int)draw(KEYS + 2) - 1);
    }
}

static void test_random_operations(void **state)
{
    (void)state;
    struct po__tree t = {0};
    for (int k = 0; k < KEYS; k++) {
        items[k].key = k;
        po__tree_node_init(&items[k].node);
    }
    check_tree(&t);
    random_operations(1500, 80, &t);
    random_operations(3000, 50, &t);
    random_operations(3000, 15, &t);
}

static void test_in_order(void **state)
{
    (void)state;
    for (int down = 0; down < 2; down++) {
        struct po__tree t = {0};
        memset(present, 0, sizeof present);
        for (int i = 0; i < KEYS; i++) {
            int k = down ? KEYS - 1 - i : i;
            items[k].key = k;
            assert_null(po__tree_insert(&t, &items[k].node, compare));
            present[k] = true;
            check_tree(&t);
        }
        for (int k = 0; k < KEYS; k++) {
            po__tree_remove(&t, &items[k].node);
            present[k] = false;
            check_tree(&t);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
