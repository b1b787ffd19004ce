/* The simulated network: when, how often and whether what is sent arrives.
 *
 * Places are numbered from 0. Each ordered pair of places is a link with a delay, a bandwidth and a
 * state of its own, so partitions may be one-way. The network holds no bytes: it answers with the
 * instants of arrival, and the world makes events of them. */
#ifndef PO__SIM_NETWORK_H
#define PO__SIM_NETWORK_H

#include <stddef.h>

#include "random.h"

#define PO__SIM_PLACES_MAX 80 /* nodes, workers and clients of one world */
#define PO__SIM_COPIES_MAX 2  /* of one message */

struct po__simlink {
    bool blocked;
    uint64_t delay_us; /* one way, without jitter */
    uint64_t last_us;  /* arrival of the last one, while order is kept */
    uint64_t free_us;  /* when a slow link has sent what it was given */
};

struct po__simnet {
    struct po__rng *rng;
    struct po__simlink links[PO__SIM_PLACES_MAX][PO__SIM_PLACES_MAX]; /* [from][to] */
    double loss_percent, duplicate_percent, reorder_percent;
    uint64_t jitter_us;    /* added to every delay: 0..this */
    uint64_t bytes_per_ms; /* of each link; 0: unlimited */
};

/* How many copies of `bytes` sent now arrive, and when: 0 (lost) to PO__SIM_COPIES_MAX. stream: as
 * on one connection, nothing is lost, doubled or overtaken but by a partition. */
unsigned po__simnet_send(struct po__simnet *net, unsigned from, unsigned to, size_t bytes,
                         bool stream, uint64_t now_us, uint64_t at_us[PO__SIM_COPIES_MAX]);
bool po__simnet_blocked(const struct po__simnet *net, unsigned from, unsigned to);
void po__simnet_block(struct po__simnet *net, unsigned from, unsigned to, bool blocked);
void po__simnet_heal(struct po__simnet *net); /* no partitions, no loss, no copies */

#endif
