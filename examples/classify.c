/* Classifies samples from standard input with a network from `tinyfoa export RUN --to c-header`, a class a line:

       cc -O2 -ffp-contract=off -I RUN examples/classify.c -o classify -lm && ./classify < samples.bin

   Sums have the order they have in training, and -ffp-contract=off keeps a compiler from fusing what is rounded twice:
   the answers are those of `tinyfoa predict`. Beside the constants this takes two rows of outputs and the logits. */
#include <math.h>
#include <stdio.h>
#include "model.h"

#define WORDS(bits) (((bits) + 31) / 32)
#define BIT(row, i) ((row)[(i) / 32] >> (i) % 32 & 1)
union outputs { uint32_t bits[WORDS(TINYFOA_WIDEST)]; float values[TINYFOA_BINARY_ACTIVATIONS ? 1 : TINYFOA_WIDEST]; };

/* inputs . row of neuron o: x is bytes or floats where it is a sample, else bits or floats */
static float product(const struct tinyfoa_layer *layer, int sample, const void *x, int o) {
    const uint32_t *signs = (const uint32_t *)layer->weights + o * WORDS(layer->inputs), *bits = x;
    const float *weights = (const float *)layer->weights + (TINYFOA_BINARY_WEIGHTS ? 0 : o * layer->inputs);
    int bytes = sample && TINYFOA_BYTES, binary = !sample && TINYFOA_BINARY_ACTIVATIONS, sum = 0, all = 0;
    float z = 0;
    if (TINYFOA_BINARY_WEIGHTS && binary) {
        for (int k = 0; k < WORDS(layer->inputs); k++)
            sum += 2 * __builtin_popcount(bits[k] & signs[k]) - __builtin_popcount(bits[k]);
        return sum;
    }
    for (int i = 0; i < layer->inputs; i++) {
        int byte = bytes ? ((const uint8_t *)x)[i] : 0, sign = TINYFOA_BINARY_WEIGHTS ? 2 * (int)BIT(signs, i) - 1 : 0;
        float value = bytes ? byte : binary ? BIT(bits, i) : ((const float *)x)[i];
        if (sample) value = TINYFOA_SEEN(value, i);
        if (!TINYFOA_BINARY_WEIGHTS || !bytes) z = fmaf(TINYFOA_BINARY_WEIGHTS ? sign : weights[i], value, z);
        sum += sign * byte, all += sign;
    }
    return TINYFOA_BINARY_WEIGHTS && bytes ? TINYFOA_SCALE * sum + TINYFOA_OFFSET * all : z;
}

int tinyfoa_classify(const void *x) {
    static union outputs out[2];
    float logits[TINYFOA_CLASSES] = {0};
    int best = 0;
    for (int l = 0; l < TINYFOA_LAYERS; x = &out[l++ % 2]) {
        const struct tinyfoa_layer *layer = &tinyfoa_layers[l];
        union outputs *h = &out[l % 2];
        for (int o = 0; o < layer->outputs; o++) {
            float z = layer->gain * product(layer, l == 0, x, o) + layer->bias[o], on = z > 0 ? z : 0;
            if (!TINYFOA_BINARY_ACTIVATIONS) h->values[o] = on;
            else h->bits[o / 32] = (o % 32 ? h->bits[o / 32] : 0) | (uint32_t)(z > 0) << o % 32;
            for (int c = 0; l == TINYFOA_LAYERS - 1 && c < TINYFOA_CLASSES; c++) {
                float p = tinyfoa_projection[o * TINYFOA_CLASSES + c];
                logits[c] = TINYFOA_BINARY_ACTIVATIONS ? logits[c] + (z > 0 ? p : 0) : fmaf(on, p, logits[c]);
            }
        }
    }
    for (int c = 1; c < TINYFOA_CLASSES; c++) if (logits[c] > logits[best]) best = c;
    return best;
}

int main(void) {
    static union { uint8_t bytes[TINYFOA_INPUTS]; float values[TINYFOA_INPUTS]; } sample;
    while (fread(&sample, TINYFOA_BYTES ? 1 : sizeof(float), TINYFOA_INPUTS, stdin) == TINYFOA_INPUTS)
        printf("%d\n", tinyfoa_classify(&sample));
    return 0;
}
