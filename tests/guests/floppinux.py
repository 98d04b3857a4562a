"""FLOPPINUX: SYSLINUX and Linux for the i486 on one floppy, with -cpu 486."""

from lib.guest import Guest, shared_guest


def test_floppinux(t, host):
    image = shared_guest("floppinux-i486-1440k.img")
    with Guest(
        host, ["-m", "64", "-cpu", "486", "-fda", host.path(image), "-boot", "a", "-snapshot"], serial=False
    ) as guest:
        shown = guest.wait_screen(r"_CHOOSE:", 180)
        t.check(
            "FLOPPINUX_V_0.2.2" in shown and "i486 GNU/Linux" in shown,
            "the banner names the version and the i486",
            shown,
        )
        guest.keys("ret")
        guest.wait_screen(r"PRESS_ENTER", 30)
        guest.keys("ret")
        guest.wait_screen(r"SAMPLE_APPLICATION", 30)
        t.check(True, "Enter starts the sample application")
        guest.type("c\n")
        guest.wait_screen(r"(?m)[#$] *\S?$", 30)
        guest.type("echo a shell | cat\n")
        guest.wait_screen(r"(?m)^a shell$", 30)
        t.check(True, "a busybox shell runs a pipe")
        guest.quit()
