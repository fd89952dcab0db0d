/* Latencies in buckets of at most 1.6 %: counting one costs a nanosecond, and a million take no memory. */
#pragma once

#include <stdint.h>
#include <string.h>

enum { BUCKETS = 64 * 41 };

struct latencies {
    uint64_t count;
    uint32_t buckets[BUCKETS];
};

static inline void latency_add(struct latencies *all, double seconds) {
    uint64_t nanoseconds = seconds > 0 ? (uint64_t)(seconds * 1e9) : 0;
    int octave = nanoseconds < 64 ? 0 : 57 - __builtin_clzll(nanoseconds);
    int bucket = octave * 64 + (int)(nanoseconds >> octave);
    all->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    all->count++;
}

/* The latency, in seconds, that the share `q` of all stays under. */
static inline double latency_at(const struct latencies *all, double q) {
    uint64_t wanted = (uint64_t)((double)all->count * q), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += all->buckets[bucket];
        if (seen <= wanted) continue;
        int octave = bucket < 128 ? 0 : bucket / 64 - 1;
        return (double)((uint64_t)(bucket - octave * 64) << octave) * 1e-9;
    }
    return 0;
}
