/* UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef PO__UTF8_H
#define PO__UTF8_H

#include "../base/slice.h"

/* 1 if text is valid UTF-8 and holds no NUL (the state keeps strings NUL-terminated). */
bool po__utf8_ok(struct po__slice text);

/* As much of a valid text as fits into max_bytes without cutting a character. */
struct po__slice po__utf8_cut(struct po__slice text, size_t max_bytes);

#endif
