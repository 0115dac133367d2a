/* The trainer's interface, one named check per run: "ok", or the condition that does not hold.

   The flash is an array that can fail at an operation, and notes whether a commit was synced. What belongs to flash's
   layout is asked of the trainer itself (tinyfoa_layer.h). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "example/data.h"
#include "tinyfoa_layer.h"

#define CHECK(condition) ((condition) ? (void)0 : complain(__LINE__, #condition))
#define ROW (TINYFOA_INPUTS * (TINYFOA_FLOATS ? 4u : 1u))
#define ROOTS ((uint32_t)TINYFOA_ROOT_PAGES * TINYFOA_PAGE_BYTES)
#define PADDED(bytes) (((size_t)(bytes) + 3) / 4 * 4)
#define TRAINING_BYTES (PADDED((size_t)EXAMPLE_TRAINING * ROW) + PADDED(2 * EXAMPLE_TRAINING))

static uint64_t arena[(TINYFOA_ARENA_BYTES + 7) / 8];
static uint8_t cells[TINYFOA_FLASH_BYTES], copy[TINYFOA_FLASH_BYTES];
static uint32_t operations, fails_at; /* the operation that fails; 0: none */
static uint32_t fatal, fatal_bytes; /* once something was programmed there, the next root fails; 0 bytes: none */
static int open_items, open_root; /* whether items, or a root, were written since the last sync */
static tinyfoa trainer, *const t = &trainer;
static tinyfoa_data data;
static uint8_t wanted[32]; /* the digest of an undisturbed training */

static void complain(int line, const char *condition) {
    printf("line %d: %s\n", line, condition);
    exit(1);
}

/* -- flash ---------------------------------------------------------------------------------------------------------- */

static int fails(void) { return ++operations == fails_at; }

static int flash_read(void *user, uint32_t at, void *to, uint32_t bytes) {
    CHECK(user == cells && bytes && at <= sizeof cells && bytes <= sizeof cells - at);
    if (fails()) return 1;
    memcpy(to, cells + at, bytes);
    return 0;
}

/* A root may only be written once the items before it last, and an item may only change once that root does. */
static void note_item(uint32_t at) {
    if (at < ROOTS) return;
    CHECK(!open_root);
    open_items = 1;
}

static int flash_program(void *user, uint32_t at, const void *from, uint32_t bytes) {
    CHECK(user == cells && bytes && at % TINYFOA_UNIT_BYTES == 0 && bytes % TINYFOA_UNIT_BYTES == 0);
    CHECK(at <= sizeof cells && bytes <= sizeof cells - at);
    note_item(at);
    if (at < ROOTS) {
        CHECK(!open_items);
        open_root = 1;
    }
#if !TINYFOA_STREAMED
    for (uint32_t k = 0; k < bytes; k++) CHECK(cells[at + k] == 0xFF); /* erased */
#endif
    if (fatal_bytes && at - fatal < fatal_bytes) fails_at = 0, fatal_bytes = 0, fatal = 1;
    else if (fatal == 1 && at < ROOTS) fails_at = operations + 1, fatal = 0;
    if (fails()) { /* half of it is done */
        memcpy(cells + at, from, bytes / 2);
        return 1;
    }
    memcpy(cells + at, from, bytes);
    return 0;
}

static int flash_erase(void *user, uint32_t at) {
    CHECK(user == cells && at % TINYFOA_PAGE_BYTES == 0 && at < sizeof cells);
    note_item(at);
    if (fails()) return -7;
    memset(cells + at, 0xFF, TINYFOA_PAGE_BYTES);
    return 0;
}

static int flash_sync(void *user) {
    CHECK(user == cells);
    if (fails()) return 1;
    open_items = open_root = 0;
    return 0;
}

static const tinyfoa_flash flash = {flash_read, flash_program, flash_erase, flash_sync, cells};

/* -- training ------------------------------------------------------------------------------------------------------- */

static int opened(void) {
    open_items = open_root = 0;
    memset(arena, 0xC3, sizeof arena); /* what RAM holds when the power comes */
    return tinyfoa_open(t, arena, sizeof arena, &flash);
}

static int begun(void) { return tinyfoa_fit_begin(t, &data, 0); }

/* Goes on until the fit ends or fails. */
static int finished(void) {
    int rc;
    do rc = tinyfoa_step(t);
    while (rc == TINYFOA_MORE);
    return rc;
}

static void fresh(void) {
    memset(cells, 0xFF, sizeof cells);
    CHECK(opened() == 0);
}

/* A fit on fresh flash, until a layer, an epoch and a batch of it. */
static void trained_to(uint32_t layer, uint32_t epoch, uint32_t batch) {
    tinyfoa_progress now;
    fresh();
    CHECK(begun() == 0);
    do {
        CHECK(tinyfoa_step(t) == TINYFOA_MORE);
        tinyfoa_where(t, &now);
    } while (now.layer != layer || now.epoch != epoch || now.batch != batch);
}

static int as_wanted(void) {
    uint8_t digest[32];
    CHECK(tinyfoa_digest(t, digest) == 0);
    return memcmp(digest, wanted, sizeof digest) == 0;
}

/* -- checks --------------------------------------------------------------------------------------------------------- */

static void arguments(void) {
    tinyfoa_flash missing = flash;
    tinyfoa_data other = data;
    tinyfoa_progress now;
    float scores[TINYFOA_CLASSES];
    uint8_t digest[32];
    fresh();
    CHECK(tinyfoa_open(NULL, arena, sizeof arena, &flash) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_open(t, NULL, sizeof arena, &flash) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_open(t, arena, sizeof arena, NULL) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_open(t, arena, TINYFOA_ARENA_BYTES - 1, &flash) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_open(t, (uint8_t *)arena + 4, sizeof arena, &flash) == TINYFOA_ARGUMENT);
    missing.erase = NULL;
    CHECK(tinyfoa_open(t, arena, sizeof arena, &missing) == TINYFOA_ARGUMENT);
    /* what was not opened answers, and does nothing */
    tinyfoa_where(t, &now);
    CHECK(!now.training && !now.epochs && !now.batches);
    CHECK(begun() == TINYFOA_ARGUMENT && tinyfoa_step(t) == TINYFOA_ARGUMENT && tinyfoa_commit(t) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_reset(t) == TINYFOA_ARGUMENT && tinyfoa_digest(t, digest) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_predict(t, data.inputs, scores) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_open(t, arena, TINYFOA_ARENA_BYTES, &flash) == 0);
    tinyfoa_where(t, &now);
    CHECK(!now.training && now.epochs == TINYFOA_EPOCHS_BEFORE);
    CHECK(tinyfoa_step(t) == TINYFOA_DONE);
    CHECK(tinyfoa_fit_begin(t, NULL, 0) == TINYFOA_ARGUMENT);
    other.count = 0;
    CHECK(tinyfoa_fit_begin(t, &other, 0) == TINYFOA_ARGUMENT);
    other.count = TINYFOA_SAMPLES + 1;
    CHECK(tinyfoa_fit_begin(t, &other, 0) == TINYFOA_ARGUMENT);
    other = data;
    other.inputs = NULL;
    CHECK(tinyfoa_fit_begin(t, &other, 0) == TINYFOA_ARGUMENT);
    other = data;
    other.labels = NULL;
    CHECK(tinyfoa_fit_begin(t, &other, 0) == TINYFOA_ARGUMENT);
    CHECK(tinyfoa_predict(t, data.inputs, scores) == TINYFOA_UNTRAINED);
    CHECK(tinyfoa_digest(t, digest) == TINYFOA_UNTRAINED);
    CHECK(begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
    tinyfoa_where(t, &now);
    CHECK(!now.training && now.epochs == TINYFOA_EPOCHS_BEFORE + TINYFOA_EPOCHS && now.seen == TINYFOA_SAMPLES);
    CHECK(opened() == 0 && tinyfoa_step(t) == TINYFOA_DONE && as_wanted());
}

/* An interrupted training goes on with as many samples, for as many epochs. */
static void other_data(void) {
    tinyfoa_data other = data;
    tinyfoa_progress now;
    other.count--;
    trained_to(TINYFOA_LAYERS - 1, 1, 1);
    CHECK(opened() == 0);
    tinyfoa_where(t, &now);
    CHECK(now.training && now.layer == TINYFOA_LAYERS - 1 && now.epoch == 1 && now.epochs == TINYFOA_EPOCHS_BEFORE);
    CHECK(tinyfoa_step(t) == TINYFOA_ARGUMENT && opened() == 0); /* without data */
    CHECK(tinyfoa_fit_begin(t, &other, 0) == TINYFOA_OTHER_DATA);
    CHECK(tinyfoa_fit_begin(t, &data, TINYFOA_EPOCHS - 1) == TINYFOA_OTHER_DATA);
    CHECK(tinyfoa_fit_begin(t, &data, TINYFOA_EPOCHS) == 0 && finished() == TINYFOA_DONE && as_wanted());
}

static void bad_data(void) {
    uint16_t labels[TINYFOA_SAMPLES];
    tinyfoa_data other = data;
    fresh();
    memcpy(labels, data.labels, sizeof labels);
    labels[TINYFOA_SAMPLES - 1] = TINYFOA_CLASSES;
    other.labels = labels;
    CHECK(tinyfoa_fit_begin(t, &other, 0) == 0 && finished() == TINYFOA_DATA);
    CHECK(tinyfoa_step(t) == TINYFOA_DATA && begun() == TINYFOA_DATA); /* until it is opened again */
#if TINYFOA_FLOATS
    {
        static float inputs[TINYFOA_SAMPLES * TINYFOA_INPUTS];
        memcpy(inputs, data.inputs, sizeof inputs);
        inputs[TINYFOA_SAMPLES * TINYFOA_INPUTS - 1] = INFINITY;
        other = data;
        other.inputs = inputs;
        fresh();
        CHECK(tinyfoa_fit_begin(t, &other, 0) == 0 && finished() == TINYFOA_DATA);
        memset(inputs, 0, sizeof inputs); /* z of two that cancel out is small, the square of a slope is not */
        for (uint32_t n = 0; n < TINYFOA_SAMPLES * TINYFOA_INPUTS; n++)
            if (n % TINYFOA_INPUTS < 2) inputs[n] = 3e38f;
        fresh();
        CHECK(tinyfoa_fit_begin(t, &other, 0) == 0 && finished() == TINYFOA_DIVERGED);
    }
#endif
    CHECK(opened() == 0 && begun() == 0 && finished() == TINYFOA_DONE);
}

/* Any operation may fail; the next tinyfoa_open goes on from the last commit. */
static void failing_flash(void) {
    uint32_t all, n, tried;
    fresh();
    operations = 0;
    CHECK(opened() == 0 && begun() == 0 && finished() == TINYFOA_DONE);
    all = operations;
    for (tried = 0; tried < 60; tried++) {
        int rc;
        fresh();
        operations = 0;
        fails_at = n = 1 + (uint32_t)((uint64_t)all * tried / 60 + tried % 7) % all;
        rc = opened();
        if (rc == 0) rc = begun();
        if (rc == 0) rc = finished();
        CHECK(rc == TINYFOA_FLASH && operations == n); /* nothing was tried after it */
        CHECK(tinyfoa_step(t) == TINYFOA_FLASH && tinyfoa_commit(t) == TINYFOA_FLASH && begun() == TINYFOA_FLASH);
        CHECK(operations == n);
        CHECK(opened() == 0 && begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
    }
}

/* A commit between any two steps changes nothing, and is where a training goes on. */
static void commits_anywhere(void) {
    uint32_t n = 0, epochs = TINYFOA_EPOCHS_BEFORE;
    int rc;
    fresh();
    CHECK(begun() == 0);
    do {
        tinyfoa_progress before, after;
        int first;
        CHECK(tinyfoa_commit(t) == 0);
        tinyfoa_where(t, &before);
        /* of each epoch, once */
        first = before.batch == 1 && before.layer * TINYFOA_EPOCHS + before.epoch == epochs;
        if (first || ++n % 97 == 0) { /* time to hand over a layer in between */
            epochs += (uint32_t)first;
            CHECK(opened() == 0 && begun() == 0);
            tinyfoa_where(t, &after);
            CHECK(after.layer == before.layer && after.epoch == before.epoch && after.training);
            CHECK(after.batch == (t->state->stage == TRAIN ? before.batch : 0)); /* other stages begin anew */
            CHECK(after.seen == before.seen && after.wrong == before.wrong && after.batches == before.batches);
        }
        rc = tinyfoa_step(t);
        CHECK(n < 100000);
    } while (rc == TINYFOA_MORE);
    CHECK(rc == TINYFOA_DONE && as_wanted());
}

/* A program that came with a trained network answers by that. */
#ifdef TINYFOA_IMAGE
#define UNTRAINED(answer) ((answer) >= 0 && !as_wanted())
#else
#define UNTRAINED(answer) ((answer) == TINYFOA_UNTRAINED)
#endif

static void reset(void) {
    float scores[TINYFOA_CLASSES];
    tinyfoa_progress now;
    trained_to(TINYFOA_LAYERS - 1, TINYFOA_EPOCHS_BEFORE + 1, 1);
    CHECK(tinyfoa_reset(t) == 0);
    tinyfoa_where(t, &now);
    CHECK(!now.training && now.epochs == TINYFOA_EPOCHS_BEFORE && now.layer == 0);
    CHECK(tinyfoa_step(t) == TINYFOA_DONE && UNTRAINED(tinyfoa_predict(t, data.inputs, scores)));
    CHECK(begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
    CHECK(tinyfoa_reset(t) == 0 && opened() == 0);
    CHECK(UNTRAINED(tinyfoa_predict(t, data.inputs, scores)));
    CHECK(begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
}

/* While the next fit goes on, the answers are those of the last one. */
static void answers_between_steps(void) {
    float before[TINYFOA_CLASSES], now[TINYFOA_CLASSES];
    uint32_t n, changed = 0;
    int answer, rc;
    fresh();
    CHECK(begun() == 0 && finished() == TINYFOA_DONE);
    answer = tinyfoa_predict(t, data.inputs, before);
    CHECK(answer >= 0 && answer < TINYFOA_CLASSES);
    for (n = 0; n < TINYFOA_CLASSES; n++) CHECK(before[n] <= before[answer]);
    CHECK(begun() == 0);
    while ((rc = tinyfoa_step(t)) == TINYFOA_MORE) {
        CHECK(tinyfoa_predict(t, data.inputs, now) == answer && !memcmp(before, now, sizeof now) && as_wanted());
        if (++n % 97 == 0) CHECK(opened() == 0 && begun() == 0);
    }
    CHECK(rc == TINYFOA_DONE && tinyfoa_predict(t, data.inputs, now) >= 0);
    for (n = 0; n < TINYFOA_CLASSES; n++) changed += before[n] != now[n];
    CHECK(changed && !as_wanted());
}

/* The power goes twice when layers were handed over but not committed: the answers are still the last network's. */
static void answers_after_a_lost_hand_over(void) {
    const tinyfoa_layer *l;
    float before[TINYFOA_CLASSES], now[TINYFOA_CLASSES];
    int answer, k;
    fresh();
    CHECK(begun() == 0 && finished() == TINYFOA_DONE);
    answer = tinyfoa_predict(t, data.inputs, before);
    CHECK(begun() == 0);
    for (l = tinyfoa_layers; l < tinyfoa_layers + TINYFOA_LAYERS; l++)
        for (k = 0; k < 2; k++) {
            fatal = l->trained;
            fatal_bytes = 2 * l->trained_slot;
            CHECK(finished() == TINYFOA_FLASH && opened() == 0);
            CHECK(tinyfoa_predict(t, data.inputs, now) == answer && !memcmp(before, now, sizeof now) && as_wanted());
            CHECK(begun() == 0 && tinyfoa_commit(t) == 0);
        }
    CHECK(finished() == TINYFOA_DONE && !as_wanted());
}

/* The power goes while a root is written, again and again: each time the next one finds an erased place. */
static void torn_roots(void) {
    uint32_t k;
    fresh();
    for (k = 0; k < 11; k++) {
        operations = fails_at = fatal_bytes = 0;
        fatal = 1;
        CHECK(begun() == TINYFOA_FLASH && opened() == 0 && tinyfoa_step(t) == TINYFOA_DONE);
    }
    CHECK(begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
    for (k = 0; k < 11; k++) {
        fatal = 1;
        CHECK(tinyfoa_commit(t) == TINYFOA_FLASH && opened() == 0 && as_wanted());
    }
}

/* A root whose sum holds, but which says what no training can be at, is refused before anything else is read. */
static void forged_roots(void) {
    tinyfoa_state *s = (tinyfoa_state *)arena;
    uint32_t k;
    for (k = 0; k < 8; k++) {
        trained_to(0, TINYFOA_EPOCHS_BEFORE + 1, 1);
        if (k == 0) s->stage = HAND_OVER + 1;
        if (k == 1) s->layer = TINYFOA_LAYERS;
        if (k == 2) s->samples = TINYFOA_SAMPLES + 1;
        if (k == 3) s->samples = 0;
        if (k == 4) s->batch = (TINYFOA_SAMPLES + TINYFOA_BATCH - 1) / TINYFOA_BATCH;
        if (k == 5) s->epoch = s->last_epoch;
        if (k == 6) s->first_epoch = s->epoch + 1;
        if (k == 7) s->stage = IDLE, s->epoch = s->last_epoch + 1;
        CHECK(tinyfoa_root_write(t) == 0 && opened() == TINYFOA_DAMAGED && begun() == TINYFOA_DAMAGED);
    }
}

/* What fills up the last unit of a section is as erased. */
static void filled_units(void) {
    const tinyfoa_layer *l = tinyfoa_layers;
    uint32_t where, bytes = 4 * bound_of(l->outputs, 1), k;
    tinyfoa_header h;
    trained_to(0, 1, 0);
    CHECK(tinyfoa_item(t, l->biases, l->bias_slot, &h, &where) == 0);
    for (k = bytes; k < UNITS(bytes); k++) CHECK(cells[where + HEAD + k] == 0xFF);
    CHECK(TINYFOA_UNIT_BYTES == 1 || UNITS(bytes) > bytes);
}

/* Where no neuron is on, all scores are 0: the first class. */
static void ties(void) {
    const tinyfoa_layer *l = &tinyfoa_layers[TINYFOA_LAYERS - 1];
    float found[TINYFOA_CLASSES], low = -1000.0f;
    uint32_t where, k;
    tinyfoa_header h;
    fresh();
    CHECK(begun() == 0 && finished() == TINYFOA_DONE);
    CHECK(tinyfoa_item(t, l->trained, l->trained_slot, &h, &where) == 0);
    for (k = 0; k < l->outputs; k++) memcpy(cells + where + HEAD + UNITS(48) + 4 * k, &low, sizeof low);
    CHECK(tinyfoa_predict(t, data.inputs, found) == 0);
    for (k = 0; k < TINYFOA_CLASSES; k++) CHECK(found[k] == 0.0f);
}

/* Flips a bit of a payload, or of its header with head = 0; returns what reading it back says. */
static int flipped(uint32_t item, uint32_t slot, uint32_t byte, uint32_t head) {
    tinyfoa_header h;
    uint32_t where;
    memcpy(cells, copy, sizeof cells);
    CHECK(opened() == 0);
    CHECK(tinyfoa_item(t, item, slot, &h, &where) == 0);
    cells[where + head + byte] ^= 0x80;
    CHECK(begun() == 0);
    return finished();
}

/* Bits that flash has lost are noticed when they are read. */
static void damaged_flash(void) {
    const tinyfoa_layer *l = tinyfoa_layers;
    uint32_t k, weights = 4 * bound_of(l->outputs, 1) * bound_of(l->inputs, 1), biases = 4 * bound_of(l->outputs, 1);
    fresh();
    CHECK(begun() == 0);
    while (t->state->stage != TRAIN) CHECK(tinyfoa_step(t) == TINYFOA_MORE);
    memcpy(copy, cells, sizeof cells);
    for (k = 0; k < 32; k += 4) { /* headers, of which there is only one */
        CHECK(flipped(l->slices, l->slice_slot, k, 0) == TINYFOA_DAMAGED);
        CHECK(flipped(l->biases, l->bias_slot, k, 0) == TINYFOA_DAMAGED);
    }
    trained_to(0, 1, 0);
    memcpy(copy, cells, sizeof cells);
    for (k = 0; k < M * M; k++) {
        CHECK(flipped(l->slices + 2 * k * l->slice_slot, l->slice_slot, 3, HEAD) == TINYFOA_DAMAGED); /* a sign */
        CHECK(flipped(l->slices + 2 * k * l->slice_slot, l->slice_slot, weights / 8 * 4 + 3, HEAD) == TINYFOA_DAMAGED);
    }
    for (k = 0; k < M; k++) {
        CHECK(flipped(l->biases + 2 * k * l->bias_slot, l->bias_slot, 1, HEAD) == TINYFOA_DAMAGED);
        CHECK(flipped(l->biases + 2 * k * l->bias_slot, l->bias_slot, UNITS(biases) + 1, HEAD) == TINYFOA_DAMAGED);
    }
}

/* The same where only a group's moments are read, in the middle of an epoch. */
static void damaged_moments(void) {
    const tinyfoa_layer *l = tinyfoa_layers;
    tinyfoa_header h;
    uint32_t where, group, biases = 4 * bound_of(l->outputs, 1);
    trained_to(0, 1, 1);
    group = t->state->group;
    CHECK(M > 1 && group < M);
    group = (group + 1) % M;
    CHECK(tinyfoa_item(t, l->biases + 2 * group * l->bias_slot, l->bias_slot, &h, &where) == 0);
    cells[where + HEAD + UNITS(biases)] ^= 1;
    CHECK(finished() == TINYFOA_DAMAGED);
}

static void damaged_network(void) {
    const tinyfoa_layer *l = &tinyfoa_layers[TINYFOA_LAYERS - 1];
    uint32_t where, byte, end = HEAD + UNITS(48) + UNITS(4 * l->outputs) + 4 * l->outputs * l->words;
    uint8_t digest[32];
    tinyfoa_header h;
    fresh();
    CHECK(begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
    CHECK(tinyfoa_item(t, l->trained, l->trained_slot, &h, &where) == 0);
    for (byte = HEAD; byte < end; byte += byte < HEAD + 48 ? 47 : 4 * l->outputs) {
        cells[where + byte] ^= 2;
        CHECK(tinyfoa_digest(t, digest) == TINYFOA_DAMAGED);
        cells[where + byte] ^= 2;
        CHECK(as_wanted());
    }
}

/* Another recipe's flash is cleared, whole headers and roots as they are. */
static void foreign_flash(void) {
    uint32_t at, root = 0;
    fresh();
    CHECK(begun() == 0 && finished() == TINYFOA_DONE);
    for (at = 0; at + 64 <= ROOTS; at += 4) { /* the identity of all that has one, checksums to match */
        uint32_t words[16];
        memcpy(words, cells + at, sizeof words);
        if (words[0] != 0x32414654u || words[1] != TINYFOA_IDENTITY) continue;
        words[1] ^= 1;
        words[15] = tinyfoa_crc(0, words, 60);
        memcpy(cells + at, words, sizeof words);
        root++;
    }
    CHECK(root > 2);
    CHECK(opened() == 0 && tinyfoa_step(t) == TINYFOA_DONE);
    CHECK(begun() == 0 && finished() == TINYFOA_DONE && as_wanted());
}

static uint32_t drawn(void) { /* xorshift (Marsaglia 2003) */
    static uint32_t random = 2463534242u;
    random ^= random << 13;
    random ^= random >> 17;
    return random ^= random << 5;
}

static int same(float a, float b) { return tinyfoa_bits(a) == tinyfoa_bits(b) || (isnan(a) && isnan(b)); }

/* Roots and fused products beside those of the mathematical library: any bits, and products that nearly cancel out. */
static void arithmetic(void) {
    uint32_t n;
    for (n = 0; n < 200000; n++) {
        float a = tinyfoa_float(drawn()), b = tinyfoa_float(drawn()), c = tinyfoa_float(drawn());
        float near = tinyfoa_float((drawn() >> 9) + 0x3F800000u), also = tinyfoa_float((drawn() >> 9) + 0x3F800000u);
        /* between two floats, but for a little: (1 + m 2^-12)^2, with m odd and below 2^11 */
        float half = 1.0f + (float)(drawn() % 1024 * 2 + 1) * 0x1p-12f, little = c < 0.0f ? -0x1p-60f : 0x1p-60f;
        double unit = tinyfoa_double(((uint64_t)(1003 + n % 20) << 52) + ((uint64_t)drawn() << 20) + drawn() % 4096);
        float small = tinyfoa_float((a < 0.0f ? 0x3F000000u : 0x38000000u) - (drawn() >> 5)); /* and rounded half up */
        int32_t steps = (int32_t)(n % 43);
        CHECK(tinyfoa_fixed(tinyfoa_bits(small), steps) == (uint64_t)floor(ldexp((double)small, steps) + 0.5));
        CHECK(same(tinyfoa_sqrt(fabsf(a)), sqrtf(fabsf(a))));
        CHECK(same(tinyfoa_sqrt(fabsf(a) * 0x1p-126f), sqrtf(fabsf(a) * 0x1p-126f))); /* subnormal, too */
        CHECK(same(tinyfoa_sqrt(near * near), sqrtf(near * near)));
        CHECK(tinyfoa_bits64(tinyfoa_sqrt64(unit)) == tinyfoa_bits64(sqrt(unit)));
        CHECK(same(tinyfoa_fma(a, b, c), fmaf(a, b, c)));
        CHECK(same(tinyfoa_fma(half, half, little), fmaf(half, half, little)));
        CHECK(same(tinyfoa_fma(-half, half, little), fmaf(-half, half, little)));
        CHECK(same(tinyfoa_fma(near, also, -near * also), fmaf(near, also, -near * also)));
        CHECK(same(tinyfoa_fma(near, also, c * 0x1p-80f), fmaf(near, also, c * 0x1p-80f)));
        CHECK(same(tinyfoa_fma(near, also * 0x1p-140f, c * 0x1p-140f), fmaf(near, also * 0x1p-140f, c * 0x1p-140f)));
    }
    CHECK(tinyfoa_fixed(tinyfoa_bits(0.5f), 0) == 1 && tinyfoa_fixed(tinyfoa_bits(0.49999997f), 0) == 0);
    CHECK(tinyfoa_fixed(tinyfoa_bits(2.5f), 0) == 3 && tinyfoa_fixed(1, 149) == 1 && tinyfoa_fixed(1, 148) == 1);
    CHECK(same(tinyfoa_fma(INFINITY, 1.0f, 1.0f), INFINITY) && same(tinyfoa_fma(1.0f, 1.0f, -INFINITY), -INFINITY));
    CHECK(same(tinyfoa_sqrt(INFINITY), INFINITY) && tinyfoa_sqrt(0.0f) == 0.0f && isnan(tinyfoa_sqrt(NAN)));
    CHECK(tinyfoa_bits64(tinyfoa_sqrt64(1.0)) == tinyfoa_bits64(1.0));
    CHECK(tinyfoa_crc(0, "123456789", 9) == 0xCBF43926u); /* as published, in one piece and in two */
    CHECK(tinyfoa_crc(tinyfoa_crc(0, "1234", 4), "56789", 5) == 0xCBF43926u);
    CHECK(tinyfoa_selftest() == 0);
}

/* The bits of the scores of all tests, a line each. */
static void scores(void) {
    const uint8_t *x = (const uint8_t *)data.inputs + TRAINING_BYTES;
    float found[TINYFOA_CLASSES];
    uint32_t n, c;
    fresh();
    CHECK(begun() == 0 && finished() == TINYFOA_DONE);
    for (n = 0; n < EXAMPLE_TESTS; n++, x += ROW) {
        printf("%d", tinyfoa_predict(t, x, found));
        for (c = 0; c < TINYFOA_CLASSES; c++) printf(" %08x", (unsigned)tinyfoa_bits(found[c]));
        puts("");
    }
}

#ifdef TINYFOA_COLUMNS
/* Reads raw samples, prints the bits of those that training uses. */
static void scale(void) {
    float x[TINYFOA_INPUTS];
    uint32_t i;
    while (fread(x, sizeof *x, TINYFOA_INPUTS, stdin) == TINYFOA_INPUTS) {
        tinyfoa_scale(x, x);
        for (i = 0; i < TINYFOA_INPUTS; i++) printf("%08x ", (unsigned)tinyfoa_bits(x[i]));
        puts("");
    }
}
#endif

static const struct {
    const char *name;
    void (*run)(void);
} checks[] = {
    {"arguments", arguments},
    {"other_data", other_data},
    {"bad_data", bad_data},
    {"failing_flash", failing_flash},
    {"commits_anywhere", commits_anywhere},
    {"reset", reset},
    {"answers_between_steps", answers_between_steps},
    {"answers_after_a_lost_hand_over", answers_after_a_lost_hand_over},
    {"torn_roots", torn_roots},
    {"forged_roots", forged_roots},
    {"ties", ties},
    {"filled_units", filled_units},
    {"damaged_flash", damaged_flash},
    {"damaged_moments", damaged_moments},
    {"damaged_network", damaged_network},
    {"foreign_flash", foreign_flash},
    {"arithmetic", arithmetic},
    {"scores", scores},
#ifdef TINYFOA_COLUMNS
    {"scale", scale},
#endif
};

int main(int argc, char **argv) {
    static uint32_t samples[(TRAINING_BYTES + PADDED((size_t)EXAMPLE_TESTS * ROW)) / 4 + 1];
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    size_t k;
    if (!file || !fread(samples, 1, sizeof samples, file)) return 2;
    fclose(file);
    data.count = EXAMPLE_TRAINING;
    data.inputs = samples;
    data.labels = (const uint16_t *)(const void *)((const uint8_t *)samples + PADDED((size_t)EXAMPLE_TRAINING * ROW));
    for (k = 0; k < sizeof checks / sizeof *checks; k++) {
        if (strcmp(checks[k].name, argv[1])) continue;
        fresh();
        CHECK(begun() == 0 && finished() == TINYFOA_DONE && tinyfoa_digest(t, wanted) == 0);
        checks[k].run();
        puts("ok");
        return 0;
    }
    return 3;
}
