/*
 * The registers as GDB knows them: their numbers, sizes and the target description. CPU parked.
 */
#ifndef VM_GDB_REGS_H
#define VM_GDB_REGS_H

#include "cpu.h"

enum { GDB_REGS = 59, GDB_REG_MAX = 16 };

/* Valid until the next call. GDB takes 16-bit code for what it is only if the description says so when it
 * connects: bits is 16 or 32. */
const char *gdb_target_xml(unsigned bits);
unsigned gdb_reg_size(unsigned reg);                            /* bytes; 0: there is none */
void gdb_reg_read(Cpu *cpu, unsigned reg, u8 *value);           /* little-endian */
bool gdb_reg_write(Cpu *cpu, unsigned reg, const u8 *value);    /* false: it can't be written */

#endif
