#include "fuzz.h"

#include <signal.h>
#include <unistd.h>

#define INPUTS_DEFAULT 100000

static struct seed {
    uint8_t *data;
    size_t len;
} seeds[FUZZ_SEEDS_MAX];
static unsigned seeds_count;

static uint64_t state;
static uint64_t input_number;

static uint64_t rnd(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static size_t below(size_t n)
{
    return n ? (size_t)(rnd() % n) : 0;
}

void fuzz_seed(const void *data, size_t len)
{
    FUZZ_CHECK(seeds_count < FUZZ_SEEDS_MAX && len > 0 && len <= FUZZ_INPUT_MAX_BYTES);
    seeds[seeds_count].data = malloc(len);
    FUZZ_CHECK(seeds[seeds_count].data);
    memcpy(seeds[seeds_count].data, data, len);
    seeds[seeds_count++].len = len;
}

/* ---- mutations: each changes b[0..len) in place and returns the new length ---- */

static size_t flip_bit(uint8_t *b, size_t len)
{
    if (len)
        b[below(len)] ^= (uint8_t)(1u << below(8));
    return len;
}

static size_t set_byte(uint8_t *b, size_t len)
{
    /* msgpack's and everybody's boundaries */
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf,
                                     0xc0, 0xc1, 0xc4, 0xc6, 0xca, 0xcc, 0xcf, 0xd0, 0xd3,
                                     0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xe0, 0xff};
    if (len)
        b[below(len)] = values[below(sizeof values)];
    return len;
}

static size_t set_number(uint8_t *b, size_t len)
{
    static const uint64_t values[] = {0,          1,          0x7f,      0xff,      0xffff,
                                      0x7fffffff, 0xffffffff, INT64_MAX, UINT64_MAX};
    size_t width = (size_t)1 << below(4);
    uint64_t v = values[below(sizeof values / sizeof *values)] + below(3) - 1;
    int big_endian = rnd() & 1;
    if (len < width)
        return len;
    size_t at = below(len - width + 1);
    for (size_t i = 0; i < width; i++)
        b[at + i] = (uint8_t)(v >> (8 * (big_endian ? width - 1 - i : i)));
    return len;
}

static size_t cut_out(uint8_t *b, size_t len)
{
    size_t at = below(len), n = below(len - at < 16 ? len - at + 1 : 16);
    memmove(b + at, b + at + n, len - at - n);
    return len - n;
}

static size_t truncate_at(uint8_t *b, size_t len)
{
    (void)b;
    return below(len + 1);
}

static size_t insert_from(uint8_t *b, size_t len, const uint8_t *from, size_t n)
{
    size_t at = below(len + 1);
    if (len + n > FUZZ_INPUT_MAX_BYTES)
        return len;
    memmove(b + at + n, b + at, len - at);
    memcpy(b + at, from, n);
    return len + n;
}

static size_t insert_bytes(uint8_t *b, size_t len)
{
    uint8_t bytes[16];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)rnd();
    return insert_from(b, len, bytes, 1 + below(sizeof bytes));
}

/* A piece of a seed, this one or another, somewhere else. */
static size_t splice(uint8_t *b, size_t len)
{
    const struct seed *s = &seeds[below(seeds_count)];
    size_t at = below(s->len), n = 1 + below(s->len - at < 64 ? s->len - at : 64);
    if (rnd() & 1)
        return insert_from(b, len, s->data + at, n);
    if (n <= len)
        memcpy(b + below(len - n + 1), s->data + at, n);
    return len;
}

static size_t mutate(uint8_t *b, size_t len)
{
    static size_t (*const kinds[])(uint8_t *, size_t) = {flip_bit, set_byte,    set_number,
                                                         cut_out,  truncate_at, insert_bytes,
                                                         splice,   set_byte,    flip_bit};
    for (size_t n = 1 + below(4); n; n--)
        len = kinds[below(sizeof kinds / sizeof *kinds)](b, len);
    return len;
}

/* ---- running ---- */

static void run(const uint8_t *data, size_t len)
{
    uint8_t *exact = malloc(len ? len : 1);
    FUZZ_CHECK(exact);
    memcpy(exact, data, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
}

/* Says which input it was; async-signal-safe. */
static void on_fault(int signal_number)
{
    char text[64] = "fuzz: fault at input ", digits[24];
    size_t n = strlen(text), d = 0;
    uint64_t v = input_number;
    do
        digits[d++] = (char)('0' + v % 10);
    while (v /= 10);
    while (d)
        text[n++] = digits[--d];
    text[n++] = '\n';
    if (write(STDERR_FILENO, text, n) < 0)
        _exit(2);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static int run_file(const char *path)
{
    static uint8_t bytes[FUZZ_INPUT_MAX_BYTES];
    FILE *f = fopen(path, "rb");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t len = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    run(bytes, len);
    return 0;
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

int main(int argc, char **argv)
{
    static _Alignas(16) uint8_t bytes[FUZZ_INPUT_MAX_BYTES];
    uint64_t inputs = from_env("PO_FUZZ_INPUTS", INPUTS_DEFAULT);
    uint64_t seed = from_env("PO_FUZZ_SEED", 1);
    fuzz_seeds();
    if (argc > 1) {
        int failed = 0;
        for (int i = 1; i < argc; i++)
            failed |= run_file(argv[i]);
        return failed;
    }
    FUZZ_CHECK(seeds_count > 0 && seed > 0);
    signal(SIGABRT, on_fault);
    signal(SIGSEGV, on_fault);
    signal(SIGBUS, on_fault);
    for (unsigned i = 0; i < seeds_count; i++)
        run(seeds[i].data, seeds[i].len);
    for (input_number = 1; input_number <= inputs; input_number++) {
        state =
            (seed * UINT64_C(0x9e3779b97f4a7c15)) ^ (input_number * UINT64_C(0xbf58476d1ce4e5b9));
        if (!state)
            state = 1;
        rnd(), rnd();
        const struct seed *s = &seeds[below(seeds_count)];
        memcpy(bytes, s->data, s->len);
        size_t len = mutate(bytes, s->len);
        if (rnd() % 8) /* mostly; a wrong checksum must be seen, too */
            fuzz_mend(bytes, len);
        run(bytes, len);
    }
    printf("%llu inputs from %u seeds\n", (unsigned long long)inputs, seeds_count);
    for (unsigned i = 0; i < seeds_count; i++)
        free(seeds[i].data);
    return 0;
}
