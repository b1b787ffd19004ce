/* The help page, written from the table. */
#include "options.h"

#include <stdio.h>

#define WIDTH  78
#define INDENT 8

/* The words of one line, wrapped. */
static void wrap(struct po__buf *out, const char *line, size_t len, unsigned indent)
{
    const char *end = line + len;
    unsigned column = 0;
    while (line < end) {
        const char *space = memchr(line, ' ', (size_t)(end - line));
        size_t n = (size_t)((space ? space : end) - line);
        if (column && column + 1 + n > WIDTH) {
            po__buf_append(out, "\n", 1);
            column = 0;
        }
        if (n) {
            po__buf_printf(out, "%*s%.*s", column ? 1 : (int)indent, "", (int)n, line);
            column += (column ? 1 : indent) + (unsigned)n;
        }
        line += n + 1;
    }
    po__buf_append(out, "\n", 1);
}

/* Line breaks of the text stay; a line that begins with a space is laid out already. */
void opt_help_text(struct po__buf *out, const char *text, unsigned indent)
{
    for (;;) {
        size_t n = strcspn(text, "\n");
        if (*text == ' ')
            po__buf_printf(out, "%.*s\n", (int)n, text);
        else
            wrap(out, text, n, indent);
        if (!text[n])
            return;
        text += n + 1;
    }
}

static void range(char *out, size_t len, const struct opt *o)
{
    out[0] = '\0';
    if (o->max == UINT64_MAX)
        return;
    if (o->type == OPT_UINT || o->type == OPT_BYTES || o->type == OPT_DURATION)
        snprintf(out, len, " %llu to %llu%s.", (unsigned long long)o->min,
                 (unsigned long long)o->max,
                 o->type == OPT_BYTES      ? " bytes; KiB, MiB and GiB may follow"
                 : o->type == OPT_DURATION ? " ms; ms, s, m or h may follow"
                                           : "");
}

void opt_help_option(struct po__buf *out, const struct opt *o)
{
    char flag[64], variable[64], limits[128];
    opt__kebab(flag, sizeof flag, o->name);
    opt__variable(variable, sizeof variable, o->name);
    po__buf_printf(out, "  ");
    if (o->letter)
        po__buf_printf(out, "-%c, ", o->letter);
    bool is_on = o->type == OPT_BOOL && o->fallback && strcmp(o->fallback, "true") == 0;
    po__buf_printf(out, "--%s%s%s", flag, o->values ? " " : "", o->values ? o->values : "");
    if (is_on) /* the bare flag changes nothing */
        po__buf_printf(out, ", --%s=false", flag);
    po__buf_printf(out, "\n");
    struct po__buf text = {0};
    range(limits, sizeof limits, o);
    po__buf_printf(&text, "%s%s", o->help, limits);
    if (o->flags & OPT_REQUIRED)
        po__buf_printf(&text, " Required.");
    if (o->fallback && (o->type != OPT_BOOL || is_on))
        po__buf_printf(&text, " Default: %s.", o->fallback);
    if (!(o->flags & OPT_FLAG_ONLY))
        po__buf_printf(&text, " [%s]", variable);
    else if (o->flags & OPT_ENV_TOO)
        po__buf_printf(&text, " [%s]", variable);
    po__buf_append(&text, "", 1);
    if (text.err)
        out->err = text.err;
    else
        opt_help_text(out, (const char *)text.data, INDENT);
    po__buf_fini(&text);
}

void opt_help(struct po__buf *out, const struct opt_tool *tool)
{
    po__buf_printf(out, "Usage: %s %s\n\n", tool->name, tool->synopsis);
    opt_help_text(out, tool->about, 0);
    po__buf_printf(out, "\nOptions:\n");
    for (unsigned i = 0; i < tool->count; i++)
        opt_help_option(out, &tool->options[i]);
    if (tool->config_file) {
        po__buf_printf(out, "  --config FILE\n");
        opt_help_text(
            out,
            "Read a JSON object whose keys are the options above in snake_case, without the "
            "dashes. [PO_CONFIG]",
            INDENT);
    }
    po__buf_printf(out, "  -h, --help\n        Print this page and exit.\n"
                        "  --version\n        Print the version and exit.\n");
    po__buf_printf(out, "\n");
    opt_help_text(
        out,
        tool->config_file
            ? "A flag wins over its environment variable (in brackets), that over the config "
              "file, that over the default. Unknown flags, keys and PO_ variables are refused."
            : "A flag wins over its environment variable (in brackets). Unknown flags and PO_ "
              "variables are refused.",
        0);
    if (tool->after) {
        po__buf_printf(out, "\n");
        opt_help_text(out, tool->after, 0);
    }
}
