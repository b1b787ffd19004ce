/* What the options of po-controld set. */
#ifndef PO_CONTROLD_SETTINGS_H
#define PO_CONTROLD_SETTINGS_H

#include "../common/options.h"

struct controld_settings {
    const char *name, *data_dir, *zone, *cluster;
    const char *listen, *advertise, *worker_listen, *worker_advertise;
    const char *initial_members;
    const char *join, *join_as, *prefer_zone;
    const char *log_level, *log_format;
    uint64_t election_ms, heartbeat_ms;
    uint64_t snapshot_bytes, trailing_bytes, segment_bytes;
    const char *check_dir;
    bool failover_hint;
    bool bootstrap, insecure, check_config;
};

#endif
