#!/usr/bin/env bash
# Installs what the build and the tests need from the system's package manager. What is there is left alone.
. "$(dirname "$0")/lib.sh"

debian=(
    gcc libc6-dev binutils zlib1g-dev               # the core for the build machine, with sanitizers
    mingw-w64-x86-64-dev gcc-mingw-w64-x86-64 binutils-mingw-w64-x86-64 libz-mingw-w64-dev
    seabios                                         # firmware
    dpkg-dev xz-utils mtools dosfstools e2fsprogs   # SDL2's source, tests that look into floppy images
    wine wine64 xvfb xauth xdotool imagemagick      # running and looking at it
    nsis zip python3                                # installer and tests
)

if [ "${OS:-}" = Windows_NT ]; then
    msys=(mingw-w64-x86_64-{gcc,SDL2,zlib,nsis,python} make curl bsdtar xz zip)
    say "installing with pacman what is missing of: ${msys[*]}"
    quietly pacman pacman -S --needed --noconfirm "${msys[@]}"
else
    missing=()
    for package in "${debian[@]}"; do
        if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
            missing+=("$package")
        fi
    done
    if [ ${#missing[@]} -gt 0 ]; then
        have_apt || die "this is neither Debian nor MSYS2; install by hand: ${missing[*]}"
        say "installing with apt: ${missing[*]}"
        quietly apt-system-update as_root apt-get update
        quietly apt-install as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends "${missing[@]}"
    fi
fi
mkdir -p "$DEPS"
touch "$DEPS/packages.stamp"
