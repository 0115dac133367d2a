/* A computer: data.bin from a file. Part of tinyfoa-np; BSD-3-Clause. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "port.h"

const uint8_t *port_data;
const uint32_t port_instructions_per_tick = 0;
extern uint32_t example_cuts, example_seed;

/* example DATA [--cuts N SEED] */
int port_begin(int argc, char **argv) {
    FILE *file;
    long size;
    uint8_t *data;
    if (argc < 2 || !(file = fopen(argv[1], "rb"))) return 1;
    if (argc == 5 && !strcmp(argv[2], "--cuts")) {
        example_cuts = (uint32_t)strtoul(argv[3], NULL, 10);
        example_seed = (uint32_t)strtoul(argv[4], NULL, 10);
    }
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    data = size > 0 ? (uint8_t *)malloc((size_t)size) : NULL;
    if (!data || fread(data, 1, (size_t)size, file) != (size_t)size) return 2;
    fclose(file);
    port_data = data;
    return 0;
}

void port_write(const char *text) { fputs(text, stdout); }
uint64_t port_clock(void) { return 0; }
uint32_t port_stack(void) { return 0; }
uint32_t port_text(void) { return 0; }
int port_end(int code) { return code; }
