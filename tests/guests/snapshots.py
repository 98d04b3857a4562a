"""savevm, loadvm, delvm and -loadvm with a Linux guest that has files in memory and data on its disk."""
import os
import random
import re
import shutil
import subprocess
import tempfile

from guests.linux import kernel, shell
from lib.guest import TOP, Guest

LIST_HEAD = re.compile(r"^ID TAG +VM SIZE DATE +VM CLOCK$", re.M)


def packaged(*arguments):
    """The packaged qemu-img, where there is one: its exit code and what it printed."""
    if not shutil.which("qemu-img"):
        return None, ""
    done = subprocess.run(
        ["qemu-img", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False
    )
    return done.returncode, done.stdout.decode()


def our_img(host, *arguments):
    """qemu-img of this build, beside the emulator."""
    name = "qemu-img.exe" if host.windows else "qemu-img-native"
    tool = os.path.join(os.path.dirname(host.program), name)
    command = (["wine"] if host.wine else []) + [tool, *arguments]
    return subprocess.run(
        command, env=host.environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
    ).returncode


def image(host, folder):
    raw, name = os.path.join(folder, "redhat.img"), os.path.join(folder, "test.qcow2")
    with open(raw, "wb") as f:
        f.truncate(32 << 20)
    arguments = ("convert", "-f", "raw", host.path(raw), "-O", "qcow2", host.path(name))
    if our_img(host, *arguments):
        raise AssertionError("qemu-img convert failed")
    return name


def start(host, disk, *more):
    return Guest(host, kernel(host, "console=ttyS0 quiet") + ["-hda", host.path(disk), *more])


def boot(guest):
    guest.wait_serial("guest:/root#", 90)
    shell(guest, "modprobe -a ata_piix sd_mod; sleep 1", 60)


def sound(t, disk):
    code, text = packaged("check", disk)
    if code is not None:
        t.check(code == 0, "the packaged qemu-img finds the image sound", text)


def test_snapshots_session(t, host):
    """The session that a person types."""
    with tempfile.TemporaryDirectory() as folder:
        disk = image(host, folder)
        with start(host, disk) as guest:
            boot(guest)
            said = guest.monitor("savevm test", 120)
            t.check(said == "", "savevm goes quietly", said)
            listed = guest.monitor("info snapshots")
            t.check(LIST_HEAD.search(listed), "info snapshots has its columns", listed)
            t.check(re.search(r"(?m)^1  test   +[0-9.]+M +20\d\d-", listed), "the snapshot is listed", listed)
            shell(guest, "echo test > test.txt; dd if=/dev/zero bs=512 count=1 | tr '\\0' x >/dev/sda; sync", 30)
            guest.monitor("savevm test2", 120)
            said = guest.monitor("loadvm test", 60)
            t.check("before-loadvm" in said, "the monitor says where the present is kept", said)
            read = shell(guest, "ls; head -c 4 /dev/sda | tr '\\0' 0", 30)
            t.check("test.txt" not in read and "0000" in read, "file and disk are as they were", read)
            guest.monitor("loadvm 2", 60)
            read = shell(guest, "cat test.txt; head -c 4 /dev/sda", 30)
            t.check(re.search(r"(?m)^test\nxxxx", read), "and forward again, by number", read)
            guest.monitor("loadvm 1", 60)
            read = shell(guest, "cat test.txt", 30)
            t.check("No such file" in read, "back by number", read)
            tree = guest.monitor("info snapshots -t")
            t.check(re.search(r"^1 test .*\n\+- 2 test2", tree) and "the present" in tree, "the tree", tree)
            t.check(guest.monitor("delvm test2") == "", "delvm")
            said = guest.monitor("loadvm test2")
            t.check("there is no snapshot 'test2'" in said, "what is gone can't be loaded", said)
            t.check(guest.quit() == 0, "quit")
        sound(t, disk)
        code, text = packaged("snapshot", "-l", disk)
        if code is not None:
            t.check(re.search(r"(?m)^1 +test +[0-9.]+ MiB 20", text), "the packaged qemu-img lists it", text)
        with start(host, disk, "-loadvm", "test") as guest:
            read = shell(guest, "ls; uname -m; head -c 4 /dev/sda | tr '\\0' 0", 60)
            t.check("i686" in read and "0000" in read, "-loadvm goes on where it was", read)
            guest.quit()
        code, _, errors = host.run(["-display", "none", "-hda", host.path(disk), "-loadvm", "none"])
        t.check(code == 1 and "there is no snapshot 'none'" in errors, "a wrong -loadvm ends with 1", errors)


def test_snapshots_refused(t, host):
    with tempfile.TemporaryDirectory() as folder:
        raw = os.path.join(folder, "raw.img")
        with open(raw, "wb") as f:
            f.truncate(8 << 20)
        arguments = ["-S", "-hda", host.path(raw)]
        with Guest(host, arguments, serial=False) as guest:
            said = guest.monitor("savevm a")
            t.check("ide0-hd0" in said and "qemu-img convert -O qcow2" in said, "a raw disk is refused", said)
            guest.quit()


def rounds(t, host, count, seed):
    """Whatever is loaded shows exactly the files of its moment."""
    pick = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        disk = image(host, folder)
        with start(host, disk) as guest:
            boot(guest)
            saved, wrong = {}, []
            shell(guest, "(while :; do md5sum /bin/busybox >/tmp/busy; done) & true", 20)
            for n in range(count):
                size = pick.randrange(1, 40)
                shell(
                    guest,
                    f"dd if=/dev/urandom of=f{n} bs=64k count={size} 2>/dev/null; "
                    f"dd if=f{n} of=/dev/sda bs=64k seek={pick.randrange(400)} conv=notrunc 2>/dev/null; sync",
                    60,
                )
                now = sums(guest)
                name = f"s{pick.randrange(4)}"
                guest.monitor(f"savevm {name}", 120)
                saved[name] = now
                shell(guest, f"rm -f f{n}; dd if=/dev/urandom of=/dev/sda bs=64k count=3 2>/dev/null", 30)
                name = pick.choice(sorted(saved))
                if pick.randrange(4) == 0 and len(saved) > 1:
                    guest.monitor(f"delvm {name}", 60)
                    del saved[name]
                    name = pick.choice(sorted(saved))
                guest.monitor(f"loadvm {name}", 60)
                shell(guest, "echo 3 >/proc/sys/vm/drop_caches", 20)
                if sums(guest) != saved[name]:
                    wrong.append(name)
            t.check(not wrong, f"{count} rounds (seed {seed}): files are those of their moment", str(wrong))
            guest.quit()
        sound(t, disk)


def sums(guest):
    return sorted(re.findall(r"[0-9a-f]{32}  \S+", shell(guest, "md5sum /dev/sda f* 2>/dev/null", 60)))


def test_snapshots_rounds(t, host):
    rounds(t, host, 6, 1)
