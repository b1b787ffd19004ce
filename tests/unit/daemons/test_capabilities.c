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
#include "po-workerd/capabilities.h"

static char path[64];
static char *inherited[] = {(char *)"HOME=/h", (char *)"KEEP=1", (char *)"PO_TASK_ID=old",
                            (char *)"PO_ZONE=z", NULL};

static void write_file(const char *text)
{
    strcpy(path, "/tmp/po-capabilities-XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static const char good[] =
    "{\"labels\": {\"gpu\": \"none\"}, \"capabilities\": [\n"
    " {\"name\": \"ingest:csv\", \"version\": \"1.2.3\", \"command\": [\"sh\", \"-c\", \"cat\"], "
    "\"cwd\": \"/usr\",\n"
    "  \"env\": {\"KEEP\": \"2\", \"NEW\": \"\"}, \"timeout_ms\": 1000, \"max_concurrency\": 4, "
    "\"requires_gpu\": true,\n"
    "  \"final_exit_codes\": [3], \"input_schema\": {\"type\": \"object\"}},\n"
    " {\"name\": \"a:b\", \"command\": [\"/bin/sh\"]}]}";

static const char *find_variable(const struct command *c, const char *name)
{
    const char *found = NULL;
    for (unsigned i = 0; i < c->envp_count; i++)
        if (strncmp(c->envp[i], name, strlen(name)) == 0 && c->envp[i][strlen(name)] == '=') {
            assert_null(found);
            found = c->envp[i] + strlen(name) + 1;
        }
    assert_null(c->envp[c->envp_count]);
    return found;
}

static void a_good_file(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    write_file(good);
    assert_int_equal(capabilities_load(&c, &d, path, inherited), 0);
    assert_int_equal(c.count, 2);
    assert_int_equal(c.labels_count, 1);
    assert_string_equal(c.labels[0].value, "none");
    const struct command *cmd = &c.commands[0];
    assert_string_equal(cmd->capability.name, "ingest:csv");
    assert_string_equal(cmd->capability.version, "1.2.3");
    assert_string_equal(cmd->capability.input_schema, "{\"type\":\"object\"}");
    assert_null(cmd->capability.output_schema);
    assert_int_equal(cmd->capability.max_concurrency, 4);
    assert_int_equal(cmd->capability.requires_gpu, 1);
    assert_string_equal(cmd->argv[2], "cat");
    assert_null(cmd->argv[3]);
    assert_string_equal(cmd->cwd, "/usr");
    assert_int_equal(cmd->timeout_ms, 1000);
    assert_true(cmd->final_codes[3]);
    assert_false(cmd->final_codes[64]);
    assert_string_equal(find_variable(cmd, "HOME"), "/h");
    assert_string_equal(find_variable(cmd, "KEEP"), "2");
    assert_string_equal(find_variable(cmd, "NEW"), "");
    assert_string_equal(find_variable(cmd, "PO_ZONE"), "z");
    assert_null(find_variable(cmd, "PO_TASK_ID"));
    cmd = &c.commands[1];
    assert_string_equal(cmd->cwd, "/tmp/");
    assert_true(cmd->final_codes[64] && cmd->final_codes[65]);
    assert_null(cmd->capability.version);
    capabilities_fini(&c);
    po__buf_fini(&d.problems);
    unlink(path);
}

static uint64_t amount_of(const struct capabilities *c, const char *name)
{
    for (unsigned i = 0; i < c->resources_count; i++)
        if (strcmp(c->resources[i].name, name) == 0)
            return c->resources[i].amount;
    return 0;
}

static void resources_as_people_say_them(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    write_file("{\"capabilities\": [{\"name\": \"a:b\", \"command\": [\"/bin/sh\"]}], \"slots\": 7,"
               " \"resources\": {\"cpus\": 2.5, \"memory\": \"8GiB\", \"gpus\": 1, \"scratch\": "
               "\"3KiB\"}}");
    assert_int_equal(capabilities_load(&c, &d, path, inherited), 0);
    assert_int_equal(c.slots, 7);
    assert_int_equal(c.resources_count, 4);
    assert_int_equal(amount_of(&c, "cpu_milli"), 2500);
    assert_int_equal(amount_of(&c, "memory_bytes"), UINT64_C(8) << 30);
    assert_int_equal(amount_of(&c, "gpus"), 1);
    assert_int_equal(amount_of(&c, "scratch"), 3072);
    capabilities_fini(&c);
    po__buf_fini(&d.problems);
    unlink(path);
}

static void every_problem_at_once(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    write_file("{\"capabilities\": [\n"
               " {\"name\": \"ingest\", \"comand\": [\"sh\"]},\n"
               " {\"name\": \"a:b\", \"command\": [\"no-such-program\", 1], \"version\": \"one\",\n"
               "  \"env\": {\"PO_X\": \"1\", \"A B\": 2}, \"final_exit_codes\": [0, 256]},\n"
               " {\"name\": \"a:b\", \"command\": [\"./none\"], \"max_concurrency\": 0, "
               "\"timeout_ms\": 99},\n"
               " {\"name\": \"c:d\", \"command\": [\"sh\"], \"cwd\": \"/nonexistent\", "
               "\"requires_gpu\": \"no\"}],\n"
               " \"labels\": {\"a b\": 1}, \"x\": 1, \"slots\": 0,\n"
               " \"resources\": {\"gpus\": 0, \"cpus\": 0.0005, \"cpu_milli\": 1,\n"
               "  \"memory\": \"8GB\", \"a b\": 1}}");
    setenv("PATH", "/usr/bin:/bin", 1);
    assert_int_equal(capabilities_load(&c, &d, path, inherited), PO_EINVAL);
    po__buf_append(&d.problems, "", 1);
    static const char *const lines[] = {
        ":7:24: /x: unknown key \"x\"; known keys are capabilities, labels, resources, slots, "
        "description",
        ":7:32: /slots: is 0; must be 1 to 1024",
        ":2:21: /capabilities/0/comand: unknown key \"comand\"; did you mean \"command\"?",
        ":2:2: /capabilities/0: the key \"command\" is missing; it must be an array",
        ":2:3: /capabilities/0/name: \"ingest\" is not a capability; write \"verb:name\", each "
        "part of a-z, 0-9, '.', "
        "'_' and '-'",
        ":3:30: /capabilities/1/command/0: no program \"no-such-program\" is in PATH "
        "(/usr/bin:/bin)",
        ":3:49: /capabilities/1/command/1: must be a string",
        ":3:53: /capabilities/1/version: \"one\" is not a semantic version; write it as \"1.0.0\"",
        ":4:11: /capabilities/1/env/PO_X: names beginning with PO_ are reserved; use another one",
        ":4:24: /capabilities/1/env/A B: is not a variable name; use letters, digits and '_'",
        ":4:24: /capabilities/1/env/A B: must be a string",
        ":4:56: /capabilities/1/final_exit_codes/0: must be an exit code from 1 to 255",
        ":4:59: /capabilities/1/final_exit_codes/1: must be an exit code from 1 to 255",
        ":5:41: /capabilities/2/max_concurrency: is 0; must be 1 to 1024",
        ":5:63: /capabilities/2/timeout_ms: is 99; must be 100 to 86400000",
        ":5:30: /capabilities/2/command/0: \"./none\" is no executable file below /tmp/; check the "
        "path",
        ":6:60: /capabilities/3/requires_gpu: must be true or false, not a string",
        ":6:37: /capabilities/3/cwd: /nonexistent is not a folder that can be entered",
        ":5:3: /capabilities/2/name: \"a:b\" is already offered at /capabilities/1",
        ":7:13: /labels/a b: the key is not a name; use letters, digits, '.', '_' and '-'",
        ":7:13: /labels/a b: must be a string of at most 128 bytes",
        ":8:16: /resources/gpus: must be a whole number from 1, or a text as \"512MiB\" or "
        "\"8GiB\"",
        ":8:27: /resources/cpus: is the same as \"cpu_milli\", which is given too; keep one of "
        "them",
        ":8:27: /resources/cpus: must be a number from 0.001 to 1000000 with at most three "
        "decimals",
        ":9:3: /resources/memory: must be a whole number from 1, or a text as \"512MiB\" or "
        "\"8GiB\"",
        ":9:20: /resources/a b: the key is not a name; use letters, digits, '.', '_' and '-'",
    };
    char *rest = (char *)d.problems.data, *line;
    unsigned n = 0;
    while ((line = strsep(&rest, "\n")) != NULL) {
        assert_true(n < sizeof lines / sizeof *lines);
        assert_memory_equal(line, path, strlen(path));
        assert_string_equal(line + strlen(path), lines[n]);
        n++;
    }
    assert_int_equal(n, sizeof lines / sizeof *lines);
    po__buf_fini(&d.problems);
    unlink(path);
}

/* As they are written: 0.1 stays 0.1. */
static void schemas_keep_their_text(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    write_file("{\"capabilities\": [{\"name\": \"a:b\", \"command\": [\"sh\"]},\n"
               " {\"name\": \"c:d\", \"command\": [\"sh\"], \"output_schema\":\n"
               "  { \"multipleOf\" : 0.1, \"const\" : 1.234567890123456789 , \"enum\":[1.50] }}]}");
    assert_int_equal(capabilities_load(&c, &d, path, inherited), 0);
    assert_null(c.commands[0].capability.output_schema);
    assert_null(c.commands[1].capability.input_schema);
    assert_string_equal(c.commands[1].capability.output_schema,
                        "{\"multipleOf\":0.1,\"const\":1.234567890123456789,\"enum\":[1.50]}");
    capabilities_fini(&c);
    po__buf_fini(&d.problems);
    unlink(path);
}

static void schemas_outside_of_the_subset(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    write_file("{\"capabilities\": [{\"name\": \"a:b\", \"command\": [\"sh\"],\n"
               "  \"input_schema\": {\"properties\": {\"x\": {\"pattern\": \"^a\"}}},\n"
               "  \"output_schema\": {\"type\": \"int\"}}]}");
    assert_int_equal(capabilities_load(&c, &d, path, inherited), PO_EINVAL);
    po__buf_append(&d.problems, "", 1);
    const char *text = (const char *)d.problems.data;
    assert_non_null(strstr(text,
                           ":2:41: /capabilities/0/input_schema/properties/x/pattern: pattern "
                           "is not supported"));
    assert_non_null(strstr(text, ":3:21: /capabilities/0/output_schema/type: a type is"));
    po__buf_fini(&d.problems);
    unlink(path);
}

static void more_slots_than_threads(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    write_file("{\"capabilities\": [{\"name\": \"a:a\", \"command\": [\"sh\"], "
               "\"max_concurrency\": 1024},\n"
               "{\"name\": \"a:b\", \"command\": [\"sh\"]}]}");
    assert_int_equal(capabilities_load(&c, &d, path, inherited), PO_EINVAL);
    assert_int_equal(d.count, 1);
    po__buf_append(&d.problems, "", 1);
    assert_non_null(
        strstr((char *)d.problems.data, ":1:2: /capabilities: max_concurrency adds up to 1025"));
    po__buf_fini(&d.problems);
    unlink(path);
}

static void a_missing_file(void **state)
{
    (void)state;
    struct capabilities c;
    struct po__doc d = {0};
    assert_int_equal(capabilities_load(&c, &d, "/nonexistent.json", inherited), PO_EINVAL);
    po__buf_append(&d.problems, "", 1);
    assert_string_equal((char *)d.problems.data,
                        "/nonexistent.json: cannot be opened: No such file or directory");
    po__buf_fini(&d.problems);
}

static void allocation_failures(void **state)
{
    (void)state;
    write_file(good);
    bool failed = true;
    for (uint64_t n = 1; failed; n++) {
        struct capabilities c;
        struct po__doc d = {0};
        po__alloc_fail_at(n);
        int rv = capabilities_load(&c, &d, path, inherited);
        failed = po__alloc_count() >= n;
        po__alloc_fail_at(0);
        assert_true(rv == 0 || failed);
        capabilities_fini(&c);
        po__buf_fini(&d.problems);
    }
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_file),
        cmocka_unit_test(resources_as_people_say_them),
        cmocka_unit_test(every_problem_at_once),
        cmocka_unit_test(schemas_keep_their_text),
        cmocka_unit_test(schemas_outside_of_the_subset),
        cmocka_unit_test(more_slots_than_threads),
        cmocka_unit_test(a_missing_file),
        cmocka_unit_test(allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
