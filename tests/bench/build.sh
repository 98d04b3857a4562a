#!/bin/sh
# Builds the benchmark into the folder named: cpu.bin (multiboot), cpu.img (raw disk), cpu-native.
set -e
from=$(dirname "$0")
to=$1
mkdir -p "$to"
common="-std=gnu17 -O2 -Wall -Wextra -Werror -fno-tree-vectorize -fno-strict-aliasing -I $from"
bare="-m32 -march=i686 -ffreestanding -fno-builtin -fno-pic -fno-stack-protector -fcf-protection=none
      -fno-asynchronous-unwind-tables -fno-tree-loop-distribute-patterns"
host="-fno-builtin -fno-stack-protector -fcf-protection=none -fno-tree-loop-distribute-patterns"
# Of the native rows: registers as few as the guest has. Pointers and the widest integers stay those of 64 bits.
eight="-ffixed-r8 -ffixed-r9 -ffixed-r10 -ffixed-r11 -ffixed-r12 -ffixed-r13 -ffixed-r14 -ffixed-r15"

objects() { # FOLDER FLAGS FILES: each file with the floating point of its kind
    folder=$1 flags=$2
    shift 2
    mkdir -p "$folder"
    for file; do
        case $file in
        work_x87.c) unit="-mfpmath=387" ;;
        work_sse.c) unit="-msse2 -mfpmath=sse -mmmx" ;;
        *) unit="-mgeneral-regs-only" ;;
        esac
        [ "$file" = native.c ] && unit=
        gcc $common $flags $unit -c "$from/$file" -o "$folder/${file%.*}.o"
    done
}

rows="harness.c work_integer.c work_string.c work_code.c work_x87.c work_sse.c"
objects "$to/guest" "$bare" $rows guest.c events.c
gcc -m32 -c "$from/guest.S" -o "$to/guest/start.o"
ld -m elf_i386 -z noexecstack --no-warn-rwx-segments -T "$from/guest.ld" -o "$to/cpu.elf" "$to"/guest/*.o
objcopy -O binary "$to/cpu.elf" "$to/cpu.bin"
sectors=$((($(stat -c %s "$to/cpu.bin") + 511) / 512))
gcc -m32 -DSECTORS=$sectors -c "$from/boot.S" -o "$to/boot.o"
ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o "$to/boot.bin" "$to/boot.o"
cat "$to/boot.bin" "$to/cpu.bin" >"$to/cpu.img"
truncate -s 1M "$to/cpu.img"

objects "$to/host" "$host $eight" $rows
objects "$to/host" "$host" native.c
gcc -o "$to/cpu-native" "$to"/host/*.o
