/* The content of a snapshot, loaded: every record is checked as a node checks it. */
#ifndef PO__TOOLS_CONTENT_H
#define PO__TOOLS_CONTENT_H

#include <openssl/evp.h>
#include <pipeorch/node.h>
#include "../base/buf.h"
#include "../model/state.h"

#define PO__STATE_DIGEST_BYTES 32

/* Feed bytes, end, look; po__content_fini in any case. */
struct po__content {
    struct po__model *model;
    struct po__buf app_state;       /* the application's own bytes, kept as they are */
    struct po_state_machine keeper; /* hands them in and out of the model */
    struct po__app app;
    struct po__buf slice; /* of the snapshot being read, from slice_at */
    size_t slice_at;
    bool slice_last;
    struct po__buf pending; /* a record that is not whole yet */
    EVP_MD_CTX *digest;
    /* SHA-256 over all objects of the state but the control nodes: what a restore keeps. */
    uint8_t state_digest[PO__STATE_DIGEST_BYTES];
};

/* sm: the application's state machine; NULL: its state is only carried along, and applying one of
 * its commands fails. The struct must not move until fini. */
int po__content_init(struct po__content *c, const struct po_state_machine *sm);
int po__content_feed(void *content, const void *data, size_t len);
int po__content_end(struct po__content *c); /* as po__model_restore_end */
void po__content_fini(struct po__content *c);

/* The other way: the model's snapshot, in pieces of at most *len bytes (out: how many; 0: the end,
 * and state_digest is that of what was read). The model must not be changed in between. */
int po__content_begin(struct po__content *c);
int po__content_read(void *content, void *buf, size_t *len);

#endif
