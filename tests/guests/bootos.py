"""bootOS and its programs of one boot sector each: text mode, mode 13h, timer, keyboard ports."""
import re
import time

from lib.guest import Failure, Guest, shared_guest

# What a program shows soon after its start, as text, or the least number of colours in its mode 13h picture.
TEXT = {
    "fbird": r"F-BIRD",
    "basic": r"(?m)^>",
    "counter": r"\*\d\d",
    "atomchess": r"RNBQKBNR",
    "snake": r"Score",
    "tetranglix": r"(?m)^ +\d",
    "bootslide": r"(?s)[0-9A-F] +▒ +[0-9A-F] +▒",
    "rogue": r"☺",
    "bricks": r"▄▄▄▄▄",
    "sokoban": r"(?s)▓▓▓▓.*☺",
    "pi": r"3\.1415926535897932384626433832795",
    "bootle": r"♥ ♥ ♥ ♥ ♥",
}
GRAPHIC = {"pillman": 10, "invaders": 30, "cubicdoom": 8, "heart": 2}
MOVING = ("fbird", "pillman", "invaders", "snake", "cubicdoom")  # by themselves
PROMPT = r"bootOS\n\$\s*\Z"


def start(host):
    image = shared_guest("bootos-360k.img")
    guest = Guest(host, ["-m", "16", "-fda", host.path(image), "-boot", "a", "-snapshot"], serial=False)
    guest.wait_screen(PROMPT, 60)
    return guest


def run(guest, name):
    if re.search(PROMPT, guest.screen()):  # it must not be taken for the new one
        guest.type("-")
        guest.wait_screen(r"\$-", 20)
    guest.monitor("system_reset")
    guest.wait_screen(PROMPT, 60)
    guest.type(name + "\n")


def moves(t, guest, name):
    if name in MOVING:
        first = guest.picture().pixels
        end = time.monotonic() + 10
        while guest.picture().pixels == first and time.monotonic() < end:
            time.sleep(0.2)
        t.check(time.monotonic() < end, f"{name} moves")


def test_bootos_text(t, host):
    with start(host) as guest:
        guest.type("dir\n")
        shown = guest.wait_screen(r"bootle\n\$", 20)
        t.check("fbird" in shown and "sokoban" in shown, "dir lists the programs", shown)
        for name, pattern in TEXT.items():
            run(guest, name)
            try:
                guest.wait_screen(pattern, 20)
                t.check(True, f"{name} starts")
            except Failure as why:
                t.fail(f"{name} starts: {why}")
            moves(t, guest, name)
        run(guest, "mine")  # a field of grey blocks in text mode with 40 columns
        end = time.monotonic() + 20
        while True:
            picture = guest.picture()
            colour, count = max(picture.colours().items(), key=lambda pair: pair[1])
            if (colour[0] > 0xA0 and count > picture.width * picture.height * 0.9) or time.monotonic() > end:
                break
        t.check(time.monotonic() <= end, "mine covers the screen with its field", (colour, count))
        guest.quit()


def test_bootos_graphic(t, host):
    with start(host) as guest:
        for name, colours in GRAPHIC.items():
            run(guest, name)
            end = time.monotonic() + 20
            picture = guest.picture()
            while time.monotonic() < end and (picture.width == 720 or len(picture.colours()) < colours):
                time.sleep(0.2)
                picture = guest.picture()
            t.check(
                picture.width in (640, 320) and picture.height in (400, 200),
                f"{name} switches to mode 13h",
                f"{picture.width}x{picture.height}\n{guest.screen()}",
            )
            t.check(
                len(picture.colours()) >= colours,
                f"{name} shows {colours} colours or more",
                len(picture.colours()),
            )
            moves(t, guest, name)
        guest.quit()
