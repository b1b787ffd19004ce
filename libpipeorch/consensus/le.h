/* Little-endian numbers at any address. */
#ifndef PO__LE_H
#define PO__LE_H

#include <stdint.h>

static inline void po__le32_put(void *at, uint32_t v)
{
    uint8_t *p = at;
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline void po__le64_put(void *at, uint64_t v)
{
    uint8_t *p = at;
    for (int i = 0; i < 8; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

static inline uint32_t po__le32_get(const void *at)
{
    const uint8_t *p = at;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++)
        v |= (uint32_t)p[i] << (8 * i);
    return v;
}

static inline uint64_t po__le64_get(const void *at)
{
    const uint8_t *p = at;
    uint64_t v = 0;
    for (int i = 0; i < 8; i++)
        v |= (uint64_t)p[i] << (8 * i);
    return v;
}

#endif
