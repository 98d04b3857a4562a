#!/usr/bin/env bash
# Starts the Linux guest for `make run`: display.sh HEADLESS PROGRAM... With HEADLESS set, on this terminal by
# the serial line; else in a window. Where there is no display it says how to get one.

headless=$1
shift
if [ -n "$headless" ]; then
    echo "run: Linux on this terminal; type poweroff to end it (Ctrl-a x ends the emulator)"
    exec env "$@" -nographic -append "console=ttyS0"
fi
if [ "${OS:-}" != Windows_NT ] && [ -z "${DISPLAY:-}" ]; then
    echo "run: there is no display (DISPLAY is not set). Either" >&2
    echo "  make -f Makefile.mingw run HEADLESS=1    boots Linux on this terminal, or" >&2
    echo "  Xvfb :1 -screen 0 1280x1024x24 & DISPLAY=:1 make -f Makefile.mingw run" >&2
    echo "                                           (invisible; x11vnc -display :1 shows it by VNC)" >&2
    exit 1
fi
echo "run: Linux in a window; type poweroff at its prompt to end it"
exec env "$@" -name "Linux" -append "console=tty0"
