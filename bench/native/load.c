/* Socket.IO clients over WebSocket, thousands in one thread, that check everything they are sent.
 *
 *     load HOST PORT[,PORT...] PLAN
 *
 * The clients take the ports in turn. PLAN has one client a line: "<room number> <session id> <token>". Commands come on standard input, one a line,
 * and each is answered by one line of JSON:
 *
 *     connect FIRST COUNT PARALLEL      connect, authenticate and join; at most PARALLEL at a time
 *     chat MODE ROOMS SENDERS WINDOW SECONDS BYTES RATE ORDER
 *         the first SENDERS clients of each of the first ROOMS rooms send, WINDOW messages at a time. MODE: `closed`, the next after an
 *         ack; `lockstep`, the next after everybody has the last; `paced`, RATE a second in all, whatever comes
 *         back. ORDER 1: each client must get each sender's messages ascending
 *     close FIRST COUNT                 say goodbye, and wait for the server's end of it
 *     notified                          say so, and then wait until every joined client got one more notification since
 *                                       the last time: when the last did, by the monotonic clock. Two lines
 *
 * Whatever is lost, doubled or out of order, a refused ack or a closed connection ends the run with status 1. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>

#include "latency.h"
#include "websocket.h"

#define NAMESPACE "/encounters,"
enum { NEW, CONNECTING, SHAKING, OPENING, JOINING, JOINED, CLOSING, CLOSED };
enum { CLOSED_LOOP, LOCKSTEP, PACED };
enum { TIMES = 1024, READ_BYTES = 1 << 19, PATIENCE_SECONDS = 30, ADDRESS_CLIENTS = 20000 };

struct client {
    int socket, state;
    struct room *room;
    int place; /* in the room */
    char *session, *token;
    struct rest rest;
    double started;
    uint32_t sent, acked;
    double *sent_at; /* by number of the message, the newest TIMES */
    uint64_t received, last_seq, notified;
    uint32_t *last; /* by sender's place in the room: the newest number received */
};

struct room {
    struct client **members;
    int count;
    uint64_t sent;
};

static struct client *clients;
static struct room *rooms;
static int client_count, room_count, epoll_fd, parallel_now;
static struct sockaddr_in servers[64];
static int server_count;
static char *reading;

/* The chat under way. */
static struct {
    int mode, rooms, senders, window, bytes, ordered, sending;
    double ends, rate, progress;
    uint64_t sent, acked, received, expected;
    double last_sent_at;
} chat;
static struct latencies joins, acks, deliveries, lasts;

/* Notifications: how often everybody got one, how many got the present one, and when the last of them did. */
static struct {
    uint64_t rounds, received;
    double at;
} notified;

static void say(struct client *client, const char *text, size_t size) {
    if (send_frame(client->socket, TEXT, text, size, 1) < 0) fail("the server closed a connection it was sent to");
}

static void send_message(struct client *client) {
    char text[4096];
    uint32_t number = ++client->sent;
    if (client->sent - client->acked >= TIMES) fail("%d messages of one client are not acked", TIMES);
    int size = snprintf(text, sizeof text, "42" NAMESPACE "%u[\"sendMessage\",{\"sessionId\":\"%s\",\"text\":\"", number,
                        client->session);
    int begin = size;
    size += snprintf(text + size, sizeof text - (size_t)size, "@@%05d.%010u", client->place, number);
    while (size - begin < chat.bytes) text[size++] = 'x';
    size += snprintf(text + size, sizeof text - (size_t)size, "\",\"clientId\":\"%d-%u\"}]", client->place, number);
    if (!client->sent_at) client->sent_at = calloc(TIMES, sizeof(double));
    client->room->sent++;
    chat.sent++;
    chat.expected += (uint64_t)client->room->count;
    chat.last_sent_at = client->sent_at[number % TIMES] = seconds_now();
    say(client, text, (size_t)size);
}

static int may_send(double now) { return chat.sending && now < chat.ends; }

static void take_ack(struct client *client, char *text, size_t size, double now) {
    char *end;
    uint32_t number = (uint32_t)strtoul(text, &end, 10);
    if (!memmem(end, size < 64 ? size : 64, "\"ok\":true", 9)) fail("refused: %.*s", (int)size, text);
    if (number == 0) {
        client->state = JOINED;
        parallel_now--;
        latency_add(&joins, now - client->started);
        return;
    }
    client->acked++;
    chat.acked++;
    latency_add(&acks, now - client->sent_at[number % TIMES]);
    if (chat.mode == CLOSED_LOOP && may_send(now)) send_message(client);
}

static void take_message(struct client *client, char *text, size_t size, double now) {
    char *mark = memmem(text, size, "@@", 2), *seq = memmem(text, size < 128 ? size : 128, "\"seq\":", 6);
    if (!mark) fail("a message that nobody sent: %.*s", (int)size, text);
    int place = 0;
    uint32_t number = 0;
    for (int i = 2; i < 7; i++) place = place * 10 + mark[i] - '0';
    for (int i = 8; i < 18; i++) number = number * 10 + (uint32_t)(mark[i] - '0');
    struct room *room = client->room;
    if (place < 0 || place >= room->count) fail("a message of another room: %.*s", (int)size, text);
    struct client *sender = room->members[place];
    if (number > sender->sent) fail("a message that was not sent: %.*s", (int)size, text);
    if (chat.ordered && number != client->last[place] + 1)
        fail("after message %u of a sender came %u", client->last[place], number);
    client->last[place] = number;
    if (seq) {
        uint64_t value = strtoull(seq + 6, NULL, 10);
        if (client->last_seq && value != client->last_seq + 1)
            fail("after seq %lu came %lu", client->last_seq, value);
        client->last_seq = value;
    }
    client->received++;
    chat.received++;
    latency_add(&deliveries, now - sender->sent_at[number % TIMES]);
}

static void take_notification(struct client *client, double now) {
    if (++client->notified > notified.rounds + 1) fail("a client was notified twice");
    notified.received++;
    notified.at = now;
}

static void take_packet(struct client *client, struct frame *frame, double now) {
    if (frame->opcode == CLOSE && client->state == CLOSING) {
        client->state = CLOSED;
        close(client->socket);
        return;
    }
    if (frame->opcode == PING) {
        send_frame(client->socket, PONG, frame->data, frame->size, 1);
        return;
    }
    if (frame->opcode != TEXT) fail("the server sent a frame of type %d", frame->opcode);
    char *text = frame->data;
    size_t size = frame->size, after = 2 + strlen(NAMESPACE);
    if (size == 1 && text[0] == '2') {
        say(client, "3", 1);
    } else if (text[0] == '0') {
        char connect[4096];
        int length = snprintf(connect, sizeof connect, "40" NAMESPACE "{\"token\":\"%s\"}", client->token);
        say(client, connect, (size_t)length);
    } else if (size > after && !memcmp(text, "42", 2)) {
        static const char name[] = "[\"newMessage\"", notification[] = "[\"notification\"";
        if (!memcmp(text + after, name, sizeof name - 1))
            take_message(client, text, size, now);
        else if (!memcmp(text + after, notification, sizeof notification - 1))
            take_notification(client, now);
    } else if (size > after && !memcmp(text, "43", 2)) {
        take_ack(client, text + after, size - after, now);
    } else if (size > after && !memcmp(text, "40", 2)) {
        char join[512];
        int length = snprintf(join, sizeof join, "42" NAMESPACE "0[\"joinSession\",{\"sessionId\":\"%s\"}]", client->session);
        client->state = JOINING;
        say(client, join, (size_t)length);
    } else {
        fail("the server said: %.*s", (int)(size < 500 ? size : 500), text);
    }
}

/* The bytes of the answer to the upgrade; 0 when it is not whole. */
static size_t take_upgrade(struct client *client, char *bytes, size_t size) {
    char *end = memmem(bytes, size, "\r\n\r\n", 4);
    if (!end) return 0;
    if (size < 12 || memcmp(bytes + 9, "101", 3)) fail("no upgrade: %.*s", (int)(size < 500 ? size : 500), bytes);
    client->state = OPENING;
    return (size_t)(end + 4 - bytes);
}

static void take_bytes(struct client *client) {
    size_t had = client->rest.size;
    memcpy(reading, client->rest.bytes ? client->rest.bytes : "", had);
    if (had >= READ_BYTES / 2) fail("a frame of more than %d bytes", READ_BYTES / 2);
    ssize_t came = recv(client->socket, reading + had, READ_BYTES - had, 0);
    if (came < 0 && errno == EAGAIN) return;
    if (came <= 0) {
        if (client->state != CLOSING) fail("the server closed a connection in state %d", client->state);
        client->state = CLOSED;
        close(client->socket);
        return;
    }
    double now = chat.progress = seconds_now();
    size_t size = had + (size_t)came, at = 0;
    if (client->state == SHAKING) at = take_upgrade(client, reading, size);
    while (client->state > SHAKING && client->state != CLOSED) {
        struct frame frame;
        size_t taken = next_frame(reading + at, size - at, &frame);
        if (!taken) break;
        take_packet(client, &frame, now);
        at += taken;
    }
    keep_rest(&client->rest, reading + at, size - at);
}

static void shake_hands(struct client *client) {
    char request[512];
    struct sockaddr_in *server = &servers[(client - clients) % server_count];
    int size = snprintf(request, sizeof request,
                        "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: ZW5jb3VudGVycyBiZW5jaA==\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n",
                        inet_ntoa(server->sin_addr), ntohs(server->sin_port));
    int one = 1;
    setsockopt(client->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    client->state = SHAKING;
    if (send_all(client->socket, request, (size_t)size) < 0) fail("no connection: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, client->socket, &event);
}

static void begin(struct client *client) {
    client->socket = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->socket < 0) fail("no socket: %s", strerror(errno));
    struct sockaddr_in own = {.sin_family = AF_INET};
    own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)(client - clients) / ADDRESS_CLIENTS);
    /* The port is chosen by connect: those that other runs have left behind are free for this server. */
    int late = 1;
    setsockopt(client->socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &late, sizeof late);
    bind(client->socket, (struct sockaddr *)&own, sizeof own);
    client->started = seconds_now();
    client->state = CONNECTING;
    client->rest.size = 0;
    struct sockaddr_in *server = &servers[(client - clients) % server_count];
    if (connect(client->socket, (struct sockaddr *)server, sizeof *server) < 0 && errno != EINPROGRESS)
        fail("no connection: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLOUT, .data.ptr = client};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, client->socket, &event);
    parallel_now++;
}

/* Takes what has come. Answers whether a command waits. */
static int pump(int milliseconds) {
    struct epoll_event events[256];
    int count = epoll_wait(epoll_fd, events, 256, milliseconds), command = 0;
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        if (!client)
            command = 1;
        else if (client->state == CONNECTING)
            shake_hands(client);
        else if (client->state != CLOSED)
            take_bytes(client);
    }
    return command;
}

static void expect_progress(const char *what) {
    if (seconds_now() - chat.progress > PATIENCE_SECONDS)
        fail("%s: nothing came for %d s; %lu of %lu messages acked, %lu of %lu deliveries", what, PATIENCE_SECONDS,
             chat.acked, chat.sent, chat.received, chat.expected);
}

static void run_connect(int first, int count, int parallel) {
    memset(&joins, 0, sizeof joins);
    double started = chat.progress = seconds_now();
    int next = first;
    while (next < first + count || parallel_now) {
        while (next < first + count && parallel_now < parallel) begin(&clients[next++]);
        pump(100);
        expect_progress("connecting");
    }
    printf("{\"seconds\": %.6f, \"p50\": %.6f, \"p99\": %.6f}\n", seconds_now() - started, latency_at(&joins, 0.5),
           latency_at(&joins, 0.99));
}

static void run_close(int first, int count) {
    double started = chat.progress = seconds_now();
    for (int i = first; i < first + count; i++) {
        clients[i].state = CLOSING;
        send_frame(clients[i].socket, CLOSE, "\x03\xe9", 2, 1);
    }
    for (int i = first; i < first + count; i++)
        while (clients[i].state != CLOSED) {
            pump(100);
            expect_progress("closing");
        }
    printf("{\"seconds\": %.6f}\n", seconds_now() - started);
}

static void run_notified(void) {
    uint64_t joined = 0;
    for (int i = 0; i < client_count; i++) joined += clients[i].state == JOINED;
    chat.progress = seconds_now();
    if (notified.received) fail("a client was notified twice");
    printf("{}\n");
    while (notified.received < joined) {
        pump(100);
        expect_progress("being notified");
    }
    notified.rounds++;
    notified.received = 0;
    printf("{\"last\": %.6f}\n", notified.at);
}

static void send_paced(double started, int *next) {
    double now = seconds_now();
    uint64_t due = (uint64_t)((now < chat.ends ? now - started : chat.ends - started) * chat.rate);
    while (chat.sent < due) {
        struct room *room = &rooms[*next % chat.rooms];
        send_message(room->members[*next / chat.rooms % (chat.senders < room->count ? chat.senders : room->count)]);
        ++*next;
    }
}

static void run_chat(char *arguments) {
    char mode[16];
    double seconds;
    memset(&chat, 0, sizeof chat);
    if (sscanf(arguments, "%15s %d %d %d %lf %d %lf %d", mode, &chat.rooms, &chat.senders, &chat.window, &seconds, &chat.bytes, &chat.rate,
               &chat.ordered) != 8)
        fail("what is: chat %s", arguments);
    chat.mode = !strcmp(mode, "lockstep") ? LOCKSTEP : !strcmp(mode, "paced") ? PACED : CLOSED_LOOP;
    if (chat.rooms > room_count) chat.rooms = room_count;
    struct latencies *all[] = {&acks, &deliveries, &lasts};
    for (int i = 0; i < 3; i++) memset(all[i], 0, sizeof **all);
    for (int i = 0; i < client_count; i++) clients[i].received = 0;
    for (int i = 0; i < room_count; i++) rooms[i].sent = 0;
    double started = chat.progress = seconds_now();
    chat.ends = started + seconds;
    chat.sending = 1;
    int next = 0;
    if (chat.mode == CLOSED_LOOP)
        for (int r = 0; r < chat.rooms; r++)
            for (int i = 0; i < rooms[r].count && i < chat.senders; i++)
                for (int w = 0; w < chat.window; w++) send_message(rooms[r].members[i]);
    for (;;) {
        int idle = chat.acked == chat.sent && chat.received == chat.expected;
        double now = seconds_now();
        if (idle && now >= chat.ends) break;
        if (chat.mode == LOCKSTEP && idle) {
            if (chat.sent) latency_add(&lasts, now - chat.last_sent_at);
            send_message(rooms[0].members[0]);
        }
        if (chat.mode == PACED) send_paced(started, &next);
        pump(chat.mode == PACED ? 1 : 100);
        expect_progress("chatting");
    }
    double took = seconds_now() - started;
    for (int i = 0; i < client_count; i++)
        if (clients[i].state == JOINED && clients[i].received != clients[i].room->sent)
            fail("client %d got %lu of %lu messages", i, clients[i].received, clients[i].room->sent);
    printf("{\"seconds\": %.6f, \"messages\": %lu, \"deliveries\": %lu", took, chat.sent, chat.received);
    const char *names[] = {"ack", "delivery", "last"};
    for (int i = 0; i < 3; i++)
        printf(", \"%s_p50\": %.6f, \"%s_p99\": %.6f", names[i], latency_at(all[i], 0.5), names[i], latency_at(all[i], 0.99));
    printf("}\n");
}

static void read_plan(const char *path) {
    FILE *plan = fopen(path, "r");
    if (!plan) fail("no plan at %s", path);
    static char session[256], token[3072];
    int room, lines = 0;
    while (fscanf(plan, "%d %255s %3071s", &room, session, token) == 3) {
        lines++;
        if (room >= room_count) room_count = room + 1;
    }
    clients = calloc((size_t)lines, sizeof *clients);
    rooms = calloc((size_t)room_count, sizeof *rooms);
    rewind(plan);
    while (client_count < lines && fscanf(plan, "%d %255s %3071s", &room, session, token) == 3) {
        struct client *client = &clients[client_count++];
        struct room *its = client->room = &rooms[room];
        client->session = strdup(session);
        client->token = strdup(token);
        client->place = its->count++;
        its->members = realloc(its->members, (size_t)its->count * sizeof *its->members);
        its->members[client->place] = client;
    }
    for (int i = 0; i < client_count; i++)
        clients[i].last = calloc((size_t)clients[i].room->count, sizeof *clients[i].last);
    fclose(plan);
}

int main(int count, char **arguments) {
    if (count != 4) fail("usage: load HOST PORT[,PORT...] PLAN");
    for (char *port = strtok(arguments[2], ","); port && server_count < 64; port = strtok(NULL, ",")) {
        servers[server_count] = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
        inet_aton(arguments[1], &servers[server_count++].sin_addr);
    }
    read_plan(arguments[3]);
    reading = malloc(READ_BYTES);
    epoll_fd = epoll_create1(0);
    struct epoll_event commands = {.events = EPOLLIN};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &commands);
    setvbuf(stdin, NULL, _IONBF, 0);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (;;) {
        char line[512];
        int a, b, c;
        if (!pump(-1)) continue;
        if (!fgets(line, sizeof line, stdin)) return 0;
        if (sscanf(line, "connect %d %d %d", &a, &b, &c) == 3)
            run_connect(a, b, c);
        else if (sscanf(line, "close %d %d", &a, &b) == 2)
            run_close(a, b);
        else if (!strncmp(line, "notified", 8))
            run_notified();
        else if (!strncmp(line, "chat ", 5))
            run_chat(line + 5);
        else
            fail("what is: %s", line);
    }
}
