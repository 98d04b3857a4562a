"""Installer and portable zip: silent installation, the demo from qemu-win.bat, and nothing left behind."""
import glob
import os
import re
import shutil
import subprocess
import tempfile
import time
import zipfile

from lib.guest import TOP, BatchHost, Guest

GREETING = r"Type here\. Esc switches the machine off\."


def use_demo(t, host, folder, what):
    batch = BatchHost(host, "qemu-win.bat", folder)
    with Guest(batch, [], serial=False, dump=os.path.join(folder, "screen.ppm")) as guest:
        shown = guest.wait_screen(GREETING, 60)
        t.check("Welcome. This is a PC inside a window." in shown, f"the demo greets ({what})", shown)
        guest.type("Hello")
        guest.wait_screen(r"Hello", 20)
        guest.keys("esc")
        t.check(guest.wait_end(20) == 0, f"Escape switches the machine off: exit code 0 ({what})")
    os.unlink(os.path.join(folder, "screen.ppm"))


def test_installer(t, host):
    if not host.windows:
        return  # there is nothing to install for another system
    setup = glob.glob(os.path.join(TOP, "build", "qemu-win-*-setup.exe"))
    if not t.check(len(setup) == 1, "the build made one installer", setup):
        return
    wine = ["wine"] if host.wine else []
    with tempfile.TemporaryDirectory(prefix="qemu-win-test-") as base:
        folder = os.path.join(base, "Programs", "qemu-win")
        done = subprocess.run(
            wine + [setup[0], "/S", "/D=" + host.path(folder)],
            env=host.environment,
            timeout=120,
            check=False,
            stderr=subprocess.DEVNULL,
        )
        t.check(done.returncode == 0, "the silent installation ends with 0", done.returncode)
        shipped = tree(os.path.join(TOP, "build", "dist"))
        t.check(
            tree(folder) == shipped | {"uninstall.exe"},
            "what is shipped is installed, and nothing else",
            tree(folder) ^ shipped,
        )
        t.check("qemu-win" in registry(host), "the program is listed for removal")
        use_demo(t, host, folder, "installed")
        kept = os.path.join(folder, "my disk.img")
        with open(kept, "wb") as f:
            f.write(b"data")
        remove(host, wine, folder)
        t.check(
            tree(folder) == {"my disk.img"}, "the uninstaller keeps what the user put there", tree(folder)
        )
        os.unlink(kept)

        subprocess.run(
            wine + [setup[0], "/S", "/D=" + host.path(folder)],
            env=host.environment,
            timeout=120,
            check=False,
            stderr=subprocess.DEVNULL,
        )
        t.check(os.path.exists(os.path.join(folder, "qemu.exe")), "it can be installed again")
        remove(host, wine, folder)
        t.check(not os.path.exists(folder), "the uninstaller leaves nothing in the file system", tree(folder))
        t.check(not registry(host), "nor in the registry", registry(host))


def test_installer_zip(t, host):
    archives = glob.glob(os.path.join(TOP, "build", "qemu-win-*.zip"))
    if not host.windows:
        return
    if not t.check(len(archives) == 1, "the build made one zip", archives):
        return
    with tempfile.TemporaryDirectory(prefix="qemu win zip ") as base:
        with zipfile.ZipFile(archives[0]) as archive:
            archive.extractall(base)
        inside = os.listdir(base)
        t.check(len(inside) == 1, "the zip holds one folder", inside)
        folder = os.path.join(base, inside[0])
        t.check(tree(folder) == tree(os.path.join(TOP, "build", "dist")), "with what is shipped")
        moved = os.path.join(base, "moved (elsewhere)")
        shutil.move(folder, moved)
        use_demo(t, host, moved, "portable")


def remove(host, wine, folder):
    program = os.path.join(folder, "uninstall.exe")
    subprocess.run(
        wine + [program, "/S"], env=host.environment, timeout=120, check=False, stderr=subprocess.DEVNULL
    )
    end = time.monotonic() + 30  # it goes on as a copy of itself
    while os.path.exists(program) and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(1)


def tree(folder):
    return {
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
    }


def registry(host):
    """What of ours is in the user's registry."""
    wine = ["wine"] if host.wine else []
    found = ""
    for key in (
        r"HKCU\Software\qemu-win",
        r"HKCU\Software\Microsoft\Windows\CurrentVersion\Uninstall\qemu-win",
    ):
        done = subprocess.run(
            wine + ["reg", "query", key], env=host.environment, capture_output=True, timeout=60, check=False
        )
        if done.returncode == 0:
            found += done.stdout.decode("utf-8", "replace")
    return re.sub(r"\s+", " ", found)
