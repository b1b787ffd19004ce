/* The file of a backup: every bit of it is checked, wherever it is cut. */
#include "fixture.h"

#include <sys/stat.h>

static char path[64], bad[80];

static int make_file(void **state)
{
    (void)state;
    strcpy(path, "/tmp/po-backup-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(bad, sizeof bad, "%s.bad", path);
    make_backup(path, 3, 150000);
    return 0;
}

static int remove_files(void **state)
{
    (void)state;
    unlink(bad);
    return unlink(path);
}

static uint8_t *read_file(size_t *len)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    assert_true(f && fstat(fileno(f), &st) == 0);
    uint8_t *data = malloc((size_t)st.st_size);
    *len = fread(data, 1, (size_t)st.st_size, f);
    assert_int_equal(*len, st.st_size);
    fclose(f);
    return data;
}

static int inspect(const uint8_t *data, size_t len, char *error, size_t error_len)
{
    struct po__buf json = {0};
    FILE *f = fopen(bad, "wb");
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
    int rv = po__tool_inspect(bad, &json, error, error_len);
    po__buf_fini(&json);
    return rv;
}

static void test_a_flip_anywhere_is_seen(void **state)
{
    (void)state;
    size_t len;
    char error[1024];
    uint8_t *data = read_file(&len);
    assert_true(len > 400000);
    assert_int_equal(inspect(data, len, error, sizeof error), 0);
    for (size_t at = 0; at < len; at += at < 12500 || at > len - 4200 ? 173 : 9973) {
        uint8_t bit = (uint8_t)(1u << (at % 8));
        data[at] ^= bit;
        int rv = inspect(data, len, error, sizeof error);
        if (rv != PO_ECORRUPT || !strstr(error, "at offset"))
            fail_msg("flip at %zu: %s: %s", at, po_err_name(rv), error);
        data[at] ^= bit;
    }
    free(data);
}

static void test_a_cut_anywhere_is_seen(void **state)
{
    (void)state;
    size_t len;
    char error[1024];
    uint8_t *data = read_file(&len);
    for (size_t n = 0; n < len; n += n < 20000 ? 997 : 31013) {
        int rv = inspect(data, n, error, sizeof error);
        if (rv != PO_ECORRUPT)
            fail_msg("cut at %zu: %s: %s", n, po_err_name(rv), error);
    }
    free(data);
}

static void test_nothing_is_replaced_unasked(void **state)
{
    (void)state;
    static struct po__backup_info info = {.source = PO__BACKUP_ONLINE, .snapshot = {.index = 1}};
    struct po__backup_writer *w;
    char error[512];
    struct stat before, after;
    assert_int_equal(stat(path, &before), 0);
    assert_int_equal(po__backup_create(&w, path, false, &info, error, sizeof error), PO_EEXISTS);
    assert_non_null(strstr(error, "exists already"));
    /* Nor one that appeared meanwhile. */
    unlink(bad);
    assert_int_equal(po__backup_create(&w, bad, false, &info, error, sizeof error), 0);
    assert_int_equal(link(path, bad), 0);
    assert_int_equal(po__backup_finish(w), PO_EEXISTS);
    assert_int_equal(stat(bad, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    unlink(bad);
    /* An aborted one leaves nothing. */
    assert_int_equal(po__backup_create(&w, bad, false, &info, error, sizeof error), 0);
    po__backup_abort(w);
    assert_int_not_equal(access(bad, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_flip_anywhere_is_seen),
        cmocka_unit_test(test_a_cut_anywhere_is_seen),
        cmocka_unit_test(test_nothing_is_replaced_unasked),
    };
    return cmocka_run_group_tests(tests, make_file, remove_files);
}
