#include "node_opts.h"

#include <stdio.h>
#include <string.h>

#include "../model/command.h"
#include "../net/address.h"
#include "../net/peer.h"
#include "../node/node.h"
#include "../storage/disk.h"

#define ELECTION_MS_DEFAULT    1000
#define HEARTBEAT_MS_DEFAULT   100
#define SNAPSHOT_BYTES_DEFAULT (UINT64_C(16) << 20)
#define TRAILING_BYTES_DEFAULT (UINT64_C(8) << 20)
#define SEGMENT_BYTES_DEFAULT  (UINT64_C(8) << 20)

int po__refuse_start(char *error, size_t error_len, int code, const char *what)
{
    snprintf(error, error_len, "%s", what);
    return code;
}

static int check_range(const char *name, uint64_t v, uint64_t min, uint64_t max, char *error,
                       size_t error_len)
{
    if (v >= min && v <= max)
        return 0;
    snprintf(error, error_len, "%s is %llu; it must be %llu to %llu", name, (unsigned long long)v,
             (unsigned long long)min, (unsigned long long)max);
    return PO_EINVAL;
}

static int check_address(const char *name, const char *address, bool insecure, bool bind,
                         char *error, size_t error_len)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[16], why[256];
    if (!address)
        return 0;
    if (po__address_parse(address, host, sizeof host, port, sizeof port, why, sizeof why)) {
        snprintf(error, error_len, "%s: %s", name, why);
        return PO_EADDR;
    }
    if (bind && !insecure && !po__address_is_loopback(address)) {
        snprintf(error, error_len,
                 "%s: %s is not a loopback address, and there is no TLS yet: anyone who reaches "
                 "the port could control the "
                 "cluster. Set insecure to accept that on a network that you trust",
                 name, address);
        return PO_EREFUSED;
    }
    return 0;
}

int po__node_opts_check(struct po_node_opts *o, char *error, size_t error_len)
{
    if (!o->name || !po__name_ok(po__str(o->name)))
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "name is required: 1 to 128 of A-Z a-z 0-9 . _ -");
    if (!o->data_dir || !*o->data_dir)
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "data_dir is required: the directory that holds this node's log");
    if (!o->zone)
        o->zone = "default";
    if (!po__name_ok(po__str(o->zone)))
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "zone must be 1 to 128 of A-Z a-z 0-9 . _ -");
    if (o->cluster && !po__name_ok(po__str(o->cluster)))
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "cluster must be 1 to 128 of A-Z a-z 0-9 . _ -");
    if (o->members_count && !o->members)
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "members is NULL although members_count is not 0");
    if (o->members_count > 1 && !o->listen)
        return po__refuse_start(
            error, error_len, PO_EINVAL,
            "listen is required in a cluster of several nodes: the address for its peers");
    o->election_ms = o->election_ms ? o->election_ms : ELECTION_MS_DEFAULT;
    o->heartbeat_ms = o->heartbeat_ms                              ? o->heartbeat_ms
                      : o->election_ms < 10 * HEARTBEAT_MS_DEFAULT ? o->election_ms / 10
                                                                   : HEARTBEAT_MS_DEFAULT;
    o->snapshot_bytes = o->snapshot_bytes ? o->snapshot_bytes : SNAPSHOT_BYTES_DEFAULT;
    o->trailing_bytes = o->trailing_bytes                            ? o->trailing_bytes
                        : o->snapshot_bytes < SNAPSHOT_BYTES_DEFAULT ? o->snapshot_bytes / 2
                                                                     : TRAILING_BYTES_DEFAULT;
    o->segment_bytes = o->segment_bytes ? o->segment_bytes : SEGMENT_BYTES_DEFAULT;
    int rv = check_range("election_ms", o->election_ms, 50, 60000, error, error_len);
    rv = rv ? rv
            : check_range("heartbeat_ms", o->heartbeat_ms, 5, o->election_ms / 3, error, error_len);
    rv =
        rv ? rv
           : check_range("snapshot_bytes", o->snapshot_bytes, 64 << 10, 64 << 20, error, error_len);
    rv = rv ? rv
            : check_range("trailing_bytes", o->trailing_bytes, 0, o->snapshot_bytes * 4, error,
                          error_len);
    rv = rv ? rv
            : check_range("segment_bytes", o->segment_bytes, 1 << 20, 256 << 20, error, error_len);
    if (rv == 0 && o->segment_bytes % PO__DISK_ALIGN)
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "segment_bytes must be a multiple of 4096");
    rv = rv ? rv : check_address("listen", o->listen, o->insecure, true, error, error_len);
    rv = rv ? rv : check_address("advertise", o->advertise, true, false, error, error_len);
    rv = rv ? rv
            : check_address("worker_listen", o->worker_listen, o->insecure, true, error, error_len);
    rv = rv ? rv
            : check_address("worker_advertise", o->worker_advertise, true, false, error, error_len);
    if (rv)
        return rv;
    if (o->join && o->bootstrap)
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "join and bootstrap exclude each other: one becomes a member of a "
                                "cluster that runs, the other founds one");
    if (o->join_standby && !o->join)
        return po__refuse_start(error, error_len, PO_EINVAL, "join_standby needs join");
    if (o->prefer_zone && !po__name_ok(po__str(o->prefer_zone)))
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "prefer_zone must be a zone's name: 1 to 128 of A-Z a-z 0-9 . _ -");
    if (o->time_zone_dir && strlen(o->time_zone_dir) > PO__ZONE_DIR_MAX_BYTES)
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "time_zone_dir is too long; at most 1023 bytes are allowed");
    const struct po_state_machine *sm = o->state_machine;
    if (sm && (sm->size < sizeof *sm || !sm->apply || !sm->snapshot || !sm->restore))
        return po__refuse_start(error, error_len, PO_EINVAL,
                                "state_machine needs size, apply, snapshot and restore");
    return 0;
}
