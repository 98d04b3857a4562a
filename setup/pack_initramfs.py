#!/usr/bin/env python3
"""Packs the test guest's root file system: busybox, a few scripts and the kernel modules it can load.

    pack_initramfs.py OUT.gz BUSYBOX MODULE_TREE [PATH_IN_GUEST=FILE]... [MODULE]...

The archive is a cpio of the "newc" kind (Linux: Documentation/driver-api/early-userspace/buffer-format.rst),
written here and not by cpio so that device nodes need no root rights and the same bytes come out everywhere. The
modules that the named ones need are added; modules.dep and modules.alias, which modprobe reads, come from their
own .modinfo.
"""
import gzip
import os
import sys

S_DIR, S_FILE, S_LINK, S_CHR = 0o040000, 0o100000, 0o120000, 0o020000


class Cpio:
    def __init__(self):
        self.data = bytearray()
        self.count = 0
        self.directories = set()

    def add(self, path, mode, content=b"", device=(0, 0)):
        parent = os.path.dirname(path)
        if parent and parent not in self.directories:
            self.directories.add(parent)
            self.add(parent, S_DIR | 0o755)
        self.count += 1
        name = path.encode() + b"\0"
        fields = (self.count, mode, 0, 0, 1, 0, len(content), 0, 0, device[0], device[1], len(name), 0)
        self.data += b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self.pad()
        self.data += content
        self.pad()

    def pad(self):
        self.data += bytes(-len(self.data) % 4)

    def finish(self):
        self.add("TRAILER!!!", 0)
        return bytes(self.data)


def modinfo(data):
    """The key=value strings of a module's .modinfo section: the NUL-terminated strings around "vermagic="."""
    middle = data.index(b"\0vermagic=")
    start, end = middle, middle
    while b"=" in data[data.rindex(b"\0", 0, start) + 1 : start]:
        start = data.rindex(b"\0", 0, start)
    strings = data[start + 1 : data.index(b"\0" * 8, end)].split(b"\0")
    return [s.decode("latin-1").partition("=")[::2] for s in strings if b"=" in s]


def find_modules(tree, wanted):
    """name -> (path in the tree, content, info), for the wanted modules and all they need."""
    paths = {}
    for folder, _, names in os.walk(tree):
        for name in names:
            if name.endswith(".ko"):
                paths[name[:-3].replace("-", "_")] = os.path.join(folder, name)
    found, queue = {}, [name.replace("-", "_") for name in wanted]
    while queue:
        name = queue.pop(0)
        if name in found:
            continue
        if name not in paths:
            sys.exit(f"pack_initramfs.py: the kernel has no module {name}")
        with open(paths[name], "rb") as f:
            content = f.read()
        info = modinfo(content)
        depends = [
            d.replace("-", "_") for key, value in info if key == "depends" for d in value.split(",") if d
        ]
        found[name] = (os.path.relpath(paths[name], tree), content, info, depends)
        queue += depends
    return found


def all_depends(modules, name):
    """Nearest first: modprobe loads them from the last to the first."""
    order = []
    for depend in modules[name][3]:
        for deeper in [depend] + all_depends(modules, depend):
            if deeper in order:
                order.remove(deeper)
            order.append(deeper)
    return order


def main():
    out, busybox, tree = sys.argv[1:4]
    files = [arg.split("=", 1) for arg in sys.argv[4:] if "=" in arg]
    modules = find_modules(tree, [arg for arg in sys.argv[4:] if "=" not in arg])

    cpio = Cpio()
    for folder in ("dev", "proc", "sys", "tmp", "mnt", "root", "usr", "usr/bin", "usr/sbin", "sbin"):
        cpio.directories.add(folder)
        cpio.add(folder, S_DIR | 0o755)
    cpio.add("dev/console", S_CHR | 0o600, device=(5, 1))
    with open(busybox, "rb") as f:
        cpio.add("bin/busybox", S_FILE | 0o755, f.read())
    cpio.add("bin/sh", S_LINK | 0o777, b"busybox")
    for path, source in files:
        with open(source, "rb") as f:
            cpio.add(path.lstrip("/"), S_FILE | 0o755, f.read())

    version = next(d for d in os.listdir(tree))
    base = f"lib/modules/{version}/"
    dep, alias = [], []
    for name in sorted(modules):
        path, content, info, _ = modules[name]
        cpio.add("lib/modules/" + path, S_FILE | 0o644, content)
        needs = [os.path.relpath(modules[d][0], version) for d in all_depends(modules, name)]
        dep.append(f"{os.path.relpath(path, version)}: {' '.join(needs)}\n")
        alias += [f"alias {value} {name}\n" for key, value in info if key == "alias"]
    cpio.add(base + "modules.dep", S_FILE | 0o644, "".join(dep).encode())
    cpio.add(base + "modules.alias", S_FILE | 0o644, "".join(alias).encode())
    cpio.add(base + "modules.symbols", S_FILE | 0o644)

    with open(out, "wb") as f, gzip.GzipFile("", "wb", 9, f, mtime=0) as packed:
        packed.write(cpio.finish())


main()
