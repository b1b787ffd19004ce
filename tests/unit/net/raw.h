/* SP by hand, over blocking sockets: what no well-behaved library would send. */
#ifndef PO__TEST_RAW_H
#define PO__TEST_RAW_H

#include "wait.h"

#include <arpa/inet.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/sp.h"

static inline struct sockaddr_in raw_address(const char *address)
{
    struct sockaddr_in sa = {.sin_family = AF_INET};
    sa.sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1));
    sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return sa;
}

static inline int raw_connect(const char *address)
{
    struct sockaddr_in sa = raw_address(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    return fd;
}

static inline void raw_write(int fd, const void *data, size_t len)
{
    while (len) {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);
        assert_true(n > 0);
        data = (const char *)data + n;
        len -= (size_t)n;
    }
}

/* false: the connection ended. */
static inline bool raw_read(int fd, void *data, size_t len)
{
    while (len) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, WAIT_GUARD_MS) != 1)
            fail_msg("nothing came in %d ms", WAIT_GUARD_MS);
        ssize_t n = recv(fd, data, len, 0);
        if (n <= 0)
            return false;
        data = (char *)data + n;
        len -= (size_t)n;
    }
    return true;
}

static inline void raw_hello(int fd, uint16_t protocol)
{
    uint8_t hello[PO__SP_HELLO_BYTES];
    po__sp_hello(hello, protocol);
    raw_write(fd, hello, sizeof hello);
}

/* Exchanges hellos. */
static inline void raw_greet(int fd, uint16_t protocol)
{
    uint8_t hello[PO__SP_HELLO_BYTES], expected[PO__SP_HELLO_BYTES];
    raw_hello(fd, protocol);
    assert_true(raw_read(fd, hello, sizeof hello));
    po__sp_hello(expected, protocol == PO__SP_REQ ? PO__SP_REP : PO__SP_REQ);
    assert_memory_equal(hello, expected, sizeof hello);
}

/* The length of a message and the id of a direct requester, or what comes with its answer. */
static inline void raw_head(int fd, uint32_t id, size_t body_len)
{
    uint8_t head[PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES];
    po__sp_length(head, PO__SP_ID_BYTES + body_len);
    po__sp_put_id(head + PO__SP_LENGTH_BYTES, id | PO__SP_REQUEST_ID_BIT);
    raw_write(fd, head, sizeof head);
}

static inline void raw_send(int fd, uint32_t id, const void *body, size_t len)
{
    raw_head(fd, id, len);
    raw_write(fd, body, len);
}

/* A message with one id. The length of its body, which is cut to `max`; SIZE_MAX: the connection
 * ended. */
static inline size_t raw_recv(int fd, uint32_t *id, void *body, size_t max)
{
    uint8_t head[PO__SP_LENGTH_BYTES + PO__SP_ID_BYTES], rest[4096];
    uint64_t len = 0;
    if (!raw_read(fd, head, sizeof head))
        return SIZE_MAX;
    for (unsigned i = 0; i < PO__SP_LENGTH_BYTES; i++)
        len = len << 8 | head[i];
    *id = po__sp_get_id(head + PO__SP_LENGTH_BYTES) & ~PO__SP_REQUEST_ID_BIT;
    len -= PO__SP_ID_BYTES;
    if (!raw_read(fd, body, len < max ? len : max))
        return SIZE_MAX;
    for (uint64_t left = len > max ? len - max : 0; left;) {
        size_t n = left < sizeof rest ? left : sizeof rest;
        if (!raw_read(fd, rest, n))
            return SIZE_MAX;
        left -= n;
    }
    return len;
}

/* The other side closes the connection; what it still sends is skipped. */
static inline void raw_expect_end(int fd)
{
    char bytes[4096];
    while (raw_read(fd, bytes, 1))
        ;
}

#endif
