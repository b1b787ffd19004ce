/* Network addresses as text: "host:port" and "[v6]:port".
 *
 * An address that another node advertises is kept and handed on exactly as written; parsing only
 * splits it. Names are resolved by whoever connects, at the time it connects. Pure functions,
 * any thread. (po__address_parse and po__address_is_loopback are declared in peer.h, where the
 * transports look for them.) */
#ifndef PO__ADDRESS_H
#define PO__ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "../base/slice.h"

#define PO__ADDRESS_PORT_MAX_BYTES 5 /* "65535" */

/* Whether a listener may be opened here: loopback always, other addresses only if insecure
 * (there is no TLS yet). 0, or PO_EADDR (cannot be parsed) or PO_EREFUSED with a sentence. */
int po__address_may_listen(const char *address, bool insecure, char *error, size_t error_len);

/* Resolve an address to bind to; blocks while the resolver works. 0 or PO_EADDR with a sentence. */
int po__address_resolve_listen(const char *address, struct sockaddr_storage *sa, socklen_t *sa_len,
                               char *error, size_t error_len);

/* A socket address as "1.2.3.4:80" or "[::1]:80"; "?" if it is neither. */
void po__address_format(const struct sockaddr *sa, char *text, size_t text_len);

/* The sentence for a bind that failed with errno `err`. */
void po__address_bind_error(const char *address, int err, char *error, size_t error_len);

/* Takes the next address off a comma-separated list; false at its end. Blanks around an address
 * are dropped. An empty element gives an empty slice, which po__address_parse refuses. */
bool po__address_next(const char **list, struct po__slice *address);

#endif
