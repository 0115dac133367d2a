/* @what@. Written by tinyfoa-np. */
#ifndef TINYFOA_CLASSIFY_H
#define TINYFOA_CLASSIFY_H
#include <stdint.h>

#define TINYFOA_INPUTS @inputs@
#define TINYFOA_CLASSES @classes@

#ifdef __cplusplus
extern "C" {
#endif

/* One input of a sample, as it was trained on: scaling is part of the model. */
typedef @value@ tinyfoa_value;

/* What the classes are called, in UTF-8. */
extern const char *const tinyfoa_labels[TINYFOA_CLASSES];

/* The class of a sample, from 0; the first of equals.

   x has TINYFOA_INPUTS values, none of them infinite or not a number. scores, if it is not a null pointer, gets
   TINYFOA_CLASSES numbers, of which that of the class is the largest. The function computes in @scratch@ static bytes:
   one call at a time.@columns@ */
int tinyfoa_classify(const tinyfoa_value *x, float *scores);

/* How far the largest of the scores is above the second: reject a sample where this is below a threshold, which the
   margins of known samples show. */
float tinyfoa_margin(const float *scores);

#ifdef __cplusplus
}
#endif
#endif
