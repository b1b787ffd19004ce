/* Looking into JSON texts, without a tree.
 *
 * A value is the slice of its text inside a text that po__json_ok accepted: no white space around
 * it, and it lives as long as the text. po__json_root() gives the outermost one, everything else is
 * reached from there. All functions are pure, allocate nothing (but for what they append to a
 * buffer, and for objects whose members are in another order) and look at each byte of what they
 * are given a constant number of times; comparing whole values looks at each as often as it is deep
 * and is bounded by `work`.
 *
 * A function that wants a type (an object, a number) is given a value of that type; callers ask
 * po__json_type() first. Strings are compared as decoded: "\u0061" is "a". */
#ifndef PO__JSON_VALUE_H
#define PO__JSON_VALUE_H

#include "json.h"

/* Bytes that comparing values may look at before it gives up: 64 MiB, which is two texts of 1 MiB,
 * both 32 arrays and objects deep. */
#define PO__JSON_WORK_MAX ((uint64_t)64 * 1024 * 1024)

enum po__json_type {
    PO__JSON_NULL,
    PO__JSON_BOOLEAN,
    PO__JSON_NUMBER,
    PO__JSON_STRING,
    PO__JSON_ARRAY,
    PO__JSON_OBJECT
};

/* The outermost value of a text: the text without the white space around it. */
struct po__slice po__json_root(struct po__slice text);

enum po__json_type po__json_type(struct po__slice value);
const char *po__json_type_name(enum po__json_type type); /* "null", "boolean", ... */
const char *po__json_a_type(struct po__slice value);     /* "null", "a boolean", "an array", ... */
bool po__json_is_true(struct po__slice value);           /* the literal true, no other */

/* The members of an object or the elements of an array, in the order of the text.
 *     for (po__json_iter(&it, value); po__json_next(&it);) ...
 * A value that is neither has none. */
struct po__json_iter {
    struct po__slice key;   /* of an object's member: the string token, quotes included */
    struct po__slice value; /* the member's or the element's value */
    size_t index;           /* of it, from 0 */
    const char *p, *end;    /* what comes next */
    size_t next;
    bool object;
};
void po__json_iter(struct po__json_iter *it, struct po__slice value);
bool po__json_next(struct po__json_iter *it);

/* The first member of that key (UTF-8 text, not a token); false: there is none. */
bool po__json_member(struct po__slice object, struct po__slice key, struct po__slice *value);
bool po__json_element(struct po__slice array, size_t index, struct po__slice *value);
size_t po__json_count(struct po__slice value); /* members or elements */

/* ---- strings: a token is the text with its quotes ---- */

/* Append what the token means, as UTF-8. 0 or the buffer's error. */
int po__json_decode(struct po__buf *b, struct po__slice string);
/* Where in the token the byte is written that is at `decoded` in what it means. */
size_t po__json_token_offset(struct po__slice string, size_t decoded);
bool po__json_string_is(struct po__slice string, struct po__slice text);
int po__json_string_cmp(struct po__slice a, struct po__slice b); /* bytes of the decoded strings */
size_t po__json_string_length(struct po__slice string);          /* in code points */
uint64_t po__json_string_hash(struct po__slice string);          /* of the decoded string */

/* ---- numbers: their exact decimal value, whatever their length and exponent ---- */

int po__json_number_cmp(struct po__slice a, struct po__slice b); /* <0, 0, >0; -0 is 0 */
bool po__json_is_integer(struct po__slice number);               /* 1, 1.0, 10e-1 and 1e400 are */
uint64_t po__json_number_hash(struct po__slice number);          /* the same for equal values */
/* The value of a whole number in 0..UINT64_MAX; false: it is none of these. */
bool po__json_u64(struct po__slice number, uint64_t *v);
/* Whether number / divisor is a whole number. The divisor is above 0 and has at most
 * PO__JSON_DIVISOR_DIGITS_MAX digits between its first and its last digit that is not 0. */
#define PO__JSON_DIVISOR_DIGITS_MAX 18
bool po__json_divisor_ok(struct po__slice number);
bool po__json_is_multiple(struct po__slice number, struct po__slice divisor);

/* ---- any ---- */

/* 1 if a and b mean the same: the same type; numbers of the same value; the same strings; arrays of
 * equal elements in the same order; objects with equal members, whatever their order (an object in
 * which a key stands twice is equal only to one with the same keys in the same order).
 * 0 if not. *work is the number of bytes that may be looked at and is taken from; PO_ETOOBIG: it
 * was used up, and nothing is known. PO_ENOMEM. */
int po__json_equal(struct po__slice a, struct po__slice b, uint64_t *work);

/* A number that is the same for equal values. *work as above; used up, the hash is of a part. */
uint64_t po__json_hash(struct po__slice value, uint64_t *work);

/* Append the value without the white space between its tokens; every token as it is.
 * Returns how many arrays and objects deep it is (a scalar: 0); an error is in b->err. */
unsigned po__json_compact(struct po__buf *b, struct po__slice value);

#endif
