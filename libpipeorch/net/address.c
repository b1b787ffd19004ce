#include "address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <pipeorch/types.h>
#include "peer.h"

/* Splits "[v6]:port" or "host:port" into two slices; NULL, or what is wrong. */
static const char *split(const char *address, struct po__slice *host, struct po__slice *port)
{
    const char *colon;
    if (address[0] == '[') {
        const char *close = strchr(address, ']');
        if (!close)
            return "the bracket '[' is not closed";
        if (close[1] != ':')
            return "a port must follow the bracket, as in \"[::1]:7000\"";
        *host = po__slice(address + 1, (size_t)(close - address - 1));
        colon = close + 1;
    } else {
        colon = strchr(address, ':');
        if (!colon)
            return "the port is missing, as in \"host:7000\"";
        if (strchr(colon + 1, ':'))
            return "an IPv6 address needs brackets, as in \"[::1]:7000\"";
        *host = po__slice(address, (size_t)(colon - address));
    }
    *port = po__str(colon + 1);
    return host->len ? NULL : "the host is missing; 0.0.0.0 or [::] stand for all interfaces";
}

static const char *check_port(struct po__slice port)
{
    unsigned value = 0;
    if (port.len == 0 || port.len > PO__ADDRESS_PORT_MAX_BYTES)
        return "the port must be a number from 0 to 65535";
    for (size_t i = 0; i < port.len; i++) {
        if (port.data[i] < '0' || port.data[i] > '9')
            return "the port must be a number from 0 to 65535";
        value = value * 10 + (unsigned)(port.data[i] - '0');
    }
    return value > 65535 ? "the port must be a number from 0 to 65535" : NULL;
}

static const char *check_host(struct po__slice host, bool brackets)
{
    for (size_t i = 0; i < host.len; i++) {
        unsigned char c = (unsigned char)host.data[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_' || (brackets && (c == ':' || c == '%'));
        if (!ok)
            return "the host has a character that no host name has";
    }
    if (!brackets)
        return NULL;
    char text[INET6_ADDRSTRLEN];
    struct in6_addr v6;
    const char *percent = memchr(host.data, '%', host.len); /* a scope, as in fe80::1%eth0 */
    size_t len = percent ? (size_t)(percent - host.data) : host.len;
    if (len >= sizeof text)
        return "what is in brackets is no IPv6 address";
    memcpy(text, host.data, len);
    text[len] = '\0';
    return inet_pton(AF_INET6, text, &v6) == 1 ? NULL : "what is in brackets is no IPv6 address";
}

int po__address_parse(const char *address, char *host, size_t host_len, char *port, size_t port_len,
                      char *error, size_t error_len)
{
    struct po__slice h = {0}, p = {0};
    const char *wrong = NULL;
    if (!address || !address[0])
        wrong = "it is empty";
    else if (strlen(address) > PO_ADDRESS_MAX_BYTES)
        wrong = "it is too long";
    if (!wrong)
        wrong = split(address, &h, &p);
    if (!wrong)
        wrong = check_port(p);
    if (!wrong)
        wrong = check_host(h, address[0] == '[');
    if (!wrong && (h.len >= host_len || p.len >= port_len))
        wrong = "it is too long";
    if (wrong) {
        snprintf(error, error_len, "address \"%.*s\": %s; expected \"host:port\" or \"[v6]:port\"",
                 PO_ADDRESS_MAX_BYTES, address ? address : "", wrong);
        return PO_EADDR;
    }
    memcpy(host, h.data, h.len);
    host[h.len] = '\0';
    memcpy(port, p.data, p.len);
    port[p.len] = '\0';
    return 0;
}

bool po__address_is_loopback(const char *address)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1], error[1];
    struct in_addr v4;
    struct in6_addr v6;
    if (po__address_parse(address, host, sizeof host, port, sizeof port, error, sizeof error))
        return false;
    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

int po__address_may_listen(const char *address, bool insecure, char *error, size_t error_len)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1];
    int rv = po__address_parse(address, host, sizeof host, port, sizeof port, error, error_len);
    if (rv)
        return rv;
    if (insecure || po__address_is_loopback(address))
        return 0;
    snprintf(error, error_len,
             "listen address %s is not a loopback address, and connections are not encrypted yet; "
             "set insecure if the network is trusted, or listen on 127.0.0.1 or [::1]",
             address);
    return PO_EREFUSED;
}

int po__address_resolve_listen(const char *address, struct sockaddr_storage *sa, socklen_t *sa_len,
                               char *error, size_t error_len)
{
    char host[PO_ADDRESS_MAX_BYTES + 1], port[PO__ADDRESS_PORT_MAX_BYTES + 1];
    struct addrinfo hints = {.ai_family = AF_UNSPEC,
                             .ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *ai = NULL;
    int rv = po__address_parse(address, host, sizeof host, port, sizeof port, error, error_len);
    if (rv)
        return rv;
    rv = getaddrinfo(host, port, &hints, &ai);
    if (rv) {
        snprintf(error, error_len,
                 "address %s cannot be resolved: %s; give an address or a name "
                 "of this machine",
                 address, gai_strerror(rv));
        return PO_EADDR;
    }
    memcpy(sa, ai->ai_addr, ai->ai_addrlen);
    *sa_len = ai->ai_addrlen;
    freeaddrinfo(ai);
    return 0;
}

void po__address_format(const struct sockaddr *sa, char *text, size_t text_len)
{
    char ip[INET6_ADDRSTRLEN] = "";
    if (sa->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)sa;
        inet_ntop(AF_INET, &in->sin_addr, ip, sizeof ip);
        snprintf(text, text_len, "%s:%u", ip, ntohs(in->sin_port));
    } else if (sa->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const void *)sa;
        inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof ip);
        snprintf(text, text_len, "[%s]:%u", ip, ntohs(in6->sin6_port));
    } else {
        snprintf(text, text_len, "?");
    }
}

void po__address_bind_error(const char *address, int err, char *error, size_t error_len)
{
    if (err == EADDRINUSE)
        snprintf(error, error_len,
                 "address in use: %s: another process listens there; stop it or choose another "
                 "port",
                 address);
    else if (err == EADDRNOTAVAIL)
        snprintf(error, error_len,
                 "cannot listen on %s: no interface of this machine has that address; bind one "
                 "that it has and advertise the other",
                 address);
    else if (err == EACCES)
        snprintf(error, error_len,
                 "cannot listen on %s: permission denied; choose a port above 1023", address);
    else
        snprintf(error, error_len, "cannot listen on %s: %s", address, strerror(err));
}

bool po__address_next(const char **list, struct po__slice *address)
{
    if (!*list)
        return false;
    const char *start = *list, *comma = strchr(start, ',');
    const char *end = comma ? comma : start + strlen(start);
    *list = comma ? comma + 1 : NULL;
    while (start < end && (*start == ' ' || *start == '\t'))
        start++;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *address = po__slice(start, (size_t)(end - start));
    return true;
}
