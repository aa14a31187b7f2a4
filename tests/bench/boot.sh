#!/bin/bash
# Boots Debian's cloud kernel on the built-in machine and on QEMU, in an L1 machine whose clock counts instructions, so that
# figures repeat and ratios are what counts. Prints each figure beside its bar; ends with 1 if one is above it.
#
#   tests/bench/boot.sh            needs nested-l1.sh in $NESTED_L1, and the packages it names, sfdisk, e2fsprogs
#   BOOT=path                      the measured program, in place of a release build of `examples/boot`
#   VCPUS=n                        virtual CPUs of the guest (1)
#
# The unit is the L1's second (2 ns an instruction). The anchors were measured with the same method: QEMU's microvm 5.28,
# Firecracker 3.49 (direct), Cloud Hypervisor with our firmware's prototype 4.73 (disk). Bars are 1.05 of the last two, scaled
# by what microvm takes in this run.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); top=$here/../..
l1=${NESTED_L1:?boot.sh: set NESTED_L1 to the path of nested-l1.sh; tests/guests/l1 cannot count instructions yet}
[ -x "$l1" ] || { echo "boot.sh: no nested-l1.sh at $l1" >&2; exit 2; }
for program in sfdisk mkfs.ext4 cpio qemu-system-x86_64; do
  command -v "$program" > /dev/null || { echo "boot.sh: $program is missing" >&2; exit 2; }
done
kernel=$(ls /boot/vmlinuz-*-cloud-amd64 | sort -V | tail -1)
if [ -z "${BOOT:-}" ]; then
  (cd "$top" && cargo build --quiet --release --locked --package hypervisor --example boot)
  BOOT=${CARGO_TARGET_DIR:-$top/target}/release/examples/boot
fi
work=$(mktemp -d /tmp/bench-boot.XXXXXX); trap 'rm -rf "$work"' EXIT
folder=$work/folder; mkdir -p "$folder/opt" "$work/guest"/{bin,proc,sys,dev} "$work/files/boot/grub"

# A guest that says when it is up.
cp /bin/busybox "$work/guest/bin/"; for a in sh mount cat poweroff echo uname; do ln -s busybox "$work/guest/bin/$a"; done
cat > "$work/guest/init" <<'GUEST'
#!/bin/sh
echo "GUEST-UP"
mount -t proc proc /proc; mount -t sysfs sys /sys
echo "GUEST-INFO $(uname -r) cpus=$(cat /sys/devices/system/cpu/online) clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
poweroff -f
GUEST
chmod +x "$work/guest/init"
(cd "$work/guest" && find . | cpio -o -H newc --quiet | gzip -9) > "$folder/opt/initrd.gz"

# The same on a disk, as distributions have it: GPT, ext4, GRUB's configuration with a serial line, a kernel that talks.
cp "$kernel" "$work/files/boot/vmlinuz"; cp "$folder/opt/initrd.gz" "$work/files/boot/initrd.gz"
cat > "$work/files/boot/grub/grub.cfg" <<'GRUB'
set default="0"
set timeout=0
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
menuentry 'Debian GNU/Linux' --class debian {
	insmod part_gpt
	insmod ext2
	linux	/boot/vmlinuz console=ttyS0 panic=-1 reboot=t i8042.noaux i8042.nomux i8042.dumbkbd tsc=reliable
	initrd	/boot/initrd.gz
}
GRUB
truncate -s 64M "$folder/opt/disk"
echo 'label: gpt
start=2048, size=122880, type=L' | sfdisk --quiet "$folder/opt/disk"
truncate -s 60M "$work/ext4"; mkfs.ext4 -q -F -b 4096 -d "$work/files" "$work/ext4"
dd if="$work/ext4" of="$folder/opt/disk" bs=1M seek=1 conv=notrunc,sparse status=none
cp "$BOOT" "$folder/opt/boot"; strip "$folder/opt/boot"; mkdir -p "$folder/bin"; ln -sf ../opt/boot "$folder/bin/boot"

cat > "$folder/run.sh" <<RUN
A="console=ttyS0 quiet panic=-1 reboot=t i8042.noaux i8042.nomux i8042.dumbkbd tsc=reliable"
N=${VCPUS:-1}
RUN
cat >> "$folder/run.sh" <<'RUN'
one() { # name, command...: its serial line is on its standard output
  n=$1; shift; mkfifo /tmp/f; "$@" > /tmp/f 2>&1 < /dev/null & p=$!; read s i < /proc/uptime
  while IFS= read -r l; do case "$l" in
    *GUEST-UP*) read e i < /proc/uptime; echo "RES $n $(echo "$s $e" | awk '{printf "%.2f", $2-$1}')";;
    *GUEST-INFO*) echo "$n $l"; break;;
    *BOOT\ started*) echo "START $n $s $l";;
    *BOOT*|*panic*) echo "$n: $l";; esac; done < /tmp/f
  # The program's own word about its memory comes just after the mark.
  sleep 1; kill -9 $p 2>/dev/null; wait $p 2>/dev/null; rm -f /tmp/f; }
Q="qemu-system-x86_64 -L /usr/share/qemu -accel kvm -cpu host -smp $N -m 256 -nodefaults -no-user-config -display none -no-reboot -serial stdio"
one microvm $Q -M microvm -kernel /boot/vmlinuz -initrd /opt/initrd.gz -append "$A"
for round in 1 2; do
  one direct /opt/boot --kernel /boot/vmlinuz --initrd /opt/initrd.gz --append "$A" --memory 256 --vcpus $N
  one disk /opt/boot --disk /opt/disk --memory 256 --vcpus $N
done
/opt/boot --kernel /boot/vmlinuz --initrd /opt/initrd.gz --append "$A" --memory 256 --vcpus $N --mark GUEST-INFO 2>&1 < /dev/null | grep BOOT
exit 0
RUN
# Libraries are added for what is in bin.
"$l1" -i 1 -q -t "${LIMIT:-1500}" "$folder" | tee "$work/out"
awk '
  $2 == "RES" { sum[$3] += $4; count[$3]++ }
  # A firmware of 260 KB is what servers start with. The shell took the time just before, in steps of 0.01.
  $2 == "START" && $3 == "disk" { first += $NF - $4; starts++ }
  / kB beyond the guest/ { for (i = 1; i < NF; i++) if ($(i + 1) == "kB") beyond = $i }
  function row(what, value, bar) {
    printf "%-34s %8.2f   bar %8.2f   %s\n", what, value, bar, value <= bar ? "ok" : "ABOVE"
    if (value > bar) bad = 1
  }
  END {
    if (!count["microvm"] || !count["direct"] || !count["disk"]) { print "boot.sh: a boot did not come up"; exit 1 }
    unit = sum["microvm"] / count["microvm"] / 5.28
    printf "%-34s %8.2f\n", "QEMU microvm, direct", unit * 5.28
    row("built in, direct", sum["direct"] / count["direct"], 1.05 * 3.49 * unit)
    row("built in, disk", sum["disk"] / count["disk"], 1.05 * 4.73 * unit)
    if (starts) row("exec to first instruction", first / starts, 0.03 * unit + 0.01)
    row("MiB beyond the guest", beyond / 1024, 5)
    exit bad
  }' "$work/out"
