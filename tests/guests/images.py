"""qemu-img beside the packaged one: what one writes the other reads, and both find it sound; exit codes."""
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time

from guests.linux import kernel, shell
from lib.guest import SLOWNESS, Guest, LeftOut

PACKAGED = shutil.which("qemu-img")


class Tool:
    """Our qemu-img; the packaged one by packaged()."""

    def __init__(self, t, host, folder):
        folder_of_program, name = os.path.split(host.program)
        path = os.path.join(folder_of_program, name.replace("qemu", "qemu-img", 1))
        if "qemu-system" in host.program or not os.path.exists(path):
            raise LeftOut("qemu-img is not beside the program")
        self.host = host
        self.t, self.folder, self.environment = t, folder, host.environment
        self.command = (["wine"] if host.wine else []) + [path]

    def run(self, *arguments):
        done = subprocess.run(
            self.command + list(arguments),
            cwd=self.folder,
            env=self.environment,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60 * SLOWNESS,
        )
        self.text = (done.stdout + done.stderr).decode("utf-8", "replace").replace("\r", "")
        return done.returncode

    def ends(self, code, *arguments):
        got = self.run(*arguments)
        what = f"qemu-img {' '.join(arguments)}: exit code {code}"
        return self.t.check(got == code, what, f"{got}\n{self.text}")

    def packaged(self, code, *arguments):
        if not PACKAGED:
            return
        done = subprocess.run(
            [PACKAGED, *arguments], cwd=self.folder, check=False, capture_output=True, timeout=60 * SLOWNESS
        )
        self.t.check(
            done.returncode == code,
            f"packaged qemu-img {' '.join(arguments)}: {code}",
            (done.stdout + done.stderr).decode("utf-8", "replace"),
        )

    def same(self, image, raw):
        """All agree that the image is sound and holds what the raw file holds."""
        self.ends(0, "check", image)
        self.ends(0, "compare", raw, image)
        self.packaged(0, "check", image)
        self.packaged(0, "compare", raw, image)


def make_raw(folder, name, size):
    """Random and compressible parts, and holes."""
    source = random.Random(size)
    with open(os.path.join(folder, name), "wb") as f:
        f.truncate(size)
        for at in range(0, size, 1 << 20):
            f.seek(at)
            part = source.choice((b"", b"text " * 40000, source.randbytes(min(size - at, 300000))))
            f.write(part[: size - at])


def in_folder(function):
    def test(t, host):
        with tempfile.TemporaryDirectory(prefix="qemu-win-test-") as folder:
            if not PACKAGED:
                t.note("the packaged qemu-img is not installed: only our own is asked")
            function(t, Tool(t, host, folder), folder)

    return test


@in_folder
def test_images_convert(t, tool, folder):
    for size in (512, 512 * 333, 9 << 20):
        make_raw(folder, "a.raw", size)
        for options in (
            [],
            ["-c"],
            ["-o", "cluster_size=512"],
            ["-c", "-o", "cluster_size=2M,compat=0.10"],
            ["-c", "-o", "refcount_bits=1,cluster_size=4k"],
            ["-o", "refcount_bits=64"],
        ):
            tool.ends(0, "convert", "-f", "raw", "-O", "qcow2", *options, "a.raw", "a.qcow2")
            tool.same("a.qcow2", "a.raw")
        tool.ends(0, "convert", "a.qcow2", "b.raw")
        with open(os.path.join(folder, "a.raw"), "rb") as a, open(os.path.join(folder, "b.raw"), "rb") as b:
            t.check(a.read() == b.read(), f"{size} bytes go to qcow2 and back")
        if PACKAGED:
            for options in ([], ["-c"], ["-c", "-o", "compat=0.10"]):
                tool.packaged(0, "convert", "-f", "raw", "-O", "qcow2", *options, "a.raw", "p.qcow2")
                tool.same("p.qcow2", "a.raw")
    tool.ends(0, "create", "-q", "-f", "qcow2", "large.qcow2", "2T")
    tool.packaged(0, "check", "large.qcow2")
    size = os.path.getsize(os.path.join(folder, "large.qcow2"))
    t.check(size < 1 << 20, "an empty disk of 2 TiB is a small file")


@in_folder
def test_images_chain(t, tool, folder):
    make_raw(folder, "base.raw", 5 << 20)
    tool.ends(0, "convert", "-f", "raw", "-O", "qcow2", "base.raw", "base.qcow2")
    tool.ends(0, "create", "-b", "base.qcow2", "-f", "qcow2", "top.qcow2")
    tool.same("top.qcow2", "base.raw")
    tool.ends(0, "create", "-f", "qcow2", "-b", "top.qcow2", "-F", "qcow2", "third.qcow2", "6M")
    tool.ends(0, "info", "--output=json", "third.qcow2")
    info = json.loads(tool.text)
    t.check(
        info["virtual-size"] == 6 << 20
        and info["backing-filename"] == "top.qcow2"
        and info["backing-filename-format"] == "qcow2",
        "info tells size and base",
        tool.text,
    )
    tool.ends(0, "info", "--backing-chain", "third.qcow2")
    t.check(tool.text.count("image: ") == 3, "info tells the whole chain", tool.text)
    # the second image gets data of its own, from a disk that differs in places
    with open(os.path.join(folder, "base.raw"), "rb") as f:
        data = bytearray(f.read())
    data[3 << 20 : (3 << 20) + 70000] = b"changed" * 10000
    with open(os.path.join(folder, "want.raw"), "wb") as f:
        f.write(data)
    tool.ends(0, "convert", "-O", "qcow2", "-B", "base.qcow2", "-F", "qcow2", "want.raw", "top.qcow2")
    tool.same("top.qcow2", "want.raw")
    size = os.path.getsize(os.path.join(folder, "top.qcow2"))
    t.check(size < 1 << 20, "convert -B stores the differences only")
    tool.ends(0, "rebase", "-b", "base.raw", "-F", "raw", "top.qcow2")
    tool.same("top.qcow2", "want.raw")
    tool.ends(0, "commit", "top.qcow2")
    tool.ends(0, "compare", "-f", "raw", "base.raw", "want.raw")
    tool.ends(0, "rebase", "-b", "", "top.qcow2")
    tool.same("top.qcow2", "want.raw")
    tool.ends(0, "rebase", "-u", "-b", "missing.qcow2", "-F", "qcow2", "top.qcow2")
    tool.ends(1, "convert", "top.qcow2", "x.raw")
    t.check("missing.qcow2" in tool.text, "a missing base is named", tool.text)
    tool.ends(0, "rebase", "-u", "-b", "top.qcow2", "-F", "qcow2", "top.qcow2")
    tool.ends(1, "convert", "top.qcow2", "x.raw")
    t.check("itself" in tool.text, "an image that is its own base is refused", tool.text)


@in_folder
def test_images_snapshots(t, tool, folder):
    make_raw(folder, "a.raw", 3 << 20)
    tool.ends(0, "convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
    tool.ends(0, "snapshot", "-c", "before", "a.qcow2")
    tool.same("a.qcow2", "a.raw")
    tool.packaged(0, "snapshot", "-c", "theirs", "a.qcow2")
    tool.ends(0, "snapshot", "-l", "a.qcow2")
    listed = "before" in tool.text and (not PACKAGED or "theirs" in tool.text)
    t.check(listed, "snapshots are listed", tool.text)
    tool.ends(0, "resize", "a.qcow2", "+1M")
    tool.packaged(0, "check", "a.qcow2")
    tool.ends(0, "snapshot", "-a", "before", "a.qcow2")
    tool.same("a.qcow2", "a.raw")
    tool.ends(0, "convert", "-l", "before", "a.qcow2", "b.raw")
    tool.ends(0, "compare", "a.raw", "b.raw")
    tool.ends(0, "snapshot", "-d", "before", "a.qcow2")
    tool.same("a.qcow2", "a.raw")
    tool.ends(1, "snapshot", "-d", "before", "a.qcow2")
    tool.ends(1, "resize", "a.qcow2", "1M")
    tool.ends(0, "resize", "--shrink", "a.qcow2", "1M")
    tool.packaged(0, "check", "a.qcow2")


@in_folder
def test_images_check(t, tool, folder):
    make_raw(folder, "a.raw", 3 << 20)
    tool.ends(63, "check", "-f", "raw", "a.raw")
    tool.ends(1, "check", "missing.qcow2")
    tool.ends(2, "compare", "a.raw", "missing.raw")
    tool.ends(0, "convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
    for count in (7, 0):
        with open(os.path.join(folder, "a.qcow2"), "r+b") as f:
            f.seek(0x20000 + 2 * 5)  # refcount block of a new image, cluster 5: data
            f.write(count.to_bytes(2, "big"))
        tool.ends(2 if count == 0 else 3, "check", "a.qcow2")
        tool.ends(0, "check", "-r", "all", "a.qcow2")
        tool.same("a.qcow2", "a.raw")
    with open(os.path.join(folder, "a.qcow2"), "r+b") as f:
        f.seek(0x20000 + 2 * 1000)  # a cluster behind the end: a leak
        f.write(b"\x00\x01")
    tool.ends(3, "check", "a.qcow2")
    tool.ends(0, "check", "-r", "leaks", "a.qcow2")
    tool.same("a.qcow2", "a.raw")
    tool.ends(1, "create", "-f", "qcow2", "-o", "cluster_size=3000", "x.qcow2", "1M")
    tool.ends(1, "create", "-f", "dmg", "x.dmg", "1M")
    tool.ends(1, "frobnicate")


@in_folder
def test_images_tools(t, tool, folder):
    """dd, measure, bench, several sources, Ctrl-C; what they print is what the packaged one prints."""
    make_raw(folder, "a.raw", 9 << 20)
    make_raw(folder, "b.raw", 512 * 333)

    def content(name):
        with open(os.path.join(folder, name), "rb") as f:
            return f.read()

    for format_ in ("raw", "qcow2"):
        for options in ([], ["-c"]) if format_ == "qcow2" else ([],):
            tool.ends(0, "convert", *options, "-f", "raw", "-O", format_, "b.raw", "a.raw", "b.raw", "joined")
            tool.ends(0, "convert", "-f", format_, "joined", "joined.raw")
            both = content("b.raw") + content("a.raw") + content("b.raw")
            t.check(content("joined.raw") == both, f"several sources make one {format_} {options}")
    tool.ends(0, "dd", "-f", "raw", "-O", "qcow2", "bs=64k", "skip=3", "count=20", "if=a.raw", "of=d.qcow2")
    tool.ends(0, "convert", "d.qcow2", "d.raw")
    t.check(content("d.raw") == content("a.raw")[3 << 16 : 23 << 16], "dd copies a part")
    tool.ends(1, "dd", "if=a.raw", "of=x.raw", "frobnicate=1")
    tool.ends(0, "convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
    tool.ends(1, "convert", "-p", "-O", "nonsense", "a.raw", "x.img")
    tool.ends(0, "convert", "-p", "a.qcow2", "x.raw")
    t.check("(100.00/100%)" in tool.text, "-p shows how far it is", tool.text)
    for arguments in (
        ["--size", "20G"],
        ["-O", "qcow2", "--size", "20G"],
        ["-O", "qcow2", "-o", "cluster_size=4k", "--size", "3G"],
        ["-O", "qcow2", "-f", "raw", "a.raw"],
        ["-O", "qcow2", "-f", "qcow2", "a.qcow2"],
    ):
        tool.ends(0, "measure", "--output=json", *arguments)
        ours = json.loads(tool.text)
        if PACKAGED and not (tool.host.windows and "a.raw" in arguments):  # a file made by others has no holes there
            theirs = json.loads(
                subprocess.run(
                    [PACKAGED, "measure", "--output=json", *arguments],
                    cwd=folder,
                    check=True,
                    capture_output=True,
                ).stdout
            )
            for key in ("required", "fully-allocated"):
                near = abs(ours[key] - theirs[key]) <= 2 << 20
                t.check(near, f"measure {arguments}: {key} as the packaged one", (ours, theirs))
    tool.ends(0, "bench", "-c", "500", "-d", "8", "-S", "77824", "a.qcow2")
    t.check("Sending 500 read requests, 4096 bytes each, 8 in parallel" in tool.text, "bench", tool.text)
    tool.ends(0, "bench", "-w", "-c", "300", "--pattern=65", "--flush-interval=50", "-f", "qcow2", "a.qcow2")
    tool.packaged(0, "check", "a.qcow2")
    tool.ends(0, "convert", "a.qcow2", "x.raw")
    t.check(content("x.raw")[: 300 * 4096] == b"A" * (300 * 4096), "bench -w writes its pattern")
    if not tool.host.windows:
        make_raw(folder, "large.raw", 400 << 20)
        process = subprocess.Popen(
            tool.command + ["convert", "-c", "-f", "raw", "-O", "qcow2", "large.raw", "half.qcow2"],
            cwd=folder,
            env=tool.environment,
            stderr=subprocess.PIPE,
        )
        half = os.path.join(folder, "half.qcow2")
        for _ in range(600):
            if os.path.exists(half) and os.path.getsize(half) > 1 << 20:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1].decode()
        t.check(process.returncode == 1 and "interrupted" in errors, "Ctrl-C ends convert", errors)
        t.check(not os.path.exists(half), "and leaves no half-written target")


@in_folder
def test_images_sparse(t, tool, folder):
    """Holes stay holes, and are told."""
    with open(os.path.join(folder, "a.raw"), "wb") as f:
        f.truncate(1 << 30)
        f.seek(300 << 20)
        f.write(b"x" * 70000)
        f.seek((1 << 30) - 512)
        f.write(b"y" * 512)
    tool.ends(0, "convert", "-f", "raw", "-O", "qcow2", "a.raw", "a.qcow2")
    tool.same("a.qcow2", "a.raw")
    tool.ends(0, "convert", "a.qcow2", "b.raw")
    tool.ends(0, "compare", "a.raw", "b.raw")
    tool.ends(0, "info", "--output=json", "b.raw")
    info = json.loads(tool.text)
    t.check(info["virtual-size"] == 1 << 30, "info tells the size", tool.text)
    if not tool.host.windows:
        t.check(info["actual-size"] < 4 << 20, "a raw image has holes where the disk has zeros", tool.text)
        tool.ends(0, "map", "--output=json", "b.raw")
        rows = json.loads(tool.text)
        used = sum(row["length"] for row in rows if row["data"])
        t.check(0 < used < 4 << 20 and rows[0]["zero"], "map tells the holes", tool.text)
    tool.ends(0, "create", "-f", "raw", "-o", "preallocation=full", "c.raw", "3M")
    tool.ends(0, "info", "--output=json", "c.raw")
    t.check(json.loads(tool.text)["actual-size"] >= 3 << 20, "preallocation=full takes the room at once", tool.text)


def disk_hash(tool, folder, image):
    tool.ends(0, "convert", image, "flat.raw")
    with open(os.path.join(folder, "flat.raw"), "rb") as f:
        return hashlib.md5(f.read()).hexdigest()


@in_folder
def test_images_machine(t, tool, folder):
    """Linux writes to a qcow2 disk with two levels below it, and the emulator is killed after sync."""
    host = tool.host
    make_raw(folder, "base.raw", 16 << 20)
    tool.ends(0, "create", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "middle.qcow2")
    tool.ends(0, "create", "-f", "qcow2", "-b", "middle.qcow2", "-F", "qcow2", "top.qcow2", "32M")
    before = disk_hash(tool, folder, "top.qcow2")
    arguments = kernel(host, "console=ttyS0 quiet")
    arguments += ["-hda", host.path(os.path.join(folder, "top.qcow2"))]
    for snapshot in (True, False):
        with Guest(host, arguments + (["-snapshot"] if snapshot else [])) as guest:
            guest.wait_serial("guest:/root#", 90)
            shell(guest, "modprobe -a ata_piix sd_mod; sleep 2", 60)
            t.check(before in shell(guest, "md5sum </dev/sda", 60), "the guest reads the whole disk as it is")
            read = shell(
                guest,
                "for i in 1 5 9 20; do "
                "dd if=/dev/urandom of=/dev/sda bs=20000 count=90 seek=$((i*70)) conv=notrunc,fsync; "
                "done; echo 3 >/proc/sys/vm/drop_caches; md5sum </dev/sda",
                90,
            )
            after = re.search("[0-9a-f]{32}", read)[0]
            t.check(after != before, "the guest reads back what it wrote")
            guest.process.kill()
            guest.process.wait()
        code = tool.run("check", "top.qcow2")
        t.check(
            code == 0 if snapshot else code in (0, 3), "the image is sound, with leaks at most", tool.text
        )
        t.check(
            disk_hash(tool, folder, "top.qcow2") == (before if snapshot else after),
            "-snapshot leaves the image as it was" if snapshot else "what was synced is there after the kill",
        )
