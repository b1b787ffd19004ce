/* The first thing that a stranger can say to the peer transport. */
#include "fuzz.h"

#include "net/peer_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct po__peer_hello hello, again;
    if (po__peer_hello_decode(data, len, &hello))
        return 0;
    struct po__buf b = {0};
    FUZZ_CHECK(memchr(hello.name, 0, sizeof hello.name));
    FUZZ_CHECK(memchr(hello.worker_address, 0, sizeof hello.worker_address));
    po__peer_hello_encode(&b, &hello);
    FUZZ_CHECK(b.err == 0 && po__peer_hello_decode(b.data, b.len, &again) == 0);
    FUZZ_CHECK(memcmp(&hello, &again, sizeof hello) == 0);
    po__buf_fini(&b);
    return 0;
}

void fuzz_mend(uint8_t *data, size_t len)
{
    (void)data, (void)len;
}

void fuzz_seeds(void)
{
    struct po__peer_hello hello = {.node_id = 7, .incarnation = 9, .feature_level = 1};
    struct po__buf b = {0};
    memset(hello.cluster_id, 1, sizeof hello.cluster_id);
    po__peer_hello_encode(&b, &hello);
    fuzz_seed(b.data, b.len);
    po__buf_reset(&b);
    snprintf(hello.name, sizeof hello.name, "cp-aws-1");
    snprintf(hello.zone, sizeof hello.zone, "aws");
    snprintf(hello.peer_address, sizeof hello.peer_address, "cp-aws-1.example:7001");
    snprintf(hello.worker_address, sizeof hello.worker_address, "[2001:db8::1]:7002");
    po__peer_hello_encode(&b, &hello);
    fuzz_seed(b.data, b.len);
    po__buf_fini(&b);
}
