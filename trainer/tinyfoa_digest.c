/* SHA-256 (FIPS 180-4), fed piece by piece. Part of tinyfoa-np; BSD-3-Clause. */
#include "tinyfoa_layer.h"

static const uint32_t rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t turned(uint32_t x, unsigned n) { return x >> n | x << (32 - n); }

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void compress(tinyfoa_sha *sha) {
    uint32_t w[16], h[8], n;
    memcpy(h, sha->h, sizeof h);
    for (n = 0; n < 64; n++) {
        uint32_t a, b;
        if (n < 16) w[n] = big_endian(sha->block + 4 * n);
        else {
            a = w[(n + 1) & 15], b = w[(n + 14) & 15];
            w[n & 15] += (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[(n + 9) & 15] +
                         (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
        }
        a = h[7] + (turned(h[4], 6) ^ turned(h[4], 11) ^ turned(h[4], 25)) + ((h[4] & h[5]) ^ (~h[4] & h[6])) +
            rounds[n] + w[n & 15];
        b = (turned(h[0], 2) ^ turned(h[0], 13) ^ turned(h[0], 22)) +
            ((h[0] & h[1]) ^ (h[0] & h[2]) ^ (h[1] & h[2]));
        memmove(h + 1, h, 7 * sizeof *h);
        h[4] += a;
        h[0] = a + b;
    }
    for (n = 0; n < 8; n++) sha->h[n] += h[n];
}

void tinyfoa_sha_begin(tinyfoa_sha *sha) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(sha->h, start, sizeof start);
    sha->bytes = 0;
}

/* Room for up to so many bytes of the message, which the caller fills; then tinyfoa_sha_added. */
uint8_t *tinyfoa_sha_room(tinyfoa_sha *sha, uint32_t *bytes) {
    uint32_t used = (uint32_t)(sha->bytes % 64);
    if (*bytes > 64 - used) *bytes = 64 - used;
    return sha->block + used;
}

void tinyfoa_sha_added(tinyfoa_sha *sha, uint32_t bytes) {
    sha->bytes += bytes;
    if (sha->bytes % 64 == 0) compress(sha);
}

void tinyfoa_sha_add(tinyfoa_sha *sha, const void *from, uint32_t bytes) {
    const uint8_t *p = (const uint8_t *)from;
    while (bytes) {
        uint32_t some = bytes;
        uint8_t *room = tinyfoa_sha_room(sha, &some);
        memcpy(room, p, some);
        tinyfoa_sha_added(sha, some);
        p += some;
        bytes -= some;
    }
}

void tinyfoa_sha_end(tinyfoa_sha *sha, uint8_t out[32]) {
    uint64_t bits = 8 * sha->bytes;
    uint32_t used = (uint32_t)(sha->bytes % 64), n;
    sha->block[used++] = 0x80;
    if (used > 56) {
        memset(sha->block + used, 0, 64 - used);
        compress(sha);
        used = 0;
    }
    memset(sha->block + used, 0, 56 - used);
    for (n = 0; n < 8; n++) sha->block[56 + n] = (uint8_t)(bits >> (56 - 8 * n));
    compress(sha);
    for (n = 0; n < 32; n++) out[n] = (uint8_t)(sha->h[n / 4] >> (24 - 8 * (n % 4)));
}
