/* SMTP load for benchmarks: blocking sockets, one thread per connection, so that the driver costs little.
 *
 * Every message is unique (sender, Message-ID, a body of changing words). Loopback only, bounded in messages and
 * seconds. Source addresses are spread over 127/8, because servers limit what one address may do.
 *
 *   smtp_load CONNECTIONS MESSAGES SECONDS OCTETS MESSAGES_PER_CONNECTION RECIPIENT HOST PORT [DOMAINS]
 *
 * A ``*`` in RECIPIENT is replaced so that as many domains take turns, by ``1-1`` and up: the last two numbers of an
 * address that smtp_sink listens on.
 * Prints one JSON object; latency is from MAIL to the reply after the final dot. A message counts when 250 came.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int messages, seconds, octets, per_connection, domains = 1;
static const char *recipient;
static struct sockaddr_in server;
static atomic_int taken, accepted, refused, broken;
static double began, *latency;
static char last_refusal[200];

static double clock_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

struct line_reader {
    char octets[8192];
    size_t filled;
};

static int send_all(int fd, const char *from, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, from, length, MSG_NOSIGNAL);
        if (sent <= 0)
            return -1;
        from += sent;
        length -= (size_t)sent;
    }
    return 0;
}

/* Reads one reply, of however many lines; returns its code, -1 when the connection is lost. */
static int read_reply(int fd, struct line_reader *in)
{
    for (;;) {
        char *end = memchr(in->octets, '\n', in->filled);
        if (end != NULL) {
            size_t length = (size_t)(end - in->octets) + 1;
            int code = atoi(in->octets), is_last = length < 4 || in->octets[3] != '-';
            if (is_last && code >= 400) {
                size_t keep = length < sizeof last_refusal ? length - 1 : sizeof last_refusal - 1;
                memcpy(last_refusal, in->octets, keep);
                last_refusal[keep] = 0;
            }
            in->filled -= length;
            memmove(in->octets, in->octets + length, in->filled);
            if (is_last)
                return code;
            continue;
        }
        if (in->filled == sizeof in->octets)
            return -1;
        ssize_t got = recv(fd, in->octets + in->filled, sizeof in->octets - in->filled, 0);
        if (got <= 0)
            return -1;
        in->filled += (size_t)got;
    }
}

static int command(int fd, struct line_reader *in, const char *line)
{
    return send_all(fd, line, strlen(line)) ? -1 : read_reply(fd, in);
}

static int open_session(unsigned *seed, struct line_reader *in)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    struct timeval patience = {60, 0};
    struct sockaddr_in source = {.sin_family = AF_INET};
    unsigned any = (unsigned)rand_r(seed);
    source.sin_addr.s_addr = htonl(127u << 24 | (1 + any % 254) << 16 | (any >> 8 & 255) << 8 | (1 + (any >> 16) % 254));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    bind(fd, (struct sockaddr *)&source, sizeof source);
    in->filled = 0;
    if (connect(fd, (struct sockaddr *)&server, sizeof server) || read_reply(fd, in) != 220
        || command(fd, in, "EHLO load.example\r\n") != 250) {
        close(fd);
        return -1;
    }
    return fd;
}

static void write_recipient(char *to, size_t room, int number)
{
    const char *star = strchr(recipient, '*');
    int domain = number % domains;
    if (star == NULL)
        snprintf(to, room, "%s", recipient);
    else
        snprintf(to, room, "%.*s%d-%d%s", (int)(star - recipient), recipient, 1 + domain / 250, 1 + domain % 250, star + 1);
}

static size_t write_message(char *to, int number, const char *forward_path, unsigned *seed)
{
    static const char *words[] = {"mail", "crane", "railway", "hook", "bag", "train", "night", "station", "letter", "sorted"};
    size_t length = (size_t)sprintf(to,
        "From: Load <sender%d@load.example>\r\nTo: <%s>\r\nSubject: message %d under load\r\n"
        "Date: Fri, 20 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%d.%u.%d@load.example>\r\n\r\n",
        number % 997, forward_path, number, number, (unsigned)rand_r(seed), (int)getpid());
    int column = 0;
    while (length < (size_t)octets - 2) {
        const char *word = words[(unsigned)rand_r(seed) % 10];
        int wide = sprintf(to + length, "%s", word);
        length += (size_t)wide;
        column += wide + 1;
        if (column > 68) {
            memcpy(to + length, "\r\n", 2);
            length += 2;
            column = 0;
        } else {
            to[length++] = ' ';
        }
    }
    memcpy(to + length, "\r\n.\r\n", 5);
    return length + 5;
}

static void *connection(void *argument)
{
    unsigned seed = (unsigned)(size_t)argument * 7919u + (unsigned)time(NULL);
    struct line_reader in = {.filled = 0};
    char *content = malloc((size_t)octets + 4096), line[400], forward_path[200];
    int fd = -1, used = 0;
    for (;;) {
        int number = atomic_fetch_add(&taken, 1);
        if (number >= messages || clock_s() - began > seconds)
            break;
        if (fd < 0 && (fd = open_session(&seed, &in)) < 0) {
            atomic_fetch_add(&broken, 1);
            usleep(2000);
            continue;
        }
        write_recipient(forward_path, sizeof forward_path, number);
        size_t length = write_message(content, number, forward_path, &seed);
        double start = clock_s();
        snprintf(line, sizeof line, "MAIL FROM:<sender%d@load.example>\r\n", number % 997);
        int code = command(fd, &in, line);
        if (code == 250) {
            snprintf(line, sizeof line, "RCPT TO:<%s>\r\n", forward_path);
            code = command(fd, &in, line);
        }
        if (code == 250)
            code = command(fd, &in, "DATA\r\n");
        if (code == 354)
            code = send_all(fd, content, length) ? -1 : read_reply(fd, &in);
        if (code == 250)
            latency[atomic_fetch_add(&accepted, 1)] = clock_s() - start;
        else
            atomic_fetch_add(code < 0 ? &broken : &refused, 1);
        if (code != 250 || ++used >= per_connection) {
            if (code > 0)
                command(fd, &in, "QUIT\r\n");
            close(fd);
            fd = -1;
            used = 0;
        }
    }
    if (fd >= 0)
        close(fd);
    free(content);
    return NULL;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int count, char **arguments)
{
    if (count != 9 && count != 10) {
        fprintf(stderr, "usage: smtp_load CONNECTIONS MESSAGES SECONDS OCTETS PER_CONNECTION RECIPIENT HOST PORT [DOMAINS]\n");
        return 2;
    }
    int connections = atoi(arguments[1]);
    messages = atoi(arguments[2]);
    seconds = atoi(arguments[3]);
    octets = atoi(arguments[4]);
    per_connection = atoi(arguments[5]);
    recipient = arguments[6];
    if (count == 10 && (domains = atoi(arguments[9])) < 1)
        return 2;
    server.sin_family = AF_INET;
    server.sin_port = htons((unsigned short)atoi(arguments[8]));
    if (inet_pton(AF_INET, arguments[7], &server.sin_addr) != 1 || ntohl(server.sin_addr.s_addr) >> 24 != 127) {
        fprintf(stderr, "only loopback addresses\n");
        return 2;
    }
    latency = calloc((size_t)messages + 1, sizeof *latency);
    pthread_t *threads = calloc((size_t)connections, sizeof *threads);
    began = clock_s();
    for (int i = 0; i < connections; i++)
        pthread_create(&threads[i], NULL, connection, (void *)(size_t)(i + 1));
    for (int i = 0; i < connections; i++)
        pthread_join(threads[i], NULL);
    double wall = clock_s() - began;
    int done = accepted;
    qsort(latency, (size_t)done, sizeof *latency, by_size);
#define PERCENTILE(p) (done ? latency[(int)((done - 1) * (p))] * 1e3 : 0)
    for (char *c = last_refusal; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = ' ';
    printf("{\"accepted\":%d,\"refused\":%d,\"broken\":%d,\"wall\":%.4f,\"rate\":%.1f,\"p50_ms\":%.2f,\"p95_ms\":%.2f,"
           "\"p99_ms\":%.2f,\"max_ms\":%.2f,\"last_refusal\":\"%s\"}\n",
           done, (int)refused, (int)broken, wall, done / wall, PERCENTILE(.5), PERCENTILE(.95), PERCENTILE(.99),
           PERCENTILE(1), last_refusal);
    return 0;
}
