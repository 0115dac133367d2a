/* Trains the slices that are due, from the errors at the logits. Part of tinyfoa-np; BSD-3-Clause.

       dz = (error P) [0 < z < 1]            dW = dz^T x [|W| < 1],  db = sum of dz
       bits:    of each four samples the errors whose bit is set are added, beginning with +0; then the groups' sums
       bytes, floats: sample by sample, product and sum fused
       optimizer, clamp to +-1, signs, sum of |W|: in one pass over the slice's rows, BLOCK columns at a time */
#include "tinyfoa_layer.h"

#define PURPOSE_MOMENT 7 /* of random numbers */

typedef struct { /* one step of a slice */
    float scale, offset;           /* x = scale * value + offset, as far as the gradient is concerned */
    float rate, root;              /* learning rate over Adam's first correction; 1 / root of the second */
    uint32_t part[4], k, samples, stride;
    const uint8_t *x;              /* of bytes and floats: the slice's columns of the batch's first sample */
    uint32_t row, count;           /* bytes from sample to sample; errors that are not 0 */
    uint64_t draws;                /* the first block of random numbers for coded moments */
} slice_step;

/* -- schedule ------------------------------------------------------------------------------------------------------ */

/* Finds the hold of the step that begins. */
void tinyfoa_schedule(tinyfoa *t) {
    uint32_t batches = batches_of(t), step = t->state->epoch % TINYFOA_EPOCHS * batches + t->state->batch;
#if TINYFOA_STREAM
    t->state->hold = step;
#elif TINYFOA_EXCHANGES
    t->state->hold = tinyfoa_divide((uint64_t)step * TINYFOA_EXCHANGES, (uint64_t)TINYFOA_EPOCHS * batches);
#else
    t->state->hold = step / (TINYFOA_HOLD_STEPS + TINYFOA_HOLD_EPOCHS * batches);
#endif
}

/* The n-th slice that trains in this step. */
static uint32_t due(const tinyfoa *t, uint32_t n) {
#if TINYFOA_STREAM
    return t->state->hold % 2 ? M * M - 1 - n : n; /* to and fro */
#else
    uint32_t turn = (t->state->hold % (M * M) * TINYFOA_VISITS + n) % (M * M);
    return TINYFOA_DIAGONAL ? turn % M * M + (turn / M + turn % M) % M : turn;
#endif
}
#define DUE (TINYFOA_STREAM ? M * M : (uint32_t)TINYFOA_VISITS)

/* First and last of the neurons that train in this step, and of those between them. */
void tinyfoa_trained(const tinyfoa *t, uint32_t *from, uint32_t *to) {
    uint32_t n, least = M, most = 0;
    for (n = 0; n < DUE; n++) {
        uint32_t j = due(t, n) / M;
        if (j < least) least = j;
        if (j > most) most = j;
    }
    *from = bound_of(layer_of(t)->outputs, least);
    *to = bound_of(layer_of(t)->outputs, most + 1);
}

/* Whether no slice before the n-th of this step has its neurons. */
static int trains_biases(const tinyfoa *t, uint32_t n) {
    uint32_t k, j = due(t, n) / M;
    for (k = 0; k < n; k++)
        if (due(t, k) / M == j) return 0;
    return 1;
}

/* -- optimizer ----------------------------------------------------------------------------------------------------- */

/* The numbers of an optimizer's t-th step. */
static void rates_of(const tinyfoa *t, uint32_t steps, float *rate, float *root) {
    double lr = TINYFOA_LR;
#if TINYFOA_COOLDOWN
    double left = (double)(2 * (TINYFOA_EPOCHS - t->state->epoch % TINYFOA_EPOCHS)) / (double)TINYFOA_EPOCHS;
    lr *= left < 1.0 ? left : 1.0;
#elif TINYFOA_DROPS
    static const uint32_t drops[TINYFOA_DROPS] = {TINYFOA_DROP_EPOCHS};
    uint32_t n, passed = 0;
    for (n = 0; n < TINYFOA_DROPS; n++) passed += t->state->epoch % TINYFOA_EPOCHS >= drops[n];
    lr *= tinyfoa_power(0.1, passed);
#endif
    *root = 1.0f;
#if TINYFOA_OPTIMIZER == 3
    lr /= 1.0 - tinyfoa_power(0.9, steps);
    *root = (float)(1.0 / tinyfoa_sqrt64(1.0 - tinyfoa_power(0.999, steps)));
#endif
    *rate = (float)lr;
    (void)t, (void)steps;
}

/* The new value of a weight or bias, clamped to +-1, and its moments. */
static inline float moved(float w, float slope, float *m, float *v, float rate, float root) {
    uint32_t bits, magnitude;
#if TINYFOA_OPTIMIZER == 3
    float first = *m + (slope - *m) * 0.1f, second = *v * 0.999f + slope * slope * 0.001f;
    *m = first;
    *v = second;
    w -= rate * first / (tinyfoa_sqrt(second) * root + 1e-8f);
#elif TINYFOA_OPTIMIZER == 0
    w -= rate * slope;
#else
    float u = *m * 0.9f + slope;
    *m = u;
    w -= rate * (TINYFOA_OPTIMIZER == 2 ? slope + 0.9f * u : u);
#endif
    (void)m, (void)v, (void)root;
    bits = tinyfoa_bits(w);
    magnitude = bits & 0x7FFFFFFFu;
    if (magnitude <= TINYFOA_ONE_BITS || magnitude > TINYFOA_INF_BITS) return w; /* what is not a number stays so */
    return tinyfoa_float((bits & 0x80000000u) | TINYFOA_ONE_BITS);
}

#define LAST_MOMENT(m, v) (TINYFOA_OPTIMIZER == TINYFOA_ADAM ? (v) : (m)) /* Adam's second tells of both */

/* -- errors and gradient ------------------------------------------------------------------------------------------- */

/* Columns of bits, turned: byte c of row h has the bits that samples 8 h .. 8 h + 7 have in column c of the slice. */
static void turn(tinyfoa *t, const slice_step *step) {
    const tinyfoa_layer *l = layer_of(t);
    const uint32_t *x = words_at(t, R_INPUTS) + segment_of(l->inputs, step->k % M);
    uint32_t c, n, columns = step->part[3] - step->part[2];
    memset(region(t, R_TURNED), 0, l->columns * step->stride);
    for (n = 0; n < step->samples; n++, x += l->words) {
        uint8_t *turned = bytes_at(t, R_TURNED) + n / 8 * columns;
        uint32_t word = 0;
        for (c = 0; c < columns; c++, word >>= 1) {
            if (c % 32 == 0) word = x[c / 32];
            turned[c] |= (uint8_t)((word & 1u) << n % 8);
        }
    }
}

/* dz of a neuron and sample: the errors at the logits, projected, class by class. */
static inline float projected(const float *error, const float *p) {
    float sum = 0.0f;
    uint32_t c;
    for (c = 0; c < C; c++) sum += error[c] * p[c];
    return sum;
}

/* Where inputs are samples: for each one whose error is not 0, the error and where its inputs are; returns their sum. */
static float list_errors(tinyfoa *t, slice_step *step, const float *p, const uint8_t *active) {
    const float *error = floats(t, R_LOGITS);
    float *dz = floats(t, R_DZ), total = 0.0f;
    uint32_t *listed = words_at(t, R_LISTED), n;
    step->count = 0;
    for (n = 0; n < step->samples; n++, error += C) {
        if (!(active[n / 8] >> n % 8 & 1)) continue;
        dz[step->count] = projected(error, p);
        total += dz[step->count];
        listed[step->count++] = n * step->row;
    }
    return total;
}

/* Where inputs are bits: for each four samples of which one has an error, their number and the 16 sums of subsets, each
   in the samples' order; returns the sum of all, four by four. */
static float table_errors(tinyfoa *t, slice_step *step, const float *p, const uint8_t *active) {
    const float *error = floats(t, R_LOGITS);
    float *sums = floats(t, R_DZ), total = 0.0f;
    uint32_t *listed = words_at(t, R_LISTED), first, n, c, k;
    step->count = 0;
    for (first = 0; first < step->samples; first += 4) {
        uint32_t some = (uint32_t)active[first / 8] >> first % 8 & 15;
        if (!some) continue;
        for (sums[0] = 0.0f, n = 0; n < 4; n++) { /* to each subset of the samples before */
            float dz = some >> n & 1 ? projected(error + (first + n) * C, p) : 0.0f;
            for (k = 1u << n, c = 0; c < k; c++) sums[k + c] = sums[c] + dz;
        }
        total += sums[15];
        sums += 16;
        listed[step->count++] = first / 4;
    }
    return total;
}

/* The gradient of up to BLOCK columns from column c of the slice, without scale and offset. */
static void bit_gradient(tinyfoa *t, const slice_step *step, uint32_t c, uint32_t few, float *gradient) {
    uint32_t columns = step->part[3] - step->part[2], i = 0, n;
    const uint8_t *turned = bytes_at(t, R_TURNED) + c;
    const uint32_t *listed = words_at(t, R_LISTED);
    for (; i + 4 <= few; i += 4, turned += 4) {
        const float *sums = floats(t, R_DZ);
        float g0 = 0.0f, g1 = 0.0f, g2 = 0.0f, g3 = 0.0f;
        for (n = 0; n < step->count; n++, sums += 16) {
            const uint8_t *own = turned + (listed[n] >> 1) * columns;
            uint32_t down = 4 * (listed[n] & 1);
            g0 += sums[(uint32_t)own[0] >> down & 15];
            g1 += sums[(uint32_t)own[1] >> down & 15];
            g2 += sums[(uint32_t)own[2] >> down & 15];
            g3 += sums[(uint32_t)own[3] >> down & 15];
        }
        gradient[i] = g0, gradient[i + 1] = g1, gradient[i + 2] = g2, gradient[i + 3] = g3;
    }
    for (; i < few; i++, turned++) {
        const float *sums = floats(t, R_DZ);
        float g = 0.0f;
        for (n = 0; n < step->count; n++, sums += 16)
            g += sums[(uint32_t)turned[(listed[n] >> 1) * columns] >> 4 * (listed[n] & 1) & 15];
        gradient[i] = g;
    }
}

#if TINYFOA_FLOATS
#define VALUE(x, n) (((const float *)(x))[n])
#define WIDTH 4u
#else
#define VALUE(x, n) ((float)(x)[n])
#define WIDTH 1u
#endif

static void value_gradient(tinyfoa *t, const slice_step *step, uint32_t c, uint32_t few, float *gradient) {
    const float *dz = floats(t, R_DZ);
    const uint32_t *listed = words_at(t, R_LISTED);
    const uint8_t *x = step->x + WIDTH * c;
    uint32_t i = 0, n;
    for (; i + 4 <= few; i += 4, x += 4 * WIDTH) {
        float g0 = 0.0f, g1 = 0.0f, g2 = 0.0f, g3 = 0.0f;
        for (n = 0; n < step->count; n++) {
            const uint8_t *own = x + listed[n];
            g0 = tinyfoa_fma(dz[n], VALUE(own, 0), g0);
            g1 = tinyfoa_fma(dz[n], VALUE(own, 1), g1);
            g2 = tinyfoa_fma(dz[n], VALUE(own, 2), g2);
            g3 = tinyfoa_fma(dz[n], VALUE(own, 3), g3);
        }
        gradient[i] = g0, gradient[i + 1] = g1, gradient[i + 2] = g2, gradient[i + 3] = g3;
    }
    for (; i < few; i++, x += WIDTH) {
        float g = 0.0f;
        for (n = 0; n < step->count; n++) g = tinyfoa_fma(dz[n], VALUE(x + listed[n], 0), g);
        gradient[i] = g;
    }
}

/* -- moments of one byte ------------------------------------------------------------------------------------------- */

#if TINYFOA_INT8
/* What codes stand for, with the exponent of their block's unit: 0 .. 31 units, then 16 steps to an octave. */
static void decode(const uint8_t *codes, uint32_t few, uint32_t unit, int second, float *out) {
    uint32_t i;
    for (i = 0; i < few; i++) {
        uint32_t code = second ? codes[i] : codes[i] & 0x7Fu;
        float value = tinyfoa_float((code << 19) + ((unit + (code < 16 ? 4 : 3)) << 23));
        if (code < 16) value -= tinyfoa_float((unit + 4) << 23);
        out[i] = second ? value : tinyfoa_float(tinyfoa_bits(value) | (uint32_t)(codes[i] & 0x80u) << 24);
    }
}

/* Moments to codes, rounded at random by 16 bits of each draw; returns the exponent of their unit. */
static uint8_t encode(const float *values, uint32_t few, const uint32_t *draws, int second, uint8_t *codes) {
    uint32_t i, top = 0, unit, least = second ? 18 : 10;
    float over;
    for (i = 0; i < few; i++)
        if (tinyfoa_magnitude(values[i]) > top) top = tinyfoa_magnitude(values[i]);
    unit = (top + 0x7FFFFu) >> 23;
    unit = unit > least + 1 ? unit - least : 1;
    over = tinyfoa_float((254 - unit) << 23);
    for (i = 0; i < few; i++) {
        /* column i has word i / 8 of the block i % 8 */
        uint32_t draw = draws[4 * (i % 8) + i / 8], size = tinyfoa_magnitude(values[i]), place, steps, code;
        float units = tinyfoa_float(size) * over;
        place = tinyfoa_bits(units) & 0x7F800000u;
        if (place < 131u << 23) place = 131u << 23;
        steps = (uint32_t)(int32_t)(units * tinyfoa_float((274u << 23) - place) + 0.5f);
        steps += (second ? draw >> 16 : draw & 0xFFFFu) + (place >> 3);
        code = (steps >> 16) - 131 * 16;
        if (!second) code |= tinyfoa_bits(values[i]) >> 24 & 0x80u;
        else if (code == 0 && size) code = 1;
        codes[i] = (uint8_t)code;
    }
    return (uint8_t)unit;
}
#endif

/* -- a row --------------------------------------------------------------------------------------------------------- */

/* Up to BLOCK weights of row r of the slice in the arena, from column c on: the new ones' sum of |w|, and their signs. */
static uint64_t train_block(tinyfoa *t, const slice_step *step, uint32_t r, uint32_t c, uint32_t few, float shift,
                            uint32_t *signs, int *lost) {
    uint32_t columns = step->part[3] - step->part[2], at = r * columns + c, i, word = 0;
    int32_t w_steps = layer_of(t)->w_steps;
    const float *gradient = floats(t, R_GRADIENT);
    float *w = floats(t, R_SLICE) + at, *m, *v, scale = step->scale, rate = step->rate, root = step->root;
    uint64_t sum = 0;
    float finite = 0.0f;
#if TINYFOA_INT8
    uint32_t unit = r * ((columns + BLOCK - 1) / BLOCK) + c / BLOCK, *draws = words_at(t, R_CODED);
    m = floats(t, R_CODED) + 32;
    v = m + 32;
    for (i = 0; i < 8; i++)
        tinyfoa_philox(step->draws + 8 * (c / BLOCK) + i, t->state->layer, PURPOSE_MOMENT, TINYFOA_SEED, draws + 4 * i);
    decode(bytes_at(t, R_MOMENT1) + at, few, bytes_at(t, R_UNIT1)[unit], 0, m);
    if (MOMENTS > 1) decode(bytes_at(t, R_MOMENT2) + at, few, bytes_at(t, R_UNIT2)[unit], 1, v);
#else
    m = floats(t, R_MOMENT1) + at;
    v = floats(t, R_MOMENT2) + at;
#endif
    for (i = 0; i < few; i++) {
        float old = w[i], slope = scale * gradient[i] + shift, now;
        uint32_t bits;
        if (tinyfoa_magnitude(old) >= TINYFOA_ONE_BITS) slope = 0.0f;
        w[i] = now = moved(old, slope, m + i, v + i, rate, root);
        bits = tinyfoa_bits(now);
        word |= (uint32_t)(bits <= 0x80000000u) << i; /* -0 counts as +0 */
        if ((bits & 0x7FFFFFFFu) > TINYFOA_ONE_BITS) *lost = 1; /* not a number */
        sum += tinyfoa_fixed(bits & 0x7FFFFFFFu, w_steps);
        if (MOMENTS) finite += LAST_MOMENT(m, v)[i] * 0.0f; /* 0, or not a number */
    }
    *signs = word;
#if TINYFOA_INT8
    bytes_at(t, R_UNIT1)[unit] = encode(m, few, draws, 0, bytes_at(t, R_MOMENT1) + at);
    if (MOMENTS > 1) bytes_at(t, R_UNIT2)[unit] = encode(v, few, draws, 1, bytes_at(t, R_MOMENT2) + at);
#endif
    if (tinyfoa_bits(finite) & 0x7FFFFFFFu) *lost = 1;
    return sum;
}

/* A neuron's bias; returns whether it is lost. */
static int train_bias(tinyfoa *t, uint32_t row, uint32_t r, float slope, float rate, float root) {
    float *bias = floats(t, R_BIAS) + row;
    *bias = moved(*bias, slope, floats(t, R_BIAS_MOMENT1) + r, floats(t, R_BIAS_MOMENT2) + r, rate, root);
    return tinyfoa_magnitude(*bias) > TINYFOA_ONE_BITS;
}

/* Makes the slice's inputs ready for the gradient. */
static void prepare(tinyfoa *t, slice_step *step) {
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_state *s = t->state;
    step->stride = (s->batch_size + 7) / 8;
    if (is_first(t)) {
        step->row = l->inputs * WIDTH;
        step->x = TINYFOA_MAPPED ? (const uint8_t *)t->data.inputs + (size_t)s->batch * s->batch_size * step->row
                                 : bytes_at(t, R_INPUTS);
        step->x += WIDTH * step->part[2];
        step->scale = TINYFOA_FLOATS ? 1.0f : TINYFOA_SCALE;
        step->offset = TINYFOA_FLOATS ? 0.0f : TINYFOA_OFFSET;
    } else {
        step->row = 0;
        step->x = NULL;
        step->scale = s->input_scale;
        step->offset = 0.0f;
        turn(t, step);
    }
}

/* One step of slice k, in the arena, and of its biases. */
static int train_slice(tinyfoa *t, uint32_t k, uint32_t samples, uint32_t from, int biases) {
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_state *s = t->state;
    float bias_rate, bias_root, *gradient = floats(t, R_GRADIENT);
    uint32_t row, c, few, columns, stride = 8 * ((l->columns + BLOCK - 1) / BLOCK);
    uint64_t sum = 0;
    int lost = 0;
    slice_step step;
    memset(&step, 0, sizeof step);
    tinyfoa_slice(l, k, step.part);
    columns = step.part[3] - step.part[2];
    step.k = k;
    step.samples = samples;
    prepare(t, &step);
    rates_of(t, s->steps, &step.rate, &step.root);
    bias_rate = step.rate;
    bias_root = step.root;
    if (biases && s->bias_steps != s->steps) rates_of(t, s->bias_steps, &bias_rate, &bias_root);
    for (row = step.part[0]; row < step.part[1] && !lost; row++) {
        uint32_t r = row - step.part[0], at = TINYFOA_STREAMED ? 0 : r;
        uint32_t word = row * l->words + segment_of(l->inputs, k % M);
        uint32_t *signs = TINYFOA_SIGNS_IN_FLASH ? words_at(t, R_TILE) : words_at(t, R_SIGNS) + word;
        const uint8_t *active = bytes_at(t, R_ACTIVE) + (row - from) * step.stride;
        const float *p = l->projection + row * C;
        float sum_dz = is_first(t) ? list_errors(t, &step, p, active) : table_errors(t, &step, p, active);
        if (TINYFOA_STREAMED) TRY(tinyfoa_move_row(t, r, 0));
        if (biases) lost |= train_bias(t, row, r, sum_dz, bias_rate, bias_root);
        step.draws = ((uint64_t)s->steps << 32) + (uint64_t)(k * l->rows + r) * stride;
        for (c = 0; c < columns; c += BLOCK) {
            few = columns - c < BLOCK ? columns - c : BLOCK;
            if (is_first(t)) value_gradient(t, &step, c, few, gradient);
            else bit_gradient(t, &step, c, few, gradient);
            sum += train_block(t, &step, at, c, few, step.offset * sum_dz, signs + c / BLOCK, &lost);
        }
        if (TINYFOA_SIGNS_IN_FLASH) TRY(tinyfoa_put(t, l->published + 4 * word, signs, (columns + 31) / 32 * 4));
        if (TINYFOA_STREAMED) TRY(tinyfoa_move_row(t, r, 1));
    }
    s->total += sum - s->sum;
    s->sum = sum;
    return lost ? TINYFOA_DIVERGED : 0;
}

/* Trains the slices that are due, one after another, and each group of their biases once. */
int tinyfoa_update(tinyfoa *t, uint32_t samples) {
    tinyfoa_state *s = t->state;
    uint32_t n, from, to, lists = s->batch_size;
    tinyfoa_trained(t, &from, &to);
    memset(region(t, R_DZ), 0, is_first(t) ? 4 * lists : 64 * ((lists + 3) / 4)); /* whole regions are written: */
    memset(region(t, R_LISTED), 0, is_first(t) ? 4 * lists : 4 * ((lists + 3) / 4)); /* an audit looks for it */
    for (n = 0; n < DUE; n++) {
        uint32_t k = due(t, n);
        int biases = trains_biases(t, n);
        TRY(tinyfoa_exchange(t, k));
        s->steps++;
        if (biases) s->bias_steps++;
        s->dirty = 1;
        PHASE();
        TRY(train_slice(t, k, samples, from, biases));
    }
    return 0;
}
