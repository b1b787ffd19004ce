/* Numbers as what they are in the text: digits and a power of ten. No limit on either, nothing
 * rounded; two numbers are the same if their digits and their magnitude are. */
#include "json_value.h"

/* Differences of exponents beyond this are not counted further. The digits of a text, whose number
 * shifts the magnitude, are far fewer. */
#define FAR INT64_C(10000000000000000)

/* 0.D1D2..Dn * 10^(point + exponent), where D1 and Dn are not 0. */
struct decimal {
    bool negative;
    const char *p;  /* D1; a decimal point may stand among the digits */
    size_t chars;   /* from D1 to Dn. 0: the number is 0 */
    int64_t digits; /* n */
    int64_t point;
    const char *exponent; /* its digits, without leading zeros */
    size_t exponent_len;
    bool exponent_negative;
};

static void parse_exponent(struct decimal *d, const char *p, const char *end)
{
    if (p < end && (*p == '+' || *p == '-'))
        d->exponent_negative = *p++ == '-';
    while (p < end && *p == '0')
        p++;
    d->exponent = p;
    d->exponent_len = (size_t)(end - p);
}

static struct decimal parse(struct po__slice number)
{
    struct decimal d = {0};
    const char *p = number.data, *end = number.data + number.len, *last = NULL;
    int64_t seen = 0; /* digits from D1 on */
    bool fraction = false;
    if (p < end && *p == '-') {
        d.negative = true;
        p++;
    }
    for (; p < end && *p != 'e' && *p != 'E'; p++) {
        if (*p == '.') {
            fraction = true;
            continue;
        }
        if (!d.p && *p != '0')
            d.p = p;
        if (!d.p) {
            d.point -= fraction;
            continue;
        }
        seen++;
        d.point += !fraction;
        if (*p != '0') {
            last = p;
            d.digits = seen;
        }
    }
    if (!d.p)
        return (struct decimal){0};
    d.chars = (size_t)(last - d.p) + 1;
    if (p < end)
        parse_exponent(&d, p + 1, end);
    return d;
}

/* a's exponent minus b's. Digit by digit from the front: once the difference is above 2 or below -2
 * the digits that follow cannot change its sign, they only make it greater. */
static int64_t exponent_minus(const struct decimal *a, const struct decimal *b)
{
    int64_t diff = 0;
    size_t len = a->exponent_len > b->exponent_len ? a->exponent_len : b->exponent_len;
    for (size_t left = len; left > 0; left--) {
        int x = left > a->exponent_len ? 0 : a->exponent[a->exponent_len - left] - '0';
        int y = left > b->exponent_len ? 0 : b->exponent[b->exponent_len - left] - '0';
        diff = diff * 10 + (a->exponent_negative ? -x : x) - (b->exponent_negative ? -y : y);
        if (diff > FAR || diff < -FAR)
            break;
    }
    return diff;
}

static int64_t magnitude(const struct decimal *d)
{
    static const struct decimal none;
    return d->point + exponent_minus(d, &none);
}

/* The digits from D1 on, then zeros. */
static int next_digit(const char **p, const char *end)
{
    if (*p < end && **p == '.')
        ++*p;
    return *p < end ? *(*p)++ - '0' : 0;
}

static int magnitude_cmp(const struct decimal *a, const struct decimal *b)
{
    int64_t diff = a->point - b->point + exponent_minus(a, b);
    if (diff)
        return diff < 0 ? -1 : 1;
    const char *x = a->p, *x_end = x + a->chars, *y = b->p, *y_end = y + b->chars;
    while (x < x_end || y < y_end) {
        int c = next_digit(&x, x_end) - next_digit(&y, y_end);
        if (c)
            return c;
    }
    return 0;
}

int po__json_number_cmp(struct po__slice a, struct po__slice b)
{
    struct decimal x = parse(a), y = parse(b);
    int sign_x = x.chars == 0 ? 0 : x.negative ? -1 : 1;
    int sign_y = y.chars == 0 ? 0 : y.negative ? -1 : 1;
    if (sign_x != sign_y || sign_x == 0)
        return sign_x - sign_y;
    return sign_x * magnitude_cmp(&x, &y);
}

static bool whole(const struct decimal *d)
{
    return d->chars == 0 || magnitude(d) >= d->digits;
}

bool po__json_is_integer(struct po__slice number)
{
    struct decimal d = parse(number);
    return whole(&d);
}

bool po__json_u64(struct po__slice number, uint64_t *v)
{
    struct decimal d = parse(number);
    int64_t size = magnitude(&d);
    *v = 0;
    if (d.chars == 0)
        return true;
    if (d.negative || size < d.digits || size > 20)
        return false;
    const char *p = d.p, *end = d.p + d.chars;
    for (int64_t i = 0; i < size; i++) {
        uint64_t digit = (uint64_t)next_digit(&p, end);
        if (*v > (UINT64_MAX - digit) / 10)
            return false;
        *v = *v * 10 + digit;
    }
    return true;
}

bool po__json_divisor_ok(struct po__slice number)
{
    struct decimal d = parse(number);
    return d.chars > 0 && !d.negative && d.digits <= PO__JSON_DIVISOR_DIGITS_MAX;
}

/* n / d = N * 10^shift / D with whole N and D. N does not end in a 0, so with a shift below 0 there
 * is always a rest. Above 0, what is left of N after division by D is carried on; D has fewer twos
 * and fives than a machine word has bits, and only they go into tens. */
bool po__json_is_multiple(struct po__slice number, struct po__slice divisor)
{
    struct decimal n = parse(number), d = parse(divisor);
    uint64_t by = 0, rest = 0;
    if (n.chars == 0)
        return true;
    int64_t shift = n.point - n.digits - (d.point - d.digits) + exponent_minus(&n, &d);
    if (shift < 0)
        return false;
    const char *p = d.p, *end = d.p + d.chars;
    for (int64_t i = 0; i < d.digits; i++)
        by = by * 10 + (uint64_t)next_digit(&p, end);
    if (by == 0)
        return false;
    p = n.p;
    end = n.p + n.chars;
    for (int64_t i = 0; i < n.digits; i++)
        rest = (rest * 10 + (uint64_t)next_digit(&p, end)) % by;
    for (int64_t i = 0; i < shift && i < 64 && rest; i++)
        rest = rest * 10 % by;
    return rest == 0;
}

uint64_t po__json_number_hash(struct po__slice number)
{
    struct decimal d = parse(number);
    int64_t size = magnitude(&d);
    uint64_t h = d.negative ? 2 : 1;
    const char *p = d.p, *end = d.p + d.chars;
    if (size < FAR / 10 && size > -FAR / 10) /* beyond, it depends on how the number is written */
        h = h * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)size;
    for (int64_t i = 0; i < d.digits; i++)
        h = (h ^ (uint64_t)next_digit(&p, end)) * UINT64_C(0x100000001b3);
    return h;
}
