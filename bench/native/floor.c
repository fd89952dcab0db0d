/* The floor: what a delivery costs that is one send(2) of ready bytes, and nothing else.
 *
 *     floor PORT
 *
 * Speaks as much Socket.IO as the bench's clients need, has one room, looks at nobody's token and stores nothing. */

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "websocket.h"

#define NAMESPACE "/encounters,"
enum { MOST_CONNECTIONS = 65536, READ_BYTES = 1 << 16 };

struct connection {
    int socket, upgraded;
    struct rest rest;
};

static struct connection connections[MOST_CONNECTIONS];
static int members[MOST_CONNECTIONS], member_count;
static char reading[READ_BYTES];

static void say(int socket, const char *text) { send_frame(socket, TEXT, text, strlen(text), 0); }

static void deliver(const char *text, size_t size) {
    static char frame[8192], body[8000];
    static unsigned long seq;
    int length = snprintf(body, sizeof body,
                          "42" NAMESPACE "[\"newMessage\",{\"id\":\"00000000-0000-4000-8000-000000000000\",\"seq\":%lu,"
                          "\"session_id\":\"00000000-0000-4000-8000-000000000000\",\"from\":\"Somebody\","
                          "\"user_id\":\"person-00000\",\"text\":\"%.*s\",\"created_at\":\"2026-01-01T00:00:00.000000Z\"}]",
                          ++seq, (int)size, text);
    size_t at = frame_head(frame, TEXT, (size_t)length, 0);
    memcpy(frame + at, body, (size_t)length);
    for (int i = 0; i < member_count; i++) send_all(members[i], frame, at + (size_t)length);
}

static void take_packet(struct connection *connection, struct frame *frame) {
    char *text = frame->data, *end = text + frame->size;
    size_t after = 2 + strlen(NAMESPACE);
    if (frame->opcode != TEXT) return;
    if (!memcmp(text, "40", 2)) {
        say(connection->socket, "40" NAMESPACE "{\"sid\":\"a\"}");
    } else if (frame->size > after && !memcmp(text, "42", 2)) {
        char *event, answer[64], *marker = memmem(text, frame->size, "\"text\":\"", 8);
        unsigned long number = strtoul(text + after, &event, 10);
        if (marker) {
            char *begin = marker + 8, *quote = memchr(begin, '"', (size_t)(end - begin));
            deliver(begin, (size_t)(quote - begin));
        } else {
            members[member_count++] = connection->socket;
        }
        snprintf(answer, sizeof answer, "43" NAMESPACE "%lu[{\"ok\":true}]", number);
        say(connection->socket, answer);
    }
}

static void welcome(struct connection *connection) {
    static const char upgrade[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    send_all(connection->socket, upgrade, sizeof upgrade - 1);
    say(connection->socket, "0{\"sid\":\"a\",\"upgrades\":[],\"pingInterval\":25000,\"pingTimeout\":20000}");
    connection->upgraded = 1;
}

static void take_bytes(struct connection *connection) {
    size_t had = connection->rest.size, at = 0;
    memcpy(reading, connection->rest.bytes ? connection->rest.bytes : "", had);
    ssize_t came = recv(connection->socket, reading + had, READ_BYTES - had, 0);
    if (came < 0 && errno == EAGAIN) return;
    if (came <= 0) {
        close(connection->socket);
        return;
    }
    size_t size = had + (size_t)came;
    if (!connection->upgraded) {
        char *end = memmem(reading, size, "\r\n\r\n", 4);
        if (end) {
            at = (size_t)(end + 4 - reading);
            welcome(connection);
        }
    }
    struct frame frame;
    for (size_t taken; connection->upgraded && (taken = next_frame(reading + at, size - at, &frame)); at += taken)
        take_packet(connection, &frame);
    keep_rest(&connection->rest, reading + at, size - at);
}

int main(int count, char **arguments) {
    if (count != 2) fail("usage: floor PORT");
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(arguments[1]))};
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1, poll_fd = epoll_create1(0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&own, sizeof own) || listen(listener, 4096)) fail("the port is taken");
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event);
    printf("ready\n");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(poll_fd, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int socket = events[i].data.fd;
            if (socket != listener) {
                take_bytes(&connections[socket]);
                continue;
            }
            while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                if (socket >= MOST_CONNECTIONS) fail("too many connections");
                setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                connections[socket] = (struct connection){.socket = socket};
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = socket};
                epoll_ctl(poll_fd, EPOLL_CTL_ADD, socket, &event);
            }
        }
    }
}
