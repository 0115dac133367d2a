/* @what@: @constants@ bytes of constants, @scratch@ bytes of RAM. Written by tinyfoa-np.

   The scores are those of Python, to the bit: sums have the order of training, and what is rounded twice is not fused.
   Link with the mathematical library (-lm). */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("fp-contract=off")
#elif defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#include <float.h>
#include <math.h>
#include <string.h>

#include "tinyfoa_classify.h"
#include "tinyfoa_model.h"

#if defined(__FAST_MATH__)
#error "compile without -ffast-math: it changes answers"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0
#error "float and double must be computed in their own precision (on x86: -msse2 -mfpmath=sse)"
#endif
#if FLT_MANT_DIG != 24 || DBL_MANT_DIG != 53
#error "float and double must have 32 and 64 bits"
#endif

const char *const tinyfoa_labels[TINYFOA_CLASSES] = {
@labels@};

@parts@@block@

int tinyfoa_classify(const tinyfoa_value *x, float *scores) {
@body@
}

float tinyfoa_margin(const float *scores) {
    int c, best = scores[1] > scores[0];
    float second = scores[!best];
    for (c = 2; c < TINYFOA_CLASSES; c++) {
        if (scores[c] > scores[best]) {
            second = scores[best];
            best = c;
        } else if (scores[c] > second) {
            second = scores[c];
        }
    }
    return scores[best] - second;
}
