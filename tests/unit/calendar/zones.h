/* The zones' files that the tests of calendar/ work on: those of the day on which oracle.py wrote
 * them. */
#ifndef TEST_ZONES_H
#define TEST_ZONES_H

#include "calendar/zone.h"

struct zone_file {
    const char *name;
    const unsigned char *data;
    size_t len;
};

#include "zones.inc"

#define ZONES (sizeof zone_files / sizeof *zone_files)

static inline const struct zone_file *zone_file(const char *name)
{
    for (size_t i = 0; i < ZONES; i++)
        if (strcmp(zone_files[i].name, name) == 0)
            return &zone_files[i];
    return NULL;
}

#endif
