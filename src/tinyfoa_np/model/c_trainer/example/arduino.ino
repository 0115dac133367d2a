/* Learns from a sensor while the sketch does other work. Part of tinyfoa-np; BSD-3-Clause.

   Put this file and all tinyfoa_* files into one folder of the sketch's name. Samples are collected in RAM until a chunk
   is full; it is then trained on, one bounded step per loop(), and the next chunk begins. Flash is emulated in RAM here:
   replace the three functions by those of your board. Export with --samples copied, so that read_chunk is asked. */
extern "C" {
#include "tinyfoa_trainer.h"
}

const uint32_t CHUNK = 64;
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

static int read_chunk(void *, uint32_t first, uint32_t count, void *x, uint16_t *y) {
    if (x) memcpy(x, inputs[first], count * sizeof inputs[0]);
    memcpy(y, labels + first, count * sizeof labels[0]);
    return 0;
}

/* Yours: one sample and its label; false: there is none now. */
static bool sense(value_t *x, uint16_t *label) {
    for (uint32_t i = 0; i < TINYFOA_INPUTS; i++) x[i] = (value_t)(analogRead(A0) >> 2);
    *label = 0;
    return true;
}

void setup() {
    Serial.begin(115200);
    tinyfoa_flash flash = {flash_read, flash_program, flash_erase, NULL, NULL};
    memset(cells, 0xFF, sizeof cells);
    int rc = tinyfoa_selftest();
    if (rc == 0) rc = tinyfoa_open(&trainer, arena, sizeof arena, &flash);
    if (rc != 0) Serial.println(rc);
}

void loop() {
    tinyfoa_progress now;
    tinyfoa_where(&trainer, &now);
    if (now.training) { /* a bounded piece of work, then the rest of the sketch */
        int rc = tinyfoa_step(&trainer);
        if (rc < 0) Serial.println(rc);
        if (rc == TINYFOA_DONE) collected = 0;
        return;
    }
    if (collected < CHUNK) {
        float scores[TINYFOA_CLASSES];
        if (!sense(inputs[collected], &labels[collected])) return;
        if (now.epochs) Serial.println(tinyfoa_predict(&trainer, inputs[collected], scores));
        collected++;
        return;
    }
    tinyfoa_data chunk = {CHUNK, NULL, NULL, read_chunk, NULL};
    int rc = tinyfoa_fit_begin(&trainer, &chunk, 1);
    if (rc < 0) Serial.println(rc);
}
