/* Tables of tinyfoa_config.h's recipe; by tinyfoa-np. */
#include "tinyfoa_layer.h"

static const float projection0[16] = {
    0x1.cc001e0000000p-2f, 0x1.421a280000000p-1f, 0x1.1f857c0000000p-1f, -0x1.469eea0000000p-4f, -0x1.237bd00000000p+0f, 0x1.d7f3f40000000p-3f,
    0x1.8250a00000000p-4f, -0x1.f437ce0000000p-3f, -0x1.4583120000000p-1f, 0x1.72d28a0000000p-1f, 0x1.635fcc0000000p-4f, 0x1.2709e00000000p-1f,
    0x1.2788a40000000p-1f, -0x1.d208d80000000p-1f, 0x1.939d400000000p-2f, 0x1.9357560000000p-1f,
};

static const uint32_t image0_0[48] = {
    0xbea2fd03, 0xbf07dd16, 0x3f16465e, 0x3e21b337, 0x3f2f7b7b, 0xbd2aacfa,
    0xbe92ad6e, 0xbd782fad, 0xbecb2614, 0x3f352024, 0xbe9f0df7, 0x3cb3835b,
    0x3d2d8957, 0x3e632382, 0x3f16f5fd, 0x3e05aed9, 0xbbe296e0, 0xbc15b805,
    0x3c96d4b6, 0x3b4eb248, 0xbcc4144a, 0xbdd27b3a, 0x3c7da857, 0x3c98d12e,
    0xbdb957bd, 0xbd61ee5e, 0xbccd08b1, 0xbcbe738a, 0x3d0e615b, 0x3c2fd474,
    0xbc9f1bf0, 0xbc298b0a, 0x37331a05, 0x3702c171, 0x38be6090, 0x38af26ee,
    0x3979a991, 0x3a2aa844, 0x37af4d6d, 0x38247807, 0x3a7cac4e, 0x3a05d59e,
    0x39478897, 0x38904dc2, 0x3a148db8, 0x39e50865, 0x382da034, 0x3807c108,
};

static const uint32_t image0_1[24] = {
    0x3e713f33, 0x3f05ab9c, 0x3ea1de9c, 0x3f361c76, 0x3ddcae2e, 0xbec80c72,
    0x3f1ad78a, 0x3e962c54, 0x3caae53c, 0xbd7b7c6a, 0x3de9fa47, 0xbcb8b65a,
    0x3d116b33, 0x3cbb99ad, 0xbe0f8549, 0x3cee8fcb, 0x37a98b12, 0x390c2804,
    0x3a3f216a, 0x381eba35, 0x3998ef68, 0x38acd5cf, 0x3a6b6864, 0x38807b45,
};

static const uint32_t image0_2[28] = {
    0xb4e00000, 0x3fd45ba0, 0x33ed5555, 0x3fe05667, 0x311c6f5f, 0x36af0b0c,
    0xb1e7b525, 0xab588911, 0x1ba6a58f, 0x226370ca, 0x2b3b0c31, 0x20a5a434,
    0x3e713f33, 0x3f05ab9c, 0x3ea1de9c, 0x3f361c76, 0x3ddcae2e, 0xbec80c72,
    0x3f1ad78a, 0x3e962c54, 0x0, 0x3, 0x1, 0x0,
    0x2, 0x2, 0x3, 0x3,
};

static const tinyfoa_image images0[] = {
    {image0_0, 192, 30, UINT64_C(21859151160)},
    {image0_1, 96, 30, UINT64_C(0)},
    {image0_2, 112, 0, UINT64_C(0)},
};
const tinyfoa_image *const tinyfoa_images[TINYFOA_LAYERS] = {images0};

const float tinyfoa_columns[2][TINYFOA_INPUTS] = {
    {-0x1.31d5ac0000000p-13f, 0x1.2369d00000000p-3f},
    {0x1.0391b80000000p+0f, 0x1.092cec0000000p+0f},
};

const tinyfoa_layer tinyfoa_layers[TINYFOA_LAYERS] = {
    {2, 8, 1, 8, 2, 8, 0x1.6a09e60000000p-1f, 32, 16384, 4096, 24576, 4096, 32768, 4096, 40960, 0, 40960, projection0,
     {928, 832, 768, 640, 0, 704, 0, 864, 896, 0, 256, 144, 224, 0, 0, 304, 144, 224, 224, 264, 0, 320, 0, 0, 504, 144}},
};
