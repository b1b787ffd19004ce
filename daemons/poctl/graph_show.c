/* pipeline show --graph */
#include <pipeorch/error.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ctl.h"
#include "graph.h"

#define COLUMNS_DEFAULT 120 /* where nobody says how wide the output is */

static unsigned columns(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : COLUMNS_DEFAULT;
}

static const char *reason(int rv)
{
    return rv == PO_EINVAL ? "a step follows one that does not exist, or itself"
           : rv == PO_ETOOBIG
               ? "too many lines pass too many steps; --graph dot leaves it to Graphviz"
               : po_strerror(rv);
}

int graph_show(const struct ctl *ctl, const json_t *answer)
{
    const char *form = ctl->s->graph;
    struct po__buf out = {0};
    struct graph g;
    int rv = graph_from_answer(&g, answer);
    if (!rv)
        rv = strcmp(form, "dot") == 0   ? graph_dot(&out, &g)
             : strcmp(form, "svg") == 0 ? graph_svg(&out, &g)
                                        : graph_text(&out, &g, columns());
    graph_fini(&g);
    if (rv)
        fprintf(stderr, "poctl %s: no picture of %s: %s (%s)\n", ctl->verb->words, ctl->arg,
                reason(rv), po_err_name(rv));
    else
        fwrite(out.data, 1, out.len, stdout); /* ctl_out tells whether it failed */
    po__buf_fini(&out);
    return rv ? EXIT_REFUSED : ctl_out(ctl, 0);
}
