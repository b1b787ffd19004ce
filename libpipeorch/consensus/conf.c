#include "conf.h"

#include <string.h>

#include <pipeorch/error.h>
#include "../base/assert.h"
#include "le.h"

#define FORMAT 1

static bool role_valid(int role)
{
    return role == PO__VOTER || role == PO__STANDBY || role == PO__SPARE;
}

int po__conf_add(struct po__conf *c, uint64_t id, const char *address, int role)
{
    size_t len = strnlen(address, PO_ADDRESS_MAX_BYTES + 1);

    if (id == 0 || len == 0 || len > PO_ADDRESS_MAX_BYTES || !role_valid(role))
        return PO_EINVAL;
    for (unsigned i = 0; i < c->count; i++)
        if (c->servers[i].id == id || strcmp(c->servers[i].address, address) == 0)
            return PO_EEXISTS;
    if (c->count == PO_MEMBERS_MAX)
        return PO_EQUOTA;
    struct po__conf_server *s = &c->servers[c->count++];
    s->id = id;
    s->role = role;
    memset(s->address, 0, sizeof s->address);
    memcpy(s->address, address, len);
    return 0;
}

void po__conf_remove(struct po__conf *c, uint64_t id)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (c->servers[i].id != id)
            continue;
        c->count--;
        memmove(&c->servers[i], &c->servers[i + 1], (c->count - i) * sizeof c->servers[0]);
        return;
    }
}

const struct po__conf_server *po__conf_find(const struct po__conf *c, uint64_t id)
{
    for (unsigned i = 0; i < c->count; i++)
        if (c->servers[i].id == id)
            return &c->servers[i];
    return NULL;
}

unsigned po__conf_voters(const struct po__conf *c)
{
    unsigned n = 0;
    for (unsigned i = 0; i < c->count; i++)
        n += c->servers[i].role == PO__VOTER;
    return n;
}

bool po__conf_is_voter(const struct po__conf *c, uint64_t id)
{
    const struct po__conf_server *s = po__conf_find(c, id);
    return s && s->role == PO__VOTER;
}

bool po__conf_equal(const struct po__conf *a, const struct po__conf *b)
{
    if (a->count != b->count)
        return false;
    for (unsigned i = 0; i < a->count; i++) {
        const struct po__conf_server *x = &a->servers[i], *y = &b->servers[i];
        if (x->id != y->id || x->role != y->role || strcmp(x->address, y->address) != 0)
            return false;
    }
    return true;
}

size_t po__conf_encode(const struct po__conf *c, void *buf)
{
    uint8_t *p = buf;

    PO_PRE(c->count > 0 && c->count <= PO_MEMBERS_MAX);
    *p++ = FORMAT;
    po__le64_put(p, c->count);
    p += 8;
    for (unsigned i = 0; i < c->count; i++) {
        const struct po__conf_server *s = &c->servers[i];
        size_t len = strlen(s->address) + 1;
        po__le64_put(p, s->id);
        memcpy(p + 8, s->address, len);
        p += 8 + len;
        *p++ = (uint8_t)s->role;
    }
    size_t len = (size_t)(p - (uint8_t *)buf);
    size_t padded = (len + 7) & ~(size_t)7;
    memset(p, 0, padded - len);
    return padded;
}

int po__conf_decode(struct po__conf *c, const void *data, size_t len)
{
    const uint8_t *p = data, *end = p + len;

    memset(c, 0, sizeof *c);
    if (len < 9 || len > PO__CONF_MAX_BYTES || len % 8 != 0 || p[0] != FORMAT)
        return PO_EPROTO;
    uint64_t count = po__le64_get(p + 1);
    if (count == 0 || count > PO_MEMBERS_MAX)
        return PO_EPROTO;
    p += 9;
    for (uint64_t i = 0; i < count; i++) {
        if (end - p < 8)
            return PO_EPROTO;
        uint64_t id = po__le64_get(p);
        p += 8;
        const uint8_t *nul = memchr(p, 0, (size_t)(end - p));
        if (!nul || end - nul < 2) /* the role byte follows the NUL */
            return PO_EPROTO;
        if (po__conf_add(c, id, (const char *)p, nul[1]))
            return PO_EPROTO;
        p = nul + 2;
    }
    if (end - p >= 8)
        return PO_EPROTO;
    for (; p < end; p++)
        if (*p)
            return PO_EPROTO;
    return po__conf_voters(c) > 0 ? 0 : PO_EPROTO;
}
