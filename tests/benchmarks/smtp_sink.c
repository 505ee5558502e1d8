/* Next hops for benchmarks: take every message and keep nothing, after a wait for each where that is asked for.
 *
 * One thread on epoll, loopback only. COUNT addresses are listened on, 127.0.1.1 and up (250 in each 127.0.X), so that a
 * server meets as many hosts. The wait begins with the final dot, and the reply comes after it; connections wait at
 * the same time.
 *
 *   smtp_sink COUNT PORT WAIT_MS FILE
 *
 * FILE always holds one line: messages taken, monotonic time of the last, connections accepted, connections open,
 * messages that wait now, and the sum of all waits in seconds: its growth in a second is how many waited on average.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 128, ROOM = 16384, PER_NET = 250, SAYING = 1024 };
enum stage { COMMANDS, CONTENT, WAITING, LOST };

struct session {
    int fd;
    enum stage stage;
    unsigned matched; /* octets of CRLF.CRLF that were seen last */
    double due;
    struct session *next;
    size_t filled, to_say;
    char octets[ROOM], saying[SAYING];
};

static char *report;
static unsigned long taken, accepted, open_now, waiting_now;
static double waited, last_change, last_taken;
static struct session *first_waiting, **end_waiting = &first_waiting;
static double wait_s;

static double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void note(void)
{
    double now = clock_s();
    waited += (now - last_change) * (double)waiting_now;
    last_change = now;
}

static void publish(void)
{
    char line[LINE];
    memset(line, ' ', sizeof line);
    int length = snprintf(line, sizeof line, "%lu %.6f %lu %lu %lu %.6f", taken, last_taken, accepted, open_now,
                          waiting_now, waited);
    line[length] = ' ';
    line[LINE - 1] = '\n';
    memcpy(report, line, LINE);
}

/* Replies to commands that came together go out together (RFC 2920 section 3.2). */
static void say_all(struct session *s)
{
    if (s->to_say && send(s->fd, s->saying, s->to_say, MSG_NOSIGNAL) < 0)
        errno = 0; /* the next recv tells */
    s->to_say = 0;
}

static void say(struct session *s, const char *reply)
{
    size_t length = strlen(reply);
    if (s->to_say + length > SAYING)
        say_all(s);
    memcpy(s->saying + s->to_say, reply, length);
    s->to_say += length;
}

static void take(struct session *s)
{
    taken++;
    last_taken = clock_s();
    s->stage = COMMANDS;
    say(s, "250 2.0.0 taken\r\n");
}

static void final_dot(struct session *s)
{
    if (wait_s <= 0) {
        take(s);
        return;
    }
    note();
    waiting_now++;
    s->stage = WAITING;
    s->due = clock_s() + wait_s;
    s->next = NULL;
    *end_waiting = s;
    end_waiting = &s->next;
}

static void command(struct session *s, const char *line)
{
    if (!strncasecmp(line, "EHLO", 4))
        say(s, "250-sink.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 104857600\r\n");
    else if (!strncasecmp(line, "DATA", 4)) {
        s->stage = CONTENT;
        s->matched = 2; /* the line before ended with CRLF */
        say(s, "354 go on\r\n");
    } else if (!strncasecmp(line, "QUIT", 4)) {
        say(s, "221 2.0.0 bye\r\n");
        say_all(s);
        shutdown(s->fd, SHUT_WR);
    } else
        say(s, "250 2.0.0 ok\r\n");
}

static void read_on(struct session *s)
{
    static const char end[] = "\r\n.\r\n";
    size_t at = 0;
    while (at < s->filled && s->stage != WAITING) {
        if (s->stage == CONTENT) {
            /* Most octets are no part of the end: skip to the next CR. */
            if (s->matched == 0) {
                char *cr = memchr(s->octets + at, '\r', s->filled - at);
                if (cr == NULL) {
                    at = s->filled;
                    break;
                }
                at = (size_t)(cr - s->octets);
            }
            char octet = s->octets[at++];
            if (octet == end[s->matched])
                s->matched++;
            else
                s->matched = octet == '\r';
            if (s->matched == 5)
                final_dot(s);
            continue;
        }
        char *newline = memchr(s->octets + at, '\n', s->filled - at);
        if (newline == NULL)
            break;
        *newline = 0;
        command(s, s->octets + at);
        at = (size_t)(newline - s->octets) + 1;
    }
    s->filled -= at;
    memmove(s->octets, s->octets + at, s->filled);
}

static void accept_all(int listener, int poll)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct session *s = calloc(1, sizeof *s);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = s};
        s->fd = fd;
        accepted++;
        open_now++;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        epoll_ctl(poll, EPOLL_CTL_ADD, fd, &wanted);
        say(s, "220 sink.example ESMTP\r\n");
        say_all(s);
    }
}

int main(int count, char **arguments)
{
    if (count != 5) {
        fprintf(stderr, "usage: smtp_sink COUNT PORT WAIT_MS FILE\n");
        return 2;
    }
    int hosts = atoi(arguments[1]), on = 1, poll = epoll_create1(0);
    int file = open(arguments[4], O_RDWR | O_CREAT | O_TRUNC, 0644);
    struct rlimit files = {65536, 65536};
    setrlimit(RLIMIT_NOFILE, &files);
    wait_s = atoi(arguments[3]) / 1e3;
    if (file < 0 || ftruncate(file, LINE))
        return 1;
    report = mmap(NULL, LINE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    last_change = clock_s();
    publish();
    int *listeners = calloc((size_t)hosts, sizeof *listeners);
    for (int i = 0; i < hosts; i++) {
        struct sockaddr_in me = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(arguments[2]))};
        me.sin_addr.s_addr = htonl(127u << 24 | (unsigned)(1 + i / PER_NET) << 8 | (unsigned)(1 + i % PER_NET));
        listeners[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        setsockopt(listeners[i], SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = &listeners[i]};
        if (bind(listeners[i], (struct sockaddr *)&me, sizeof me) || listen(listeners[i], 1024)
            || epoll_ctl(poll, EPOLL_CTL_ADD, listeners[i], &wanted)) {
            perror("cannot listen");
            return 1;
        }
    }
    struct epoll_event ready[256];
    for (;;) {
        int most = epoll_wait(poll, ready, 256, first_waiting ? 1 : -1);
        for (int i = 0; i < most; i++) {
            int *listener = ready[i].data.ptr;
            if (listener >= listeners && listener < listeners + hosts) {
                accept_all(*listener, poll);
                continue;
            }
            struct session *s = ready[i].data.ptr;
            ssize_t got = s->filled < ROOM ? recv(s->fd, s->octets + s->filled, ROOM - s->filled, 0) : 0;
            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                continue;
            if (got <= 0) {
                open_now--;
                close(s->fd);
                if (s->stage == WAITING)
                    s->stage = LOST; /* freed when its wait is over */
                else
                    free(s);
                continue;
            }
            s->filled += (size_t)got;
            read_on(s);
            say_all(s);
        }
        while (first_waiting && first_waiting->due <= clock_s()) {
            struct session *s = first_waiting;
            note();
            waiting_now--;
            first_waiting = s->next;
            if (first_waiting == NULL)
                end_waiting = &first_waiting;
            if (s->stage == LOST) {
                free(s);
                continue;
            }
            take(s);
            read_on(s);
            say_all(s);
        }
        note();
        publish();
    }
}
