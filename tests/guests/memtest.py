"""memtest86+ from its package: its first tests pass without an error, started as a kernel and from a CD."""
import os
import re

from lib.guest import TOP, Guest

GUESTS = os.path.join(TOP, "build", "guests")


def watch(t, host, arguments):
    with Guest(host, ["-m", "24"] + arguments, serial=False) as guest:
        shown = guest.wait_screen(r"Memtest86\+ v", 60)
        shown = guest.wait_screen(r"Test #([4-9]|10)|Errors: *[1-9]", 240)
        t.check(re.search(r"Test #([4-9]|10)", shown), "memtest86+ gets past its first three tests", shown)
        t.check(re.search(r"Errors: 0\b", shown), "without an error", shown)
        guest.quit()


def test_memtest_kernel(t, host):
    watch(t, host, ["-kernel", host.path(os.path.join(GUESTS, "memtest86+.bin"))])


def test_memtest_cdrom(t, host):
    watch(t, host, ["-cdrom", host.path(os.path.join(GUESTS, "memtest86+.iso")), "-boot", "d"])
