#!/usr/bin/env bash
# Package lists for what is fetched without being installed: sources and i386 packages.
. "$(dirname "$0")/lib.sh"

if have_apt; then
    apt_prepare
fi
mkdir -p "$DEPS"
touch "$DEPS/lists.stamp"
