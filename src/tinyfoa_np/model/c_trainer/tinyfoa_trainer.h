/* Trains a fully connected TinyFoA network, and classifies with it, inside one block of the caller's bytes.
   Part of tinyfoa-np; BSD-3-Clause. The same for every recipe: sizes and offsets come from tinyfoa_config.h and .c.

       static uint64_t arena[(TINYFOA_ARENA_BYTES + 7) / 8];
       tinyfoa t;
       tinyfoa_open(&t, arena, sizeof arena, &flash);          goes on from the last commit, if there is one
       tinyfoa_fit_begin(&t, &data, 0);                        all epochs; 1: the next epoch only, for a stream of chunks
       while ((rc = tinyfoa_step(&t)) == TINYFOA_MORE) ...     one batch or less per call
       tinyfoa_predict(&t, sample, scores);

   Nothing is allocated and nothing is global. The trained weights have the bits of `tinyfoa train`. */
#ifndef TINYFOA_TRAINER_H
#define TINYFOA_TRAINER_H

#include <stddef.h>
#include <stdint.h>

#include "tinyfoa_config.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    TINYFOA_DONE = 0,
    TINYFOA_MORE = 1,
    TINYFOA_ARGUMENT = -1,  /* the arena is too small or not aligned to 8 bytes, a pointer is missing, no samples */
    TINYFOA_FLASH = -2,     /* the flash driver reported a failure */
    TINYFOA_DAMAGED = -3,   /* flash does not hold what was written there */
    TINYFOA_DIVERGED = -4,  /* a loss, a weight or a moment is not finite; the last commit is kept */
    TINYFOA_DATA = -5,      /* a label is not below TINYFOA_CLASSES, an input is not finite, or read() failed */
    TINYFOA_OTHER_DATA = -6, /* a training was interrupted, with another number of samples or of epochs */
    TINYFOA_UNTRAINED = -7  /* no training has finished yet */
};

/* Non-volatile memory: TINYFOA_FLASH_BYTES from address 0, erased in pages of TINYFOA_PAGE_BYTES, programmed at
   multiples of TINYFOA_UNIT_BYTES. Each function returns 0, or anything else for a failure.

   What was being programmed or erased when the power went may hold anything. read() must deliver it all the same, as any
   bytes: on chips whose flash has an ECC, a fault while reading means bytes of your choice and 0, not a failure. */
typedef struct {
    int (*read)(void *user, uint32_t at, void *to, uint32_t bytes); /* any address, any number of bytes */
    int (*program)(void *user, uint32_t at, const void *from, uint32_t bytes);
    int (*erase)(void *user, uint32_t at); /* the page that begins there becomes 0xFF */
    int (*sync)(void *user);               /* returns when all of it is lasting; may be NULL */
    void *user;
} tinyfoa_flash;

/* Samples: TINYFOA_INPUTS values each, uint8_t or float (TINYFOA_FLOATS), with labels from 0. */
typedef struct {
    uint32_t count;
    const void *inputs;     /* (count, inputs), where TINYFOA_MAPPED; otherwise read() copies them */
    const uint16_t *labels; /* (count,); likewise */
    /* Copies samples first .. first + count - 1, and their labels; only the labels where inputs is NULL. */
    int (*read)(void *user, uint32_t first, uint32_t count, void *inputs, uint16_t *labels);
    void *user;
} tinyfoa_data;

typedef struct tinyfoa_state tinyfoa_state;

typedef struct { /* pointers and counters; every number that training needs is in the arena */
    uint8_t *arena;
    tinyfoa_state *state;
    tinyfoa_flash flash;
    tinyfoa_data data;
    uint64_t written; /* bytes programmed since tinyfoa_open */
    uint32_t erased;  /* pages erased since tinyfoa_open */
    int failure;      /* after a failure nothing goes on until the next tinyfoa_open */
} tinyfoa;

typedef struct {
    uint32_t layer, epoch, batch, batches; /* of the next step; layers from 0 */
    uint32_t seen, wrong;                  /* samples of the current epoch so far, and wrong answers */
    uint32_t training;                     /* whether a fit has begun and not ended */
    uint32_t epochs;                       /* for which finished fits have trained, in all */
} tinyfoa_progress;

/* Looks for the last commit; the flash of another recipe, or an empty one, is cleared. 0 or an error. The arena stays
   the trainer's until the next tinyfoa_open; the flash driver is copied. */
int tinyfoa_open(tinyfoa *t, void *arena, size_t bytes, const tinyfoa_flash *flash);

/* Samples to train on, for so many epochs of the recipe (0: for all). After an interruption give the same ones. They
   are read until the fit is done: inputs and labels must stay where they are, unchanged. */
int tinyfoa_fit_begin(tinyfoa *t, const tinyfoa_data *data, uint32_t epochs);

/* A bounded piece of work, at most one batch: TINYFOA_MORE, TINYFOA_DONE or an error. Commits after each epoch. */
int tinyfoa_step(tinyfoa *t);

/* Makes everything so far lasting; between steps, whenever it suits. */
int tinyfoa_commit(tinyfoa *t);

/* Forgets all training: the next tinyfoa_fit_begin starts with the initial weights. */
int tinyfoa_reset(tinyfoa *t);

/* The class of a sample, the first with the largest of TINYFOA_CLASSES scores; negative: an error. x is aligned as its
   values are. Between steps the answers are those of the last finished training; they come from flash. */
int tinyfoa_predict(tinyfoa *t, const void *x, float *scores);

/* SHA-256 of the last finished training's network: the model_sha256 of `tinyfoa train`. TINYFOA_DAMAGED: flash does not
   hold that network any more, and tinyfoa_predict would answer by another one; call this once after tinyfoa_open. */
int tinyfoa_digest(tinyfoa *t, uint8_t out[32]);

/* Where the training is. */
void tinyfoa_where(const tinyfoa *t, tinyfoa_progress *out);

/* 0 where compiler and processor round as they must; otherwise the number of the check that failed. */
int tinyfoa_selftest(void);

#ifdef TINYFOA_COLUMNS
/* Puts the columns of a raw sample on the scale that training uses; x may be the raw sample itself. */
void tinyfoa_scale(const float *raw, float *x);
#endif

#ifdef __cplusplus
}
#endif
#endif
