/* Weights and biases of the layer in training: all in flash, one slice in the arena. Part of tinyfoa-np; BSD-3-Clause.

   An item is a slice, W (rows, columns) with its moments, or a group of biases with theirs. What the forward pass reads,
   the signs of all weights, is in the arena (TINYFOA_SIGNS_IN_FLASH: in flash, in place). Where a slice is streamed
   (TINYFOA_STREAMED), the arena holds one of its rows at a time. */
#include "tinyfoa_layer.h"

enum { PURPOSE_WEIGHT = 1, PURPOSE_BIAS = 2 };

static const int planes[] = {R_SLICE, R_MOMENT1, R_UNIT1, R_MOMENT2, R_UNIT2};
#define PLANES (1u + 2u * MOMENTS)

/* Bytes that a row of some columns has in a plane. */
static uint32_t row_bytes(uint32_t plane, uint32_t columns) {
    if (plane == 0) return 4 * columns;
    if (plane % 2) return TINYFOA_INT8 ? columns : 4 * columns;
    return TINYFOA_INT8 ? (columns + BLOCK - 1) / BLOCK : 0;
}

/* First and last row, first and last column of slice k. */
void tinyfoa_slice(const tinyfoa_layer *l, uint32_t k, uint32_t part[4]) {
    uint32_t j = k / M, i = k % M;
    part[0] = bound_of(l->outputs, j);
    part[1] = bound_of(l->outputs, j + 1);
    part[2] = bound_of(l->inputs, i);
    part[3] = bound_of(l->inputs, i + 1);
}

static uint32_t slice_item(const tinyfoa_layer *l, uint32_t k) { return l->slices + 2 * k * l->slice_slot; }
static uint32_t bias_item(const tinyfoa_layer *l, uint32_t j) { return l->biases + 2 * j * l->bias_slot; }

#ifndef TINYFOA_IMAGE
/* Numbers n, n + 1, ... of a layer, uniform in +-bound, in steps of bound 2^-23 (Salmon et al. by counter). */
static void uniform(const tinyfoa_layer *l, uint32_t layer, uint32_t purpose, uint64_t n, uint32_t count, float *out) {
    uint32_t block[4] = {0, 0, 0, 0}, k;
    for (k = 0; k < count; k++, n++) {
        if (k == 0 || n % 4 == 0) tinyfoa_philox(n / 4, layer, purpose, TINYFOA_SEED, block);
        out[k] = (float)((int32_t)(block[n % 4] >> 8) * 2 - 16777215) * 0x1p-24f * l->bound;
    }
}
#endif

/* Signs of a row of a slice, and its sum of |w| in steps of 2^-w_steps; lost: whether a weight is beyond 1. */
uint64_t tinyfoa_publish(const tinyfoa_layer *l, const float *w, uint32_t columns, uint32_t *signs, int *lost) {
    uint64_t sum = 0;
    uint32_t c, word = 0;
    for (c = 0; c < columns; c++) {
        uint32_t magnitude = tinyfoa_magnitude(w[c]);
        if (magnitude > TINYFOA_ONE_BITS) *lost = 1;
        else sum += tinyfoa_fixed(magnitude, l->w_steps);
        word |= (uint32_t)(w[c] >= 0.0f) << c % 32;
        if (c % 32 == 31 || c + 1 == columns) *signs++ = word, word = 0;
    }
    return sum;
}

/* The same for a row of slice k, to where the forward pass reads it. */
static int publish_row(tinyfoa *t, const uint32_t part[4], uint32_t k, uint32_t row, const float *w, uint64_t *sum) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t word = (part[0] + row) * l->words + segment_of(l->inputs, k % M), columns = part[3] - part[2];
    int lost = 0;
#if TINYFOA_SIGNS_IN_FLASH
    uint32_t *signs = words_at(t, R_TILE);
    *sum += tinyfoa_publish(l, w, columns, signs, &lost);
    TRY(tinyfoa_put(t, l->published + 4 * word, signs, (columns + 31) / 32 * 4));
#else
    *sum += tinyfoa_publish(l, w, columns, words_at(t, R_SIGNS) + word, &lost);
#endif
    return lost ? TINYFOA_DAMAGED : 0;
}

/* The address of a row in a plane of the slot where. */
static uint32_t row_at(const uint32_t part[4], uint32_t where, uint32_t plane, uint32_t row) {
    uint32_t rows = part[1] - part[0], columns = part[3] - part[2], p;
    for (p = 0, where += HEAD; p < plane; p++) where += UNITS(rows * row_bytes(p, columns));
    return where + row * row_bytes(plane, columns);
}

/* A row of a streamed slice from flash, or back. */
int tinyfoa_move_row(tinyfoa *t, uint32_t row, int back) {
    tinyfoa_state *s = t->state;
    uint32_t part[4], p, from = s->begun && !back ? s->writing : s->reading;
    tinyfoa_slice(layer_of(t), s->resident, part);
    for (p = 0; p < PLANES; p++) {
        uint32_t bytes = row_bytes(p, part[3] - part[2]);
        if (back) TRY(tinyfoa_put(t, row_at(part, s->writing, p, row), region(t, planes[p]), bytes));
        else TRY(tinyfoa_get(t, row_at(part, from, p, row), region(t, planes[p]), bytes));
    }
    return 0;
}

#if TINYFOA_STREAMED
/* The planes of a slice that is written row by row, checked together. */
static int planes_crc(tinyfoa *t, const uint32_t part[4], uint32_t where, uint32_t *crc) {
    uint32_t p;
    for (p = 0, *crc = 0; p < PLANES; p++)
        TRY(tinyfoa_verify(t, row_at(part, where, p, 0), (part[1] - part[0]) * row_bytes(p, part[3] - part[2]), crc));
    return 0;
}
#endif

static int write_biases(tinyfoa *t, uint32_t j, uint32_t steps) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t first = bound_of(l->outputs, j), bytes = 4 * (bound_of(l->outputs, j + 1) - first), where, at, crc = 0;
    TRY(tinyfoa_begin(t, bias_item(l, j), l->bias_slot, &where));
    at = where + HEAD;
    TRY(tinyfoa_section(t, &at, &crc, floats(t, R_BIAS) + first, bytes));
    if (MOMENTS > 0) TRY(tinyfoa_section(t, &at, &crc, region(t, R_BIAS_MOMENT1), bytes));
    if (MOMENTS > 1) TRY(tinyfoa_section(t, &at, &crc, region(t, R_BIAS_MOMENT2), bytes));
    return tinyfoa_end(t, bias_item(l, j), where, steps, 0, crc);
}

/* Biases of group j with their moments, or the moments alone; then the biases are in the arena as flash has them. */
static int read_biases(tinyfoa *t, uint32_t j, int all) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t first = bound_of(l->outputs, j), bytes = 4 * (bound_of(l->outputs, j + 1) - first), at, crc = 0;
    tinyfoa_header h;
    TRY(tinyfoa_item(t, bias_item(l, j), l->bias_slot, &h, &at));
    at += HEAD;
    if (all) TRY(tinyfoa_part(t, &at, &crc, floats(t, R_BIAS) + first, bytes));
    else {
        crc = tinyfoa_crc(crc, floats(t, R_BIAS) + first, bytes);
        at += UNITS(bytes);
    }
    if (MOMENTS > 0) TRY(tinyfoa_part(t, &at, &crc, region(t, R_BIAS_MOMENT1), bytes));
    if (MOMENTS > 1) TRY(tinyfoa_part(t, &at, &crc, region(t, R_BIAS_MOMENT2), bytes));
    t->state->bias_steps = h.steps;
    return crc == h.payload ? 0 : TINYFOA_DAMAGED;
}

/* Slice k and what is known of it; what is streamed stays in flash. */
static int read_slice(tinyfoa *t, uint32_t k) {
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_state *s = t->state;
    uint32_t part[4], where;
    tinyfoa_header h;
    TRY(tinyfoa_item(t, slice_item(l, k), l->slice_slot, &h, &where));
    s->steps = h.steps;
    s->sum = h.sum;
    s->reading = where;
    s->writing = s->begun = 0;
    tinyfoa_slice(l, k, part);
    if (!TINYFOA_STREAMED || !s->ready) {
        uint32_t crc = 0;
#if TINYFOA_STREAMED
        TRY(planes_crc(t, part, where, &crc));
#else
        uint32_t p, at = where + HEAD;
        for (p = 0; p < PLANES; p++)
            TRY(tinyfoa_part(t, &at, &crc, region(t, planes[p]),
                             (part[1] - part[0]) * row_bytes(p, part[3] - part[2])));
#endif
        if (crc != h.payload) return TINYFOA_DAMAGED;
    }
    return 0;
}

static int write_slice(tinyfoa *t, uint32_t k, uint32_t steps, uint64_t sum) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t part[4], where, crc = 0;
    tinyfoa_slice(l, k, part);
#if TINYFOA_STREAMED
    where = t->state->writing;
    TRY(planes_crc(t, part, where, &crc));
#else
    {
        uint32_t p, at;
        TRY(tinyfoa_begin(t, slice_item(l, k), l->slice_slot, &where));
        at = where + HEAD;
        for (p = 0; p < PLANES; p++)
            TRY(tinyfoa_section(t, &at, &crc, region(t, planes[p]),
                                (part[1] - part[0]) * row_bytes(p, part[3] - part[2])));
    }
#endif
    return tinyfoa_end(t, slice_item(l, k), where, steps, sum, crc);
}

/* A row of the first version of slice k into the arena: initial weights without moments, or those of the image. */
static void initial_row(tinyfoa *t, uint32_t k, const uint32_t part[4], uint32_t row, uint32_t at_row) {
    uint32_t columns = part[3] - part[2], p;
#ifdef TINYFOA_IMAGE
    const uint8_t *from = (const uint8_t *)tinyfoa_images[t->state->layer][k].payload;
    for (p = 0; p < PLANES; p++) {
        uint32_t bytes = row_bytes(p, columns);
        memcpy(bytes_at(t, planes[p]) + at_row * bytes, from + row * bytes, bytes);
        from += (part[1] - part[0]) * bytes;
    }
#else
    const tinyfoa_layer *l = layer_of(t);
    uint64_t n = (uint64_t)(part[0] + row) * l->inputs + part[2];
    uniform(l, t->state->layer, PURPOSE_WEIGHT, n, columns, floats(t, R_SLICE) + at_row * columns);
    for (p = 1; p < PLANES; p++)
        memset(bytes_at(t, planes[p]) + at_row * row_bytes(p, columns), 0, row_bytes(p, columns));
    (void)k;
#endif
}

static int initial_slice(tinyfoa *t, uint32_t k) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t part[4], row, steps = 0;
    uint64_t sum = 0;
    int lost = 0;
    tinyfoa_slice(l, k, part);
    t->state->resident = k;
#if TINYFOA_STREAMED
    TRY(tinyfoa_begin(t, slice_item(l, k), l->slice_slot, &t->state->writing));
#endif
    for (row = 0; row < part[1] - part[0]; row++) {
        uint32_t at_row = TINYFOA_STREAMED ? 0 : row;
        initial_row(t, k, part, row, at_row);
        sum += tinyfoa_publish(l, floats(t, R_SLICE) + at_row * (part[3] - part[2]), part[3] - part[2],
                               words_at(t, R_TILE), &lost);
        if (TINYFOA_STREAMED) TRY(tinyfoa_move_row(t, row, 1));
    }
#ifdef TINYFOA_IMAGE
    steps = tinyfoa_images[t->state->layer][k].steps;
#endif
    TRY(write_slice(t, k, steps, sum));
    t->state->resident = NOBODY;
    return lost ? TINYFOA_DAMAGED : 0;
}

static int initial_biases(tinyfoa *t, uint32_t j) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t first = bound_of(l->outputs, j), rows = bound_of(l->outputs, j + 1) - first, steps = 0;
    float *bias = floats(t, R_BIAS) + first;
#ifdef TINYFOA_IMAGE
    const tinyfoa_image *image = &tinyfoa_images[t->state->layer][M * M + j];
    steps = image->steps;
    memcpy(bias, image->payload, 4 * rows);
    if (MOMENTS > 0) memcpy(region(t, R_BIAS_MOMENT1), image->payload + rows, 4 * rows);
    if (MOMENTS > 1) memcpy(region(t, R_BIAS_MOMENT2), image->payload + 2 * rows, 4 * rows);
#else
    uniform(l, t->state->layer, PURPOSE_BIAS, first, rows, bias);
    if (MOMENTS > 0) memset(region(t, R_BIAS_MOMENT1), 0, 4 * rows);
    if (MOMENTS > 1) memset(region(t, R_BIAS_MOMENT2), 0, 4 * rows);
#endif
    return write_biases(t, j, steps);
}

/* Writes the next item of a new layer; MORE, or DONE after the last. */
int tinyfoa_initialize(tinyfoa *t) {
    uint32_t k = t->state->cursor++;
    if (k < M * M) TRY(initial_slice(t, k));
    else TRY(initial_biases(t, k - M * M));
    return k + 1 < M * M + M ? TINYFOA_MORE : TINYFOA_DONE;
}

/* Reads the next item and publishes its signs; MORE, or DONE after the last. */
int tinyfoa_restore(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    const tinyfoa_layer *l = layer_of(t);
    uint32_t k = s->cursor++, part[4], row;
    uint64_t sum = 0;
    if (k == 0) {
        s->total = 0;
        s->resident = s->group = NOBODY;
        s->dirty = 0;
    }
    if (k < M * M) {
        TRY(read_slice(t, k));
        s->resident = k;
        tinyfoa_slice(l, k, part);
        for (row = 0; row < part[1] - part[0]; row++) {
            if (TINYFOA_STREAMED) TRY(tinyfoa_move_row(t, row, 0));
            TRY(publish_row(t, part, k, row, floats(t, R_SLICE) + (TINYFOA_STREAMED ? 0 : row) * (part[3] - part[2]),
                            &sum));
        }
        s->total += s->sum;
        s->resident = NOBODY;
        return sum == s->sum ? TINYFOA_MORE : TINYFOA_DAMAGED;
    }
    TRY(read_biases(t, k - M * M, 1));
    return k + 1 < M * M + M ? TINYFOA_MORE : TINYFOA_DONE;
}

/* Writes the resident slice and group of biases back, if they have changed. */
int tinyfoa_flush(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    if (!s->dirty) return 0;
    TRY(write_slice(t, s->resident, s->steps, s->sum));
    TRY(write_biases(t, s->group, s->bias_steps));
    if (TINYFOA_STREAMED) s->reading = s->writing, s->writing = s->begun = 0;
    s->dirty = 0;
    return 0;
}

/* Makes slice k resident, and the moments of its group of biases. */
int tinyfoa_exchange(tinyfoa *t, uint32_t k) {
    tinyfoa_state *s = t->state;
    if (k != s->resident) {
        TRY(tinyfoa_flush(t));
        TRY(read_slice(t, k));
        if (k / M != s->group) TRY(read_biases(t, k / M, 0));
        s->resident = k;
        s->group = k / M;
    }
#if TINYFOA_STREAMED
    s->begun = s->writing != 0;
    if (!s->writing) TRY(tinyfoa_begin(t, slice_item(layer_of(t), k), layer_of(t)->slice_slot, &s->writing));
#endif
    return 0;
}

/* The weights of neuron o, from flash, into a digest. */
int tinyfoa_digest_row(tinyfoa *t, uint32_t o, tinyfoa_sha *sha) {
    const tinyfoa_layer *l = layer_of(t);
    uint32_t j = 0, i, part[4], at, bytes, some;
    tinyfoa_header h;
    while (bound_of(l->outputs, j + 1) <= o) j++;
    for (i = 0; i < M; i++) {
        TRY(tinyfoa_item(t, slice_item(l, j * M + i), l->slice_slot, &h, &at));
        tinyfoa_slice(l, j * M + i, part);
        at = row_at(part, at, 0, o - part[0]);
        for (bytes = 4 * (part[3] - part[2]); bytes; bytes -= some, at += some) {
            uint8_t *room;
            some = bytes;
            room = tinyfoa_sha_room(sha, &some);
            TRY(tinyfoa_get(t, at, room, some));
            tinyfoa_sha_added(sha, some);
        }
    }
    return 0;
}
