"""The disk under the image is full, an image has another writer, a medium goes: what guest and monitor see."""
import os
import re
import resource
import time

from guests.images import disk_hash, in_folder
from guests.linux import kernel, shell
from lib.guest import Guest, LeftOut


def limit(guest, size):
    """A host disk on which files can't be longer: writing past that fails as on a full one."""
    resource.prlimit(guest.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def wait_status(guest, text, seconds=60):
    end = time.monotonic() + seconds
    while text not in guest.monitor("info status") and time.monotonic() < end:
        time.sleep(0.2)
    time.sleep(0.5)  # the line about the error may have come in between, with a prompt of its own
    with guest.changed:
        guest.read_to = len(guest.output)


@in_folder
def test_disk_errors_full(t, tool, folder):
    host = tool.host
    if host.windows:
        raise LeftOut("the size of files can be limited natively only")
    for image in ("disk.qcow2", "disk.raw"):
        tool.ends(0, "create", "-q", "-f", image.rpartition(".")[2], image, "64M")
        path = os.path.join(folder, image)
        arguments = kernel(host, "console=ttyS0 quiet") + ["-hda", path]
        with Guest(host, arguments) as guest:
            guest.wait_serial("guest:/root#", 90)
            shell(guest, "modprobe -a ata_piix sd_mod; sleep 2", 60)
            limit(guest, 5 << 20)
            guest.send("dd if=/dev/urandom of=/dev/sda bs=1M count=12; sync; md5sum </dev/sda; echo =$((3+4))=\n")
            wait_status(guest, "io-error")
            t.check("paused (io-error)" in guest.monitor("info status"), f"{image}: the machine pauses")
            listed = guest.monitor("info block")
            t.check("waits after an error" in listed, "info block names the drive", listed)
            t.check("disk is full" in guest.stderr(), "a line says why", guest.stderr())
            guest.monitor("cont")
            wait_status(guest, "io-error")
            t.check("paused (io-error)" in guest.monitor("info status"), "cont tries in vain")
            limit(guest, resource.RLIM_INFINITY)
            guest.monitor("cont")
            guest.send("")
            read = guest.wait_serial("=7=\n", 90)
            got = re.search("[0-9a-f]{32}", read)
            t.check(got, "the guest goes on when there is room", read)
            t.check("nput/output error" not in read, "and has seen no error", read)
            t.check("running" in guest.monitor("info status"), "the machine runs")
            guest.quit()
        if image.endswith("qcow2"):
            t.check(tool.run("check", image) in (0, 3), "the image is sound, with leaks at most", tool.text)
        if got:
            t.check(got[0] == disk_hash(tool, folder, image), f"{image} holds what the guest wrote")


@in_folder
def test_disk_errors_report(t, tool, folder):
    """werror=report: the guest sees the error, and the image stays sound."""
    host = tool.host
    if host.windows:
        raise LeftOut("the size of files can be limited natively only")
    tool.ends(0, "create", "-q", "-f", "qcow2", "disk.qcow2", "64M")
    path = os.path.join(folder, "disk.qcow2")
    with Guest(host, kernel(host, "console=ttyS0 quiet") + ["-drive", f"file={path},werror=report"]) as guest:
        guest.wait_serial("guest:/root#", 90)
        shell(guest, "modprobe -a ata_piix sd_mod; sleep 2", 60)
        shell(guest, "dd if=/dev/urandom of=/dev/sda bs=1M count=2 conv=fsync; md5sum </dev/sda", 60)
        limit(guest, 5 << 20)
        read = shell(guest, "dd if=/dev/urandom of=/dev/sda bs=1M count=12 conv=fsync; echo code $?", 120)
        t.check("code 1" in read and "nput/output error" in read, "the guest sees an I/O error", read)
        t.check("running" in guest.monitor("info status"), "and goes on")
        guest.quit()
    t.check(tool.run("check", "disk.qcow2") in (0, 3), "the image is sound, with leaks at most", tool.text)


@in_folder
def test_disk_errors_writers(t, tool, folder):
    """One writer an image; readers are let in."""
    host = tool.host
    tool.ends(0, "create", "-q", "-f", "qcow2", "disk.qcow2", "8M")
    path = host.path(os.path.join(folder, "disk.qcow2"))
    with Guest(host, ["-m", "16", "-S", "-hda", path], serial=False) as guest:
        code, _, errors = host.run(["-display", "none", "-hda", path], folder)
        t.check(code == 1 and "disk.qcow2" in errors and "in use" in errors, "a second writer is refused", errors)
        tool.ends(1, "resize", "disk.qcow2", "9M")
        tool.ends(0, "info", "disk.qcow2")
        tool.ends(0, "check", "disk.qcow2")
        guest.quit()
    tool.ends(0, "resize", "disk.qcow2", "9M")


@in_folder
def test_disk_errors_commit(t, tool, folder):
    """-snapshot and commit; eject and change as Linux sees them."""
    host = tool.host
    tool.ends(0, "create", "-q", "-f", "qcow2", "disk.qcow2", "8M")
    for name, byte in (("one.iso", b"1"), ("two.iso", b"2")):
        with open(os.path.join(folder, name), "wb") as f:
            f.write(byte * 2048 * 32)
    arguments = kernel(host, "console=ttyS0 quiet")
    arguments += ["-snapshot", "-hda", host.path(os.path.join(folder, "disk.qcow2"))]
    arguments += ["-cdrom", host.path(os.path.join(folder, "one.iso")), "-drive", "if=none,id=spare"]
    with Guest(host, arguments) as guest:
        guest.wait_serial("guest:/root#", 90)
        shell(guest, "modprobe -a ata_piix sd_mod sr_mod; sleep 2", 60)
        t.check("spare: no medium" in guest.monitor("info block"), "info block has drives of if=none")
        shell(guest, "echo first | dd of=/dev/sda seek=9 conv=notrunc; sync", 60)
        t.check(guest.monitor("commit all") == "", "commit all says nothing when all is well")
        shell(guest, "echo second | dd of=/dev/sda seek=9 conv=notrunc; sync", 60)
        t.check("second" in shell(guest, "dd if=/dev/sda skip=9 count=1 iflag=direct", 60), "the guest goes on")
        t.check("1111" in shell(guest, "dd if=/dev/sr0 bs=2048 count=1", 60), "the first CD is read")
        two = host.path(os.path.join(folder, "two.iso"))
        said = guest.monitor(f'change ide1-cd0 "{two}"')
        t.check(said == "", "change puts another CD in", said)
        t.check("2222" in shell(guest, "dd if=/dev/sr0 bs=2048 count=1", 60), "the guest sees the second CD")
        guest.monitor("eject ide1-cd0")
        t.check("No medium" in shell(guest, "dd if=/dev/sr0 bs=2048 count=1", 60), "and that it is gone")
        t.check("stays in" in guest.monitor("eject -f ide0-hd0"), "a hard disk can't be taken out")
        guest.quit()
    tool.ends(0, "convert", "disk.qcow2", "flat.raw")
    with open(os.path.join(folder, "flat.raw"), "rb") as f:
        data = f.read()
    t.check(data[9 * 512 :].startswith(b"first\n"), "commit has written into the image, and nothing later has")
