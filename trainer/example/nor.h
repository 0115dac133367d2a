/* NOR flash in an array: it refuses what a chip would not do, and can lose its power. Part of tinyfoa-np; BSD-3-Clause. */
#ifndef NOR_H
#define NOR_H
#include "../tinyfoa_trainer.h"

typedef struct {
    uint8_t *cells; /* TINYFOA_FLASH_BYTES */
    uint64_t operations; /* units programmed and pages erased */
    uint64_t cut;        /* the operation during which the power goes; 0: never */
    uint32_t random;     /* state of the generator that says how much of it was done */
    uint32_t worn;       /* the most erasures of one page that are counted: of the roots */
    int off;
} nor_flash;

void nor_begin(nor_flash *nor, uint8_t *cells); /* erased cells */
void nor_power(nor_flash *nor, uint64_t operations); /* on again, until so many more operations; 0: for ever */
tinyfoa_flash nor_driver(nor_flash *nor);
#endif
