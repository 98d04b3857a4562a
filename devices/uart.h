/*
 * 16550A serial port. Source: National Semiconductor PC16550D data sheet. Machine lock held for every call.
 */
#ifndef DEVICES_UART_H
#define DEVICES_UART_H

#include "../core/vm/chardev.h"
#include "../core/vm/irq.h"
#include "../core/vm/types.h"

typedef struct Uart Uart;

/* chr NULL: a port with nothing plugged in (no carrier, what is sent is lost). */
Uart *uart_create(Machine *m, u16 base, Irq irq, Chardev *chr);

#endif
