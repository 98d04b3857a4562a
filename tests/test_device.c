/* Field tables: tiling, save -> load -> save, refusal of bad data. */
#include "test.h"

#include "../core/vm/device.h"
#include "../core/vm/machine.h"

#include <stdlib.h>
#include <string.h>

typedef struct { u32 count; u8 regs[6]; u16 word; u8 pad[4]; u64 when; } ChipState;
typedef struct { Device dev; ChipState s; int loads; bool refuse; } Chip;

static const SaveField chip_fields[] = {
    SAVE(ChipState, count), SAVE(ChipState, regs), SAVE(ChipState, word), SAVE(ChipState, pad),
        SAVE(ChipState, when), SAVE_END
};

static void chip_reset(Device *dev) { ((Chip *)dev)->s.word = 7; }

static bool chip_loaded(Device *dev, Error *err)
{
    Chip *c = (Chip *)dev;

    c->loads++;
    return c->refuse && c->s.count == 99 ? error_set(err, "chip: count is 99") : true;
}

static const DeviceClass chip_class = {
    .name = "chip", .size = sizeof(Chip), .state = offsetof(Chip, s), .state_size = sizeof(ChipState),
    .fields = chip_fields, .reset = chip_reset, .loaded = chip_loaded,
};
static const SaveField gap_fields[] = { SAVE(ChipState, count), SAVE_END };
static const SaveField twice_fields[] = { SAVE(ChipState, count), SAVE(ChipState, count), SAVE_END };

int main(void)
{
    Machine m = { 0 };
    Error err = { "" };
    Chip *a = device_create(&m, &chip_class), *b = device_create(&m, &chip_class);
    DeviceClass wrong = chip_class;
    SaveBuf one = { 0 }, two = { 0 };

    CHECK(!strcmp(a->dev.id, "chip") && !strcmp(b->dev.id, "chip.1"));
    CHECK(device_class_tiles(&chip_class, &err));
    wrong.fields = gap_fields;
    CHECK_MSG(!device_class_tiles(&wrong, &err) && strstr(err.text, "no field"),
              "a forgotten field is found");
    wrong.fields = twice_fields;
    CHECK_MSG(!device_class_tiles(&wrong, &err) && strstr(err.text, "overlaps"), "a doubled field is found");

    devices_reset(&m);
    CHECK(a->s.word == 7);
    a->s = (ChipState){ .count = 99, .regs = { 1, 2, 3, 4, 5, 6 }, .word = 8, .when = 1ull << 60 };
    device_save(&a->dev, &one);
    CHECK(device_load(&b->dev, one.data, one.len, &err) && !memcmp(&a->s, &b->s, sizeof(a->s)));
    device_save(&b->dev, &two);
    CHECK(one.len == two.len && !memcmp(one.data, two.data, one.len));

    b->s.count = 5;
    for (size_t len = 0; len < one.len; len++)
        CHECK_MSG(!device_load(&b->dev, one.data, len, &err) && b->s.count == 5,
                  "cut at %zu is refused whole", len);
    one.data[5] = 'x';
    CHECK_MSG(!device_load(&b->dev, one.data, one.len, &err) && strstr(err.text, "unknown field xount"),
              "an unknown field is named");
    b->refuse = true;
    CHECK_MSG(!device_load(&b->dev, two.data, two.len, &err) && b->s.count == 5,
              "what the chip refuses leaves it as it was");
    CHECK(b->loads == 3);

    devices_destroy(&m);
    free(one.data);
    free(two.data);
    return test_end();
}
