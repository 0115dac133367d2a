/* From a batch to its errors at the logits. Part of tinyfoa-np; BSD-3-Clause.

       z = gain (x . sign(w)) + b      gain = alpha (mean |W|), times s of the layer below where x are bits
       h = [z > 0]
       a = h P                         logits, without the scale s = mean |z| of the batch
       p = softmax(s a),  error = (p - onehot) / B

   A packed row of signs has M segments, each of which begins a new word; what a layer hands on is packed alike. */
#include "tinyfoa_layer.h"

#define BYTES (!TINYFOA_FLOATS)

#if BYTES
/* Sums of the subsets of 32 bytes, four by four: 8 tables of 16 sums, so that four signs need one look-up. */
static void make_tables(const uint8_t *x, uint32_t count, uint32_t *tables) {
    uint32_t n;
    for (n = 0; n < 32; n += 4, tables += 8) { /* two sums per word */
        uint32_t a = n < count ? x[n] : 0, b = n + 1 < count ? x[n + 1] : 0;
        uint32_t c = n + 2 < count ? x[n + 2] : 0, d = n + 3 < count ? x[n + 3] : 0;
        b *= 0x10001u, c *= 0x10001u, d *= 0x10001u;
        tables[0] = a << 16;
        tables[1] = tables[0] + b;
        tables[2] = tables[0] + c;
        tables[3] = tables[1] + c;
        tables[4] = tables[0] + d;
        tables[5] = tables[1] + d;
        tables[6] = tables[2] + d;
        tables[7] = tables[3] + d;
    }
}

/* Adds 32 bytes . bits to the sums of some rows, 16 bytes at a time: so few tables stay in registers. */
static void add_words(const uint32_t *signs, uint32_t stride, uint32_t rows, const uint32_t *tables, int32_t *z) {
    const uint16_t *t0 = (const uint16_t *)tables, *t1 = t0 + 16, *t2 = t0 + 32, *t3 = t0 + 48;
    uint32_t half;
    for (half = 0; half < 2; half++, t0 += 64, t1 += 64, t2 += 64, t3 += 64) {
        const uint16_t *part = (const uint16_t *)signs + half;
        int32_t *sum = z, *end = z + rows;
        if (rows & 1) { /* two rows per turn */
            uint32_t bits = *part;
            *sum++ += t0[bits & 15] + t1[bits >> 4 & 15] + t2[bits >> 8 & 15] + t3[bits >> 12];
            part += 2 * stride;
        }
        for (; sum < end; sum += 2) {
            uint32_t bits = *part, more = part[2 * stride];
            sum[0] += t0[bits & 15] + t1[bits >> 4 & 15] + t2[bits >> 8 & 15] + t3[bits >> 12];
            sum[1] += t0[more & 15] + t1[more >> 4 & 15] + t2[more >> 8 & 15] + t3[more >> 12];
            part += 4 * stride;
        }
    }
}

static void byte_products(const tinyfoa_layer *l, const uint32_t *signs, uint32_t rows, const uint8_t *x,
                          uint32_t *tables, int32_t *z) {
    uint32_t k, c, word = 0;
    memset(z, 0, 4 * rows);
    for (k = 0; k < M; k++) {
        uint32_t width = bound_of(l->inputs, k + 1) - bound_of(l->inputs, k);
        for (c = 0; c < width; c += 32, word++) {
            make_tables(x + c, width - c, tables);
            PHASE(); /* words become halves of words */
            add_words(signs + word, l->words, rows, tables, z);
        }
        x += width;
    }
}
#else
/* Sums in the order of the inputs. */
static void float_products(const tinyfoa_layer *l, const uint32_t *signs, uint32_t rows, const float *x, float *z) {
    uint32_t k, c, n, r, word = 0;
    for (r = 0; r < rows; r++) z[r] = 0.0f;
    for (k = 0; k < M; k++) {
        uint32_t width = bound_of(l->inputs, k + 1) - bound_of(l->inputs, k);
        for (c = 0; c < width; c += 32, word++) {
            uint32_t few = width - c < 32 ? width - c : 32;
            for (r = 0; r < rows; r++) {
                uint32_t minus = ~signs[r * l->words + word];
                float sum = z[r];
                for (n = 0; n < few; n++) sum += tinyfoa_float(tinyfoa_bits(x[c + n]) ^ minus >> n << 31);
                z[r] = sum;
            }
        }
        x += width;
    }
}
#endif

static void bit_products(const tinyfoa_layer *l, const uint32_t *signs, uint32_t rows, const uint32_t *x, int32_t *z) {
    uint32_t r, k, words = l->words;
    for (r = 0; r < rows; r++) {
        uint32_t count = 0;
        for (k = 0; k < words; k++) count += tinyfoa_popcount(x[k] & *signs++);
        z[r] = (int32_t)count;
    }
}

/* What tinyfoa_z needs of one sample by some rows of signs. */
void tinyfoa_products(const tinyfoa_layer *l, const uint32_t *signs, uint32_t rows, const void *x, uint32_t *tables,
                      void *z) {
    (void)tables;
    if (l != tinyfoa_layers) bit_products(l, signs, rows, (const uint32_t *)x, (int32_t *)z);
#if BYTES
    else byte_products(l, signs, rows, (const uint8_t *)x, tables, (int32_t *)z);
#else
    else float_products(l, signs, rows, (const float *)x, (float *)z);
#endif
}

/* The sum of a sample's bytes, or of its bits: what those products count twice less once is x . sign(w). */
int32_t tinyfoa_whole(const tinyfoa_layer *l, const void *x) {
    uint32_t sum = 0, k;
    if (l != tinyfoa_layers) {
        for (k = 0; k < l->words; k++) sum += tinyfoa_popcount(((const uint32_t *)x)[k]);
    } else if (BYTES) {
        for (k = 0; k < l->inputs; k++) sum += ((const uint8_t *)x)[k];
    }
    return (int32_t)sum;
}

/* What the offset of the bytes adds to x . sign(w) of a row: offset (sum of its signs). */
float tinyfoa_shift_of(const tinyfoa_layer *l, const uint32_t *signs) {
    uint32_t ones = 0, k;
    if (!BYTES || l != tinyfoa_layers) return 0.0f;
    for (k = 0; k < l->words; k++) ones += tinyfoa_popcount(signs[k]);
    return TINYFOA_OFFSET * (float)(2 * (int32_t)ones - (int32_t)l->inputs);
}

/* z of row r. */
float tinyfoa_z(const tinyfoa_layer *l, const void *z, uint32_t r, int32_t whole, float shift, float gain, float bias) {
    float product;
    if (l == tinyfoa_layers && !BYTES) product = ((const float *)z)[r];
    else {
        product = (float)(2 * ((const int32_t *)z)[r] - whole);
        if (l == tinyfoa_layers) product = TINYFOA_SCALE * product + shift;
    }
    return gain * product + bias;
}

/* What a pass leaves behind of each sample. */
typedef struct {
    uint8_t *active; /* masks 0 < z < 1 of neurons from .. from + count - 1: bit s % 8 of byte s / 8 for sample s */
    uint32_t from, count, stride;
    float *logits;     /* (B, C), or NULL */
    uint32_t *outputs; /* (B, words of the next layer), or NULL */
    uint32_t next;
} results;

/* From products to z = gain (x . sign(w)) + b of some neurons and one sample, and what z switches on; returns the sum
   of |z| in steps of 2^-z_steps. first: whether the inputs are samples, a constant. */
static inline uint64_t take(const tinyfoa_layer *l, const results *out, uint32_t o, uint32_t rows, uint32_t sample,
                            const void *products, const float *shift, int32_t whole, float gain, const float *bias,
                            int32_t z_steps, const int first) {
    const float *p = l->projection + o * C;
    uint8_t *active = out->active + (int32_t)(o - out->from) * (int32_t)out->stride + sample / 8;
    uint64_t sum = 0;
    uint32_t r, c;
    for (r = 0; r < rows; r++, o++, p += C, active += out->stride) {
        float product = first && !BYTES ? ((const float *)products)[r]
                                        : (float)(2 * ((const int32_t *)products)[r] - whole), z;
        uint32_t bits, magnitude;
        if (first && BYTES) product = TINYFOA_SCALE * product + shift[r];
        z = gain * product + bias[r];
        bits = tinyfoa_bits(z);
        magnitude = bits & 0x7FFFFFFFu;
        if (magnitude > 0x49800000u) magnitude = 0x49800000u; /* 2^20; not a number, too */
        sum += tinyfoa_fixed(magnitude, z_steps);
        if (bits - 1 >= TINYFOA_INF_BITS) continue; /* not above 0 */
        if (out->logits) {
            float *logits = out->logits + sample * C;
            if (bits < TINYFOA_ONE_BITS && o - out->from < out->count) *active |= (uint8_t)(1u << sample % 8);
            for (c = 0; c < C; c++) logits[c] += p[c];
        } else if (out->outputs) {
            uint32_t bit = bit_of(l->outputs, o);
            out->outputs[sample * out->next + bit / 32] |= (uint32_t)1 << bit % 32;
        }
    }
    return sum;
}

/* alpha = mean |W|, times what the inputs' bits stand for. */
static float gain_of(const tinyfoa *t, const tinyfoa_layer *l) {
    double unit = tinyfoa_double((uint64_t)(1023 + l->w_steps) << 52);
    double alpha = tinyfoa_whole_double(t->state->total) / unit / (double)(l->outputs * l->inputs);
    return (float)((is_first(t) ? 1.0 : (double)t->state->input_scale) * alpha);
}

/* The batch's inputs, and the bytes of a sample. */
static const uint8_t *inputs_of(const tinyfoa *t, uint32_t *row) {
    const tinyfoa_layer *l = layer_of(t);
    *row = is_first(t) ? l->inputs * (TINYFOA_FLOATS ? 4u : 1u) : 4 * l->words;
    if (!is_first(t) || !TINYFOA_MAPPED) return bytes_at(t, R_INPUTS);
    return (const uint8_t *)t->data.inputs + (size_t)t->state->batch * t->state->batch_size * *row;
}

/* The batch through the layer: its logits and masks, or with hand_over what the next layer reads; and s. */
int tinyfoa_forward(tinyfoa *t, uint32_t samples, int hand_over) {
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_state *s = t->state;
    const float *bias = floats(t, R_BIAS);
    float *shift = floats(t, R_SHIFT), gain = gain_of(t, l);
    void *z = region(t, R_Z);
    uint32_t row, first, rows, r, n, tile = TINYFOA_SIGNS_IN_FLASH ? TINYFOA_TILE : l->outputs;
    const uint8_t *x = inputs_of(t, &row);
    uint64_t abs_z = 0;
    results out = {NULL, 0, 0, 0, NULL, NULL, 0};
    out.active = bytes_at(t, R_ACTIVE);
    if (!hand_over) {
        uint32_t last;
        out.stride = (s->batch_size + 7) / 8;
        out.logits = floats(t, R_LOGITS);
        tinyfoa_trained(t, &out.from, &last);
        out.count = last - out.from;
        memset(out.active, 0, l->active_rows * out.stride);
        for (n = 0; n < s->batch_size * C; n++) out.logits[n] = 0.0f;
    } else if (!is_last(t)) {
        out.outputs = words_at(t, R_OUTPUTS) + 1;
        out.next = (l + 1)->words;
        memset(out.outputs, 0, 4 * s->batch_size * out.next);
    }
    for (first = 0; first < l->outputs; first += tile) {
        uint32_t *signs = words_at(t, R_SIGNS);
        rows = l->outputs - first < tile ? l->outputs - first : tile;
        if (TINYFOA_SIGNS_IN_FLASH) {
            signs = words_at(t, R_TILE);
            TRY(tinyfoa_get(t, l->published + 4 * first * l->words, signs, 4 * rows * l->words));
        }
        for (r = 0; r < rows && is_first(t) && BYTES; r++) shift[r] = tinyfoa_shift_of(l, signs + r * l->words);
        for (n = 0; n < samples; n++) {
            int32_t whole = tinyfoa_whole(l, x + n * row);
            tinyfoa_products(l, signs, rows, x + n * row, words_at(t, R_TABLES), z);
            if (is_first(t))
                abs_z += take(l, &out, first, rows, n, z, shift, whole, gain, bias + first, (int32_t)s->z_steps, 1);
            else abs_z += take(l, &out, first, rows, n, z, NULL, whole, gain, bias + first, (int32_t)s->z_steps, 0);
        }
    }
    s->scale = tinyfoa_whole_double(abs_z) / tinyfoa_double((uint64_t)(1023 + s->z_steps) << 52);
    if (hand_over) s->sum_abs_z += s->scale;
    s->scale /= (double)(samples * l->outputs);
    return 0;
}

/* Logits to errors, in place; counts wrong answers. DIVERGED: the loss is not finite. */
int tinyfoa_softmax(tinyfoa *t, uint32_t samples) {
    const uint16_t *labels = (const uint16_t *)region(t, R_LABELS);
    double *exps = (double *)region(t, R_EXPS), total;
    float *a = floats(t, R_LOGITS), scale = (float)t->state->scale, top;
    uint32_t n, c, best;
    for (n = 0; n < samples; n++, a += C) {
        for (c = 1, best = 0; c < C; c++)
            if (a[c] > a[best]) best = c;
        top = scale * a[best];
        for (c = 0, total = 0.0; c < C; c++) {
            exps[c] = tinyfoa_exp((double)(scale * a[c] - top));
            total += exps[c];
        }
        if (!(total <= (double)C) || tinyfoa_magnitude(scale * a[labels[n]] - top) >= TINYFOA_INF_BITS)
            return TINYFOA_DIVERGED;
        t->state->wrong += best != labels[n];
        for (c = 0; c < C; c++)
            a[c] = (float)((exps[c] / total - (c == labels[n] ? 1.0 : 0.0)) / (double)samples);
    }
    t->state->seen += samples;
    return 0;
}
