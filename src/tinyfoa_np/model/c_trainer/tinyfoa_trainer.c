/* Training step by step: layer after layer, epoch after epoch, batch after batch. Part of tinyfoa-np; BSD-3-Clause.

   START       the layer's initial weights and biases are written to flash, one slice per step
   TRAIN       signs are rebuilt from flash, one slice per step; then one batch per step
   HAND_OVER   the layer's digest, one neuron per step; what the next layer reads, one batch per step
   IDLE        trained: tinyfoa_predict answers */
#include "tinyfoa_layer.h"

static int gave_up(tinyfoa *t, int rc) {
    if (rc < 0) t->failure = rc;
    return rc;
}

/* -- a trained layer in flash: alpha, s, digest; biases; signs ------------------------------------------------------ */

typedef struct {
    double alpha, scale;
    uint8_t digest[32];
} trained_layer;

static int write_trained(tinyfoa *t) {
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_state *s = t->state;
    uint32_t where, at, crc = 0;
    trained_layer known;
    double unit = tinyfoa_double((uint64_t)(1023 + l->w_steps) << 52);
    known.alpha = tinyfoa_whole_double(s->total) / unit / (double)(l->outputs * l->inputs);
    known.scale = s->scale;
    memcpy(known.digest, ((const tinyfoa_sha *)region(t, R_DIGEST))->digest, 32);
    TRY(tinyfoa_begin(t, l->trained, l->trained_slot, &where));
    at = where + HEAD;
    TRY(tinyfoa_section(t, &at, &crc, &known, sizeof known));
    TRY(tinyfoa_section(t, &at, &crc, region(t, R_BIAS), 4 * l->outputs));
#if TINYFOA_SIGNS_IN_FLASH
    {
        uint32_t o;
        for (o = 0; o < l->outputs; o++) {
            TRY(tinyfoa_get(t, l->published + 4 * o * l->words, region(t, R_TILE), 4 * l->words));
            TRY(tinyfoa_section(t, &at, &crc, region(t, R_TILE), 4 * l->words));
        }
    }
#else
    TRY(tinyfoa_section(t, &at, &crc, region(t, R_SIGNS), 4 * l->words * l->outputs));
#endif
    return tinyfoa_end(t, l->trained, where, 0, 0, crc);
}

/* What is known of a layer of the last finished training, and where its biases and signs are; check: and whether they
   are all as they were written. */
static int find_trained(tinyfoa *t, const tinyfoa_layer *l, int check, trained_layer *known, uint32_t *biases,
                        uint32_t *signs) {
    tinyfoa_header h;
    uint32_t where, crc = 0;
    TRY(tinyfoa_find(t, l->trained, l->trained_slot, t->state->fit, &h, &where));
    if (!where) return TINYFOA_UNTRAINED;
    TRY(tinyfoa_get(t, where + HEAD, known, sizeof *known));
    *biases = where + HEAD + UNITS(sizeof *known);
    *signs = *biases + UNITS(4 * l->outputs);
    if (!check) return 0;
    TRY(tinyfoa_verify(t, where + HEAD, sizeof *known, &crc));
    TRY(tinyfoa_verify(t, *biases, 4 * l->outputs, &crc));
    TRY(tinyfoa_verify(t, *signs, 4 * l->outputs * l->words, &crc));
    return crc == h.payload ? 0 : TINYFOA_DAMAGED;
}

/* One layer of inference: bits for the next, or the scores. */
static int answer(tinyfoa *t, const tinyfoa_layer *l, const void *x, float gain, uint32_t biases, uint32_t signs_at,
                  uint32_t *bits, float *scores) {
    uint32_t *tile = words_at(t, R_ANSWER) + 2 * TINYFOA_WORDS, *z = tile + TINYFOA_TILE * TINYFOA_WORDS;
    float *bias = (float *)(z + TINYFOA_TILE);
    uint32_t *tables = z + 2 * TINYFOA_TILE, first, rows, r, c;
    int32_t whole = tinyfoa_whole(l, x);
    if (bits) memset(bits, 0, 4 * (l + 1)->words);
    for (first = 0; first < l->outputs; first += rows) {
        rows = l->outputs - first < TINYFOA_TILE ? l->outputs - first : TINYFOA_TILE;
        TRY(tinyfoa_get(t, signs_at + 4 * first * l->words, tile, 4 * rows * l->words));
        TRY(tinyfoa_get(t, biases + 4 * first, bias, 4 * rows));
        tinyfoa_products(l, tile, rows, x, tables, z);
        PHASE();
        for (r = 0; r < rows; r++) {
            float shift = tinyfoa_shift_of(l, tile + r * l->words);
            if (!(tinyfoa_z(l, z, r, whole, shift, gain, bias[r]) > 0.0f)) continue;
            if (bits) {
                uint32_t bit = bit_of(l->outputs, first + r);
                bits[bit / 32] |= (uint32_t)1 << bit % 32;
            } else
                for (c = 0; c < C; c++) scores[c] += l->projection[(first + r) * C + c];
        }
        PHASE();
    }
    return 0;
}

int tinyfoa_predict(tinyfoa *t, const void *x, float *scores) {
    const tinyfoa_layer *l = tinyfoa_layers;
    trained_layer known;
    double below = 1.0;
    uint32_t n, c, best = 0, biases, signs, *bits;
    if (t->failure) return t->failure;
    if (!x || !scores) return TINYFOA_ARGUMENT;
    for (c = 0; c < C; c++) scores[c] = 0.0f;
    for (n = 0; n < TINYFOA_LAYERS; n++, l++) {
        TRY(find_trained(t, l, 0, &known, &biases, &signs));
        bits = n + 1 < TINYFOA_LAYERS ? words_at(t, R_ANSWER) + n % 2 * TINYFOA_WORDS : NULL;
        TRY(answer(t, l, x, (float)(below * known.alpha), biases, signs, bits, scores));
        below = (double)(float)known.scale;
        x = bits;
    }
    for (c = 1; c < C; c++)
        if (scores[c] > scores[best]) best = c;
    for (c = 0; c < C; c++) scores[c] *= (float)known.scale;
    return (int)best;
}

int tinyfoa_digest(tinyfoa *t, uint8_t out[32]) {
    tinyfoa_sha sha;
    trained_layer known;
    uint32_t n, biases, signs;
    if (t->failure) return t->failure;
    tinyfoa_sha_begin(&sha);
    for (n = 0; n < TINYFOA_LAYERS; n++) {
        TRY(find_trained(t, &tinyfoa_layers[n], 1, &known, &biases, &signs));
        tinyfoa_sha_add(&sha, known.digest, 32);
    }
    tinyfoa_sha_end(&sha, out);
    return 0;
}

/* -- beginning ------------------------------------------------------------------------------------------------------ */

#ifdef TINYFOA_IMAGE
/* The trained layers that came with the program, so that it can answer at once. */
static int install(tinyfoa *t) {
    uint32_t n, where, at, crc;
    for (n = 0; n < TINYFOA_LAYERS; n++) {
        const tinyfoa_layer *l = &tinyfoa_layers[n];
        const tinyfoa_image *image = &tinyfoa_images[n][M * M + M];
        const uint32_t *from = image->payload;
        TRY(tinyfoa_begin(t, l->trained, l->trained_slot, &where));
        at = where + HEAD;
        crc = 0;
        TRY(tinyfoa_section(t, &at, &crc, from, sizeof(trained_layer)));
        from += sizeof(trained_layer) / 4;
        TRY(tinyfoa_section(t, &at, &crc, from, 4 * l->outputs));
        TRY(tinyfoa_section(t, &at, &crc, from + l->outputs, 4 * l->outputs * l->words));
        TRY(tinyfoa_end(t, l->trained, where, 0, 0, crc));
    }
    t->state->fit = t->state->sequence + 1;
    return tinyfoa_root_write(t);
}
#endif

int tinyfoa_open(tinyfoa *t, void *arena, size_t bytes, const tinyfoa_flash *flash) {
    tinyfoa_state *s;
    int found;
    if (!t) return TINYFOA_ARGUMENT;
    memset(t, 0, sizeof *t);
    if (!arena || bytes < TINYFOA_ARENA_BYTES || (uintptr_t)arena % 8) return gave_up(t, TINYFOA_ARGUMENT);
    if (!flash || !flash->read || !flash->program || !flash->erase) return gave_up(t, TINYFOA_ARGUMENT);
    t->arena = (uint8_t *)arena;
    t->state = s = (tinyfoa_state *)arena;
    t->flash = *flash;
    found = tinyfoa_root_read(t);
    if (found < 0) return gave_up(t, found);
    if (s->stage != TRAIN) s->batch = 0; /* other stages begin anew */
#ifdef TINYFOA_IMAGE
    if (!found || !s->fit) return gave_up(t, install(t));
#endif
    return 0;
}

int tinyfoa_fit_begin(tinyfoa *t, const tinyfoa_data *data, uint32_t epochs) {
    tinyfoa_state *s = t->state;
    if (t->failure) return t->failure;
    if (!epochs) epochs = TINYFOA_EPOCHS;
    if (!data || !data->count || data->count > TINYFOA_SAMPLES) return TINYFOA_ARGUMENT;
    if (TINYFOA_MAPPED ? !data->inputs || !data->labels : !data->read) return TINYFOA_ARGUMENT;
    if (s->stage != IDLE && (s->samples != data->count || s->last_epoch - s->first_epoch != epochs))
        return TINYFOA_OTHER_DATA;
    t->data = *data;
    s->batch_size = data->count < TINYFOA_BATCH ? data->count : TINYFOA_BATCH;
    if (s->stage != IDLE) return 0;
    s->samples = data->count;
    s->epoch = s->first_epoch = s->last_epoch;
    s->last_epoch = s->first_epoch + epochs;
    s->layer = s->batch = s->cursor = s->ready = s->wrong = s->seen = 0;
    s->stage = START;
    return gave_up(t, tinyfoa_root_write(t));
}

int tinyfoa_reset(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    if (t->failure) return t->failure;
    s->base = s->sequence + 1; /* what was written since the last commit is void, too */
    s->stage = IDLE;
    s->fit = s->layer = s->batch = s->cursor = s->ready = s->dirty = 0;
    s->epoch = s->first_epoch = s->last_epoch = TINYFOA_EPOCHS_BEFORE;
    TRY(gave_up(t, tinyfoa_root_write(t)));
#ifdef TINYFOA_IMAGE
    return gave_up(t, install(t));
#else
    return 0;
#endif
}

/* -- one batch ------------------------------------------------------------------------------------------------------ */

/* Labels of batch s->batch, and its inputs where they are not mapped; returns how many samples it has. */
static int load(tinyfoa *t, uint32_t *samples) {
    tinyfoa_state *s = t->state;
    const tinyfoa_layer *l = layer_of(t);
    uint16_t *labels = (uint16_t *)region(t, R_LABELS);
    uint32_t first = s->batch * s->batch_size, n, left = s->samples - first;
    *samples = n = left < s->batch_size ? left : s->batch_size;
    if (TINYFOA_MAPPED) memcpy(labels, t->data.labels + first, 2 * n);
    else if (t->data.read(t->data.user, first, n, is_first(t) ? region(t, R_INPUTS) : NULL, labels)) return TINYFOA_DATA;
    for (n = 0; n < *samples; n++)
        if (labels[n] >= C) return TINYFOA_DATA;
    s->input_scale = 1.0f;
    if (!is_first(t)) {
        uint32_t at = (l - 1)->handed + s->batch * (l - 1)->record;
        TRY(tinyfoa_get(t, at, &s->input_scale, 4));
        return tinyfoa_get(t, at + 4, region(t, R_INPUTS), 4 * *samples * l->words);
    }
#if TINYFOA_FLOATS
    {
        const float *x = TINYFOA_MAPPED ? (const float *)t->data.inputs + (size_t)first * l->inputs : floats(t, R_INPUTS);
        for (n = 0; n < *samples * l->inputs; n++)
            if (tinyfoa_magnitude(x[n]) >= TINYFOA_INF_BITS) return TINYFOA_DATA;
    }
#endif
    return 0;
}

/* Reads a layer's items back, one per step, until the arena has what flash has. */
static int make_ready(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    int rc;
    if (s->cursor == 0) {
        int32_t steps = 42 - tinyfoa_log2((uint64_t)s->batch_size * layer_of(t)->outputs);
        s->z_steps = steps < 28 ? (uint32_t)steps : 28;
    }
    rc = tinyfoa_restore(t);
    if (rc != TINYFOA_DONE) return rc;
    s->ready = 1;
    s->cursor = 0;
    return 0;
}

static int start(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_header h;
    uint32_t where = 0;
    int rc = TINYFOA_DONE;
    /* the last item of a layer that was trained before, on other samples */
    if (s->cursor == 0)
        TRY(tinyfoa_find(t, l->biases + 2 * (M - 1) * l->bias_slot, l->bias_slot, s->sequence, &h, &where));
    if (!where) rc = tinyfoa_initialize(t);
    if (rc != TINYFOA_DONE) return rc;
    s->stage = TRAIN;
    s->epoch = s->first_epoch;
    s->batch = s->cursor = s->ready = s->wrong = s->seen = 0;
    return tinyfoa_root_write(t);
}

static int train(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    uint32_t samples;
    TRY(load(t, &samples));
    PHASE();
    if (s->batch == 0) s->wrong = s->seen = 0;
    tinyfoa_schedule(t);
    TRY(tinyfoa_forward(t, samples, 0));
    PHASE();
    TRY(tinyfoa_softmax(t, samples));
    PHASE();
    TRY(tinyfoa_update(t, samples));
    PHASE();
    if (++s->batch < batches_of(t)) return TINYFOA_MORE;
    s->batch = 0;
    if (++s->epoch == s->last_epoch) {
        s->stage = HAND_OVER;
        s->cursor = 0;
    }
    TRY(tinyfoa_flush(t));
    return tinyfoa_root_write(t);
}

/* What the batch hands over, to where the next layer reads it. */
static int hand_over_batch(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    const tinyfoa_layer *l = layer_of(t);
    uint32_t samples, at = l->handed + s->batch * l->record, page, scale;
    TRY(load(t, &samples));
    PHASE();
    TRY(tinyfoa_forward(t, samples, 1));
    PHASE();
    if (is_last(t)) return 0;
    scale = tinyfoa_bits((float)s->scale);
    words_at(t, R_OUTPUTS)[0] = scale;
    page = (at + TINYFOA_PAGE_BYTES - 1) / TINYFOA_PAGE_BYTES * TINYFOA_PAGE_BYTES;
    if (page < at + l->record) TRY(tinyfoa_erase(t, page, at + l->record - page));
    return tinyfoa_put(t, at, region(t, R_OUTPUTS), l->record);
}

static int hand_over(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    const tinyfoa_layer *l = layer_of(t);
    tinyfoa_sha *sha = (tinyfoa_sha *)region(t, R_DIGEST);
    if (s->cursor == 0) {
        tinyfoa_sha_begin(sha);
        s->sum_abs_z = 0.0;
        s->batch = 0;
    }
    if (s->cursor < l->outputs) return tinyfoa_digest_row(t, s->cursor++, sha);
    if (s->cursor++ == l->outputs) {
        tinyfoa_sha_add(sha, region(t, R_BIAS), 4 * l->outputs);
        tinyfoa_sha_end(sha, sha->digest);
    }
    TRY(hand_over_batch(t));
    if (++s->batch < batches_of(t)) return TINYFOA_MORE;
    s->scale = s->sum_abs_z / tinyfoa_whole_double((uint64_t)s->samples * l->outputs);
    TRY(write_trained(t));
    s->batch = s->cursor = s->ready = 0;
    s->dirty = 0;
    s->stage = START;
    if (++s->layer == TINYFOA_LAYERS) {
        s->layer = 0;
        s->stage = IDLE;
        s->fit = s->sequence + 1;
    }
    return tinyfoa_root_write(t);
}

int tinyfoa_step(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    int rc;
    if (t->failure) return t->failure;
    if (s->stage == IDLE) return TINYFOA_DONE;
    if (!t->data.count) return TINYFOA_ARGUMENT;
    PHASE();
    if (s->stage == START) rc = start(t);
    else if (!s->ready) rc = make_ready(t);
    else rc = s->stage == TRAIN ? train(t) : hand_over(t);
    if (rc < 0) return gave_up(t, rc);
    return s->stage == IDLE ? TINYFOA_DONE : TINYFOA_MORE;
}

int tinyfoa_commit(tinyfoa *t) {
    if (t->failure) return t->failure;
    if (t->state->stage == TRAIN && t->state->ready) TRY(gave_up(t, tinyfoa_flush(t)));
    return gave_up(t, tinyfoa_root_write(t));
}

void tinyfoa_where(const tinyfoa *t, tinyfoa_progress *out) {
    const tinyfoa_state *s = t->state;
    memset(out, 0, sizeof *out);
    if (!s) return; /* tinyfoa_open was not called, or refused its arguments */
    out->layer = s->layer;
    out->epoch = s->epoch;
    out->batch = s->batch;
    out->batches = s->batch_size ? batches_of(t) : 0;
    out->seen = s->seen;
    out->wrong = s->wrong;
    out->training = s->stage != IDLE;
    out->epochs = s->stage == IDLE ? s->last_epoch : s->first_epoch;
}

#ifdef TINYFOA_COLUMNS
extern const double tinyfoa_shift[TINYFOA_INPUTS];
extern const float tinyfoa_factor[TINYFOA_INPUTS];
void tinyfoa_scale(const float *raw, float *x) {
    uint32_t i; /* centred in float64: float32 would lose small differences between large numbers */
    for (i = 0; i < TINYFOA_INPUTS; i++) x[i] = (float)((double)raw[i] - tinyfoa_shift[i]) * tinyfoa_factor[i];
}
#endif

int tinyfoa_selftest(void) {
    volatile float third = 0x1.555556p-2f, small = 0x1p-126f, three = 3.0f, one = 1.0f, half = 0.5f;
    volatile float near = 0x1.000002p0f, less = -0x1.000004p0f;
    volatile double thirds = 0x1.5555555555555p-2, threes = 3.0;
    float product;
    double wide;
    product = third * three + -one; /* 0 where the product is rounded first, 2^-25 where it is not */
    if (tinyfoa_bits(product) != 0) return 1;
    wide = thirds * threes - 1.0;
    if (tinyfoa_bits64(wide) != 0) return 2;
    if (tinyfoa_bits(tinyfoa_fma(near, near, less)) != 0x28800000u) return 3; /* 2^-46 */
    if (tinyfoa_bits(small * half) != 0x00400000u) return 4; /* subnormal numbers stay */
    if (tinyfoa_bits(tinyfoa_sqrt(three)) != 0x3FDDB3D7u) return 5;
    if (tinyfoa_bits64(tinyfoa_sqrt64(thirds)) != 0x3FE279A74590331Cu) return 6;
    if (tinyfoa_bits64(tinyfoa_exp(-thirds)) != 0x3FE6EDD3122F2EA5u) return 7;
    if (tinyfoa_bits(one / three) != 0x3EAAAAABu) return 8; /* rounded to nearest */
    if (sizeof(struct tinyfoa_state) != TINYFOA_STATE_BYTES || sizeof(tinyfoa_header) != 32 || sizeof(tinyfoa_sha) != 136) return 9;
    return 0;
}
