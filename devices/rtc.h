/*
 * MC146818A clock with 128 bytes of CMOS memory at ports 70h/71h. Source: Motorola MC146818A data sheet;
 * IBM PS/2 technical reference, "RT/CMOS RAM". Machine lock held for every call.
 *
 * The clock starts from cfg.rtc_base or the host's wall clock (local time with cfg.rtc_local) and then goes
 * with the virtual clock, without drift of its own. The century is at 32h.
 */
#ifndef DEVICES_RTC_H
#define DEVICES_RTC_H

#include "../core/vm/irq.h"
#include "../core/vm/types.h"

typedef struct Machine Machine;
typedef struct Rtc Rtc;

Rtc *rtc_create(Machine *m, Irq irq8);
/* 0Eh..7Fh, by the board at creation; a reset does not lose it. */
void rtc_set_cmos(Rtc *rtc, u8 index, u8 value);
u8 rtc_get_cmos(const Rtc *rtc, u8 index);

#endif
