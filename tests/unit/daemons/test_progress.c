/* Lines of progress: in any pieces, good and bad ones; and the file of a checkpoint. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <pipeorch/worker.h>
#include "base/alloc.h"
#include "po-workerd/progress.h"

struct heard {
    char said[4096], wrong[4096];
    size_t checkpoint_len;
};

__attribute__((format(printf, 2, 3))) static void note(char text[4096], const char *fmt, ...)
{
    size_t len = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + len, 4096 - len, fmt, ap);
    va_end(ap);
}

static void said(void *arg, const struct progress_line *l)
{
    struct heard *h = arg;
    h->checkpoint_len = l->checkpoint_len;
    if (l->checkpoint)
        assert_int_equal(strlen(l->checkpoint), l->checkpoint_len);
    note(h->said, "[%u %.40s %u]", l->thousandths, l->checkpoint ? l->checkpoint : "-",
         l->extend_ms);
}

static void wrong(void *arg, unsigned number, const char *why)
{
    struct heard *h = arg;
    note(h->wrong, "%u: %s\n", number, why);
}

static struct heard feed(const char *text, size_t len, size_t piece)
{
    struct heard h = {.said = ""};
    struct progress p = {.said = said, .wrong = wrong, .arg = &h};
    for (size_t at = 0; at < len; at += piece)
        progress_feed(&p, text + at, len - at < piece ? len - at : piece);
    progress_end(&p);
    return h;
}

static struct heard feed_text(const char *text)
{
    return feed(text, strlen(text), strlen(text));
}

static void lines_in_any_pieces(void **state)
{
    (void)state;
    static const char text[] = "{\"progress\": 0.42}\n"
                               "\n"
                               "{\"checkpoint\": [1, \"a\\nb\", {\"c\": null}], \"progress\":1}\r\n"
                               "{\"extend_ms\": 60000}\n"
                               "{\"progress\":0,\"checkpoint\":null}\n";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct heard h = feed(text, sizeof text - 1, piece);
        assert_string_equal(h.said, "[420 - 0][1000 [1,\"a\\nb\",{\"c\":null}] 0][1001 - 60000]"
                                    "[0 null 0]");
        assert_string_equal(h.wrong, "");
    }
}

static void wrong_lines_are_told_and_skipped(void **state)
{
    (void)state;
    static const struct {
        const char *line, *why;
    } cases[] = {
        {"nonsense", "not valid JSON"},
        {"[1]", "must be an object"},
        {"{}", "says nothing"},
        {"{\"progress\": 1.01}", "from 0 to 1"},
        {"{\"progress\": -0.1}", "from 0 to 1"},
        {"{\"progress\": \"42%\"}", "from 0 to 1"},
        {"{\"progres\": 0.5}", "did you mean \"progress\""},
        {"{\"extend_ms\": 99}", "must be 100 to 86400000"},
        {"{\"extend_ms\": 1e3}", "integer"},
        {"{\"checkpoint\": 1, \"progress\": 7}", "from 0 to 1"},
        {"{\"progress\": 0.1, \"progress\": 0.2}", "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "%s\n{\"progress\": 0.5}\n", cases[i].line);
        struct heard h = feed_text(text);
        assert_string_equal(h.said, "[500 - 0]");
        if (!strstr(h.wrong, cases[i].why) || strncmp(h.wrong, "1: ", 3) != 0)
            fail_msg("%s: %s", cases[i].line, h.wrong);
    }
    struct heard h =
        feed_text("{\"progress\": 0.5}"); /* the writer was killed in the middle, maybe */
    assert_string_equal(h.said, "");
    assert_string_equal(h.wrong, "1: it has no line break at its end\n");
}

static void long_lines_are_bounded(void **state)
{
    (void)state;
    size_t len = PROGRESS_LINE_MAX_BYTES + 100000;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, ' ', len);
    memcpy(text, "{\"progress\": 0.1}", 17);
    memcpy(text + len - 19, "\n{\"progress\": 0.2}\n", 19);
    struct heard h = feed(text, len, 65536);
    assert_string_equal(h.said, "[200 - 0]");
    assert_string_equal(h.wrong, "1: it is longer than 512 KiB\n");
    /* A checkpoint of the largest size, and one byte more. */
    for (size_t size = PO_CHECKPOINT_MAX_BYTES; size <= PO_CHECKPOINT_MAX_BYTES + 1; size++) {
        memset(text, 'x', size + 17);
        memcpy(text, "{\"checkpoint\": \"", 16);
        memcpy(text + 16 + size - 2, "\"}\n", 3);
        h = feed(text, 16 + size + 1, 65536);
        if (size == PO_CHECKPOINT_MAX_BYTES)
            assert_int_equal(h.checkpoint_len, size);
        else
            assert_non_null(strstr(h.wrong, "Keep it elsewhere"));
    }
    free(text);
}

static void every_failing_allocation_is_told(void **state)
{
    (void)state;
    static const char text[] = "{\"progress\": 0.5}\n{}\n";
    po__alloc_fail_at(UINT64_MAX);
    feed_text(text);
    uint64_t count = po__alloc_count();
    assert_true(count >= 2);
    for (uint64_t n = 1; n <= count; n++) {
        po__alloc_fail_at(n);
        struct heard h = feed_text(text);
        po__alloc_fail_at(0);
        assert_non_null(strstr(h.wrong, "out of memory"));
    }
}

static void the_file_of_a_checkpoint(void **state)
{
    (void)state;
    char path[64], text[16] = "";
    int fd = progress_checkpoint_file("{\"row\":7}", 9);
    assert_true(fd >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    for (int i = 0; i < 2; i++) { /* from its beginning each time */
        FILE *f = fopen(path, "re");
        assert_non_null(f);
        assert_int_equal(fread(text, 1, sizeof text, f), 9);
        assert_memory_equal(text, "{\"row\":7}", 9);
        fclose(f);
    }
    assert_int_equal(write(fd, "x", 1), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_in_any_pieces),
        cmocka_unit_test(wrong_lines_are_told_and_skipped),
        cmocka_unit_test(long_lines_are_bounded),
        cmocka_unit_test(every_failing_allocation_is_told),
        cmocka_unit_test(the_file_of_a_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
