/* Classifies samples from standard input with the library that `tinyfoa export RUN --to c-header` writes, and prints
   the label and the margin of each:

       cc -O2 -I RUN/firmware examples/classify.c RUN/firmware/tinyfoa_classify.c -o classify -lm
       ./classify < samples.bin

   Samples are uint8_t or float, as tinyfoa_classify.h says, one after the other. */
#include <stdio.h>

#include "tinyfoa_classify.h"

int main(void) {
    static tinyfoa_value sample[TINYFOA_INPUTS];
    float scores[TINYFOA_CLASSES];
    while (fread(sample, sizeof *sample, TINYFOA_INPUTS, stdin) == TINYFOA_INPUTS) {
        int answer = tinyfoa_classify(sample, scores);
        printf("%s %g\n", tinyfoa_labels[answer], (double)tinyfoa_margin(scores));
    }
    return 0;
}
