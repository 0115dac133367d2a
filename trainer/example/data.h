/* Samples in data.bin. */
#define EXAMPLE_TRAINING 48
#define EXAMPLE_TESTS 12
