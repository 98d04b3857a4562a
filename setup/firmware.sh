#!/usr/bin/env bash
# Lays SeaBIOS and its VGA BIOS out in build/pc-bios, as they are embedded and shipped.
. "$(dirname "$0")/lib.sh"

dir=/usr/share/seabios
if [ ! -e $dir/bios-256k.bin ]; then
    unpack_deb seabios "$DEPS/seabios"
    dir=$DEPS/seabios/usr/share/seabios
fi
mkdir -p "$BUILD/pc-bios" "$DEPS/licences"
for name in bios-256k.bin bios.bin vgabios-stdvga.bin; do
    cp "$dir/$name" "$BUILD/pc-bios/"
    touch "$BUILD/pc-bios/$name"
done
cp "$(dirname "$dir")/doc/seabios/copyright" "$DEPS/licences/SeaBIOS.txt"
