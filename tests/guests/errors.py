"""Mistakes of the user: exit code 1 and one clear line that names what is wrong; no file is changed."""
import hashlib
import os
import tempfile

from lib.guest import TOP, Guest

# arguments, and what the line must name
MISTAKES = [
    (["-hda", "missing.img"], ["missing.img"]),
    (["-fda", "missing.img"], ["missing.img"]),
    (["-cdrom", "missing.iso"], ["missing.iso"]),
    (["missing.img"], ["missing.img"]),
    (["-drive", "file=missing.img,if=ide"], ["missing.img"]),
    (["-hda", "folder"], ["folder"]),
    (["-hda", "no/such/folder/disk.img"], ["disk.img"]),
    (["-bios", "missing.bin"], ["missing.bin"]),
    (["-kernel", "missing-kernel"], ["missing-kernel"]),
    (["-kernel", "disk.img"], ["disk.img"]),
    (["-m", "12q"], ["-m", "12q"]),
    (["-m", "0"], ["-m"]),
    (["-m", "99999999"], ["-m"]),
    (["-m"], ["-m"]),
    (["-smp", "9999"], ["-smp"]),
    (["-cpu", "z80"], ["z80"]),
    (["-M", "amiga"], ["amiga"]),
    (["-boot", "q"], ["-boot"]),
    (["-serial", "bogus:x"], ["bogus"]),
    (["-serial", "file:no/such/folder/log.txt"], ["log.txt"]),
    (["-rtc", "base=yesterday"], ["yesterday"]),
    (["-drive", "if=bogus,file=disk.img"], ["bogus"]),
    (["-drive", "file=disk.img,bogus=1"], ["bogus"]),
    (["-device", "bogus"], ["bogus"]),
    (["-bogus-option"], ["-bogus-option"]),
    (["-hdd4", "disk.img"], ["-hdd4", "-hdd"]),
    (["-hda", "disk.img", "-hda", "other.img"], ["hda"]),
    (["-pidfile", "no/such/folder/pid"], ["pid"]),
]


def hashes(folder):
    found = {}
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                found[name] = hashlib.md5(f.read()).hexdigest()
        else:
            found[name] = "folder"
    return found


def test_errors_command_line(t, host):
    if "qemu-system" in host.program:
        return  # it says some of these in several lines or accepts them
    with tempfile.TemporaryDirectory(prefix="qemu-win-test-") as folder:
        os.mkdir(os.path.join(folder, "folder"))
        for name in ("disk.img", "other.img"):
            with open(os.path.join(folder, name), "wb") as f:
                f.write(b"\xa5" * 1048576)
        before = hashes(folder)
        for arguments, words in MISTAKES:
            code, out, err = host.run(["-display", "none"] + arguments, folder, 30)
            line = err.strip().replace("\r", "")
            shown = " ".join(arguments)
            t.check(code == 1, f"`{shown}` ends with exit code 1", f"{code}: {line}")
            t.check(
                line.startswith("qemu") and "\n" not in line and not out.strip(),
                f"`{shown}` says one line on stderr",
                line + out,
            )
            t.check(
                all(word in line for word in words), f"`{shown}`: the line names {' and '.join(words)}", line
            )
        t.check(hashes(folder) == before, "no file was changed or made", hashes(folder))


def test_errors_locked_disk(t, host):
    with tempfile.TemporaryDirectory(prefix="qemu-win-test-") as folder:
        disk = os.path.join(folder, "locked.img")
        with open(disk, "wb") as f:
            f.write(b"\xa5" * 1048576)
        with Guest(host, ["-hda", host.path(disk)], serial=False) as guest:
            code, _, err = host.run(
                ["-display", "none", "-hda", disk if not host.wine else host.path(disk)], folder, 30
            )
            t.check(code == 1, "a disk that another emulator writes to is refused", code)
            t.check("locked.img" in err, "it is named", err)
            t.check("\n" not in err.strip() or "qemu-system" in host.program, "in one line", err)
            guest.quit()


def test_errors_help(t, host):
    code, out, _ = host.run(["-h"], None, 30)
    t.check(code == 0, "-h ends with exit code 0")
    t.check(
        all(word in out for word in ("-hda", "-m", "-boot", "-snapshot", "-kernel", "-serial")),
        "-h lists the options",
        out[:600],
    )
    code, out, _ = host.run(["-version"], None, 30)
    t.check(code == 0 and "version" in out.lower(), "-version prints a version", out)


def test_errors_names(t, host):
    """Names of files may have any characters."""
    actions = os.path.join(TOP, "build", "guests", "actions.img")
    with open(actions, "rb") as f:
        content = f.read()
    name = "Dïskette 日本 & ,50%.img"
    with Guest(host, ["-m", "16", "-fda", name, "-boot", "a"], files={name: content}) as guest:
        guest.wait_serial("ready\n", 60)
        t.check(True, "a file with blanks, accents, a comma and Japanese in its name boots")
        guest.quit()
