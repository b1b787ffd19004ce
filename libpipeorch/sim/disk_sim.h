/* A simulated disk: files in memory, faults at any call, power cuts that lose or tear
 * what was not yet durable.
 *
 * A medium outlives the processes that use it. Each process attaches a po__disk to it. What a power
 * cut leaves is decided, from a seed, at power-on:
 *   - writes through a PO__FILE_DURABLE handle that returned, and writes followed by sync, are
 * there;
 *   - of every other write, and of the one that was under way, each 512-byte sector (or 4 KiB
 * block) is there or not;
 *   - names: what was followed by sync_dir is as it was; each later create, rename and unlink
 * happened or not. A sync of a file does not make its name durable.
 *
 * Jobs run only when the caller says so: po__disk_sim_step runs the next job of a channel,
 * po__disk_ops.poll its `done`. A scheduler of virtual time learns of each job from the submit
 * hook, and calls po__disk_sim_step once for it, whenever it thinks right (jobs of one channel run
 * in their order whatever it does). Nothing here is thread-safe, reads a clock or draws a random
 * number that is not from the seed. Memory exhaustion of the simulator itself aborts, except where
 * the real disk allocates (open). */
#ifndef PO__DISK_SIM_H
#define PO__DISK_SIM_H

#include "../storage/disk.h"

struct po__disk_sim;

struct po__disk_sim *po__disk_sim_new(uint64_t seed);
void po__disk_sim_free(struct po__disk_sim *m); /* no disk may be attached */
/* The medium as it is now, with everything undecided still undecided, attached to nobody. For
 * looking at many outcomes. */
struct po__disk_sim *po__disk_sim_clone(const struct po__disk_sim *m);
/* A process opens the directory. Several may be attached (the store's lock sorts them out). */
void po__disk_sim_attach(struct po__disk_sim *m, struct po__disk **d);

/* Calls so far that may fail: lock, list, open, size, read, write, sync, rename, unlink, sync_dir.
 */
uint64_t po__disk_sim_calls(const struct po__disk_sim *m);
/* The n-th call from now (1: the next; 0: never) fails with `code`, once; a failing write may have
 * left any of its sectors. */
void po__disk_sim_fail_at(struct po__disk_sim *m, uint64_t n, int code);

/* The n-th read from now (1: the next; 0: never) delivers wrong bytes and says nothing, once: one
 * bit flipped, or (misdirected) what lies elsewhere in the file. The medium itself stays whole. */
void po__disk_sim_misread_at(struct po__disk_sim *m, uint64_t n, bool misdirected);
uint64_t po__disk_sim_misreads(const struct po__disk_sim *m); /* so far */

/* Power: the n-th call from now does not return to a living process: it and all later ones give
 * PO_EIO until power-on. */
void po__disk_sim_cut_at(struct po__disk_sim *m, uint64_t n);
void po__disk_sim_cut(struct po__disk_sim *m);
bool po__disk_sim_is_off(const struct po__disk_sim *m);
/* Decide what survived. All disks must have been destroyed (the processes are dead). Also legal
 * without a cut. */
void po__disk_sim_power_on(struct po__disk_sim *m, uint64_t seed);
/* Instead: only the process died, with or without a cut. What it wrote is visible to the next one,
 * and what was not durable still is not: a later power cut may take it. */
void po__disk_sim_killed(struct po__disk_sim *m);

/* Called inside every call that changes something, when it is under way (begun, not durable): a
 * possible instant of a power cut. The hook may clone the medium; it must not touch the disk. */
typedef void (*po__disk_sim_call_hook)(void *arg, const char *call, const char *name);
void po__disk_sim_on_change(struct po__disk_sim *m, po__disk_sim_call_hook hook, void *arg);

/* Jobs. The hook is called by submit. */
typedef void (*po__disk_sim_submit_hook)(void *arg, struct po__disk *d, enum po__disk_channel c);
void po__disk_sim_on_submit(struct po__disk *d, po__disk_sim_submit_hook hook, void *arg);
bool po__disk_sim_step(struct po__disk *d, enum po__disk_channel c); /* false: no job is queued */
bool po__disk_sim_busy(const struct po__disk *d, enum po__disk_channel c);
/* Until no job is queued and poll caused no new one. `poll` is the owner's (po__store_poll or a
 * wrapper). */
void po__disk_sim_run(struct po__disk *d, void (*poll)(void *arg), void *arg);

/* Looking at and damaging files (as they are now, both the visible and the durable bytes). */
unsigned po__disk_sim_files(const struct po__disk_sim *m);
const char *po__disk_sim_file_name(const struct po__disk_sim *m, unsigned i); /* NULL: no such */
uint64_t po__disk_sim_file_size(const struct po__disk_sim *m,
                                const char *name); /* 0 if there is none */
const uint8_t *po__disk_sim_file_data(const struct po__disk_sim *m, const char *name);
void po__disk_sim_flip(struct po__disk_sim *m, const char *name, uint64_t offset, unsigned bit);
void po__disk_sim_put(struct po__disk_sim *m, const char *name, uint64_t offset, const void *data,
                      size_t len); /* within the file */
void po__disk_sim_remove(struct po__disk_sim *m, const char *name);

#endif
