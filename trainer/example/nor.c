/* NOR flash in an array: a cell is programmed once after each erasure, in whole units; pages are erased whole. */
#include "nor.h"

#include <string.h>

static uint32_t drawn(nor_flash *nor) { /* xorshift (Marsaglia 2003) */
    nor->random ^= nor->random << 13;
    nor->random ^= nor->random >> 17;
    nor->random ^= nor->random << 5;
    return nor->random;
}

void nor_begin(nor_flash *nor, uint8_t *cells) {
    memset(nor, 0, sizeof *nor);
    nor->cells = cells;
    nor->random = 2463534242u;
    memset(cells, 0xFF, TINYFOA_FLASH_BYTES);
}

void nor_power(nor_flash *nor, uint64_t operations) {
    nor->off = 0;
    nor->cut = operations ? nor->operations + operations : 0;
}

/* Whether the power goes during this operation. */
static int goes(nor_flash *nor) {
    nor->operations++;
    if (nor->operations == nor->cut) nor->off = 1;
    return nor->off;
}

static int nor_read(void *user, uint32_t at, void *to, uint32_t bytes) {
    nor_flash *nor = (nor_flash *)user;
    if (nor->off || at > TINYFOA_FLASH_BYTES || bytes > TINYFOA_FLASH_BYTES - at) return -1;
    memcpy(to, nor->cells + at, bytes);
    return 0;
}

static int nor_program(void *user, uint32_t at, const void *from, uint32_t bytes) {
    nor_flash *nor = (nor_flash *)user;
    const uint8_t *source = (const uint8_t *)from;
    uint32_t k, n;
    if (nor->off || at % TINYFOA_UNIT_BYTES || bytes % TINYFOA_UNIT_BYTES) return -1;
    if (at > TINYFOA_FLASH_BYTES || bytes > TINYFOA_FLASH_BYTES - at) return -1;
#if !TINYFOA_STREAMED && !TINYFOA_SIGNS_IN_FLASH
    for (k = 0; k < bytes; k++)
        if (nor->cells[at + k] != 0xFF) return -1; /* not erased */
#endif
    for (k = 0; k < bytes; k += TINYFOA_UNIT_BYTES) {
        if (goes(nor)) { /* some of the unit's bits became 0 */
            for (n = 0; n < TINYFOA_UNIT_BYTES; n++)
                nor->cells[at + k + n] = (uint8_t)(source[k + n] | (drawn(nor) & nor->cells[at + k + n]));
            return -1;
        }
        memcpy(nor->cells + at + k, source + k, TINYFOA_UNIT_BYTES);
    }
    return 0;
}

static int nor_erase(void *user, uint32_t at) {
    nor_flash *nor = (nor_flash *)user;
    uint32_t n;
    if (nor->off || at % TINYFOA_PAGE_BYTES || at >= TINYFOA_FLASH_BYTES) return -1;
    if (goes(nor)) { /* some of the page's bits became 1 */
        for (n = 0; n < TINYFOA_PAGE_BYTES; n++) nor->cells[at + n] |= (uint8_t)drawn(nor);
        return -1;
    }
    memset(nor->cells + at, 0xFF, TINYFOA_PAGE_BYTES);
    return 0;
}

tinyfoa_flash nor_driver(nor_flash *nor) {
    tinyfoa_flash driver;
    driver.read = nor_read;
    driver.program = nor_program;
    driver.erase = nor_erase;
    driver.sync = NULL;
    driver.user = nor;
    return driver;
}
