/* What systemd is told, with a socket in its place. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/service.h"

/* A bound socket; an empty path gives an abstract name, which the kernel draws. *name as
 * NOTIFY_SOCKET has it. */
static int listening(const char *path, char name[128])
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    socklen_t len = sizeof(sa_family_t);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    assert_true(fd >= 0);
    if (*path) {
        snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
        len = sizeof a;
    }
    assert_int_equal(bind(fd, (struct sockaddr *)&a, len), 0);
    len = sizeof a;
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    size_t n = len - offsetof(struct sockaddr_un, sun_path);
    memcpy(name, a.sun_path, n);
    name[n] = '\0';
    if (!*path)
        name[0] = '@';
    return fd;
}

static void expect(int fd, const char *text)
{
    char got[64];
    ssize_t n = recv(fd, got, sizeof got - 1, 0);
    assert_int_equal(n, strlen(text));
    got[n] = '\0';
    assert_string_equal(got, text);
}

static void check_told(const char *path)
{
    char name[128];
    int fd = listening(path, name);
    assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
    service_notify("READY=1");
    service_notify("STOPPING=1");
    expect(fd, "READY=1");
    expect(fd, "STOPPING=1");
    assert_true(recv(fd, name, sizeof name, 0) < 0);
    close(fd);
}

static void test_socket_in_a_folder(void **state)
{
    (void)state;
    char folder[] = "/tmp/po-service-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/notify", folder);
    check_told(path);
    service_notify("READY=1"); /* nobody listens any more */
    unlink(path);
    rmdir(folder);
}

static void test_abstract_socket(void **state)
{
    (void)state;
    check_told("");
}

static void test_no_socket_or_a_wrong_one(void **state)
{
    (void)state;
    char name[256];
    int before = dup(0);
    memset(name, 'x', sizeof name);
    name[0] = '/';
    name[sizeof name - 1] = '\0';
    const char *const wrong[] = {"", "/", "@", "relative", name};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        setenv("NOTIFY_SOCKET", wrong[i], 1);
        service_notify("READY=1");
    }
    unsetenv("NOTIFY_SOCKET");
    service_notify("READY=1");
    int after = dup(0); /* no descriptor is left open */
    assert_int_equal(after, before + 1);
    close(before);
    close(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_socket_in_a_folder),
        cmocka_unit_test(test_abstract_socket),
        cmocka_unit_test(test_no_socket_or_a_wrong_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
