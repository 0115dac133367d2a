/* The yardstick of the popcount product: what AVX-512 intrinsics reach on the package's own layouts.
 *
 *   x (B, W) packed bits of the samples, w (P, W, 8) panels of eight neurons' packed signs, z (8 P, B) floats
 *   z[o, b] = 2 popcount(x[b] AND w[o]) - popcount(x[b])
 *
 * A step is and, popcount, add. One load of a word of eight neurons serves a block of samples, one broadcast of a sample's
 * word serves two panels: 16 sums stay in registers, and the four vector ports, not the two loads a cycle, are the limit.
 */
#include <immintrin.h>
#include <stdint.h>

#define SAMPLES 8

/* an 8 x 8 block turned over */
static inline __attribute__((always_inline)) void turn(__m256 *r)
{
    __m256 a[8], b[8];
    for (int i = 0; i < 4; i++) {
        a[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        a[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 2; k++) {
            b[4 * i + 2 * k] = _mm256_shuffle_ps(a[4 * i + k], a[4 * i + k + 2], 0x44);
            b[4 * i + 2 * k + 1] = _mm256_shuffle_ps(a[4 * i + k], a[4 * i + k + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

/* `samples` (a constant once inlined) by `panels` times eight neurons */
static inline __attribute__((always_inline)) void block(
    int samples, int panels, const uint64_t *x, const int32_t *counts, const uint64_t *w, long words, float *z, long batch)
{
    __m512i sum[2][SAMPLES];
    for (int s = 0; s < SAMPLES; s++)
        sum[0][s] = sum[1][s] = _mm512_setzero_si512();
    for (long k = 0; k < words; k++) {
        __m512i w0 = _mm512_loadu_si512(w + 8 * k);
        __m512i w1 = panels > 1 ? _mm512_loadu_si512(w + 8 * (words + k)) : w0;
#pragma GCC unroll 8
        for (int s = 0; s < samples; s++) {
            __m512i word = _mm512_set1_epi64(x[s * words + k]);
            sum[0][s] = _mm512_add_epi64(sum[0][s], _mm512_popcnt_epi64(_mm512_and_si512(word, w0)));
            if (panels > 1)
                sum[1][s] = _mm512_add_epi64(sum[1][s], _mm512_popcnt_epi64(_mm512_and_si512(word, w1)));
        }
    }
    for (int p = 0; p < panels; p++) {
        __m256 row[SAMPLES];
        for (int s = 0; s < SAMPLES; s++) {
            __m512i count = _mm512_set1_epi64(s < samples ? counts[s] : 0);
            row[s] = _mm512_cvtepi64_ps(_mm512_sub_epi64(_mm512_slli_epi64(sum[p][s], 1), count));
        }
        turn(row);
        for (int n = 0; n < 8; n++)
            _mm256_mask_storeu_ps(z + (8 * p + n) * batch, (__mmask8)((1u << samples) - 1), row[n]);
    }
}

static inline __attribute__((always_inline)) void over_samples(
    int panels, const uint64_t *x, const int32_t *counts, const uint64_t *w, long words, float *z, long batch)
{
    long b = 0;
    for (; b + SAMPLES <= batch; b += SAMPLES)
        block(SAMPLES, panels, x + b * words, counts + b, w, words, z + b, batch);
    for (; b + 4 <= batch; b += 4)
        block(4, panels, x + b * words, counts + b, w, words, z + b, batch);
    for (; b < batch; b++)
        block(1, panels, x + b * words, counts + b, w, words, z + b, batch);
}

/* counts (B,) is scratch */
void xnor(const uint64_t *x, const uint64_t *w, int32_t *counts, float *z, long batch, long words, long panels)
{
    for (long b = 0; b < batch; b++) {
        counts[b] = 0;
        for (long k = 0; k < words; k++)
            counts[b] += _mm_popcnt_u64(x[b * words + k]);
    }
    long p = 0;
    for (; p + 2 <= panels; p += 2)
        over_samples(2, x, counts, w + p * words * 8, words, z + p * 8 * batch, batch);
    for (; p < panels; p++)
        over_samples(1, x, counts, w + p * words * 8, words, z + p * 8 * batch, batch);
}
