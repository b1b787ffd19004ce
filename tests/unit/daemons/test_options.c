#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/alloc.h"
#include "common/options.h"
#include "po-controld/settings.h"

struct settings {
    const char *name, *mode, *listen, *peers, *members;
    uint64_t count, size, wait;
    bool loud;
};

static const struct opt table[] = {
    {"name", OPT_NAME, offsetof(struct settings, name), "NAME", NULL, "A name.",
     .flags = OPT_REQUIRED},
    {"mode", OPT_CHOICE, offsetof(struct settings, mode), "fast|slow", "slow", "A mode.",
     .letter = 'm'},
    {"listen_at", OPT_ADDRESS, offsetof(struct settings, listen), "HOST:PORT", NULL, "An address."},
    {"peers", OPT_ADDRESSES, offsetof(struct settings, peers), "HOST:PORT,...", NULL, "Addresses."},
    {"members", OPT_MEMBERS, offsetof(struct settings, members), "NAME=HOST:PORT,...", NULL,
     "Members."},
    {"count", OPT_UINT, offsetof(struct settings, count), "N", "3", "A count.", 1, 100},
    {"size", OPT_BYTES, offsetof(struct settings, size), "BYTES", "16MiB", "A size.", 1024,
     1 << 30},
    {"wait", OPT_DURATION, offsetof(struct settings, wait), "TIME", "10s", "A time.", 1, 3600000},
    {"loud", OPT_BOOL, offsetof(struct settings, loud), NULL, "false", "Loud."},
};
static const struct opt_tool tool = {
    .name = "tool",
    .synopsis = "[OPTION...]",
    .about = "About.",
    .options = table,
    .count = sizeof table / sizeof *table,
    .config_file = true,
};

#define LIST(...) ((char *[]){(char *)"tool", __VA_ARGS__, NULL})
#define NOTHING   ((char *[]){NULL})
#define ENV(...)  ((char *[]){__VA_ARGS__, NULL})

static void refuses(char **argv, char **envp, const char *problems)
{
    struct settings s = {0};
    struct opt_run run;
    assert_false(opt_read(&run, &tool, &s, argv, envp));
    po__buf_append(&run.problems, "", 1);
    assert_string_equal((char *)run.problems.data, problems);
    opt_fini(&run);
}

static void reads(struct settings *s, struct opt_run *run, char **argv, char **envp)
{
    *s = (struct settings){0};
    bool ok = opt_read(run, &tool, s, argv, envp);
    if (!ok) {
        po__buf_append(&run->problems, "", 1);
        fail_msg("%s", (char *)run->problems.data);
    }
}

/* A config file; its path in path[32]. */
static void write_config(char path[32], const char *text)
{
    strcpy(path, "/tmp/po-options-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void defaults_and_forms_of_flags(void **state)
{
    (void)state;
    struct settings s;
    struct opt_run run;
    reads(&s, &run, LIST("--name=a.b-c_1"), NOTHING);
    assert_string_equal(s.name, "a.b-c_1");
    assert_string_equal(s.mode, "slow");
    assert_int_equal(s.count, 3);
    assert_int_equal(s.size, 16 << 20);
    assert_int_equal(s.wait, 10000);
    assert_false(s.loud);
    assert_null(s.listen);
    assert_false(opt_given(&run, "count"));
    opt_fini(&run);
    reads(&s, &run,
          LIST("--name", "x", "-m", "fast", "--listen-at", "[::1]:7101", "--peers=a:1,b.c:65535",
               "--members", "n1=h:1,n2=[fe80::1]:2", "--count", "100", "--size=64KiB", "--wait=5m",
               "--loud"),
          NOTHING);
    assert_string_equal(s.mode, "fast");
    assert_string_equal(s.listen, "[::1]:7101");
    assert_string_equal(s.peers, "a:1,b.c:65535");
    assert_string_equal(s.members, "n1=h:1,n2=[fe80::1]:2");
    assert_int_equal(s.count, 100);
    assert_int_equal(s.size, 65536);
    assert_int_equal(s.wait, 300000);
    assert_true(s.loud);
    assert_true(opt_given(&run, "count"));
    opt_fini(&run);
}

static void flag_over_environment_over_file_over_default(void **state)
{
    (void)state;
    char path[32];
    write_config(
        path,
        "{\"name\": \"file\", \"count\": 7, \"size\": \"2KiB\", \"mode\": \"fast\", \"loud\": true,"
        " \"peers\": [\"a:1\", \"b:2\"], \"wait\": 55}");
    struct settings s;
    struct opt_run run;
    reads(&s, &run, LIST("--config", path, "--name", "flag"),
          ENV("PO_NAME=env", "PO_COUNT=9", "PO_LOUD=0", "HOME=/"));
    assert_string_equal(s.name, "flag");
    assert_int_equal(s.count, 9);
    assert_int_equal(s.size, 2048);
    assert_int_equal(s.wait, 55);
    assert_string_equal(s.mode, "fast");
    assert_string_equal(s.peers, "a:1,b:2");
    assert_false(s.loud);
    opt_fini(&run);
    char variable[64];
    snprintf(variable, sizeof variable, "PO_CONFIG=%s", path);
    reads(&s, &run, LIST("-m", "slow"), ENV(variable));
    assert_string_equal(s.name, "file");
    assert_string_equal(s.mode, "slow");
    opt_fini(&run);
    unlink(path);
}

static void unknown_flags_and_variables_are_refused(void **state)
{
    (void)state;
    refuses(LIST("--name=x", "--listen_at=h:1", "--zzzzzzzz", "-x", "--peeers", "a:1", "word"),
            ENV("PO_NMAE=x", "PO_WHATEVER=1"),
            "argument 2, --listen_at: unknown flag; did you mean --listen-at?\n"
            "argument 3, --zzzzzzzz: unknown flag; tool --help lists them\n"
            "argument 4, -x: unknown flag; tool --help lists them\n"
            "argument 5, --peeers: unknown flag; did you mean --peers?\n"
            "argument 7, \"word\": is no flag; tool takes flags only\n"
            "environment variable PO_NMAE: unknown variable; did you mean PO_NAME?\n"
            "environment variable PO_WHATEVER: unknown variable; names beginning with PO_ are "
            "reserved for "
            "pipeorch; unset it (tool --help lists the known ones)");
}

static void variables_of_the_other_programs_are_ignored(void **state)
{
    (void)state;
    struct settings s;
    struct opt_run run;
    reads(&s, &run, LIST("--name=x"),
          ENV("PO_CONTROLLERS=nonsense", "PO_DATA_DIR=", "PO_TASK_ID=1", "PO_FENCING_TOKEN=2",
              "PO_DRAIN_MS=x"));
    opt_fini(&run);
}

static void wrong_values_are_refused_even_when_overridden(void **state)
{
    (void)state;
    refuses(
        LIST("--name=a b", "--mode=fas", "--listen-at=:1", "--peers=a:1,,b:2", "--members=x:1",
             "--count=0", "--size=1TiB", "--wait=-1", "--loud=yes"),
        ENV("PO_COUNT=many", "PO_NAME="),
        "argument 1, --name: \"a b\" is not a name; use 1 to 128 letters, digits, '.', '_' and "
        "'-'\n"
        "argument 2, --mode: \"fas\" is not one of fast|slow\n"
        "argument 3, --listen-at: \":1\" is not an address; write host:port, as 127.0.0.1:7101, "
        "cp1.example.org:7101 or [::1]:7101\n"
        "argument 4, --peers: \"\" is not an address; write host:port, as 127.0.0.1:7101, "
        "cp1.example.org:7101 or [::1]:7101, separated by commas\n"
        "argument 5, --members: \"x:1\" is not a member; write name=host:port, separated by "
        "commas\n"
        "argument 6, --count: \"0\" is not a whole number from 1 to 100\n"
        "argument 7, --size: \"1TiB\" is not a number of bytes (as 4096, 64KiB, 16MiB or 1GiB) "
        "from 1024 to "
        "1073741824\n"
        "argument 8, --wait: \"-1\" is not a time (as 500ms, 10s, 5m or 1h) from 1 to 3600000 ms\n"
        "argument 9, --loud: \"yes\" is neither true nor false (1 and 0 are allowed)\n"
        "environment variable PO_COUNT: \"many\" is not a whole number from 1 to 100\n"
        "environment variable PO_NAME: is empty");
}

static void addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"h:0", "127.0.0.1:65535", "[::]:1", "a-b.c:7"};
    static const char *const bad[] = {"h",    "h:",   "h:65536", "h:000001",   "::1:7",
                                      "[]:1", "h:1a", "a b:1",   "http://h:1", "h:-1"};
    for (unsigned i = 0; i < sizeof good / sizeof *good; i++) {
        struct settings s;
        struct opt_run run;
        reads(&s, &run, LIST("--name=x", "--listen-at", (char *)good[i]), NOTHING);
        opt_fini(&run);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct settings s = {0};
        struct opt_run run;
        assert_false(
            opt_read(&run, &tool, &s, LIST("--name=x", "--listen-at", (char *)bad[i]), NOTHING));
        assert_int_equal(run.problems_count, 1);
        opt_fini(&run);
    }
}

static void twice_missing_and_without_value(void **state)
{
    (void)state;
    refuses(LIST("--count=1", "--count", "1", "--loud", "--loud", "--mode"), NOTHING,
            "argument 2, --count: is given twice; remove one\n"
            "argument 5, --loud: is given twice; remove one\n"
            "argument 6, --mode: a value must follow\n"
            "--name: is missing; give the flag, PO_NAME, or \"name\" in the config file");
}

static void config_file_problems_have_line_and_column(void **state)
{
    (void)state;
    char path[32], expected[1024];
    write_config(
        path, "{\n \"listen-at\": \"h:1\",\n \"count\": \"7\",\n \"size\": true,\n \"wait\": 0,\n"
              " \"peers\": [1],\n \"xxxxxxxx\": {}\n}");
    snprintf(expected, sizeof expected,
             "%s:5:2: /wait: \"0\" is not a time (as 500ms, 10s, 5m or 1h) from 1 to 3600000 ms\n"
             "%s:2:2: /listen-at: unknown key \"listen-at\"; did you mean \"listen_at\"?\n"
             "%s:3:2: /count: must be an integer\n"
             "%s:4:2: /size: must be an integer or a string as \"16MiB\"\n"
             "%s:6:2: /peers: must be a string or an array of strings\n"
             "%s:7:2: /xxxxxxxx: unknown key \"xxxxxxxx\"; tool --help lists the known ones",
             path, path, path, path, path, path);
    refuses(LIST("--name=x", "--config", path), NOTHING, expected);
    unlink(path);
    write_config(path, "{\"name\": }");
    struct settings s = {0};
    struct opt_run run;
    assert_false(opt_read(&run, &tool, &s, LIST("--name=x", "--config", path), NOTHING));
    snprintf(expected, sizeof expected, "%s:1:10: not valid JSON", path);
    assert_memory_equal(run.problems.data, expected, strlen(expected));
    opt_fini(&run);
    unlink(path);
    refuses(LIST("--name=x", "--config=/nonexistent/file"), NOTHING,
            "/nonexistent/file: cannot be opened: No such file or directory");
}

static void help_lists_every_option_of_every_program(void **state)
{
    (void)state;
    const struct opt_tool *tools[] = {&tool, &controld_tool, &workerd_tool, &poctl_tool};
    for (unsigned t = 0; t < 4; t++) {
        struct po__buf page = {0};
        opt_help(&page, tools[t]);
        po__buf_append(&page, "", 1);
        assert_int_equal(page.err, 0);
        for (unsigned i = 0; i < tools[t]->count; i++) {
            char flag[64] = "--";
            opt__kebab(flag + 2, sizeof flag - 2, tools[t]->options[i].name);
            assert_non_null(strstr((char *)page.data, flag));
            assert_non_null(strstr((char *)page.data, "--help"));
        }
        for (const char *p = (char *)page.data; *p; p += strcspn(p, "\n") + 1)
            assert_true(strcspn(p, "\n") <= 90);
        po__buf_fini(&page);
    }
    struct settings s = {0};
    struct opt_run run;
    assert_true(opt_read(&run, &tool, &s, LIST("--bogus", "--help"), NOTHING));
    assert_true(run.help);
    opt_fini(&run);
}

static void allocation_failures_are_reported(void **state)
{
    (void)state;
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct settings s = {0};
        struct opt_run run;
        po__alloc_fail_at(n);
        bool ok = opt_read(&run, &tool, &s, LIST("--name=x", "--peers=a:1"), NOTHING);
        failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        if (ok) {
            assert_string_equal(s.name, "x");
            assert_string_equal(s.peers, "a:1");
            assert_string_equal(s.mode, "slow");
        }
        opt_fini(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_and_forms_of_flags),
        cmocka_unit_test(flag_over_environment_over_file_over_default),
        cmocka_unit_test(unknown_flags_and_variables_are_refused),
        cmocka_unit_test(variables_of_the_other_programs_are_ignored),
        cmocka_unit_test(wrong_values_are_refused_even_when_overridden),
        cmocka_unit_test(addresses),
        cmocka_unit_test(twice_missing_and_without_value),
        cmocka_unit_test(config_file_problems_have_line_and_column),
        cmocka_unit_test(help_lists_every_option_of_every_program),
        cmocka_unit_test(allocation_failures_are_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
