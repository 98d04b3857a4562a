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

# zlib is linked into the program; its licence travels with it.
for file in /usr/share/doc/libz-mingw-w64-dev/copyright \
    "${MINGW_PREFIX:-/mingw64}"/share/licenses/zlib/LICENSE; do
    if [ -e "$file" ]; then
        cp "$file" "$DEPS/licences/zlib.txt"
    fi
done
