#include "utf8.h"

#include <stdint.h>

/* Eight bytes at a time while they are plain ASCII, which nearly all text is: no byte has its top
 * bit set and none is zero (the subtraction borrows into the top bit of a zero byte). */
static size_t ascii_run(const unsigned char *p, size_t len)
{
    const uint64_t top = UINT64_C(0x8080808080808080), ones = UINT64_C(0x0101010101010101);
    size_t n = 0;
    for (; len - n >= 8; n += 8) {
        uint64_t v;
        memcpy(&v, p + n, 8);
        if (((v - ones) | v) & top)
            break;
    }
    return n;
}

/* Length of the multi-byte sequence at p, 0 if it is malformed. */
static size_t sequence(const unsigned char *p, size_t len)
{
    unsigned char c = p[0], low = 0x80, high = 0xbf;
    size_t n;
    if (c >= 0xc2 && c <= 0xdf) {
        n = 2;
    } else if (c >= 0xe0 && c <= 0xef) {
        n = 3;
        low = c == 0xe0 ? 0xa0 : 0x80;  /* below: overlong */
        high = c == 0xed ? 0x9f : 0xbf; /* above: surrogates */
    } else if (c >= 0xf0 && c <= 0xf4) {
        n = 4;
        low = c == 0xf0 ? 0x90 : 0x80;
        high = c == 0xf4 ? 0x8f : 0xbf; /* above: beyond U+10FFFF */
    } else {
        return 0;
    }
    if (len < n || p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

bool po__utf8_ok(struct po__slice text)
{
    const unsigned char *p = (const unsigned char *)text.data;
    size_t at = 0;
    while (at < text.len) {
        at += ascii_run(p + at, text.len - at);
        if (at == text.len)
            break;
        if (p[at] < 0x80) {
            if (p[at] == 0)
                return false;
            at++;
            continue;
        }
        size_t n = sequence(p + at, text.len - at);
        if (!n)
            return false;
        at += n;
    }
    return true;
}

struct po__slice po__utf8_cut(struct po__slice text, size_t max_bytes)
{
    if (text.len <= max_bytes)
        return text;
    while (max_bytes > 0 && ((unsigned char)text.data[max_bytes] & 0xc0) == 0x80)
        max_bytes--;
    return po__slice(text.data, max_bytes);
}
