/* What the two daemons share: signals, the promise to exit in time, and systemd. */
#ifndef PO_DAEMONS_SERVICE_H
#define PO_DAEMONS_SERVICE_H

#include <stdbool.h>
#include <stdint.h>

/* Block the stop signals in this thread and all that it starts later; ignore SIGPIPE. Call first.
 */
void service_init(void);

/* Wait for SIGTERM or SIGINT, at most timeout_ms. Returns the signal, or 0. */
int service_wait_stop(uint32_t timeout_ms);

/* From now on the process has limit_ms to exit; then it ends itself with code 1 and says so. */
void service_exit_within(uint32_t limit_ms);

/* Tell systemd (if it started us with Type=notify) that the service is ready or stops. */
void service_notify(const char *state);

#endif
