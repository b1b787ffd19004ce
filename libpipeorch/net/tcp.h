/* What every TCP connection and listener of this layer has in common. */
#ifndef PO__TCP_H
#define PO__TCP_H

#include <uv.h>

#define PO__CONNECT_MS      3000 /* per address */
#define PO__KEEPALIVE_S     10
#define PO__USER_TIMEOUT_MS 15000 /* unacknowledged data: the connection is dead */

/* A listening socket, not yet any loop's, and its port. Blocks while the resolver works. -1 with a
 * sentence: the address cannot be parsed, resolved or bound. */
int po__tcp_listen(const char *address, int backlog, uint16_t *port, char *error, size_t error_len);

/* Of a connected socket: small messages leave at once, a dead peer is noticed within seconds. */
void po__tcp_tune(uv_tcp_t *tcp);

#endif
