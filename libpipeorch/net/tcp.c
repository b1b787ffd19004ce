#include "tcp.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <unistd.h>

#include "address.h"

/* Made by hand so that every failure is seen before libuv holds a handle. SO_REUSEADDR lets a
 * process that restarts bind past its old connections in TIME_WAIT; on Linux two listeners on one
 * port are refused all the same. */
int po__tcp_listen(const char *address, int backlog, uint16_t *port, char *error, size_t error_len)
{
    struct sockaddr_storage sa;
    socklen_t sa_len;
    int one = 1;
    if (po__address_resolve_listen(address, &sa, &sa_len, error, error_len))
        return -1;
    int fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        po__address_bind_error(address, errno, error, error_len);
        return -1;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) ||
        bind(fd, (struct sockaddr *)&sa, sa_len) || listen(fd, backlog) ||
        getsockname(fd, (struct sockaddr *)&sa, &sa_len)) {
        po__address_bind_error(address, errno, error, error_len);
        close(fd);
        return -1;
    }
    *port = ntohs(sa.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&sa)->sin6_port
                                           : ((struct sockaddr_in *)&sa)->sin_port);
    return fd;
}

void po__tcp_tune(uv_tcp_t *tcp)
{
    uv_os_fd_t fd;
    int timeout_ms = PO__USER_TIMEOUT_MS;
    uv_tcp_nodelay(tcp, 1);
    uv_tcp_keepalive(tcp, 1, PO__KEEPALIVE_S);
    if (uv_fileno((uv_handle_t *)tcp, &fd) == 0)
        setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}
