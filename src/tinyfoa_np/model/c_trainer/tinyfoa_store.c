/* Flash that survives power cuts: items with two slots each, and roots. Part of tinyfoa-np; BSD-3-Clause.

   An item (a slice, a group of biases, a trained layer) is written into the slot that the last commit does not need;
   its header, which carries the number of the commit that is to come, is written last. A commit is one root record
   with that number. What has a larger number than the last root was never committed: it is cleared when the flash is
   opened. So no table of slots is needed: of an item's two slots the one with the larger number counts.

   Roots are written one after another over TINYFOA_ROOT_PAGES pages, the next page being erased when one is full. */
#include "tinyfoa_layer.h"

#define ROOT_WORDS 16
#define ROOT_BYTES UNITS(4 * ROOT_WORDS)
#define ROOT_END ((uint32_t)TINYFOA_ROOT_PAGES * TINYFOA_PAGE_BYTES)
#define MAGIC 0x32414654u /* "TFA2" */

uint32_t tinyfoa_crc(uint32_t crc, const void *from, uint32_t bytes) {
    static const uint32_t table[16] = {
        0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4, 0x4DB26158, 0x5005713C,
        0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C, 0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C};
    const uint8_t *p = (const uint8_t *)from;
    for (crc = ~crc; bytes; bytes--) {
        crc ^= *p++;
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

static int failed(tinyfoa *t, int rc) {
    if (rc) t->failure = TINYFOA_FLASH;
    return rc ? TINYFOA_FLASH : 0;
}

int tinyfoa_get(tinyfoa *t, uint32_t at, void *to, uint32_t bytes) {
    return bytes ? failed(t, t->flash.read(t->flash.user, at, to, bytes)) : 0;
}

/* Programs bytes, the last unit filled up with 0xFF. */
int tinyfoa_put(tinyfoa *t, uint32_t at, const void *from, uint32_t bytes) {
    uint8_t last[TINYFOA_UNIT_BYTES];
    uint32_t whole = bytes / TINYFOA_UNIT_BYTES * TINYFOA_UNIT_BYTES, rest = bytes - whole;
    t->written += UNITS(bytes);
    if (whole) TRY(failed(t, t->flash.program(t->flash.user, at, from, whole)));
    if (!rest) return 0;
    memset(last, 0xFF, sizeof last);
    memcpy(last, (const uint8_t *)from + whole, rest);
    return failed(t, t->flash.program(t->flash.user, at + whole, last, sizeof last));
}

int tinyfoa_erase(tinyfoa *t, uint32_t at, uint32_t bytes) {
    uint32_t page;
    for (page = 0; page < bytes; page += TINYFOA_PAGE_BYTES) {
        TRY(failed(t, t->flash.erase(t->flash.user, at + page)));
        t->erased++;
    }
    return 0;
}

static int sync(tinyfoa *t) { return t->flash.sync ? failed(t, t->flash.sync(t->flash.user)) : 0; }

static int valid(const tinyfoa_header *h, uint32_t item) {
    return h->item == item && h->identity == TINYFOA_IDENTITY &&
           h->check == tinyfoa_crc(MAGIC, h, (uint32_t)offsetof(tinyfoa_header, check));
}

/* The newer of an item's slots, of those after the base and up to a limit; where: 0 if there is none. */
int tinyfoa_find(tinyfoa *t, uint32_t item, uint32_t slot, uint32_t limit, tinyfoa_header *header, uint32_t *where) {
    tinyfoa_header h;
    uint32_t k, newest = t->state->base;
    *where = 0;
    for (k = 0; k < 2; k++) {
        TRY(tinyfoa_get(t, item + k * slot, &h, sizeof h));
        if (!valid(&h, item) || h.sequence <= newest || h.sequence > limit) continue;
        newest = h.sequence;
        *header = h;
        *where = item + k * slot;
    }
    return 0;
}

/* The newest version of an item that must be there. */
int tinyfoa_item(tinyfoa *t, uint32_t item, uint32_t slot, tinyfoa_header *header, uint32_t *where) {
    TRY(tinyfoa_find(t, item, slot, t->state->sequence + 1, header, where));
    return *where ? 0 : TINYFOA_DAMAGED;
}

/* The slot for the next version, cleared; where it is written in place, only its header is. */
int tinyfoa_begin(tinyfoa *t, uint32_t item, uint32_t slot, uint32_t *where) {
    tinyfoa_header h;
    TRY(tinyfoa_find(t, item, slot, t->state->sequence + 1, &h, where));
    if (!*where) *where = item;
    else if (h.sequence <= t->state->sequence) *where = *where == item ? item + slot : item;
#if TINYFOA_STREAMED
    memset(&h, 0, sizeof h);
    return tinyfoa_put(t, *where, &h, sizeof h);
#else
    return tinyfoa_erase(t, *where, slot);
#endif
}

/* Completes a version: from now on it is the newest. */
int tinyfoa_end(tinyfoa *t, uint32_t item, uint32_t where, uint32_t steps, uint64_t sum, uint32_t payload) {
    tinyfoa_header h;
    h.item = item;
    h.identity = TINYFOA_IDENTITY;
    h.sequence = t->state->sequence + 1;
    h.steps = steps;
    h.sum = sum;
    h.payload = payload;
    h.check = tinyfoa_crc(MAGIC, &h, (uint32_t)offsetof(tinyfoa_header, check));
    return tinyfoa_put(t, where, &h, sizeof h);
}

/* Writes the next section of a payload; sections begin on whole units. */
int tinyfoa_section(tinyfoa *t, uint32_t *at, uint32_t *crc, const void *from, uint32_t bytes) {
    *crc = tinyfoa_crc(*crc, from, bytes);
    TRY(tinyfoa_put(t, *at, from, bytes));
    *at += UNITS(bytes);
    return 0;
}

/* Reads the next section of a payload. */
int tinyfoa_part(tinyfoa *t, uint32_t *at, uint32_t *crc, void *to, uint32_t bytes) {
    TRY(tinyfoa_get(t, *at, to, bytes));
    *crc = tinyfoa_crc(*crc, to, bytes);
    *at += UNITS(bytes);
    return 0;
}

/* The checksum of a section, which goes on from crc. */
int tinyfoa_verify(tinyfoa *t, uint32_t at, uint32_t bytes, uint32_t *crc) {
    uint8_t piece[64];
    uint32_t done, some;
    for (done = 0; done < bytes; done += some) {
        some = bytes - done < sizeof piece ? bytes - done : (uint32_t)sizeof piece;
        TRY(tinyfoa_get(t, at + done, piece, some));
        *crc = tinyfoa_crc(*crc, piece, some);
    }
    return 0;
}

/* Clears what no commit has confirmed. */
static int clear_stale(tinyfoa *t, uint32_t item, uint32_t slot) {
    tinyfoa_header h;
    uint32_t k;
    for (k = 0; k < 2; k++) {
        TRY(tinyfoa_get(t, item + k * slot, &h, sizeof h));
        if (valid(&h, item) && h.sequence > t->state->sequence) TRY(tinyfoa_erase(t, item + k * slot, 1));
    }
    return 0;
}

static int clear_all_stale(tinyfoa *t) {
    uint32_t n, k;
    for (n = 0; n < TINYFOA_LAYERS; n++) {
        const tinyfoa_layer *l = &tinyfoa_layers[n];
        for (k = 0; k < M * M; k++) TRY(clear_stale(t, l->slices + 2 * k * l->slice_slot, l->slice_slot));
        for (k = 0; k < M; k++) TRY(clear_stale(t, l->biases + 2 * k * l->bias_slot, l->bias_slot));
        TRY(clear_stale(t, l->trained, l->trained_slot));
    }
    return 0;
}

static int erased(tinyfoa *t, uint32_t at, int *answer) {
    uint32_t words[ROOT_WORDS], k;
    TRY(tinyfoa_get(t, at, words, sizeof words));
    for (k = 0, *answer = 1; k < ROOT_WORDS; k++) *answer &= words[k] == 0xFFFFFFFFu;
    return 0;
}

/* The next place for a root: within its page, where nothing was ever programmed; else the next page, to be erased. The
   place after the last root is left out: if the power went while it was programmed, its cells may read as erased and
   not be so. */
static int place_root(tinyfoa *t, uint32_t last) {
    tinyfoa_state *s = t->state;
    int empty = 0;
    for (s->root_at = last + 2 * ROOT_BYTES; s->root_at % TINYFOA_PAGE_BYTES + ROOT_BYTES <= TINYFOA_PAGE_BYTES;
         s->root_at += ROOT_BYTES) {
        if (s->root_at / TINYFOA_PAGE_BYTES != last / TINYFOA_PAGE_BYTES) break;
        TRY(erased(t, s->root_at, &empty));
        if (empty) return 0;
    }
    s->root_at = (last / TINYFOA_PAGE_BYTES + 1) * TINYFOA_PAGE_BYTES % ROOT_END; /* begins a page: to be erased */
    return 0;
}

/* Whether a training can be where a root says. Its sum holds, but somebody else may have written it, and the numbers
   choose addresses. */
static int possible(const tinyfoa_state *s) {
    uint32_t size = s->samples < TINYFOA_BATCH ? s->samples : TINYFOA_BATCH;
    if (s->stage > HAND_OVER || s->layer >= TINYFOA_LAYERS || s->samples > TINYFOA_SAMPLES) return 0;
    if (s->epoch < s->first_epoch || s->epoch > s->last_epoch) return 0;
    if (s->stage == IDLE) return 1;
    if (!s->samples) return 0;
    return s->stage != TRAIN || (s->epoch < s->last_epoch && s->batch < (s->samples + size - 1) / size);
}

/* The state of the last commit, 1; or a cleared flash, 0. */
int tinyfoa_root_read(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    uint32_t words[ROOT_WORDS], at, last = NOBODY, page;
    memset(s, 0, sizeof *s);
    for (page = 0; page < ROOT_END; page += TINYFOA_PAGE_BYTES) {
        for (at = page; at - page + ROOT_BYTES <= TINYFOA_PAGE_BYTES; at += ROOT_BYTES) {
            TRY(tinyfoa_get(t, at, words, sizeof words));
            if (words[0] != MAGIC || words[1] != TINYFOA_IDENTITY || words[2] <= s->sequence ||
                words[ROOT_WORDS - 1] != tinyfoa_crc(0, words, 4 * (ROOT_WORDS - 1)))
                continue;
            last = at;
            memcpy((uint8_t *)s + offsetof(tinyfoa_state, sequence), words + 2, 4 * 12);
        }
    }
    if (!possible(s)) return TINYFOA_DAMAGED;
    TRY(clear_all_stale(t));
    s->resident = s->group = NOBODY;
    if (last != NOBODY) {
        TRY(place_root(t, last));
        return 1;
    }
    TRY(tinyfoa_erase(t, 0, ROOT_END));
    s->epoch = s->last_epoch = TINYFOA_EPOCHS_BEFORE;
    return 0;
}

/* Commits. */
int tinyfoa_root_write(tinyfoa *t) {
    tinyfoa_state *s = t->state;
    uint32_t words[ROOT_WORDS];
    TRY(sync(t));
    if (s->root_at % TINYFOA_PAGE_BYTES == 0) TRY(tinyfoa_erase(t, s->root_at, 1));
    s->sequence++;
    memset(words, 0xFF, sizeof words);
    words[0] = MAGIC;
    words[1] = TINYFOA_IDENTITY;
    memcpy(words + 2, (const uint8_t *)s + offsetof(tinyfoa_state, sequence), 4 * 12);
    words[ROOT_WORDS - 1] = tinyfoa_crc(0, words, 4 * (ROOT_WORDS - 1));
    TRY(tinyfoa_put(t, s->root_at, words, sizeof words));
    TRY(sync(t));
    s->root_at += ROOT_BYTES;
    if (s->root_at % TINYFOA_PAGE_BYTES + ROOT_BYTES > TINYFOA_PAGE_BYTES)
        s->root_at = (s->root_at / TINYFOA_PAGE_BYTES + 1) * TINYFOA_PAGE_BYTES;
    s->root_at %= ROOT_END;
    return 0;
}
