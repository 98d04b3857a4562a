#!/usr/bin/env bash
# Makes a Wine prefix of the project's own, build/wine, so that nothing of the user's Wine is touched.
. "$(dirname "$0")/lib.sh"

export WINEPREFIX=$BUILD/wine WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe="
if [ "${OS:-}" != Windows_NT ] && [ ! -e "$WINEPREFIX/system.reg" ]; then
    say "making a Wine prefix in build/wine (about 20 seconds)"
    unset DISPLAY
    quietly wineboot wine wineboot -i
    wineserver -w
fi
mkdir -p "$WINEPREFIX"
touch "$DEPS/wine.stamp"
