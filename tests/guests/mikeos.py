"""MikeOS: real-mode desktop, file list, a picture in 256 colours, BASIC, and the serial port."""
import os
import re
import time

from lib.guest import Guest, shared_guest

# The order in which MikeOS lists its files.
FILES = """KERNEL.BIN EDIT.BIN FILEMAN.BIN FISHER.BIN FORTH.BIN HANGMAN.BIN KEYBOARD.BIN MONITOR.BIN
SERIAL.BIN VIEWER.BIN ADVNTURE.BAS ARCHIVE.BAS CALC.BAS CF.BAS DRAW.BAS EXAMPLE.BAS MBPP.BAS MEMEDIT.BAS
MUNCHER.BAS SUDOKU.BAS SAMPLE.PCX""".split()


def start(host, serial=False):
    image = shared_guest("mikeos-1440k.img")
    return Guest(host, ["-m", "16", "-fda", host.path(image), "-boot", "a", "-snapshot"], serial=serial)


def choose(guest, name):
    """Moves the bar of an open file list from its first entry to a name and presses Enter."""
    guest.keys(*["down"] * FILES.index(name))
    guest.wait_screen(re.escape(name), 20)
    guest.keys("ret")


def to_list(guest):
    guest.wait_screen(r"Thanks for trying out MikeOS!", 60)
    guest.keys("ret")
    return guest.wait_screen(r"Please select a file", 20)


def test_mikeos_desktop(t, host):
    with start(host) as guest:
        shown = guest.wait_screen(r"Thanks for trying out MikeOS!", 60)
        t.check("OK" in shown and "Version 4.6.1" in shown, "the desktop and its dialog are there", shown)
        picture = guest.picture()
        red, green, blue = picture.pixel(4, 100)
        t.check(blue > 0xA0 and red == green < blue, "the desktop is blue", picture.pixel(4, 100))
        reds = sum(
            count
            for colour, count in picture.colours().items()
            if colour[0] in (0xA8, 0xAA) and not any(colour[1:])
        )
        t.check(reds > 20000, "the dialog is red", reds)
        shown = to_list(guest)
        t.check("KERNEL.BIN" in shown and "VIEWER.BIN" in shown, "Enter opens the program list", shown)
        guest.quit()


def test_mikeos_viewer(t, host):
    with start(host) as guest:
        to_list(guest)
        choose(guest, "VIEWER.BIN")
        guest.wait_screen(r"MikeOS File Viewer", 20)
        choose(guest, "SAMPLE.PCX")
        end = time.monotonic() + 20
        while True:  # the picture is drawn before its palette is loaded
            picture = guest.picture()
            sky = picture.pixel(picture.width * 3 // 5, picture.height // 8)
            done = len(picture.colours()) == 18 and sky[2] > sky[0] + 40
            if done or time.monotonic() > end:
                break
            time.sleep(0.2)
        t.check(
            (picture.width, picture.height) in ((640, 400), (320, 200)),
            "VIEWER switches to mode 13h",
            picture.width,
        )
        t.check(done, "the picture has its 18 colours and a blue sky", (len(picture.colours()), sky))
        guest.keys("esc")
        guest.wait_screen(r"MikeOS File Viewer", 20)
        t.check(True, "Escape leads back to text mode")
        guest.quit()


def test_mikeos_basic(t, host):
    with start(host) as guest:
        to_list(guest)
        choose(guest, "CALC.BAS")
        guest.wait_screen(r"║ Calculator", 20)
        guest.keys("ret")
        guest.wait_screen(r"Addition", 20)
        guest.keys("ret")
        guest.wait_screen(r"first number", 20)
        guest.type("12\n")
        guest.wait_screen(r"second number", 20)
        guest.type("30\n")
        guest.wait_screen(r"Answer is:.*\n.*║ 42 ", 20)
        t.check(True, "the BASIC calculator adds 12 and 30")
        guest.quit()


def test_mikeos_serial(t, host):
    with start(host, serial=True) as guest:  # from the line to the screen
        to_list(guest)
        choose(guest, "SERIAL.BIN")
        guest.wait_screen(r"Serial terminal program", 20)
        guest.keys("ret")
        guest.wait_screen(r"Connecting via serial", 20)
        guest.send("from the line")
        time.sleep(1)  # the guest reads byte by byte; then the monitor takes the line
        guest.wait_screen(r"from the line", 20)
        t.check(True, "what comes in on COM1 is shown")
        guest.quit()
    with start(host, serial="file") as guest:  # from the keyboard to the line
        to_list(guest)
        choose(guest, "SERIAL.BIN")
        guest.wait_screen(r"Serial terminal program", 20)
        guest.keys("ret")
        guest.wait_screen(r"Connecting via serial", 20)
        guest.type("to the line")
        time.sleep(1)
        guest.quit()
        with open(os.path.join(guest.folder, "serial.txt"), "rb") as f:
            written = f.read()
        t.check(b"to the line" in written, "what is typed goes out on COM1", written)
