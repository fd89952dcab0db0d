/* HTTP clients on kept connections, one request at a time each, that check every answer.
 *
 *     requests HOST PORT PATH TOKEN CONNECTIONS MESSAGES
 *
 * "run SECONDS" on standard input is answered by one line of JSON. An answer that is not 200, or has not MESSAGES
 * messages in ascending order, ends the run with status 1. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "latency.h"
#include "websocket.h"

enum { ROOM = 1 << 16 };

struct connection {
    int socket;
    size_t size;
    double sent_at;
    char bytes[ROOM];
};

static char request[4096];
static size_t request_size;
static int messages;
static struct latencies answers;

static void ask(struct connection *connection) {
    connection->size = 0;
    connection->sent_at = seconds_now();
    if (send_all(connection->socket, request, request_size) < 0) fail("the server closed a connection");
}

static void check(char *body, size_t size) {
    int count = 0, last = -1;
    for (char *at = body; (at = memmem(at, size - (size_t)(at - body), "@@", 2)); at += 2, count++) {
        int number = atoi(at + 2);
        if (number != last + 1 && count) fail("message %d came after %d", number, last);
        last = number;
    }
    if (count != messages) fail("%d messages came, not %d: %.*s", count, messages, size > 300 ? 300 : (int)size, body);
}

/* Whether a whole answer has come. */
static int is_whole(struct connection *connection) {
    char *end = memmem(connection->bytes, connection->size, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(connection->bytes, "content-length:");
    *end = '\r';
    if (memcmp(connection->bytes + 9, "200", 3) || !length)
        fail("refused: %.*s", connection->size > 500 ? 500 : (int)connection->size, connection->bytes);
    size_t body = strtoul(length + 15, NULL, 10);
    if ((size_t)(end + 4 - connection->bytes) + body > connection->size) return 0;
    check(end + 4, body);
    return 1;
}

static void run(int poll_fd, struct connection *all, int count, double seconds) {
    memset(&answers, 0, sizeof answers);
    double started = seconds_now(), ends = started + seconds;
    int waiting = count;
    for (int i = 0; i < count; i++) ask(&all[i]);
    while (waiting) {
        struct epoll_event events[64];
        int ready = epoll_wait(poll_fd, events, 64, 30000);
        if (!ready) fail("no answer for 30 s");
        for (int i = 0; i < ready; i++) {
            struct connection *connection = events[i].data.ptr;
            ssize_t came = recv(connection->socket, connection->bytes + connection->size, ROOM - connection->size, 0);
            if (came < 0 && errno == EAGAIN) continue;
            if (came <= 0) fail("the server closed a connection");
            connection->size += (size_t)came;
            if (!is_whole(connection)) continue;
            double now = seconds_now();
            latency_add(&answers, now - connection->sent_at);
            if (now < ends)
                ask(connection);
            else
                waiting--;
        }
    }
    printf("{\"seconds\": %.6f, \"requests\": %lu, \"p50\": %.6f, \"p99\": %.6f}\n", seconds_now() - started,
           answers.count, latency_at(&answers, 0.5), latency_at(&answers, 0.99));
}

int main(int count, char **arguments) {
    if (count != 7) fail("usage: requests HOST PORT PATH TOKEN CONNECTIONS MESSAGES");
    struct sockaddr_in server = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[2]))};
    inet_aton(arguments[1], &server.sin_addr);
    request_size = (size_t)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: %s:%s\r\nAuthorization: Bearer %s\r\n\r\n",
                                    arguments[3], arguments[1], arguments[2], arguments[4]);
    int connections = atoi(arguments[5]), poll_fd = epoll_create1(0), one = 1;
    messages = atoi(arguments[6]);
    struct connection *all = calloc((size_t)connections, sizeof *all);
    for (int i = 0; i < connections; i++) {
        all[i].socket = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].socket, (struct sockaddr *)&server, sizeof server)) fail("no connection");
        setsockopt(all[i].socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, all[i].socket, &event);
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[128];
    while (fgets(line, sizeof line, stdin)) run(poll_fd, all, connections, atof(line + 4));
    return 0;
}
