/* The little of RFC 6455 that the bench needs: frames of both directions, and what has come but is not whole yet. */
#pragma once

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

/* One frame, in place in the bytes that came. */
struct frame {
    int opcode;
    char *data;
    size_t size;
};

static inline double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void fail(const char *format, ...) {
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

/* The whole frames at the start of `bytes`, one by one. Answers the bytes taken, 0 when the frame is not whole. */
static inline size_t next_frame(char *bytes, size_t size, struct frame *frame) {
    if (size < 2) return 0;
    unsigned char *head = (unsigned char *)bytes;
    size_t length = head[1] & 0x7f, at = 2;
    if (!(head[0] & 0x80)) fail("a fragment came; the bench reads whole frames only");
    if (length == 126) {
        if (size < 4) return 0;
        length = (size_t)head[2] << 8 | head[3];
        at = 4;
    } else if (length == 127) {
        if (size < 10) return 0;
        length = 0;
        for (int i = 2; i < 10; i++) length = length << 8 | head[i];
        at = 10;
    }
    unsigned char *mask = NULL;
    if (head[1] & 0x80) {
        mask = head + at;
        at += 4;
    }
    if (size < at + length) return 0;
    if (mask)
        for (size_t i = 0; i < length; i++) bytes[at + i] ^= (char)mask[i & 3];
    *frame = (struct frame){head[0] & 0x0f, bytes + at, length};
    return at + length;
}

/* Writes the head of a frame; a client's is masked, with a mask of zeros that leaves the text as it is. */
static inline size_t frame_head(char *to, int opcode, size_t length, int masked) {
    size_t at = 0;
    char bit = masked ? (char)0x80 : 0;
    to[at++] = (char)(0x80 | opcode);
    if (length < 126) {
        to[at++] = (char)(bit | (char)length);
    } else if (length < 65536) {
        to[at++] = (char)(bit | 126);
        to[at++] = (char)(length >> 8);
        to[at++] = (char)length;
    } else {
        fail("a frame of %zu bytes is larger than the bench sends", length);
    }
    if (masked) {
        memset(to + at, 0, 4);
        at += 4;
    }
    return at;
}

/* Writes all of it, waiting where the kernel's buffer is full. */
static inline int send_all(int socket, const char *bytes, size_t size) {
    while (size) {
        ssize_t sent = send(socket, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            struct pollfd writable = {.fd = socket, .events = POLLOUT};
            poll(&writable, 1, 1000);
            continue;
        }
        if (sent < 0) return -1;
        bytes += sent;
        size -= (size_t)sent;
    }
    return 0;
}

static inline int send_frame(int socket, int opcode, const char *data, size_t size, int masked) {
    char bytes[16 + 8192];
    if (size > 8192) fail("a frame of %zu bytes is larger than the bench sends", size);
    size_t at = frame_head(bytes, opcode, size, masked);
    memcpy(bytes + at, data, size);
    return send_all(socket, bytes, at + size);
}

/* What came of a frame that is not whole yet; kept beside its connection until the rest comes. */
struct rest {
    char *bytes;
    size_t size, room;
};

static inline void keep_rest(struct rest *rest, const char *bytes, size_t size) {
    if (rest->room < size) {
        rest->room = size * 2;
        rest->bytes = realloc(rest->bytes, rest->room);
        if (!rest->bytes) fail("out of memory");
    }
    memmove(rest->bytes, bytes, size);
    rest->size = size;
}
