/* t, fc:8: 960 bytes of RAM, 40,960 of flash; by tinyfoa-np.

   {
   "dataset": "_tmp_h_links_t.csv",
   "network": "fc:8",
   "algorithm": "tinyfoa",
   "slices": 1,
   "schedule": "slice",
   "hold": "1epoch",
   "exchanges": null,
   "visits": 1,
   "order": "rows",
   "epochs": 6,
   "batch": 10,
   "lr": 0.01,
   "lr_schedule": "constant",
   "optimizer": "adam",
   "moments": "float32",
   "decay": null,
   "classifier_lr": null,
   "classifier_decay": null,
   "label_scale": null,
   "peer": null,
   "dropout": null,
   "theta": null,
   "label_width": null,
   "groups": null,
   "merge": null,
   "rms": null,
   "normalize": "standard",
   "shuffle": true,
   "binary_weights": true,
   "binary_activations": true,
   "seed": 0,
   "limit": null,
   "recompute": false,
   "digest": "0a81ce5c355d002a20ed26d8bf2425fd7e91504d78d078eea9c8b0fdf507d1dc",
   "numerics": 2
   }
*/
#ifndef TINYFOA_CONFIG_H
#define TINYFOA_CONFIG_H
#include <stdint.h>

#define TINYFOA_LAYERS 1
#define TINYFOA_INPUTS 2
#define TINYFOA_CLASSES 2
#define TINYFOA_SIDE 1
#define TINYFOA_BATCH 10
#define TINYFOA_SAMPLES 48
#define TINYFOA_EPOCHS 6
#define TINYFOA_EPOCHS_BEFORE 6
#define TINYFOA_FLOATS 1
#define TINYFOA_SCALE 0x1.0000000000000p+0f
#define TINYFOA_OFFSET 0x0.0p+0f
#define TINYFOA_OPTIMIZER 3
#define TINYFOA_INT8 0
#define TINYFOA_LR 0x1.47ae147ae147bp-7
#define TINYFOA_COOLDOWN 0
#define TINYFOA_DROPS 0
#define TINYFOA_STREAM 0
#define TINYFOA_HOLD_STEPS 0
#define TINYFOA_HOLD_EPOCHS 1
#define TINYFOA_EXCHANGES 0
#define TINYFOA_VISITS 1
#define TINYFOA_DIAGONAL 0
#define TINYFOA_SEED UINT64_C(0)
#define TINYFOA_WORDS 1
#define TINYFOA_TILE 8
#define TINYFOA_STREAMED 0
#define TINYFOA_SIGNS_IN_FLASH 0
#define TINYFOA_MAPPED 1
#define TINYFOA_IDENTITY 0x6905bf81u
#define TINYFOA_STATE_BYTES 144
#define TINYFOA_ARENA_BYTES 960
#define TINYFOA_FLASH_BYTES 40960
#define TINYFOA_PAGE_BYTES 4096u
#define TINYFOA_UNIT_BYTES 1u
#define TINYFOA_ROOT_PAGES 4
#define TINYFOA_IMAGE
#define TINYFOA_COLUMNS
#endif
