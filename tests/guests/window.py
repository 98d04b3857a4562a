"""The window: shows exactly what the guest draws, takes keys, follows sizes, closes. Xvfb and xdotool."""
import ctypes
import os
import subprocess
import threading
import time

from lib import screen
from lib.guest import SLOWNESS, TOP, BatchHost, Failure, Guest, shared_guest
from guests import linux

SHOTS = os.path.join(TOP, "build", "screenshots")


class Display:
    """The tests' X server, without a window manager; for one test at a time, because keys go to one window."""

    one = threading.Lock()

    def __init__(self, host):
        self.environment = host.environment

    def __enter__(self):
        self.one.acquire()
        return self

    def __exit__(self, *_):
        self.one.release()

    def xdotool(self, *arguments, seconds=20):
        done = subprocess.run(
            ["xdotool", *arguments], env=self.environment, capture_output=True, timeout=seconds, check=False
        )
        return done.stdout.decode("utf-8", "replace").strip()

    def hot_key(self, key):
        """Ctrl-Alt-KEY, as slowly as fingers are."""
        for action, name in (
            ("keydown", "ctrl"),
            ("keydown", "alt"),
            ("key", key),
            ("keyup", "alt"),
            ("keyup", "ctrl"),
        ):
            self.xdotool(action, name)
            time.sleep(0.1)

    def find_window(self, seconds=60):
        end = time.monotonic() + seconds * SLOWNESS
        while time.monotonic() < end:
            found = self.xdotool("search", "--onlyvisible", "--name", "QEMU").split()
            if found:
                return found[-1]
            time.sleep(0.3)
        raise Failure("no window named QEMU appeared")

    def close_window(self, window):
        """What a window manager does when its close button is pressed: WM_DELETE_WINDOW (ICCCM 4.2.8.1)."""
        x11 = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = ctypes.c_void_p
        x11.XInternAtom.restype = ctypes.c_ulong
        display = ctypes.c_void_p(x11.XOpenDisplay(self.environment["DISPLAY"].encode()))
        atoms = [x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW")]
        event = (ctypes.c_long * 24)(33, 0, 0, 0, int(window), atoms[0], 32, atoms[1])  # ClientMessage
        x11.XSendEvent(display, ctypes.c_ulong(int(window)), 0, ctypes.c_long(0), ctypes.byref(event))
        x11.XCloseDisplay(display)

    def shoot(self, window, name=None):
        """What the window shows, as a picture."""
        done = subprocess.run(
            ["import", "-depth", "8", "-window", window, "ppm:-"],
            env=self.environment,
            capture_output=True,
            timeout=30,
            check=False,
        )
        if name:
            os.makedirs(SHOTS, exist_ok=True)
            subprocess.run(
                ["convert", "ppm:-", os.path.join(SHOTS, name + ".png")],
                input=done.stdout,
                timeout=30,
                check=False,
            )
        return screen.Picture(done.stdout)

    def wait_text(self, host, window, text, name=None, seconds=60):
        """Waits until the window shows a text; returns all it shows, in time or not."""
        end = time.monotonic() + seconds * SLOWNESS
        while True:
            shown = "\n".join(screen.text_of(self.shoot(window, name), host.font))
            if text in shown or time.monotonic() > end:
                return shown
            time.sleep(0.5)


def same_picture(display, guest, window, name, seconds=15):
    """Window and screendump agree pixel by pixel (a blinking cursor may take some tries)."""
    end = time.monotonic() + seconds * SLOWNESS
    while True:
        dump = guest.picture()
        shown = display.shoot(window, name)
        same = (dump.width, dump.height) == (shown.width, shown.height) and dump.pixels == shown.pixels
        if same or time.monotonic() > end:
            different = sum(a != b for a, b in zip(dump.pixels, shown.pixels))
            return (
                same,
                f"{dump.width}x{dump.height}, shown {shown.width}x{shown.height}, {different} bytes differ",
            )
        time.sleep(0.25)


def type_line(display, window, text):
    display.xdotool("windowfocus", window)
    display.xdotool("mousemove", "--window", window, "40", "40")
    display.xdotool("type", "--delay", "60", text, seconds=60)
    display.xdotool("key", "Return")


def test_window_linux(t, host):
    if not host.wine:
        return  # elsewhere the window belongs to somebody
    with Display(host) as display, Guest(
        host, linux.kernel(host, "console=tty0"), serial=False, display="sdl"
    ) as guest:
        window = display.find_window()
        t.check(True, "a window named QEMU appears")
        guest.wait_screen(r"guest:/root#", 120)
        same, detail = same_picture(display, guest, window, "linux-boot")
        t.check(same, "the window shows exactly what the guest draws", detail)
        type_line(display, window, "echo Typed $((40+2)) in the 'Window' | tr a-z A-Z")
        guest.wait_screen(r"(?m)^TYPED 42 IN THE WINDOW$", 30)
        t.check(True, "what is typed into the window arrives in the guest")
        title = display.xdotool("getwindowname", window)
        t.check(
            "QEMU" in title and "Ctrl" in title, "the title names the program and the release keys", title
        )

        display.hot_key("f")
        time.sleep(2)
        full = display.xdotool("getwindowgeometry", "--shell", window)
        t.check("WIDTH=1280" in full, "Ctrl-Alt-f fills the screen", full)
        display.shoot(window, "linux-full-screen")
        display.hot_key("f")
        same, detail = same_picture(display, guest, window, "linux")
        t.check(same, "and back", detail)
        display.close_window(window)
        t.check(guest.wait_end(30) == 0, "closing the window ends the emulator with exit code 0")


def test_window_modes(t, host):
    if not host.wine:
        return
    image = shared_guest("bootos-360k.img")
    arguments = ["-m", "16", "-fda", host.path(image), "-boot", "a", "-snapshot", "-name", "modes"]
    with Display(host) as display, Guest(host, arguments, serial=False, display="sdl") as guest:
        window = display.find_window()
        guest.wait_screen(r"bootOS\n\$", 60)
        t.check("modes" in display.xdotool("getwindowname", window), "-name is in the title")
        same, detail = same_picture(display, guest, window, "bootos")
        t.check(same, "text mode is drawn exactly", detail)
        type_line(display, window, "cubicdoom")
        end = time.monotonic() + 20
        while guest.picture().width == 720 and time.monotonic() < end:
            time.sleep(0.3)
        guest.monitor("stop")
        same, detail = same_picture(display, guest, window, "cubicdoom")
        t.check(same, "the window follows into mode 13h, drawn exactly", detail)
        t.check(
            "paused" in display.xdotool("getwindowname", window).lower(),
            "the title says that the machine is paused",
        )
        guest.monitor("cont")
        guest.quit()


def test_window_2006(t, host):
    """The launcher line of many hobby-OS projects, unchanged, from a .bat file."""
    if not host.windows:
        return
    lines = [
        "@echo off",
        "set SDL_VIDEODRIVER=windib",
        "set QEMU_AUDIO_DRV=none",
        "set QEMU_AUDIO_LOG_TO_MONITOR=0",
        "qemu.exe -L . -m 32 -localtime -std-vga -fda fdimage0.bin",
    ]
    with open(os.path.join(TOP, "build", "guests", "actions.img"), "rb") as f:
        files = {"fdimage0.bin": f.read(), "run.bat": "\r\n".join(lines).encode()}
    with open(host.program, "rb") as f:
        files["qemu.exe"] = f.read()
    with Display(host) as display:
        environment = dict(host.environment)
        environment.pop("SDL_AUDIODRIVER", None)
        with Guest(BatchHost(host, "run.bat"), [], files=files, mux=(), environment=environment) as guest:
            window = display.find_window()
            shown = display.wait_text(host, window, "ready", "hobby-os")
            t.check("ready" in shown, "the hobby system's line of 2006 boots into a window", shown)
            display.hot_key("2")
            display.wait_text(host, window, "(qemu)")
            type_line(display, window, "info status")
            shown = display.wait_text(host, window, "VM status", "monitor")
            t.check(
                "VM status: running" in shown,
                "Ctrl-Alt-2 shows the monitor, which answers what is typed",
                shown,
            )
            display.hot_key("1")
            shown = display.wait_text(host, window, "ready")
            t.check(
                "ready" in shown and "info status" not in shown,
                "Ctrl-Alt-1 leads back to the guest, which saw nothing",
                shown,
            )
            display.close_window(window)
            t.check(guest.wait_end(30) == 0, "closing the window ends the .bat file with exit code 0")


def test_window_nothing(t, host):
    """Started without anything to boot: the window says what to do."""
    if not host.wine:
        return
    with Display(host) as display, Guest(host, [], mux=["-m", "32"]) as guest:
        window = display.find_window()
        shown = display.wait_text(host, window, "qemu-win.bat", "nothing-to-boot")
        t.check(
            "qemu-win.bat" in shown and "-h" in shown,
            "with nothing to boot the window says what to do next",
            shown,
        )
        display.close_window(window)
        t.check(guest.wait_end(30) == 0, "and closes")
