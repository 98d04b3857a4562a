#!/usr/bin/env bash
# Package lists for what is fetched without being installed: sources and i386 packages.
. "$(dirname "$0")/lib.sh"

apt_prepare
touch "$DEPS/lists.stamp"
