/* The program's version: for -version, the monitor, the exe's version resource and the installer. */
#ifndef VM_VERSION_H
#define VM_VERSION_H

#define PROGRAM_VERSION "0.1.0"
#define PROGRAM_VERSION_NUMBERS 0, 1, 0, 0

#endif
