#include "table.h"

#include <inttypes.h>
#include <string.h>

#include "base/assert.h"

static unsigned width_of(const char *text)
{
    unsigned n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80; /* characters, not bytes */
    return n;
}

void table_text(struct table *t, const char *text)
{
    const char *shown = text && *text ? text : "-";
    unsigned w = width_of(shown);
    if (w > t->widths[t->column])
        t->widths[t->column] = w;
    po__buf_append(&t->cells, shown, strlen(shown) + 1);
    if (++t->column == t->columns) {
        t->column = 0;
        t->rows++;
    }
}

void table_open(struct table *t, const char *heads)
{
    *t = (struct table){.columns = 1};
    for (const char *p = heads; *p; p++)
        t->columns += *p == '|';
    PO_PRE(t->columns <= TABLE_COLUMNS_MAX);
    for (const char *p = heads; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL) {
        char head[64];
        snprintf(head, sizeof head, "%.*s", (int)strcspn(p, "|"), p);
        table_text(t, head);
    }
}

void table_number(struct table *t, long long n)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", n);
    table_text(t, text);
}

static void append_json(struct po__buf *b, const json_t *v)
{
    size_t i;
    const json_t *item;
    if (json_is_string(v))
        po__buf_printf(b, "%s", json_string_value(v));
    else if (json_is_integer(v))
        po__buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_real(v))
        po__buf_printf(b, "%.0f", json_real_value(v));
    else if (json_is_boolean(v))
        po__buf_printf(b, "%s", json_is_true(v) ? "yes" : "no");
    json_array_foreach(v, i, item)
    {
        if (i)
            po__buf_append(b, ",", 1);
        append_json(b, item);
    }
}

void table_json(struct table *t, const json_t *value)
{
    struct po__buf b = {0};
    append_json(&b, value);
    po__buf_append(&b, "", 1);
    if (b.err)
        t->cells.err = b.err;
    table_text(t, b.err ? "" : (const char *)b.data);
    po__buf_fini(&b);
}

void print_clean(FILE *out, const char *text, bool lines)
{
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        bool control = (c < 0x20 && !(lines && (c == '\n' || c == '\t'))) || c == 0x7f;
        fputc(control ? '?' : c, out);
    }
}

int table_close(struct table *t, FILE *out)
{
    const char *cell = (const char *)t->cells.data;
    int rv = t->cells.err ? -1 : 0;
    for (unsigned row = 0; !rv && row < t->rows; row++) {
        for (unsigned c = 0; c < t->columns; c++) {
            print_clean(out, cell, false);
            if (c + 1 < t->columns)
                fprintf(out, "%*s", (int)(t->widths[c] - width_of(cell) + 2), "");
            cell += strlen(cell) + 1;
        }
        fputc('\n', out);
    }
    po__buf_fini(&t->cells);
    return rv;
}
