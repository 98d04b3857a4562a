"""Debian's i386 kernel with busybox, packed by setup/guests.sh: serial line, screen and keys, disks."""
import hashlib
import os
import re
import tempfile

from lib.guest import TOP, Guest

GUESTS = os.path.join(TOP, "build", "guests")


def kernel(host, append):
    return [
        "-m",
        "128",
        "-kernel",
        host.path(os.path.join(GUESTS, "vmlinuz")),
        "-initrd",
        host.path(os.path.join(GUESTS, "initrd.gz")),
        "-append",
        append,
    ]


def shell(guest, command, seconds):
    """Runs a command on the guest's serial shell; returns what it printed. No echo is the end mark."""
    guest.send(f"{command}; echo =$((3+4))=\n")
    return guest.wait_serial("=7=\n", seconds, f"the end of {command!r}")


def run_check(t, read):
    """What `check` printed."""
    t.check("processes: 300 of 300" in read, "300 processes are forked and their exit codes arrive", read)
    t.check("proc: 1 size line" in read, "/proc can be mounted a second time", read)
    t.check("float: 1.644884068 1.414213562" in read, "awk computes with floating point", read)
    t.check("pipe: caaa" in read, "pipes through sort and tr", read)
    t.check(
        f"memory: {hashlib.md5(bytes(16 << 20)).hexdigest()}" in read,
        "16 MiB of a file in memory have the right MD5",
        read,
    )
    t.check("signal: caught" in read, "a signal reaches its handler", read)


def test_linux_serial(t, host):
    with Guest(host, kernel(host, "console=ttyS0")) as guest:
        guest.wait_serial("qemu-win guest: userspace is up", 90)
        t.check(True, "Linux reaches its first program")
        guest.wait_serial("guest:/root#", 20)
        run_check(t, shell(guest, "check", 90))
        guest.send("poweroff\n")
        t.check(guest.wait_end(30) == 0, "poweroff ends the emulator with exit code 0")


def test_linux_nographic(t, host):
    with Guest(host, kernel(host, "console=ttyS0 quiet"), mux=["-nographic"]) as guest:
        guest.wait_serial("guest:/root#", 90)
        t.check(
            "42" in shell(guest, "expr 6 \\* 7", 20), "a command typed on -nographic's terminal is answered"
        )
        t.check("running" in guest.monitor("info status"), "Ctrl-a c reaches the monitor")
        t.check("144" in shell(guest, "expr 12 \\* 12", 20), "Ctrl-a c leads back to the serial line")
        guest.raw(b"\x01x")
        t.check(guest.wait_end(20) == 0, "Ctrl-a x ends the emulator with exit code 0")


def test_linux_screen(t, host):
    with Guest(host, kernel(host, "console=tty0"), serial=False) as guest:
        guest.wait_screen(r"guest:/root#", 90)
        t.check(True, "Linux shows its prompt on the screen")
        guest.type("echo Typed $((40+2)) 'on the' Keyboard!\n")
        guest.wait_screen(r"(?m)^Typed 42 on the Keyboard!$", 30)
        t.check(True, "what is typed arrives, shifted characters too")
        guest.type("clear; check\n")
        run_check(t, guest.wait_screen("check done", 90))
        guest.type("poweroff\n")
        t.check(guest.wait_end(30) == 0, "poweroff ends the emulator with exit code 0")


def test_linux_disks(t, host):
    """A written hard disk is found changed afterwards, with -snapshot it is not; floppy and CD are read."""
    with tempfile.TemporaryDirectory(prefix="qemu-win-test-") as folder:
        disk = os.path.join(folder, "disk.img")
        pattern = bytes(range(256)) * 2
        with open(disk, "wb") as f:
            for sector in range(65536):  # 32 MiB
                f.write(sector.to_bytes(4, "little") + pattern[4:])
        before = file_hash(disk)
        cdrom = os.path.join(GUESTS, "grub-cdrom.iso")
        floppy = os.path.join(GUESTS, "grub-floppy.img")
        for snapshot in (True, False):
            arguments = kernel(host, "console=ttyS0 quiet") + [
                "-hda",
                host.path(disk),
                "-cdrom",
                host.path(cdrom),
            ]
            arguments += ["-snapshot"] if snapshot else []
            with Guest(host, arguments) as guest:
                guest.wait_serial("guest:/root#", 90)
                shell(guest, "modprobe -a ata_piix sd_mod sr_mod; sleep 2", 60)
                t.check(
                    before in shell(guest, "md5sum </dev/sda", 60), "the guest reads the whole disk as it is"
                )
                read = shell(guest, "dd if=/dev/sr0 bs=2048 2>/dev/null | md5sum", 60)
                t.check(file_hash(cdrom) in read, "the guest reads the whole CD")
                read = shell(
                    guest, "dd if=/dev/urandom of=/dev/sda bs=1M count=8 seek=4; sync; md5sum </dev/sda", 90
                )
                after = re.search("[0-9a-f]{32}", read)[0]
                t.check(after != before, "the guest reads back what it wrote")
                guest.send("poweroff\n")
                t.check(guest.wait_end(30) == 0, "power-off with disks ends with exit code 0")
            if snapshot:
                t.check(file_hash(disk) == before, "-snapshot leaves the file as it was")
            else:
                t.check(file_hash(disk) == after, "the file holds what the guest wrote")
        arguments = kernel(host, "console=ttyS0 quiet") + ["-snapshot", "-fda", host.path(floppy)]
        with Guest(host, arguments) as guest:
            guest.wait_serial("guest:/root#", 90)
            read = shell(
                guest, "modprobe floppy; sleep 2; dd if=/dev/fd0 bs=512 count=2000 2>/dev/null | md5sum", 150
            )
            with open(floppy, "rb") as f:
                want = hashlib.md5(f.read(2000 * 512)).hexdigest()
            t.check(want in read, "the guest reads the floppy")
            guest.quit()


def file_hash(name):
    with open(name, "rb") as f:
        return hashlib.md5(f.read()).hexdigest()
