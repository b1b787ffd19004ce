/* Aligned columns. */
#ifndef PO_POCTL_TABLE_H
#define PO_POCTL_TABLE_H

#include <jansson.h>
#include <stdio.h>
#include "base/buf.h"

#define TABLE_COLUMNS_MAX 12

struct table {
    unsigned columns, rows;
    struct po__buf cells; /* NUL-terminated texts, row by row, the heads first */
    unsigned widths[TABLE_COLUMNS_MAX];
    unsigned column; /* of the next cell */
};

void table_open(struct table *t, const char *heads); /* separated by '|' */
void table_text(struct table *t, const char *text);  /* NULL or empty: "-" */
void table_number(struct table *t, long long n);
void table_json(struct table *t,
                const json_t *value); /* null: "-"; an array: its items, separated by commas */
/* Prints (unless memory ran out) and releases. 0 or -1. */
int table_close(struct table *t, FILE *out);

/* text for a terminal: control characters are replaced, line breaks kept if `lines`. */
void print_clean(FILE *out, const char *text, bool lines);

#endif
