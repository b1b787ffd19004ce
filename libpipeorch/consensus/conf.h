/* A cluster configuration: who the members are and which of them vote.
 *
 * The bytes are libraft's own encoding (format 1), because its core stores and reads them; but its
 * decoder checks its bounds with asserts that release builds drop. So nothing reaches that decoder
 * which this one has not accepted first. */
#ifndef PO__CONF_H
#define PO__CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pipeorch/types.h>
#include "replica.h"

struct po__conf_server {
    uint64_t id; /* never 0 */
    int role;    /* PO__VOTER, PO__STANDBY, PO__SPARE */
    char address[PO_ADDRESS_MAX_BYTES + 1];
};

struct po__conf {
    unsigned count;
    struct po__conf_server servers[PO_MEMBERS_MAX];
};

/* Format byte, count, and per server: id, address with its NUL, role; padded to 8. */
#define PO__CONF_MAX_BYTES                                                                         \
    ((1 + 8 + PO_MEMBERS_MAX * (8 + PO_ADDRESS_MAX_BYTES + 1 + 1) + 7) / 8 * 8)

/* 0, or PO_EPROTO: wrong format byte, no or too many servers, cut off, not NUL-terminated, empty or
 * too long address, unknown role, id 0, an id or address twice, no voter, non-zero padding, bytes
 * left over. */
int po__conf_decode(struct po__conf *c, const void *data, size_t len);
/* Writes at most PO__CONF_MAX_BYTES to buf; returns the length. c must be valid. */
size_t po__conf_encode(const struct po__conf *c, void *buf);

/* PO_EEXISTS (id or address in use), PO_EQUOTA (PO_MEMBERS_MAX), PO_EINVAL (id 0, address empty or
 * too long, role). */
int po__conf_add(struct po__conf *c, uint64_t id, const char *address, int role);
void po__conf_remove(struct po__conf *c, uint64_t id); /* nothing if absent */
const struct po__conf_server *po__conf_find(const struct po__conf *c, uint64_t id);
unsigned po__conf_voters(const struct po__conf *c);
bool po__conf_is_voter(const struct po__conf *c, uint64_t id);
bool po__conf_equal(const struct po__conf *a,
                    const struct po__conf *b); /* same servers in the same order */

#endif
