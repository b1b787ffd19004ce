/* Templates and conditions: the first byte says which. What the check accepts can be evaluated, and
 * what is rendered is JSON; errors have a sentence and a place inside of the text. */
#include "fuzz.h"

#include <pipeorch/error.h>
#include "codec/template.h"

#define RENDERED_MAX_BYTES 100000

static const char values[] = "{\"n\": 3, \"s\": \"x \\\"y\\\"\", \"b\": true, \"a\": [1, {\"k\": "
                             "null}], \"o\": {\"k k\": 0.5}}";

static int resolve(void *arg, const struct po__path *path, unsigned *taken, struct po__slice *value,
                   struct po__template_error *e)
{
    (void)arg, (void)e;
    FUZZ_CHECK(path->count >= 1 && path->count <= PO__PATH_PARTS_MAX);
    if (!po__path_part_is(path, 0, "p"))
        return PO_ENOTFOUND;
    *taken = 1;
    *value = po__str(values);
    return 0;
}

/* A path that was found parses to the same. */
static int see(void *arg, const struct po__path *path, size_t offset, struct po__template_error *e)
{
    static struct po__path again;
    const struct po__slice *text = arg;
    FUZZ_CHECK(offset < text->len);
    FUZZ_CHECK(po__path_parse(&again, path->text, NULL, e) == 0);
    FUZZ_CHECK(again.count == path->count);
    return 0;
}

static void check_error(int rv, struct po__slice text, const struct po__template_error *e)
{
    FUZZ_CHECK(rv < 0 && e->text[0] && strlen(e->text) < sizeof e->text);
    FUZZ_CHECK(e->offset <= text.len);
}

static void check_template(struct po__slice text)
{
    static struct po__template_error e;
    const struct po__scope scope = {resolve, NULL};
    struct po__buf out;
    if (!po__json_ok(text))
        return;
    int checked = po__template_refs(text, see, &text, &e);
    if (checked)
        check_error(checked, text, &e);
    po__buf_init(&out, RENDERED_MAX_BYTES);
    int rv = po__template_render(&out, text, &scope, &e);
    if (rv)
        check_error(rv, text, &e);
    else
        FUZZ_CHECK(po__json_ok(po__buf_slice(&out)));
    FUZZ_CHECK(rv || checked == 0);
    FUZZ_CHECK(rv != PO_EINVAL || checked);
    po__buf_fini(&out);
}

static void check_condition(struct po__slice text)
{
    static struct po__template_error e;
    const struct po__scope scope = {resolve, NULL};
    bool result;
    int checked = po__condition_check(text, see, &text, &e);
    if (checked)
        check_error(checked, text, &e);
    int rv = po__condition_eval(&result, text, &scope, &e);
    if (rv)
        check_error(rv, text, &e);
    FUZZ_CHECK(rv || checked == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct po__slice text = po__slice(data + 1, len - 1);
    if (data[0] == '?')
        check_condition(text);
    else
        check_template(text);
    return 0;
}

/* Most random bytes have no business in JSON; they become what has. */
void fuzz_mend(uint8_t *data, size_t len)
{
    static const char instead[] = "\"\"\\,,:[]{}${}..()!=<>&|09-ep ";
    for (size_t i = 0; i < len; i++)
        if (data[i] < ' ' || data[i] > '~')
            data[i] = (uint8_t)instead[data[i] % (sizeof instead - 1)];
    if (len > 0 && data[0] != '?')
        data[0] = '$';
}

void fuzz_seeds(void)
{
    static const char *const seeds[] = {
        "${\"a\": \"${p.n}\", \"b\": [\"x ${p.a[1].k} $${y} $$${ p.s }\", 1.5]}",
        "$\"${p.o[\\\"k k\\\"]} \\u0024\\u007bp.b}\"",
        "$[\"${p}${p}${p}\", \"${p.a}\"]",
        "?p.n >= 0.5 && ${p.s} != \"y\\n\" || !p.b",
        "?exists(p.o[\"k k\"]) && (len(p.a) == 2 || len(p.x) < 1e3)",
        "?!(true && false) == (null != p.a[1].k)",
    };
    for (size_t i = 0; i < sizeof seeds / sizeof *seeds; i++)
        fuzz_seed(seeds[i], strlen(seeds[i]));
}
