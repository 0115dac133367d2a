/* Bare metal on the Cortex-M of qemu's mps2 boards: vector table, semihosting, SysTick. Part of tinyfoa-np; BSD-3-Clause. */
#include "port.h"

#define STACK_BYTES 4096u
#define PAINT 0xA5A5A5A5u
#define REGISTER(address) (*(volatile uint32_t *)(address))

extern const uint8_t example_data[];
extern uint32_t data_load, data_start, data_end, bss_start, bss_end, text_start, text_end, stack_top, stack_limit;
extern int main(int argc, char **argv);
const uint8_t *port_data;
/* With -icount shift=0 an instruction takes 1 ns of the emulated time, and the boards' clock has 25 MHz. */
const uint32_t port_instructions_per_tick = 40;
static volatile uint32_t wraps;

static uint32_t semihosting(uint32_t operation, const void *argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void port_write(const char *text) { semihosting(4, text); }

int port_end(int code) {
    uint32_t reason[2] = {0x20026, (uint32_t)code}; /* the application ended */
    semihosting(0x20, reason);
    for (;;) {
    }
}

static void tick(void) { wraps++; }

uint64_t port_clock(void) {
    uint32_t before, now;
    do {
        before = wraps;
        now = 0xFFFFFFu - REGISTER(0xE000E018u);
    } while (before != wraps);
    return (uint64_t)before * 0x1000000u + now;
}

int port_begin(int argc, char **argv) {
    (void)argc, (void)argv;
    port_data = example_data;
    REGISTER(0xE000E014u) = 0xFFFFFFu; /* SysTick: from 2^24 - 1 down, processor clock, interrupt */
    REGISTER(0xE000E018u) = 0;
    REGISTER(0xE000E010u) = 7;
    return 0;
}

uint32_t port_stack(void) {
    const uint32_t *p = &stack_limit;
    while (*p == PAINT) p++;
    return (uint32_t)(4 * (&stack_top - p));
}

uint32_t port_text(void) { return (uint32_t)(4 * (&text_end - &text_start)); }

static void fault(void) {
    port_write("{\"error\": \"fault\"}\n");
    port_end(2);
}

void reset(void);
void reset(void) {
    uint32_t *p, *from = &data_load;
#if defined(__ARM_FP)
    REGISTER(0xE000ED88u) |= 0xFu << 20; /* the floating-point unit: on */
    __asm__ volatile("dsb\n isb");
#endif
    for (p = &data_start; p < &data_end;) *p++ = *from++;
    for (p = &bss_start; p < &bss_end;) *p++ = 0;
    for (p = &stack_limit; p < (uint32_t *)__builtin_frame_address(0) - 8;) *p++ = PAINT;
    port_end(main(0, (char **)0));
}

typedef void (*vector)(void);
__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    (vector)(uintptr_t)&stack_top, reset, fault, fault, fault, fault, fault, 0, 0, 0, 0, fault, fault, 0, fault, tick};
