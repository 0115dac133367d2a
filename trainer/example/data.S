/* The samples of data.bin. */
    .section .samples, "a"
    .balign 8
    .globl example_data
example_data:
    .incbin "data.bin"
