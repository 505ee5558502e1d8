/* Receivers of webhook calls for benchmarks: answer 200 to every request at once and keep nothing.
 *
 * One thread on epoll, loopback only. COUNT ports of 127.0.0.1 are listened on, so that a server meets as many
 * receivers. A request has a Content-Length; the next one may follow in the same packet.
 *
 *   webhook_receiver COUNT
 *
 * The ports are printed on one line once all are open. It ends when its standard input does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROOM = 65536 };

struct connection {
    int fd;
    size_t filled;
    char octets[ROOM + 1];
};

static const char OK[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/* Answers the requests that are there; -1 for what is none. */
static int answer(struct connection *c)
{
    for (;;) {
        c->octets[c->filled] = 0;
        char *end = strstr(c->octets, "\r\n\r\n");
        if (end == NULL)
            return c->filled == ROOM ? -1 : 0;
        char *field = strcasestr(c->octets, "\r\ncontent-length:");
        if (field == NULL || field > end)
            return -1;
        size_t length = (size_t)(end - c->octets) + 4 + strtoul(field + 17, NULL, 10);
        if (length > ROOM)
            return -1;
        if (c->filled < length)
            return 0;
        if (send(c->fd, OK, sizeof OK - 1, MSG_NOSIGNAL) < 0)
            return -1;
        c->filled -= length;
        memmove(c->octets, c->octets + length, c->filled);
    }
}

static void accept_all(int listener, int poll)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = c};
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
    }
}

int main(int count, char **arguments)
{
    int receivers = count == 2 ? atoi(arguments[1]) : 0, poll = epoll_create1(0);
    if (receivers < 1) {
        fprintf(stderr, "usage: webhook_receiver COUNT\n");
        return 2;
    }
    int *listeners = calloc((size_t)receivers, sizeof *listeners);
    for (int i = 0; i < receivers; i++) {
        struct sockaddr_in me = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof me;
        listeners[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = &listeners[i]};
        if (bind(listeners[i], (struct sockaddr *)&me, sizeof me) || listen(listeners[i], 1024)
            || getsockname(listeners[i], (struct sockaddr *)&me, &size)
            || epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i], &wanted)) {
            perror("cannot listen");
            return 1;
        }
        printf("%d%c", ntohs(me.sin_port), i + 1 < receivers ? ' ' : '\n');
    }
    fflush(stdout);
    struct epoll_event input = {.events = EPOLLIN, .data.ptr = NULL}, ready[256];
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &input);
    for (;;) {
        int most = epoll_wait(poll, ready, 256, -1);
        for (int i = 0; i < most; i++) {
            if (ready[i].data.ptr == NULL)
                return 0;
            int *listener = ready[i].data.ptr;
            if (listener >= listeners && listener < listeners + receivers) {
                accept_all(*listener, poll);
                continue;
            }
            struct connection *c = ready[i].data.ptr;
            ssize_t got = recv(c->fd, c->octets + c->filled, ROOM - c->filled, 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                continue;
            c->filled += got > 0 ? (size_t)got : 0;
            if (got <= 0 || answer(c)) {
                close(c->fd);
                free(c);
            }
        }
    }
}
