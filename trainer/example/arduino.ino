/* Learns from a sensor while the sketch does other work. Part of tinyfoa-np; BSD-3-Clause.

   Put this file, under the sketch's name, and all tinyfoa_* files into one folder of that name. Samples are collected in
   RAM until a chunk is full; the network then trains on it, one bounded step per loop(), and the next chunk begins.

   Yours to write: sense(), answered(), and the three functions of the flash, which is emulated in RAM here. */
#include <Arduino.h>

#include "tinyfoa_trainer.h"

const uint32_t CHUNK = TINYFOA_SAMPLES < 64 ? TINYFOA_SAMPLES : 64;
#if TINYFOA_FLOATS
typedef float value_t;
#else
typedef uint8_t value_t;
#endif

static uint64_t arena[(TINYFOA_ARENA_BYTES + 7) / 8];
static uint8_t cells[TINYFOA_FLASH_BYTES];
static value_t inputs[CHUNK][TINYFOA_INPUTS];
static uint16_t labels[CHUNK];
static uint32_t collected = 0;
static tinyfoa trainer;
static int failure = 0;

/* -- flash ---------------------------------------------------------------------------------------------------------- */

static int flash_read(void *, uint32_t at, void *to, uint32_t bytes) {
    memcpy(to, cells + at, bytes);
    return 0;
}

static int flash_program(void *, uint32_t at, const void *from, uint32_t bytes) {
    memcpy(cells + at, from, bytes);
    return 0;
}

static int flash_erase(void *, uint32_t at) {
    memset(cells + at, 0xFF, TINYFOA_PAGE_BYTES);
    return 0;
}

/* -- samples -------------------------------------------------------------------------------------------------------- */

/* Asked if the trainer was exported with --samples copied; otherwise it reads inputs and labels where they lie. */
static int read_chunk(void *, uint32_t first, uint32_t count, void *x, uint16_t *y) {
    if (x) memcpy(x, inputs[first], count * sizeof inputs[0]);
    memcpy(y, labels + first, count * sizeof labels[0]);
    return 0;
}

/* One sample and its label; false: there is none now. */
static bool sense(value_t *x, uint16_t *label) {
    for (uint32_t i = 0; i < TINYFOA_INPUTS; i++) x[i] = (value_t)(analogRead(A0) >> 2);
    *label = 0;
    return true;
}

/* What the network says of a sample. */
static void answered(int answer) { Serial.println(answer); }

/* ------------------------------------------------------------------------------------------------------------------- */

/* Keeps the first failure; after it the sketch goes on without the trainer. */
static bool works(int rc) {
    if (rc < 0 && !failure) {
        failure = rc;
        Serial.print("tinyfoa: error ");
        Serial.println(rc);
    }
    return !failure;
}

void setup() {
    Serial.begin(115200);
    memset(cells, 0xFF, sizeof cells); /* not with your own flash: what it holds is the training so far */
    tinyfoa_flash flash = {flash_read, flash_program, flash_erase, NULL, NULL};
    tinyfoa_progress now;
    if (!works(-tinyfoa_selftest()) || !works(tinyfoa_open(&trainer, arena, sizeof arena, &flash))) return;
    tinyfoa_where(&trainer, &now);
    /* The power went during a training, and its samples went with it. Samples that outlast a power cut would be given to
       tinyfoa_fit_begin again, and nothing would be lost; without them all begins anew. */
    if (now.training) works(tinyfoa_reset(&trainer));
}

void loop() {
    tinyfoa_progress now;
    if (failure) return;
    tinyfoa_where(&trainer, &now);
    if (now.training) { /* a bounded piece of work, then the rest of the sketch */
        int rc = tinyfoa_step(&trainer);
        if (works(rc) && rc == TINYFOA_DONE) collected = 0;
        return;
    }
    if (collected < CHUNK) {
        float scores[TINYFOA_CLASSES];
        if (!sense(inputs[collected], &labels[collected])) return;
        if (now.epochs) answered(tinyfoa_predict(&trainer, inputs[collected], scores));
        collected++;
        return;
    }
    tinyfoa_data chunk = {CHUNK, inputs, labels, read_chunk, NULL};
    works(tinyfoa_fit_begin(&trainer, &chunk, 1));
}
