/* Bare metal on RV32 of qemu's virt board: start, serial port, test finisher. Part of tinyfoa-np; BSD-3-Clause. */
#include "port.h"

#define PAINT 0xA5A5A5A5u

extern const uint8_t example_data[];
extern uint32_t bss_start, bss_end, text_start, text_end, stack_top, stack_limit;
extern int main(int argc, char **argv);
const uint8_t *port_data;
const uint32_t port_instructions_per_tick = 1; /* with -icount the cycle counter counts instructions */

void port_write(const char *text) {
    while (*text) *(volatile uint8_t *)0x10000000u = (uint8_t)*text++;
}

int port_end(int code) {
    *(volatile uint32_t *)0x00100000u = code ? (uint32_t)code << 16 | 0x3333u : 0x5555u;
    for (;;) {
    }
}

uint64_t port_clock(void) {
    uint32_t high, low, again;
    do {
        __asm__ volatile(".option arch, +zicsr\n csrr %0, mcycleh" : "=r"(high));
        __asm__ volatile(".option arch, +zicsr\n csrr %0, mcycle" : "=r"(low));
        __asm__ volatile(".option arch, +zicsr\n csrr %0, mcycleh" : "=r"(again));
    } while (high != again);
    return (uint64_t)high << 32 | low;
}

int port_begin(int argc, char **argv) {
    (void)argc, (void)argv;
    port_data = example_data;
    return 0;
}

uint32_t port_stack(void) {
    const uint32_t *p = &stack_limit;
    while (*p == PAINT) p++;
    return (uint32_t)(4 * (&stack_top - p));
}

uint32_t port_text(void) { return (uint32_t)(4 * (&text_end - &text_start)); }

void begin(void);
void begin(void) {
    uint32_t *p;
    for (p = &bss_start; p < &bss_end;) *p++ = 0;
    for (p = &stack_limit; p < (uint32_t *)__builtin_frame_address(0) - 8;) *p++ = PAINT;
    port_end(main(0, (char **)0));
}

__asm__(".section .start, \"ax\"\n.globl _start\n_start:\n la sp, stack_top\n j begin\n");
