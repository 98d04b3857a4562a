"""GRUB's rescue floppy and CD: menu, command line, reboot."""
import os
import re

from lib.guest import TOP, Guest

GUESTS = os.path.join(TOP, "build", "guests")


def use_grub(t, host, arguments, device):
    with Guest(host, ["-m", "64", "-no-reboot"] + arguments, serial=False) as guest:
        shown = guest.wait_screen(r"highlighted entry", 90)
        t.check(re.search(r"┌─{70,}┐", shown) and "*GNU/Linux" in shown, "GRUB draws its menu", shown)
        guest.keys("down")
        guest.wait_screen(r"\* GNU \(aka|\*GNU \(aka", 20)
        t.check(True, "the cursor moves in the menu")
        guest.keys("c")
        guest.wait_screen(r"grub>", 20)
        guest.type("ls\n")
        shown = guest.wait_screen(r"\((cd|fd).*\n(.*\n)*grub>", 60)
        t.check(device in shown, f"ls lists {device}", shown)
        guest.type("echo Hello GRUB\n")
        guest.wait_screen(r"(?m)^Hello GRUB$", 20)
        t.check(True, "echo answers")
        guest.type("reboot\n")
        t.check(guest.wait_end(30) == 0, "reboot with -no-reboot ends with exit code 0")


def test_grub_floppy(t, host):
    use_grub(
        t,
        host,
        ["-fda", host.path(os.path.join(GUESTS, "grub-floppy.img")), "-boot", "a", "-snapshot"],
        "(fd0)",
    )


def test_grub_cdrom(t, host):
    use_grub(t, host, ["-cdrom", host.path(os.path.join(GUESTS, "grub-cdrom.iso")), "-boot", "d"], "(cd")
