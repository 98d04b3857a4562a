#!/usr/bin/env bash
# Builds SDL2 for Windows as a static library from Debian's source package into build/deps/{include,lib}.
# What we do not use is left out: joysticks, haptics, sensors, 3D back ends that Windows does not have.
# The result is kept in the cache, named by its version: the next clean checkout here has it at once.
# In an MSYS2 shell the library that pacman installed is taken.
. "$(dirname "$0")/lib.sh"

if [ "${OS:-}" = Windows_NT ]; then
    mkdir -p "$DEPS/lib" "$DEPS/licences"
    cp "$MINGW_PREFIX/lib/libSDL2.a" "$DEPS/lib/"
    cp "$MINGW_PREFIX/share/licenses/SDL2/LICENSE"* "$DEPS/licences/SDL2.txt"
    exit
fi

apt_prepare
version=$(own_apt apt-cache showsrc --only-source libsdl2 | sed -n 's/^Version: //p' | sort -V | tail -n 1)
[ -n "$version" ] || die "Debian has no source package libsdl2"
kept=$CACHE/sdl2/$version-1

if [ ! -e "$kept/lib/libSDL2.a" ]; then
    say "downloading the source of SDL2 $version"
    work=$DEPS/sdl2-build
    rm -rf "$work"
    mkdir -p "$work"
    cd "$work"
    quietly sdl2-source own_apt apt-get source --download-only --only-source "libsdl2=$version"
    quietly sdl2-unpack dpkg-source --no-check -x "$work"/libsdl2_*.dsc "$work/src"
    say "building SDL2 $version for Windows (some minutes, once on this machine)"
    mkdir -p "$work/obj"
    cd "$work/obj"
    quietly sdl2-configure ../src/configure --host=x86_64-w64-mingw32 --prefix="$work/out" \
        --disable-shared --enable-static --disable-joystick --disable-haptic --disable-sensor \
        --disable-hidapi --disable-video-opengles --disable-video-vulkan --disable-diskaudio \
        CFLAGS="-O2 -ffunction-sections -fdata-sections"
    quietly sdl2-make nice make -j"$(nproc)" V=0
    quietly sdl2-install make install-hdrs install-lib
    mkdir -p "$CACHE/sdl2"
    rm -rf "$kept"
    cp "$work/src/LICENSE.txt" "$work/out/"
    mv "$work/out" "$kept"
    rm -rf "$work"
fi

mkdir -p "$DEPS/include" "$DEPS/lib" "$DEPS/licences"
cp -r "$kept/include/SDL2" "$DEPS/include/"
cp "$kept/LICENSE.txt" "$DEPS/licences/SDL2.txt"
cp "$kept/lib/libSDL2.a" "$DEPS/lib/"
