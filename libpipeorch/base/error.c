#include <pipeorch/error.h>
#include <stddef.h>

static const struct entry {
    int number;
    int retryable;
    const char *name;
    const char *text;
} entries[] = {
#define X(name, number, retryable, text) {number, retryable, "PO_" #name, text},
    PO_ERRORS(X)
#undef X
};

static const struct entry *find(int code)
{
    for (unsigned i = 0; i < sizeof entries / sizeof *entries; i++)
        if (entries[i].number == code)
            return &entries[i];
    return NULL;
}

const char *po_err_name(int code)
{
    const struct entry *e = find(code);
    return code == 0 ? "0" : e ? e->name : "PO_E?";
}

const char *po_strerror(int code)
{
    const struct entry *e = find(code);
    return code == 0 ? "success" : e ? e->text : "unknown error code";
}

int po_err_retryable(int code)
{
    const struct entry *e = find(code);
    return e ? e->retryable : 0;
}

const char *po_version(void)
{
    return PO_VERSION_STRING;
}
