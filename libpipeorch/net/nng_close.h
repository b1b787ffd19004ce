/* Closing an nng socket without ever waiting for ever. */
#ifndef PO__NNG_CLOSE_H
#define PO__NNG_CLOSE_H

#include <nng/nng.h>

#define PO__NNG_CLOSE_MS 2000

/* nng_close() in at most PO__NNG_CLOSE_MS. Its users first let the socket fall quiet, because nng
 * (all of 1.5) can wait for ever for a connection that is closed between two pieces of an arriving
 * or leaving message: the transport then starts its next read on an operation that is stopped
 * already, which is neither carried out nor reported, and nng's only reaper thread waits for it.
 * Returns 0, or PO_EBUSY if the socket did not close in time: then its callbacks may still run, and
 * whatever they use must be left to the process. */
int po__nng_close(nng_socket socket);

#endif
