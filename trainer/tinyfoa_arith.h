/* Arithmetic with the same bits on every processor. Part of tinyfoa-np; BSD-3-Clause.

   float and double are IEEE 754's, every operation is rounded, a product and a sum are fused only by tinyfoa_fma.
   Nothing here calls a mathematical library. Where an equation comes from, docs/numerics.md says. */
#ifndef TINYFOA_ARITH_H
#define TINYFOA_ARITH_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "compile without -ffast-math: it changes the trained bits"
#endif
#if !defined(FLT_EVAL_METHOD) || FLT_EVAL_METHOD != 0
#error "float and double must be computed in their own precision (on x86: -msse2 -mfpmath=sse)"
#endif
#if FLT_MANT_DIG != 24 || DBL_MANT_DIG != 53
#error "float and double must have the formats of IEEE 754: no -fshort-double, no AVR"
#endif
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the processor must be little-endian"
#endif
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) /* GCC fuses by default, except with -std=c99; the Arduino IDE has no place for -ffp-contract */
#pragma GCC optimize("fp-contract=off")
#endif

#define TINYFOA_INF_BITS 0x7F800000u /* of a float; larger: not a number */
#define TINYFOA_ONE_BITS 0x3F800000u

static inline uint32_t tinyfoa_bits(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float tinyfoa_float(uint32_t bits) {
    float x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint64_t tinyfoa_bits64(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double tinyfoa_double(uint64_t bits) {
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint32_t tinyfoa_magnitude(float x) { return tinyfoa_bits(x) & 0x7FFFFFFFu; }

/* a b + c, rounded once. Without an instruction for it: the product is exact in float64; its sum with c is rounded to
   odd there, so that the rounding to float32 that follows is that of the exact sum (Boldo and Melquiond 2008). */
static inline float tinyfoa_fma(float a, float b, float c) {
#if defined(__ARM_FEATURE_FMA) || defined(__FMA__) || defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * (double)b, sum = product + (double)c, added = sum - product;
    double error = (product - (sum - added)) + ((double)c - added);
    uint64_t bits = tinyfoa_bits64(sum);
    if (error != 0.0 && error == error && (bits & 1u) == 0) bits += (error > 0.0) == (sum > 0.0) ? 1u : ~(uint64_t)0;
    return (float)tinyfoa_double(bits);
#endif
}

/* The square root of x >= 0, rounded to nearest. */
static inline float tinyfoa_sqrt(float x) {
#if defined(__SSE__)
    __asm__("sqrtss %0, %0" : "+x"(x));
    return x;
#elif defined(__ARM_FP) && (__ARM_FP & 4) && !defined(__aarch64__) && !defined(__SOFTFP__)
    __asm__("vsqrt.f32 %0, %0" : "+t"(x));
    return x;
#elif defined(__aarch64__)
    __asm__("fsqrt %s0, %s0" : "+w"(x));
    return x;
#elif defined(__riscv_flen)
    __asm__("fsqrt.s %0, %0" : "+f"(x));
    return x;
#else
    uint32_t bits = tinyfoa_bits(x), root = 0, rest, bit;
    int32_t exponent = (int32_t)(bits >> 23);
    if (bits == 0 || bits >= TINYFOA_INF_BITS) return x; /* 0, infinity; not a number stays so */
    bits &= 0x7FFFFFu;
    if (exponent == 0) {
        for (exponent = 1; !(bits & 0x800000u); exponent--) bits <<= 1;
    }
    bits |= 0x800000u;
    exponent -= 127;
    rest = exponent & 1 ? bits << 2 : bits << 1;
    exponent = (exponent - (exponent & 1)) / 2;
    for (bit = 0x1000000u; bit; bit >>= 1) { /* one digit of the root a turn, 25 in all: the last one rounds */
        uint32_t with = root + root + bit;
        if (with <= rest) rest -= with, root += bit;
        rest <<= 1;
    }
    return tinyfoa_float((((uint32_t)(exponent + 126)) << 23) + (root >> 1) + (root & 1u));
#endif
}

/* The same in float64, for x in [2^-20, 1]. */
static inline double tinyfoa_sqrt64(double x) {
#if defined(__SSE2__)
    __asm__("sqrtsd %0, %0" : "+x"(x));
    return x;
#elif defined(__ARM_FP) && (__ARM_FP & 8) && !defined(__aarch64__) && !defined(__SOFTFP__)
    __asm__("vsqrt.f64 %P0, %P0" : "+w"(x));
    return x;
#else
    uint64_t bits = tinyfoa_bits64(x), rest, root = 0, bit;
    int32_t exponent = (int32_t)(bits >> 52) - 1023;
    bits = (bits & 0xFFFFFFFFFFFFFu) | 0x10000000000000u;
    rest = exponent & 1 ? bits << 2 : bits << 1;
    exponent = (exponent - (exponent & 1)) / 2;
    for (bit = (uint64_t)1 << 53; bit; bit >>= 1) {
        uint64_t with = root + root + bit;
        if (with <= rest) rest -= with, root += bit;
        rest <<= 1;
    }
    return tinyfoa_double(((uint64_t)(exponent + 1022) << 52) + (root >> 1) + (root & 1u));
#endif
}

/* base to the power of exponent >= 0, by repeated squaring from the lowest bit on. */
static inline double tinyfoa_power(double base, uint32_t exponent) {
    double result = 1.0;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1u) result *= base;
        base *= base;
    }
    return result;
}

/* e to the power of x <= 0, in float64; 0 below -700. */
static inline double tinyfoa_exp(double x) {
    static const double terms[] = {/* 1/13!, 1/12!, ... 1/0! */
        0x1.6124613a86d09p-33, 0x1.1eed8eff8d898p-29, 0x1.ae64567f544e4p-26, 0x1.27e4fb7789f5cp-22,
        0x1.71de3a556c734p-19, 0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-13, 0x1.6c16c16c16c17p-10,
        0x1.1111111111111p-7,  0x1.5555555555555p-5,  0x1.5555555555555p-3,  0.5, 1.0, 1.0};
    const double high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33; /* ln 2 = high + low */
    double y, r, total = 0.0;
    int32_t k;
    unsigned n;
    if (x < -700.0) return 0.0;
    if (!(x <= 0.0)) return x; /* not a number */
    y = x / (high + low) + 0.5;
    k = (int32_t)y;
    k -= (double)k > y; /* the integer below */
    r = (x - (double)k * high) - (double)k * low;
    for (n = 0; n < sizeof terms / sizeof *terms; n++) total = total * r + terms[n];
    return total * tinyfoa_double((uint64_t)(k + 1023) << 52);
}

/* |x| in steps of 2^-steps, rounded half up; x from its magnitude's bits, which are not infinite. The result < 2^63. */
static inline uint64_t tinyfoa_fixed(uint32_t magnitude, int32_t steps) {
    int32_t exponent = (int32_t)(magnitude >> 23), shift;
    uint32_t mantissa = magnitude & 0x7FFFFFu;
    if (exponent) mantissa |= 0x800000u;
    else exponent = 1;
    shift = exponent - 150 + steps;
    if (shift >= 9) return (uint64_t)mantissa << shift;
    if (shift >= 0) return mantissa << shift;
    return shift < -24 ? 0 : (mantissa + ((uint32_t)1 << (-shift - 1))) >> -shift;
}

static inline uint32_t tinyfoa_popcount(uint32_t x) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return ((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u >> 24;
}

/* The same number, rounded once. */
static inline double tinyfoa_whole_double(uint64_t n) {
    return (double)(uint32_t)(n >> 32) * 4294967296.0 + (double)(uint32_t)n;
}

/* n / by, rounded down, where it is below 2^32: a digit a turn, without a library's division. */
static inline uint32_t tinyfoa_divide(uint64_t n, uint64_t by) {
    uint64_t rest = 0;
    int bit;
    uint32_t quotient = 0;
    for (bit = 63; bit >= 0; bit--) {
        rest = rest << 1 | (n >> bit & 1);
        quotient <<= 1;
        if (rest >= by) rest -= by, quotient |= 1;
    }
    return quotient;
}

/* The smallest e with 2^e >= n >= 1. */
static inline int32_t tinyfoa_log2(uint64_t n) {
    int32_t e = 0;
    while (((uint64_t)1 << e) < n) e++;
    return e;
}

/* Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011): four words from a counter and the seed. */
static inline void tinyfoa_philox(uint64_t index, uint32_t layer, uint32_t purpose, uint64_t seed, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = layer, c3 = purpose;
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    int round;
    for (round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0, b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)b;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

#endif
