/* The parts that an exported model is put together from: those that it calls are copied, in this order, separated by
   empty lines. Sums have the order they have in training. */

/* How many bits are set. */
static int ones(uint32_t x) {
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    return (int)((((x + (x >> 4)) & 0x0F0F0F0Fu) * 0x01010101u) >> 24);
}

/* Bit i of a row of words. */
static int bit(const uint32_t *row, int i) { return (int)(row[i >> 5] >> (i & 31) & 1u); }

/* Writes bit i of a row of words, all in turn: bits beyond the last one are 0. */
static void put_bit(uint32_t *row, int i, int on) {
    if ((i & 31) == 0) row[i >> 5] = 0;
    row[i >> 5] |= (uint32_t)on << (i & 31);
}

/* a b + c, rounded once. Without an instruction for it: the product is exact as a double; its sum with c is rounded to
   odd, so that the rounding to float that follows is that of the exact sum (Boldo and Melquiond 2008). */
static float fused(float a, float b, float c) {
#if defined(__ARM_FEATURE_FMA) || defined(__FMA__) || defined(__FP_FAST_FMAF)
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * (double)b, sum = product + (double)c, added = sum - product;
    double error = (product - (sum - added)) + ((double)c - added);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (error > 0.0 || error < 0.0) {
        if ((bits & 1u) == 0) bits += (error > 0.0) == (sum > 0.0) ? 1u : ~(uint64_t)0;
    }
    memcpy(&sum, &bits, sizeof bits);
    return (float)sum;
#endif
}

/* tanh x, within 1e-15 of it and with the same bits everywhere. */
static double tanh_of(double x) {
    static const double terms[] = {/* 1/14!, 1/13!, ... 1/1! */
        0x1.93974a8c07c9dp-37, 0x1.6124613a86d09p-33, 0x1.1eed8eff8d898p-29, 0x1.ae64567f544e4p-26,
        0x1.27e4fb7789f5cp-22, 0x1.71de3a556c734p-19, 0x1.a01a01a01a01ap-16, 0x1.a01a01a01a01ap-13,
        0x1.6c16c16c16c17p-10, 0x1.1111111111111p-7, 0x1.5555555555555p-5, 0x1.5555555555555p-3,
        0x1.0000000000000p-1, 0x1.0000000000000p+0};
    const double high = 0x1.62e42fee00000p-1, low = 0x1.a39ef35793c76p-33; /* ln 2 */
    double r, power, less, total = 0.0;
    int k, n;
    uint64_t bits;
    x = x < -20.0 ? -20.0 : x > 20.0 ? 20.0 : x;
    k = (int)(x * (2.0 / (high + low)) + 64.5) - 64; /* e^2x = 2^k e^r */
    r = (2.0 * x - k * high) - k * low;
    for (n = 0; n < (int)(sizeof terms / sizeof *terms); n++) total = total * r + terms[n];
    bits = (uint64_t)(k + 1023) << 52;
    memcpy(&power, &bits, sizeof power);
    less = power * (total * r) + (power - 1.0);
    return less / (less + 2.0);
}

/* How many of n bits are set. */
static int ones_of(const uint32_t *x, int n) {
    int k, sum = 0;
    for (k = 0; k < (n + 31) / 32; k++) sum += ones(x[k]);
    return sum;
}

/* The sum of n bytes, each with its sign. */
static int bytes_by_signs(const uint8_t *x, const uint32_t *signs, int n) {
    int i, sum = 0;
    for (i = 0; i < n; i++) sum += bit(signs, i) ? x[i] : -x[i];
    return sum;
}

/* The sum of n signs. */
static int sum_of_signs(const uint32_t *signs, int n) {
    int k, sum = 0;
    for (k = 0; k < (n + 31) / 32; k++) sum += ones(signs[k]);
    return 2 * sum - n;
}

/* The sum of n bits, each with its sign. */
static int bits_by_signs(const uint32_t *x, const uint32_t *signs, int n) {
    int k, sum = 0;
    for (k = 0; k < (n + 31) / 32; k++) sum += 2 * ones(x[k] & signs[k]) - ones(x[k]);
    return sum;
}

/* The sum of n numbers, each with its sign. */
static float reals_by_signs(const float *x, const uint32_t *signs, int n) {
    int i;
    float sum = 0.0f;
    for (i = 0; i < n; i++) sum += bit(signs, i) ? x[i] : -x[i];
    return sum;
}

/* The sum of n weights whose bits are set. */
static float bits_by_reals(const uint32_t *x, const float *weights, int n) {
    int i;
    float sum = 0.0f;
    for (i = 0; i < n; i++)
        if (bit(x, i)) sum += weights[i];
    return sum;
}

/* The sum of n products. */
static float reals_by_reals(const float *x, const float *weights, int n) {
    int i;
    float sum = 0.0f;
    for (i = 0; i < n; i++) sum = fused(weights[i], x[i], sum);
    return sum;
}

/* The sum of n products with bytes that are seen as scale byte + offset. */
static float bytes_by_reals(const uint8_t *x, float scale, float offset, const float *weights, int n) {
    int i;
    float sum = 0.0f;
    for (i = 0; i < n; i++) sum = fused(weights[i], scale * (float)x[i] + offset, sum);
    return sum;
}

/* The patch around a position, 3 x 3, of `some` channels from `low` on; 0 beyond the border. Channel i of position p is
   element i channel_step + p place_step, seen as scale byte + offset. */
static void patch_of_bytes(const uint8_t *x, int rows, int columns, int channel_step, int place_step, float scale,
                           float offset, int place, int low, int some, float *patch) {
    int tap, i;
    for (tap = 0; tap < 9; tap++) {
        int y = place / columns + tap / 3 - 1, z = place % columns + tap % 3 - 1;
        int inside = y >= 0 && y < rows && z >= 0 && z < columns;
        const uint8_t *from = x + (inside ? (y * columns + z) * place_step + low * channel_step : 0);
        for (i = 0; i < some; i++)
            patch[tap * some + i] = inside ? scale * (float)from[i * channel_step] + offset : 0.0f;
    }
}

/* The same of numbers. */
static void patch_of_reals(const float *x, int rows, int columns, int channel_step, int place_step, int place, int low,
                           int some, float *patch) {
    int tap, i;
    for (tap = 0; tap < 9; tap++) {
        int y = place / columns + tap / 3 - 1, z = place % columns + tap % 3 - 1;
        int inside = y >= 0 && y < rows && z >= 0 && z < columns;
        const float *from = x + (inside ? (y * columns + z) * place_step + low * channel_step : 0);
        for (i = 0; i < some; i++) patch[tap * some + i] = inside ? from[i * channel_step] : 0.0f;
    }
}

/* The same of bits, position by position. */
static void patch_of_bits(const uint32_t *x, int rows, int columns, int channels, int place, int low, int some,
                          uint32_t *patch) {
    int tap, i;
    for (i = 0; i < (9 * some + 31) / 32; i++) patch[i] = 0;
    for (tap = 0; tap < 9; tap++) {
        int y = place / columns + tap / 3 - 1, z = place % columns + tap % 3 - 1;
        if (y < 0 || y >= rows || z < 0 || z >= columns) continue;
        for (i = 0; i < some; i++)
            if (bit(x, (y * columns + z) * channels + low + i)) patch[(tap * some + i) >> 5] |= (uint32_t)1 << ((tap * some + i) & 31);
    }
}

/* The first row or column of part k of an image. */
static int first_of_part(int k, int side, int size) { return k * size / side; }

/* The first one beyond it. */
static int end_of_part(int k, int side, int size) { return ((k + 1) * size + side - 1) / side; }

/* gain times the mean of each channel over the parts of an image of bits. */
static void means_of_bits(const uint32_t *x, int rows, int columns, int channels, int side, float gain, float *out) {
    int part, y, z, i;
    for (part = 0; part < side * side; part++, out += channels) {
        int y0 = first_of_part(part / side, side, rows), y1 = end_of_part(part / side, side, rows);
        int z0 = first_of_part(part % side, side, columns), z1 = end_of_part(part % side, side, columns);
        float factor = gain / (float)((y1 - y0) * (z1 - z0));
        for (i = 0; i < channels; i++) out[i] = 0.0f;
        for (y = y0; y < y1; y++)
            for (z = z0; z < z1; z++)
                for (i = 0; i < channels; i++) out[i] += (float)bit(x, (y * columns + z) * channels + i);
        for (i = 0; i < channels; i++) out[i] *= factor;
    }
}

/* The same of numbers. */
static void means_of_reals(const float *x, int rows, int columns, int channels, int side, float gain, float *out) {
    int part, y, z, i;
    for (part = 0; part < side * side; part++, out += channels) {
        int y0 = first_of_part(part / side, side, rows), y1 = end_of_part(part / side, side, rows);
        int z0 = first_of_part(part % side, side, columns), z1 = end_of_part(part % side, side, columns);
        float factor = gain / (float)((y1 - y0) * (z1 - z0));
        for (i = 0; i < channels; i++) out[i] = 0.0f;
        for (y = y0; y < y1; y++)
            for (z = z0; z < z1; z++)
                for (i = 0; i < channels; i++) out[i] += x[(y * columns + z) * channels + i];
        for (i = 0; i < channels; i++) out[i] *= factor;
    }
}

/* z = x w + bias at some rows of x: (inputs) by (inputs, outputs); with relu, 0 where that is below 0. */
static void connect(const float *x, int rows, int inputs, const float *w, const float *bias, int outputs, int relu,
                    float *z) {
    int r, i, o;
    for (r = 0; r < rows; r++, x += inputs, z += outputs) {
        for (o = 0; o < outputs; o++) z[o] = bias ? bias[o] : 0.0f;
        for (i = 0; i < inputs; i++)
            for (o = 0; o < outputs; o++) z[o] = fused(x[i], w[i * outputs + o], z[o]);
        for (o = 0; relu && o < outputs; o++)
            if (z[o] < 0.0f) z[o] = 0.0f;
    }
}

/* A convolution of maps by weights (high, wide, inputs, outputs), zeros beyond the border. Each position has `below`
   channels, of which the first `inputs` are read, and z `above`, of which the first `outputs` are written. */
static void convolve(const float *x, int rows, int columns, int below, int inputs, const float *w, int high, int wide,
                     const float *bias, int stride, int above, int outputs, int relu, float *z) {
    int r, c, k, l, i, o;
    for (r = 0; r < (rows + stride - 1) / stride; r++)
        for (c = 0; c < (columns + stride - 1) / stride; c++, z += above) {
            for (o = 0; o < outputs; o++) z[o] = bias ? bias[o] : 0.0f;
            for (k = 0; k < high; k++)
                for (l = 0; l < wide; l++) {
                    int y = r * stride - (high - 1) / 2 + k, p = c * stride - (wide - 1) / 2 + l;
                    const float *from, *by = w + (k * wide + l) * inputs * outputs;
                    if (y < 0 || y >= rows || p < 0 || p >= columns) continue;
                    from = x + (y * columns + p) * below;
                    for (i = 0; i < inputs; i++)
                        for (o = 0; o < outputs; o++) z[o] = fused(from[i], by[i * outputs + o], z[o]);
                }
            for (o = 0; relu && o < outputs; o++)
                if (z[o] < 0.0f) z[o] = 0.0f;
        }
}

/* A convolution of each channel by itself: weights (high, wide, channels). */
static void convolve_each(const float *x, int rows, int columns, int channels, const float *w, int high, int wide,
                          int stride, float *z) {
    int r, c, k, l, o;
    for (r = 0; r < (rows + stride - 1) / stride; r++)
        for (c = 0; c < (columns + stride - 1) / stride; c++, z += channels) {
            for (o = 0; o < channels; o++) z[o] = 0.0f;
            for (k = 0; k < high; k++)
                for (l = 0; l < wide; l++) {
                    int y = r * stride - (high - 1) / 2 + k, p = c * stride - (wide - 1) / 2 + l;
                    const float *from, *by = w + (k * wide + l) * channels;
                    if (y < 0 || y >= rows || p < 0 || p >= columns) continue;
                    from = x + (y * columns + p) * channels;
                    for (o = 0; o < channels; o++) z[o] = fused(from[o], by[o], z[o]);
                }
        }
}

/* h = z scale + shift, plus what lies beside it, at each position; with relu, 0 where that is below 0. */
static void normalize(const float *z, int positions, int channels, const float *scale, const float *shift,
                      const float *beside, int relu, float *h) {
    int p, i, at;
    for (p = 0; p < positions; p++)
        for (i = 0; i < channels; i++) {
            at = p * channels + i;
            h[at] = z[at] * scale[i] + shift[i];
            if (beside) h[at] += beside[at];
            if (relu && h[at] < 0.0f) h[at] = 0.0f;
        }
}

/* Means of windows side by side. */
static void pool(const float *x, int rows, int columns, int channels, int high, int wide, float *z) {
    int r, c, k, l, i;
    float over = (float)(1.0 / (high * wide));
    for (r = 0; r < rows / high; r++)
        for (c = 0; c < columns / wide; c++)
            for (i = 0; i < channels; i++) {
                float sum = 0.0f;
                for (k = 0; k < high; k++)
                    for (l = 0; l < wide; l++) sum += x[((r * high + k) * columns + c * wide + l) * channels + i];
                *z++ = sum * over;
            }
}

/* Maxima of windows side by side. */
static void pool_largest(const float *x, int rows, int columns, int channels, int high, int wide, float *z) {
    int r, c, k, l, i;
    for (r = 0; r < rows / high; r++)
        for (c = 0; c < columns / wide; c++)
            for (i = 0; i < channels; i++) {
                float top = x[(r * high * columns + c * wide) * channels + i];
                for (k = 0; k < high; k++)
                    for (l = 0; l < wide; l++) {
                        float value = x[((r * high + k) * columns + c * wide + l) * channels + i];
                        top = value <= top ? top : value;
                    }
                *z++ = top;
            }
}

/* tanh of n numbers, in place. */
static void tanh_of_all(float *x, int n) {
    int i;
    for (i = 0; i < n; i++) x[i] = (float)tanh_of((double)x[i]);
}

/* The sum of n squares. */
static double sum_of_squares(const float *x, int n) {
    int i;
    double sum = 0.0;
    for (i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* What a number is multiplied by so that all have a root mean square of 1: sum is that of n squares. */
static float over_rms(double scale, double sum, int n) { return (float)(scale / (sqrt(sum / n) + 1e-8)); }

/* Adds the goodness of each label's q (classes, width) merged with a vector. */
static void add_goodness(const float *d, int width, const float *q, int classes, int multiplied, double *goodness) {
    int c, o;
    for (c = 0; c < classes; c++, q += width) {
        double sum = 0.0;
        for (o = 0; o < width; o++) {
            double m = multiplied ? (double)d[o] * (double)q[o] : (double)d[o] + (double)q[o];
            sum += m * m;
        }
        goodness[c] += sum;
    }
}

/* The same of maps: a mean over positions and channels; sums has room for a number a channel. */
static void add_goodness_of_maps(const float *d, int positions, int width, const float *q, int classes, int multiplied,
                                 double *sums, double *goodness) {
    int p, o, c;
    double squares = 0.0;
    for (o = 0; o < width; o++) sums[o] = 0.0;
    for (p = 0; p < positions; p++, d += width) {
        for (o = 0; o < width; o++) sums[o] += multiplied ? (double)d[o] * (double)d[o] : (double)d[o];
        for (o = 0; !multiplied && o < width; o++) squares += (double)d[o] * (double)d[o];
    }
    for (c = 0; c < classes; c++, q += width) {
        double sum = 0.0;
        for (o = 0; o < width; o++) {
            double value = (double)q[o];
            sum += multiplied ? sums[o] * (value * value) : value * (2.0 * sums[o] + positions * value);
        }
        goodness[c] += (sum + squares) * (1.0 / (positions * width));
    }
}

/* The mean of some channels over all positions, from the channel `first` on, and one over their deviation. */
static float mean_of_block(const float *x, int positions, int width, int first, int size, float *inverse) {
    int o, p;
    double over = 1.0 / (size * positions), total = 0.0, squares = 0.0, mean, variance;
    for (o = first; o < first + size; o++) {
        double once = 0.0, twice = 0.0;
        for (p = 0; p < positions; p++) {
            double value = (double)x[p * width + o];
            once += value;
            twice += value * value;
        }
        total += once;
        squares += twice;
    }
    mean = total * over;
    variance = squares * over - mean * mean;
    *inverse = (float)(1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + 1e-5));
    return (float)mean;
}

/* x = (x - mean) / deviation of each block of channels. */
static void standardize(float *x, int positions, int width, int blocks) {
    int c, o, p, size = width / blocks;
    for (c = 0; c < blocks; c++) {
        float inverse, mean = mean_of_block(x, positions, width, c * size, size, &inverse);
        for (p = 0; p < positions; p++)
            for (o = p * width + c * size; o < p * width + (c + 1) * size; o++)
                x[o] = (float)(((double)x[o] - (double)mean) * (double)inverse);
    }
}

/* Adds the mean of each label's block of channels, rounded to float like the sum. */
static void add_block_means(const float *x, int positions, int width, int classes, double *goodness) {
    int c;
    float inverse;
    for (c = 0; c < classes; c++) {
        float mean = mean_of_block(x, positions, width, c * (width / classes), width / classes, &inverse);
        goodness[c] = (double)(float)(goodness[c] + (double)mean);
    }
}

/* The same of squares. */
static void add_block_squares(const float *x, int positions, int width, int classes, double *goodness) {
    int c, o, p, size = width / classes;
    for (c = 0; c < classes; c++) {
        double sum = 0.0;
        for (p = 0; p < positions; p++)
            for (o = p * width + c * size; o < p * width + (c + 1) * size; o++) sum += (double)x[o] * (double)x[o];
        goodness[c] = (double)(float)(goodness[c] + (double)(float)(sum * (1.0 / (size * positions))));
    }
}

/* Whether the largest of some sums is at least a limit. */
static int confident(const double *sums, int classes, double limit) {
    int c;
    for (c = 0; c < classes; c++)
        if (sums[c] >= limit) return 1;
    return 0;
}

/* The first of the largest scores, which are multiplied by scale where they are wanted. */
static int largest(const float *values, int classes, float scale, float *scores) {
    int c, best = 0;
    for (c = 1; c < classes; c++)
        if (values[c] > values[best]) best = c;
    for (c = 0; scores && c < classes; c++) scores[c] = (float)((double)values[c] * (double)scale);
    return best;
}

/* The same of scores that are sums in double precision. */
static int largest_sum(const double *values, int classes, float *scores) {
    int c, best = 0;
    for (c = 1; c < classes; c++)
        if (values[c] > values[best]) best = c;
    for (c = 0; scores && c < classes; c++) scores[c] = (float)values[c];
    return best;
}
