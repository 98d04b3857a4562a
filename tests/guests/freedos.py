"""FreeDOS floppies of four media: commands, files written and found again afterwards from outside."""
import os
import shutil
import subprocess
import time

from lib.guest import Guest, shared_guest


def dos_command(guest, line, answer, seconds=30):
    guest.type("cls\n")
    guest.wait_screen(r"^\s*A:\\>\s*$", 20, "the cleared screen")
    guest.type(line + "\n")
    return guest.wait_screen(answer, seconds)


def use_floppy(t, host, media):
    image = f"freedos-{media}.img"
    source = shared_guest(image)
    with Guest(host, ["-m", "16", "-fda", image, "-boot", "a"], serial=False, copies=[source]) as guest:
        shown = guest.wait_screen(r"A:\\>", 60)
        t.check(shown.strip() == "A:\\>", "FreeDOS comes up to its prompt on a cleared screen", shown)
        t.check(
            "FreeCom version 0.82" in dos_command(guest, "ver", r"FreeCom.*\n(.*\n)*A:\\>"), "ver answers"
        )
        shown = dos_command(guest, "dir", r"bytes free")
        t.check("COMMAND  COM        66,090" in shown, "dir lists COMMAND.COM with its size", shown)
        shown = dos_command(guest, "mem /c", r"A:\\>mem /c\s*\n(.*\n)*A:\\>")
        t.check("Bad command" in shown or "memory" in shown, "mem /c answers", shown)

        guest.type("cls\n")
        guest.type("copy con x.txt\nHello from DOS on a floppy\n\x1a\n")
        guest.wait_screen(r"\^Z(.*\n)*\s*A:\\>", 30)
        shown = dos_command(guest, "type x.txt", r"x\.txt\s*\n+(.*\n)*A:\\>")
        t.check("Hello from DOS on a floppy" in shown, "type shows what copy con wrote", shown)
        dos_command(guest, "md sub", r"A:\\>md sub\s*\n+\s*A:\\>")
        dos_command(guest, "copy x.txt sub\\y.txt", r"(?s)copy x.*A:\\>")
        dos_command(guest, "copy x.txt z.txt", r"(?s)copy x.*A:\\>")
        dos_command(guest, "del z.txt", r"(?s)del z\.txt\s*\n.*A:\\>")
        shown = dos_command(guest, "dir sub", r"bytes free")
        t.check("Y        TXT" in shown, "a file copied into a new directory is listed", shown)
        time.sleep(0.5)
        t.check(guest.quit() == 0, "quit ends with exit code 0")

        if not shutil.which("mdir"):
            t.note("mtools is not installed: the image is not looked into")
            return
        disk = os.path.join(guest.folder, image)
        listing = mtools("mdir", "-i", disk, "-b", "-/", "::")
        t.check(
            "::/X.TXT" in listing.upper()
            and "::/SUB/Y.TXT" in listing.upper()
            and "Z.TXT" not in listing.upper(),
            "mtools finds the written files in the image, and not the deleted one",
            listing,
        )
        text = mtools("mtype", "-i", disk, "::/SUB/Y.TXT")
        t.check("Hello from DOS on a floppy" in text, "mtools reads what DOS wrote", text)


def mtools(*command):
    done = subprocess.run(
        command, capture_output=True, timeout=20, check=False, env=dict(os.environ, MTOOLS_SKIP_CHECK="1")
    )
    return (done.stdout + done.stderr).decode("latin-1")


def test_freedos_1440k(t, host):
    use_floppy(t, host, "1440k")


def test_freedos_1200k(t, host):
    use_floppy(t, host, "1200k")


def test_freedos_360k(t, host):
    use_floppy(t, host, "360k")


def test_freedos_160k(t, host):
    use_floppy(t, host, "160k")
