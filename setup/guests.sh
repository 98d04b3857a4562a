#!/usr/bin/env bash
# Fetches and packs the test guests that come from Debian's packages into build/guests:
#   vmlinuz, initrd.gz      Debian's i386 kernel for older PCs (no PAE) and busybox
#   memtest86+.bin          memtest86+ as a Linux-style image for -kernel;  memtest86+.iso: as a CD
#   grub-floppy.img, grub-cdrom.iso
. "$(dirname "$0")/lib.sh"

out=$BUILD/guests
root=$DEPS/guests
mkdir -p "$out"
kernel=$(package_field linux-image-686:i386 Depends | grep -o 'linux-image-[^ ,]*' | head -n 1)
for package in "$kernel:i386" busybox-static:i386 memtest86+ grub-rescue-pc; do
    unpack_deb "$package" "$root"
done

say "packing the Linux guest ($kernel with busybox)"
cp "$root/boot/vmlinuz-${kernel#linux-image-}" "$out/vmlinuz"
setup=$TOP/setup
python3 "$setup/pack_initramfs.py" "$out/initrd.gz" "$root/bin/busybox" "$root/lib/modules" \
    /init="$setup/guest-init" /etc/profile="$setup/guest-profile" /bin/check="$setup/guest-check" \
    ata_piix sd_mod sr_mod isofs vfat nls_cp437 nls_iso8859-1 nls_ascii ext4 crc32c_generic floppy \
    psmouse evdev parport_pc lp ne2k-pci 8139too e1000 pcnet32
cp "$root/boot/memtest86+ia32.bin" "$out/memtest86+.bin"
cp "$root/usr/lib/memtest86+/memtest86+ia32.iso" "$out/memtest86+.iso"
cp "$root/usr/lib/grub-rescue/grub-rescue-floppy.img" "$out/grub-floppy.img"
cp "$root/usr/lib/grub-rescue/grub-rescue-cdrom.iso" "$out/grub-cdrom.iso"
rm -rf "$root"
touch "$out/guests.stamp"
