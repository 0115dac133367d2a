/* What the files of the trainer share: a layer's sizes and places, the state, the store. Not for programs that use it.
   Part of tinyfoa-np; BSD-3-Clause. */
#ifndef TINYFOA_LAYER_H
#define TINYFOA_LAYER_H

#include "tinyfoa_arith.h"
#include "tinyfoa_trainer.h"

#define M ((uint32_t)TINYFOA_SIDE)
#define C ((uint32_t)TINYFOA_CLASSES)
#define BLOCK 32u /* columns of a slice's row that train together: a word of signs, a unit of coded moments */

enum { TINYFOA_SGD, TINYFOA_MOMENTUM, TINYFOA_NESTEROV, TINYFOA_ADAM };
#define MOMENTS (TINYFOA_OPTIMIZER == TINYFOA_ADAM ? 2u : TINYFOA_OPTIMIZER == TINYFOA_SGD ? 0u : 1u)

/* Regions of the arena, as the plan names them. */
enum {
    R_SIGNS, R_BIAS, R_SLICE, R_MOMENT1, R_UNIT1, R_MOMENT2, R_UNIT2, R_BIAS_MOMENT1, R_BIAS_MOMENT2, R_INPUTS,
    R_LABELS, R_TILE, R_Z, R_SHIFT, R_TABLES, R_ACTIVE, R_LOGITS, R_EXPS, R_DZ, R_LISTED, R_TURNED, R_GRADIENT,
    R_CODED, R_OUTPUTS, R_DIGEST, R_ANSWER, R_REGIONS
};

typedef struct { /* one layer, as the configuration lists them */
    uint32_t inputs, outputs, words; /* I, O, and 32-bit words of a packed row: each of M segments begins a new one */
    uint32_t rows, columns;          /* of the largest slice */
    uint32_t active_rows;            /* the most neurons that train in a step, with those between them */
    float bound;                     /* of the initial weights: 1 / sqrt(I) */
    int32_t w_steps;                 /* sums of |W| are in steps of 2^-w_steps */
    uint32_t slices, slice_slot;     /* in flash: the first item's address, the bytes of a slot; an item has two */
    uint32_t biases, bias_slot;
    uint32_t trained, trained_slot;
    uint32_t handed, record;         /* outputs for the next layer: address, bytes for a batch */
    uint32_t published;              /* signs of all weights, where they are not in the arena */
    const float *projection;         /* P (O, C) */
    uint32_t at[R_REGIONS];          /* offsets in the arena */
} tinyfoa_layer;

extern const tinyfoa_layer tinyfoa_layers[TINYFOA_LAYERS];
#ifdef TINYFOA_IMAGE
/* A trained network to go on from: the payload of each item, beside its steps and sum; see tinyfoa_config.c. */
typedef struct {
    const uint32_t *payload;
    uint32_t bytes, steps;
    uint64_t sum;
} tinyfoa_image;
extern const tinyfoa_image *const tinyfoa_images[TINYFOA_LAYERS]; /* slices, groups of biases, the trained layer */
#endif

struct tinyfoa_state { /* the first TINYFOA_STATE_BYTES of the arena, the same on every processor */
    uint64_t total;     /* the sum of |W| over the layer, in steps of 2^-w_steps */
    uint64_t sum;       /* of the resident slice */
    double scale;       /* s of the last batch */
    double sum_abs_z;   /* over the training samples, while a layer hands over */
    uint32_t sequence;  /* of the last commit */
    uint32_t base;      /* items written up to this commit are void */
    uint32_t fit;       /* the commit with which the last finished training ended */
    uint32_t stage, layer, epoch, batch, first_epoch, last_epoch, samples, wrong, seen;
    uint32_t root_at;   /* where the next root goes */
    uint32_t cursor;    /* what comes next of what is done piece by piece */
    uint32_t ready;     /* whether the arena holds what flash does */
    uint32_t resident, group; /* the slice, and the group of biases, in the arena; NOBODY: none */
    uint32_t dirty;           /* whether they differ from flash */
    uint32_t steps, bias_steps;
    uint32_t reading, writing; /* slots of a slice that is streamed */
    float input_scale;         /* what the bits of this batch stand for */
    uint32_t batch_size;       /* B, or all samples where they are fewer */
    uint32_t z_steps;
    uint32_t hold;             /* which slices train: turns hold TINYFOA_VISITS and following */
    uint32_t spare;
    uint32_t begun;            /* whether rows of a streamed slice are in the slot that they go to */
};

#define NOBODY 0xFFFFFFFFu
enum { IDLE, START, TRAIN, HAND_OVER };

typedef struct { /* 32 bytes before an item's payload, written last */
    uint32_t item, identity, sequence, steps;
    uint64_t sum;
    uint32_t payload, check; /* CRC-32 of the payload, and of this header up to here */
} tinyfoa_header;

#define UNITS(bytes) (((uint32_t)(bytes) + TINYFOA_UNIT_BYTES - 1u) / TINYFOA_UNIT_BYTES * TINYFOA_UNIT_BYTES)
#define HEAD UNITS(sizeof(tinyfoa_header))

/* The caller's bytes serve numbers of different types in turn: what a phase wrote is written before the next begins. */
#define PHASE() __asm__ volatile("" ::: "memory")
#define TRY(call) do { int failed_ = (call); if (failed_ < 0) return failed_; } while (0)

static inline const tinyfoa_layer *layer_of(const tinyfoa *t) {
    return &tinyfoa_layers[TINYFOA_LAYERS > 1 ? t->state->layer : 0]; /* so that a compiler sees a single layer's bound */
}
static inline int is_first(const tinyfoa *t) { return TINYFOA_LAYERS == 1 || t->state->layer == 0; }
static inline int is_last(const tinyfoa *t) { return TINYFOA_LAYERS == 1 || t->state->layer + 1 == TINYFOA_LAYERS; }
static inline void *region(const tinyfoa *t, int which) { return t->arena + layer_of(t)->at[which]; }
static inline float *floats(const tinyfoa *t, int which) { return (float *)region(t, which); }
static inline uint32_t *words_at(const tinyfoa *t, int which) { return (uint32_t *)region(t, which); }
static inline uint8_t *bytes_at(const tinyfoa *t, int which) { return (uint8_t *)region(t, which); }

/* The k-th of the M + 1 bounds of a length cut into M parts, of which the first are the longer ones. */
static inline uint32_t bound_of(uint32_t length, uint32_t k) {
    uint32_t longer = length % M;
    return k * (length / M) + (k < longer ? k : longer);
}

/* The word with which the k-th segment of a packed row of so many columns begins. */
static inline uint32_t segment_of(uint32_t length, uint32_t k) {
    uint32_t longer = length % M, width = length / M, first = k < longer ? k : longer;
    return first * ((width + 32) / 32) + (k - first) * ((width + 31) / 32);
}

/* The bit of a packed row that belongs to a column. */
static inline uint32_t bit_of(uint32_t length, uint32_t column) {
    uint32_t longer = length % M, width = length / M, k = column / (width + 1);
    if (k >= longer) k = longer + (column - longer * (width + 1)) / width;
    return 32 * segment_of(length, k) + column - bound_of(length, k);
}

static inline uint32_t batches_of(const tinyfoa *t) {
    return (t->state->samples + t->state->batch_size - 1) / t->state->batch_size;
}

/* tinyfoa_store.c */
uint32_t tinyfoa_crc(uint32_t crc, const void *from, uint32_t bytes);
int tinyfoa_get(tinyfoa *t, uint32_t at, void *to, uint32_t bytes);
int tinyfoa_put(tinyfoa *t, uint32_t at, const void *from, uint32_t bytes);
int tinyfoa_erase(tinyfoa *t, uint32_t at, uint32_t bytes);
int tinyfoa_find(tinyfoa *t, uint32_t item, uint32_t slot, uint32_t limit, tinyfoa_header *header, uint32_t *where);
int tinyfoa_item(tinyfoa *t, uint32_t item, uint32_t slot, tinyfoa_header *header, uint32_t *where);
int tinyfoa_begin(tinyfoa *t, uint32_t item, uint32_t slot, uint32_t *where);
int tinyfoa_end(tinyfoa *t, uint32_t item, uint32_t where, uint32_t steps, uint64_t sum, uint32_t payload);
int tinyfoa_section(tinyfoa *t, uint32_t *at, uint32_t *crc, const void *from, uint32_t bytes);
int tinyfoa_part(tinyfoa *t, uint32_t *at, uint32_t *crc, void *to, uint32_t bytes);
int tinyfoa_verify(tinyfoa *t, uint32_t at, uint32_t bytes, uint32_t *crc);
int tinyfoa_root_read(tinyfoa *t);
int tinyfoa_root_write(tinyfoa *t);

/* tinyfoa_digest.c */
typedef struct { /* 136 bytes */
    uint32_t h[8];
    uint64_t bytes;
    uint8_t block[64], digest[32];
} tinyfoa_sha;
void tinyfoa_sha_begin(tinyfoa_sha *sha);
uint8_t *tinyfoa_sha_room(tinyfoa_sha *sha, uint32_t *bytes);
void tinyfoa_sha_added(tinyfoa_sha *sha, uint32_t bytes);
void tinyfoa_sha_add(tinyfoa_sha *sha, const void *from, uint32_t bytes);
void tinyfoa_sha_end(tinyfoa_sha *sha, uint8_t out[32]);

/* tinyfoa_parameters.c: the weights of the layer in training, between flash and arena */
int tinyfoa_initialize(tinyfoa *t);
int tinyfoa_restore(tinyfoa *t);
int tinyfoa_flush(tinyfoa *t);
int tinyfoa_exchange(tinyfoa *t, uint32_t k);
int tinyfoa_move_row(tinyfoa *t, uint32_t row, int back);
int tinyfoa_digest_row(tinyfoa *t, uint32_t o, tinyfoa_sha *sha);
uint64_t tinyfoa_publish(const tinyfoa_layer *l, const float *w, uint32_t columns, uint32_t *signs, int *lost);
void tinyfoa_slice(const tinyfoa_layer *l, uint32_t k, uint32_t part[4]);

/* tinyfoa_forward.c */
void tinyfoa_products(const tinyfoa_layer *l, const uint32_t *signs, uint32_t rows, const void *x, uint32_t *tables,
                      void *z);
float tinyfoa_z(const tinyfoa_layer *l, const void *z, uint32_t r, int32_t whole, float shift, float gain, float bias);
int32_t tinyfoa_whole(const tinyfoa_layer *l, const void *x);
float tinyfoa_shift_of(const tinyfoa_layer *l, const uint32_t *signs);
int tinyfoa_forward(tinyfoa *t, uint32_t samples, int hand_over);
int tinyfoa_softmax(tinyfoa *t, uint32_t samples);

/* tinyfoa_update.c */
void tinyfoa_schedule(tinyfoa *t);
void tinyfoa_trained(const tinyfoa *t, uint32_t *from, uint32_t *to);
int tinyfoa_update(tinyfoa *t, uint32_t samples);

#endif
