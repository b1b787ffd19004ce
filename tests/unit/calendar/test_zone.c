/* Zones' files: names, what is read from them, and files that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include <pipeorch/error.h>
#include "base/alloc.h"
#include "calendar/zone_impl.h"
#include "zones.h"

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {
        "UTC",       "Europe/Berlin", "America/Argentina/Buenos_Aires",
        "Etc/GMT+5", "Etc/GMT-14",    "EST5EDT",
        "W-SU",      "a.b/c"};
    static const char *const bad[] = {
        "",     ".",     "..",     "/",     "/etc/passwd", "a/",
        "a//b", "../x",  "a/../b", "a/./b", "a b",         "Z\xc3\xbcrich",
        "a\n",  "a/...", "x\\y"};
    char why[PO__ZONE_NAME_MAX_BYTES + 256];
    struct po__zone *z;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(po__zone_name_ok(po__str(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(po__zone_name_ok(po__str(bad[i])));
        assert_int_equal(po__zone_open(&z, NULL, po__str(bad[i]), why, sizeof why), PO_EINVAL);
        assert_non_null(strstr(why, "is not the name of a time zone"));
    }
    assert_false(po__zone_name_ok(po__slice("a\0b", 3)));
    char name[PO__ZONE_NAME_MAX_BYTES + 1];
    memset(name, 'a', sizeof name);
    assert_true(po__zone_name_ok(po__slice(name, PO__ZONE_NAME_MAX_BYTES)));
    assert_false(po__zone_name_ok(po__slice(name, PO__ZONE_NAME_MAX_BYTES + 1)));
}

/* ---- from a directory ---- */

static void write_file(const char *dir, const char *name, const void *data, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static void refused(const char *dir, const char *name, int code, const char *says)
{
    struct po__zone *z = NULL;
    char why[1024] = "";
    assert_int_equal(po__zone_open(&z, dir, po__str(name), why, sizeof why), code);
    if (!strstr(why, says))
        fail_msg("%s: \"%s\" does not say \"%s\"", name, why, says);
}

static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/test-zone-XXXXXX", sub[64], cmd[80], why[1024];
    static const char big[PO__ZONE_FILE_MAX_BYTES + 1];
    const struct zone_file *berlin = zone_file("Europe/Berlin");
    struct po__zone *z = NULL;
    assert_non_null(mkdtemp(dir));
    snprintf(sub, sizeof sub, "%s/Europe", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    write_file(dir, "Europe/Berlin", berlin->data, berlin->len);
    write_file(dir, "big", big, sizeof big);
    write_file(dir, "text", "# no zone\n", 10);
    if (po__zone_open(&z, dir, po__str("Europe/Berlin"), why, sizeof why))
        fail_msg("%s", why);
    assert_int_equal(po__zone_span(z, 1750000000).offset_s, 7200);
    po__zone_close(z);
    refused(dir, "Europe/Paris", PO_ENOTFOUND, "no time zone \"Europe/Paris\" is known");
    refused(dir, "Europe/Paris", PO_ENOTFOUND, dir);
    refused(dir, "text/x", PO_ENOTFOUND, "no time zone");
    refused(dir, "Europe", PO_EIO, "Europe: cannot be read");
    refused(dir, "text", PO_ECORRUPT, "text: not a file of a time zone; expected a TZif file");
    refused(dir, "big", PO_ECORRUPT, "longer than the file of any time zone");
    refused("/nowhere", "Europe/Berlin", PO_ENOTFOUND, "/nowhere");
    /* UTC needs none of it */
    assert_int_equal(po__zone_open(&z, "/nowhere", po__str("UTC"), why, sizeof why), 0);
    struct po__zone_span s = po__zone_span(z, 0);
    assert_true(s.from_s == INT64_MIN && s.to_s == INT64_MAX && s.offset_s == 0);
    po__zone_close(z);
    snprintf(cmd, sizeof cmd, "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
}

/* The machine's own, as the daemons open them. */
static void test_system(void **state)
{
    (void)state;
    struct po__zone *z = NULL;
    char why[1024];
    if (po__zone_open(&z, NULL, po__str("Europe/Berlin"), why, sizeof why))
        fail_msg("%s (tests/install-deps.sh installs tzdata)", why);
    assert_int_equal(po__zone_span(z, 1750000000).offset_s, 7200);
    po__zone_close(z);
}

static void test_without_memory(void **state)
{
    (void)state;
    const struct zone_file *f = zone_file("America/New_York");
    char why[256];
    struct po__zone *z = NULL;
    int rv = PO_ENOMEM;
    for (uint64_t n = 1; rv; n++) {
        assert_true(n < 10);
        po__alloc_fail_at(n);
        rv = po__zone_parse(&z, f->data, f->len, why, sizeof why);
        po__alloc_fail_at(0);
        assert_true(rv == 0 || (rv == PO_ENOMEM && strstr(why, "out of memory")));
    }
    po__zone_close(z);
    po__alloc_fail_at(1);
    assert_int_equal(po__zone_open(&z, NULL, po__str("UTC"), why, sizeof why), PO_ENOMEM);
    po__alloc_fail_at(1);
    assert_int_equal(po__zone_open(&z, NULL, po__str("Europe/Berlin"), why, sizeof why), PO_ENOMEM);
    po__alloc_fail_at(0);
}

/* ---- bytes ---- */

/* Cut anywhere, and any byte changed: refused, or a zone whose spans are sound. Never more. */
static void check_sound(const struct po__zone *z)
{
    for (int64_t at = -INT64_C(5000000000); at < INT64_C(8000000000); at += 97654321) {
        struct po__zone_span s = po__zone_span(z, at);
        assert_true(s.from_s <= at && at < s.to_s);
    }
}

static void test_broken_files(void **state)
{
    (void)state;
    const struct zone_file *f = zone_file("Australia/Lord_Howe");
    uint8_t *copy = malloc(f->len);
    char why[256];
    for (size_t len = 0; len < f->len; len++) {
        struct po__zone *z = NULL;
        memcpy(copy, f->data, f->len);
        uint8_t *exact = malloc(len + 1); /* what is behind it is nobody's */
        memcpy(exact, copy, len);
        assert_int_equal(po__zone_parse(&z, exact, len, why, sizeof why), PO_ECORRUPT);
        free(exact);
    }
    size_t refused_count = 0;
    for (size_t i = 0; i < f->len; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            struct po__zone *z = NULL;
            memcpy(copy, f->data, f->len);
            copy[i] ^= (uint8_t)(1u << bit);
            int rv = po__zone_parse(&z, copy, f->len, why, sizeof why);
            assert_true(rv == 0 || rv == PO_ECORRUPT);
            refused_count += rv != 0;
            if (rv == 0)
                check_sound(z);
            po__zone_close(z);
        }
    }
    assert_true(refused_count > 300); /* magic, versions, counts, order, footer */
    free(copy);
}

/* The smallest file of version 2 with a footer. */
static size_t small_file(uint8_t *to, char version, const char *footer)
{
    uint8_t head[44] = {'T', 'Z', 'i', 'f', (uint8_t)version};
    size_t n = 0;
    head[39] = 1; /* one type */
    head[43] = 4; /* its name */
    for (int i = 0; i < 2; i++) {
        memcpy(to + n, head, sizeof head);
        memcpy(to + n + sizeof head, "\0\0\0\0\0\0UTC", 10);
        n += sizeof head + 10;
    }
    return n + (size_t)sprintf((char *)to + n, "\n%s\n", footer);
}

static int parse_footer(struct po__zone **z, char version, const char *footer, char *why)
{
    uint8_t file[512];
    return po__zone_parse(z, file, small_file(file, version, footer), why, 256);
}

static void test_footers(void **state)
{
    (void)state;
    static const char *const good[] = {"UTC0",
                                       "",
                                       "EST5EDT,M3.2.0,M11.1.0",
                                       "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
                                       "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
                                       "IST-1GMT0,M10.5.0,M3.5.0/1",
                                       "XXX3EDT4,0/0,J365/23",
                                       "AAA-1:30:15BBB,J60/167,300/-167"};
    static const char *const bad[] = {"UT0",
                                      "UTC",
                                      "UTC25",
                                      "UTC0x",
                                      "EST5EDT",
                                      "EST5EDT,M3.2.0",
                                      "EST5EDT,M13.2.0,M11.1.0",
                                      "EST5EDT,M3.6.0,M11.1.0",
                                      "EST5EDT,M3.2.7,M11.1.0",
                                      "EST5EDT,J0,J300",
                                      "EST5EDT,366,J300",
                                      "EST5EDT,M3.2.0/168,M11.1.0",
                                      "<+1030-10:30",
                                      "EST5EDT,M3.2.0,M11.1.0,",
                                      "EST5:60EDT,M3.2.0,M11.1.0",
                                      "99999999999999999999"};
    char why[256];
    struct po__zone *z = NULL;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        if (parse_footer(&z, '2', good[i], why))
            fail_msg("%s: %s", good[i], why);
        check_sound(z);
        po__zone_close(z);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse_footer(&z, '2', bad[i], why) != PO_ECORRUPT)
            fail_msg("%s was accepted", bad[i]);
    assert_int_equal(parse_footer(&z, '\0', "UTC0", why), PO_ECORRUPT);
    assert_non_null(strstr(why, "version 1"));
    /* summer time all the year: no change at its seams */
    assert_int_equal(parse_footer(&z, '3', "XXX3EDT4,0/0,J365/23", why), 0);
    for (int64_t at = 1700000000; at < 1900000000; at += 3599) {
        struct po__zone_span s = po__zone_span(z, at);
        assert_true(s.offset_s == -4 * 3600 && s.before_s == s.offset_s);
    }
    po__zone_close(z);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),        cmocka_unit_test(test_files),
        cmocka_unit_test(test_system),       cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_broken_files), cmocka_unit_test(test_footers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
