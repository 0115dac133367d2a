/* Trains on the samples of data.bin, classifies the tests, and prints one line of JSON. Part of tinyfoa-np; BSD-3-Clause.

   EXAMPLE_CHUNKS=300,300,400 (bytes of code, not of data) trains on chunks of a stream, each for one epoch.
   On a computer: example data.bin [--cuts N SEED]; with cuts, the flash loses its power N times. */
#include "../tinyfoa_trainer.h"

#include <string.h>

#include "data.h"
#include "nor.h"
#include "port.h"

#ifndef EXAMPLE_CHUNKS
#define EXAMPLE_CHUNKS EXAMPLE_TRAINING
#define EPOCHS 0
#else
#define EPOCHS 1
#endif
#ifndef EXAMPLE_LONGEST
#define EXAMPLE_LONGEST 3000 /* operations of the flash between two cuts of its power */
#endif
#define PATTERN 0xA5
#define ROW (TINYFOA_INPUTS * (TINYFOA_FLOATS ? 4 : 1))
#define PADDED(bytes) (((size_t)(bytes) + 3) / 4 * 4)

static uint64_t arena[(TINYFOA_ARENA_BYTES + 7) / 8];
static uint8_t cells[TINYFOA_FLASH_BYTES];
static const uint32_t chunks[] = {EXAMPLE_CHUNKS};
static const uint8_t *chunk_inputs;
static const uint16_t *chunk_labels;
uint32_t example_cuts, example_seed = 1; /* set by a port */

/* -- text ----------------------------------------------------------------------------------------------------------- */

static uint64_t tenth_of(uint64_t power) {
    uint64_t tenth = 1;
    while (power > 1 && tenth * 10 < power) tenth *= 10;
    return power > 1 ? tenth : 0;
}

static void number(uint64_t value) { /* without a 64-bit division, which a device might have for nothing else */
    uint64_t power = UINT64_C(10000000000000000000), more = value;
    char text[2] = "0";
    while (power > 1 && power > value) power = tenth_of(power);
    for (; power; power = tenth_of(power)) {
        for (text[0] = '0'; more >= power; more -= power) text[0]++;
        port_write(text);
    }
}

static void field(const char *name, uint64_t value, int known) {
    port_write(", \"");
    port_write(name);
    port_write("\": ");
    if (known) number(value);
    else port_write("null");
}

static int complain(const char *what, int rc) {
    port_write("{\"error\": \"");
    port_write(what);
    port_write("\", \"code\": ");
    if (rc < 0) port_write("-");
    number((uint64_t)(rc < 0 ? -rc : rc));
    port_write("}\n");
    return port_end(1);
}

/* -- data ----------------------------------------------------------------------------------------------------------- */

#if !TINYFOA_MAPPED
static int read_samples(void *user, uint32_t first, uint32_t count, void *inputs, uint16_t *labels) {
    (void)user;
    if (inputs) memcpy(inputs, chunk_inputs + (size_t)first * ROW, (size_t)count * ROW);
    memcpy(labels, chunk_labels + first, 2 * count);
    return 0;
}
#endif

static tinyfoa_data samples(uint32_t first, uint32_t count) {
    tinyfoa_data data;
    memset(&data, 0, sizeof data);
    chunk_inputs = port_data + (size_t)first * ROW;
    chunk_labels = (const uint16_t *)(const void *)(port_data + PADDED((size_t)EXAMPLE_TRAINING * ROW)) + first;
    data.count = count;
#if TINYFOA_MAPPED
    data.inputs = chunk_inputs;
    data.labels = chunk_labels;
#else
    data.read = read_samples;
#endif
    return data;
}

static uint32_t wrong_answers(tinyfoa *t, int *rc) {
    const uint8_t *x = port_data + PADDED((size_t)EXAMPLE_TRAINING * ROW) + PADDED(2 * (size_t)EXAMPLE_TRAINING);
    const uint16_t *labels = (const uint16_t *)(const void *)(x + PADDED((size_t)EXAMPLE_TESTS * ROW));
    float scores[TINYFOA_CLASSES];
    uint32_t n, wrong = 0;
    for (n = 0; n < EXAMPLE_TESTS; n++, x += ROW) {
        int answer = tinyfoa_predict(t, x, scores);
        if (answer < 0) *rc = answer;
        wrong += answer != labels[n];
    }
    return wrong;
}

/* -- training ------------------------------------------------------------------------------------------------------- */

static uint64_t written, erased, instructions, steps;
static uint32_t stack;

/* On again after a cut of the power, with whatever the arena holds: 1 if the fit has ended already. */
static int resume(tinyfoa *t, nor_flash *nor, const tinyfoa_data *data, uint32_t epochs) {
    tinyfoa_flash driver = nor_driver(nor);
    tinyfoa_progress now;
    int rc;
    do {
        written += t->written;
        erased += t->erased;
        example_seed = example_seed * 1664525u + 1013904223u;
        nor_power(nor, example_cuts ? 1 + (example_seed >> 8) % EXAMPLE_LONGEST : 0);
        if (example_cuts) example_cuts--;
        memset(arena, (int)(example_seed >> 24), sizeof arena);
        rc = tinyfoa_open(t, arena, sizeof arena, &driver);
        if (rc == 0) {
            tinyfoa_where(t, &now);
            if (!now.training && now.epochs == epochs) return 1;
            rc = tinyfoa_fit_begin(t, data, EPOCHS);
        }
    } while (rc == TINYFOA_FLASH && nor->off);
    return rc;
}

/* Trains on a chunk, after which so many epochs are done in all. */
static int fit(tinyfoa *t, nor_flash *nor, uint32_t first, uint32_t count, uint32_t epochs) {
    tinyfoa_data data = samples(first, count);
    tinyfoa_progress before, after;
    int rc = tinyfoa_fit_begin(t, &data, EPOCHS);
    if (rc == TINYFOA_FLASH && nor->off) rc = resume(t, nor, &data, epochs);
    while (rc == 0) {
        uint64_t clock;
        tinyfoa_where(t, &before);
        clock = port_clock();
        rc = tinyfoa_step(t);
        clock = port_clock() - clock;
        tinyfoa_where(t, &after);
        if (after.seen != before.seen && before.batch + 1 < before.batches) steps++, instructions += clock;
        if (port_stack() > stack) stack = port_stack();
        if (rc == TINYFOA_DONE) return 0;
        if (rc == TINYFOA_MORE) rc = 0;
        if (rc == TINYFOA_FLASH && nor->off) rc = resume(t, nor, &data, epochs);
    }
    return rc == 1 ? 0 : rc;
}

static void print_result(tinyfoa *t, const uint8_t digest[32], uint32_t wrong, uint32_t watermark, uint64_t operations) {
    static const char digits[] = "0123456789abcdef";
    char hex[65];
    uint32_t n, percent = EXAMPLE_TESTS ? (uint32_t)((uint64_t)wrong * 1000000u / EXAMPLE_TESTS) : 0;
    for (n = 0; n < 64; n++) hex[n] = digits[digest[n / 2] >> (n % 2 ? 0 : 4) & 15];
    hex[64] = 0;
    port_write("{\"model_sha256\": \"");
    port_write(hex);
    port_write("\", \"error_pct\": ");
    number(percent / 10000);
    port_write(".");
    for (n = 1000; n; n /= 10) number(percent / n % 10);
    field("arena_bytes", TINYFOA_ARENA_BYTES, 1);
    field("watermark_bytes", watermark, 1);
    field("stack_bytes", stack, stack != 0);
    field("text_bytes", port_text(), port_text() != 0);
    field("flash_written_bytes", written + t->written, 1);
    field("flash_erased_pages", erased + t->erased, 1);
    field("flash_operations", operations, 1);
    field("instructions_per_step", steps ? instructions * port_instructions_per_tick / steps : 0,
          steps && port_instructions_per_tick);
    port_write("}\n");
}

int main(int argc, char **argv) {
    tinyfoa t;
    nor_flash nor;
    tinyfoa_flash driver;
    uint8_t digest[32];
    uint32_t n, first = 0, epochs = TINYFOA_EPOCHS_BEFORE, watermark = TINYFOA_ARENA_BYTES, wrong;
    int rc = port_begin(argc, argv);
    if (rc) return complain("the example cannot begin", rc);
    if ((rc = tinyfoa_selftest())) return complain("selftest", rc);
    memset(arena, PATTERN, sizeof arena);
    nor_begin(&nor, cells);
    driver = nor_driver(&nor);
    rc = tinyfoa_open(&t, arena, sizeof arena, &driver);
    if (rc) return complain("open", rc);
    if (example_cuts) nor_power(&nor, 1000);
    for (n = 0; n < sizeof chunks / sizeof *chunks; n++) {
        epochs += EPOCHS ? EPOCHS : TINYFOA_EPOCHS;
        rc = fit(&t, &nor, first, chunks[n], epochs);
        if (rc) return complain("fit", rc);
        first += chunks[n];
    }
    nor_power(&nor, 0);
    while (watermark && ((const uint8_t *)arena)[watermark - 1] == PATTERN) watermark--;
    wrong = wrong_answers(&t, &rc);
    if (rc) return complain("predict", rc);
    rc = tinyfoa_digest(&t, digest);
    if (rc) return complain("digest", rc);
    print_result(&t, digest, wrong, watermark, nor.operations);
    return port_end(0);
}
