/* See placement.h. Demands are checked by the model's own functions: one grammar, one sentence. */
#include "placement.h"

#include <string.h>

static struct po__slice text_of(const char *text)
{
    return po__str(text ? text : "");
}

int po__resources_read(struct po__resource *out, uint32_t *out_count,
                       const struct po_resource *resources, size_t count)
{
    char message[512];
    if (count > PO_RESOURCES_MAX || (count && !resources))
        return po__client_fail(PO_EINVAL, "%zu resources are given; expected 0..%d", count,
                               PO_RESOURCES_MAX);
    for (size_t i = 0; i < count; i++)
        out[i] = (struct po__resource){text_of(resources[i].name), resources[i].amount};
    *out_count = (uint32_t)count;
    int rv = po__resources_check(out, *out_count, message, sizeof message);
    return rv ? po__client_fail(rv, "%s", message) : 0;
}

static int read_labels(struct po__placement *p, const struct po_placement *from)
{
    if (from->labels_count > PO_PLACEMENT_LABELS_MAX || (from->labels_count && !from->labels))
        return po__client_fail(PO_EINVAL, "%zu labels are asked for; expected 0..%d",
                               from->labels_count, PO_PLACEMENT_LABELS_MAX);
    for (size_t i = 0; i < from->labels_count; i++) {
        const struct po_label_wish *l = &from->labels[i];
        if (l->op < PO_LABEL_EQUAL || l->op > PO_LABEL_ABSENT)
            return po__client_fail(PO_EINVAL,
                                   "label \"%s\" has the operator %d; expected PO_LABEL_*",
                                   l->key ? l->key : "", l->op);
        p->labels[i] = (struct po__label_wish){text_of(l->key), text_of(l->value), (uint32_t)l->op};
    }
    p->labels_count = (uint32_t)from->labels_count;
    return 0;
}

static int read_placement(struct po__placement *p, const struct po_placement *placement)
{
    struct po_placement from;
    int rv = po__read_struct(&from, sizeof from, placement, "po_placement");
    if (rv)
        return rv;
    if (from.gpu < PO_GPU_ANY || from.gpu > PO_GPU_FORBIDDEN || from.prefer < PO_PREFER_BALANCE ||
        from.prefer > PO_PREFER_LOCAL)
        return po__client_fail(PO_EINVAL,
                               "gpu is %d and prefer %d; expected PO_GPU_* and PO_PREFER_*",
                               from.gpu, from.prefer);
    p->range = text_of(from.version);
    p->zone = text_of(from.zone);
    p->gpu = (uint32_t)from.gpu;
    p->prefer = (uint32_t)from.prefer;
    rv = read_labels(p, &from);
    return rv ? rv
              : po__resources_read(p->resources, &p->resources_count, from.resources,
                                   from.resources_count);
}

int po__demand_read(struct po__demand *d, const char *capability,
                    const struct po_placement *placement)
{
    struct po__placement p = {0};
    char message[512];
    const char *at = capability ? strchr(capability, '@') : NULL;
    *d = (struct po__demand){.capability = text_of(capability)};
    int rv = read_placement(&p, placement);
    if (rv)
        return rv;
    if (at) {
        d->capability.len = (size_t)(at - capability);
        if (p.range.len)
            return po__client_fail(PO_EINVAL,
                                   "a range of versions is given twice: behind \"%s\", and in the "
                                   "placement",
                                   capability);
        p.range = po__str(at + 1);
        if (p.range.len == 0)
            return po__client_fail(PO_EINVAL,
                                   "\"%s\" has no range of versions behind the @; expected such as "
                                   "\"verb:name@^1.2\"",
                                   capability);
    }
    rv = po__placement_check(&p, message, sizeof message);
    if (rv)
        return po__client_fail(rv, "%s", message);
    po__placement_encode(&d->placement, &p);
    rv = d->placement.err;
    if (rv)
        po__demand_fini(d);
    return rv ? po__client_fail(rv, "out of memory for a placement") : 0;
}

void po__demand_fini(struct po__demand *d)
{
    po__buf_fini(&d->placement);
}
