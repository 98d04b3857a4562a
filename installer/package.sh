#!/usr/bin/env bash
# Makes build/qemu-win-VERSION.zip, the portable zip, and build/qemu-win-VERSION-setup.exe from build/dist.
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n 's/^#define PROGRAM_VERSION "\(.*\)"/\1/p' core/vm/version.h)
name=qemu-win-$version
list=build/obj/files.nsh

# The macros that install and remove exactly the files of build/dist, folder by folder, deepest removed first.
{
    echo '!macro INSTALL_FILES'
    find build/dist -type d | sort | while read -r folder; do
        inside=${folder#build/dist}
        echo "SetOutPath \"\$INSTDIR${inside//\//\\}\""
        find "$folder" -maxdepth 1 -type f | sort | sed 's/.*/File "&"/'
    done
    echo '!macroend'
    echo '!macro REMOVE_FILES'
    find build/dist -depth -mindepth 1 | while read -r path; do
        inside=${path#build/dist}
        inside=${inside//\//\\}
        if [ -d "$path" ]; then
            echo "RMDir \"\$INSTDIR$inside\""
        else
            echo "Delete \"\$INSTDIR$inside\""
        fi
    done
    echo '!macroend'
} >"$list"

target=()
if [ "${OS:-}" != Windows_NT ]; then
    target=(-DTARGET=amd64-unicode)     # Wine without its 32-bit part runs nothing else
fi
makensis -V2 -NOCD "${target[@]}" -DVERSION="$version" -DFILES="$list" -DOUT="build/$name-setup.exe" \
    installer/qemu-win.nsi

rm -rf "build/obj/$name" "build/$name.zip"
cp -r build/dist "build/obj/$name"
(cd build/obj && zip -q -r -X "../$name.zip" "$name")
rm -rf "build/obj/$name"
echo "made build/$name.zip and build/$name-setup.exe"
