/* What the example needs of a machine. Part of tinyfoa-np; BSD-3-Clause. */
#ifndef PORT_H
#define PORT_H
#include <stdint.h>

extern const uint8_t *port_data;  /* data.bin: training inputs, labels, test inputs, labels */

int port_begin(int argc, char **argv); /* 0, or why the program cannot run */
void port_write(const char *text);     /* to standard output */
uint64_t port_clock(void);             /* a count that grows; port_instructions of it are one instruction */
extern const uint32_t port_instructions_per_tick; /* 0: the clock does not count instructions */
uint32_t port_stack(void);             /* bytes of stack used so far; 0: not known */
uint32_t port_text(void);              /* bytes of code: the library and what it calls; 0: not known */
int port_end(int code);
#endif
