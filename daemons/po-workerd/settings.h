/* What the options of po-workerd set. */
#ifndef PO_WORKERD_SETTINGS_H
#define PO_WORKERD_SETTINGS_H

#include "../common/options.h"

struct workerd_settings {
    const char *id, *zone, *controllers, *address, *capabilities;
    const char *standalone, *standalone_listen, *standalone_dir;
    const char *log_level, *log_format;
    uint64_t heartbeat_ms, drain_ms;
    bool insecure, check_config;
};

#endif
