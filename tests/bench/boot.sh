#!/bin/bash
# Boots Debian's cloud kernel on the built-in machine and on QEMU, in an L1 machine (tests/guests/l1) whose clock counts
# instructions, so that figures repeat and ratios are what counts. Prints each figure beside its bar, and QEMU's from the same
# run; ends with 1 if one is above its bar.
#
#   tests/bench/boot.sh            needs what `just setup` installs
#   BOOT=path                      the measured program, in place of a release build of `examples/boot`
#   VCPUS=n                        virtual CPUs of the guest (1)
#   BOOT_OPTIONS=".."              more options of the measured program
#
# The unit is the L1's second (2 ns an instruction). The anchors were measured with the same method: QEMU's microvm 5.28,
# Firecracker 3.49 (direct), Cloud Hypervisor with our firmware's prototype 4.73 (disk). Bars are 1.05 of the last two, scaled
# by what microvm takes in this run.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")"); top=$here/../..; l1=$top/tests/guests/l1/l1.py
export PATH=$PATH:/usr/sbin:/sbin
for program in sfdisk mkfs.ext4 cpio qemu-system-x86_64; do
  command -v "$program" > /dev/null || { echo "boot.sh: $program is missing; run \`just setup\`" >&2; exit 2; }
done
if [ -z "${BOOT:-}" ]; then
  (cd "$top" && cargo build --quiet --release --locked --package hypervisor --example boot)
  BOOT=${CARGO_TARGET_DIR:-$top/target}/release/examples/boot
fi
built=$("$l1" build)
work=$(mktemp -d /tmp/bench-boot.XXXXXX); trap 'rm -rf "$work"' EXIT
files=$work/in; mkdir -p "$files/firmware" "$work/guest"/{bin,proc,sys,dev} "$work/disk/boot/grub"
"$l1" portable qemu-system-x86_64 "$files"
for name in bios-256k.bin bios-microvm.bin linuxboot_dma.bin kvmvapic.bin pvh.bin; do
  for folder in /usr/share/qemu /usr/share/seabios; do
    if [ -f "$folder/$name" ]; then cp -L "$folder/$name" "$files/firmware/"; fi
  done
done
cp "$built/vmlinuz" "$files/"

# A guest that says when it is up.
cp "$built/busybox" "$work/guest/bin/"; for a in sh mount cat poweroff echo uname; do ln -s busybox "$work/guest/bin/$a"; done
cat > "$work/guest/init" <<'GUEST'
#!/bin/sh
echo "GUEST-UP"
mount -t proc proc /proc; mount -t sysfs sys /sys
echo "GUEST-INFO $(uname -r) cpus=$(cat /sys/devices/system/cpu/online) clock=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
poweroff -f
GUEST
chmod +x "$work/guest/init"
(cd "$work/guest" && find . | cpio -o -H newc --quiet | gzip -9) > "$files/initrd.gz"

# The same on a disk, as distributions have it: GPT, ext4, GRUB's configuration with a serial line, a kernel that talks.
cp "$files/vmlinuz" "$files/initrd.gz" "$work/disk/boot/"
cat > "$work/disk/boot/grub/grub.cfg" <<'GRUB'
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
truncate -s 64M "$files/disk"
echo 'label: gpt
start=2048, size=122880, type=L' | sfdisk --quiet "$files/disk"
truncate -s 60M "$work/ext4"; mkfs.ext4 -q -F -b 4096 -d "$work/disk" "$work/ext4"
dd if="$work/ext4" of="$files/disk" bs=1M seek=1 conv=notrunc,sparse status=none
cp "$BOOT" "$files/boot"; strip "$files/boot"

cat > "$files/run.sh" <<RUN
A="console=ttyS0 quiet panic=-1 reboot=t i8042.noaux i8042.nomux i8042.dumbkbd tsc=reliable"
N=${VCPUS:-1}
O="${BOOT_OPTIONS:-}"
RUN
cat >> "$files/run.sh" <<'RUN'
# dash has no `read -t`.
[ -n "${ASH:-}" ] || ASH=1 exec busybox ash "$0"
# A guest in a guest stands still in this emulator now and then, QEMU's as well as ours (l1/README.md): it is started again.
LIMIT=15
one() { # name, command...
  for attempt in 1 2 3 4; do if boot "$@"; then return; fi; echo "$1: silent for $LIMIT s, once more"; done; }
boot() { # name, command...: its serial line is on its standard output
  n=$1; shift; mkfifo /tmp/f; "$@" > /tmp/f 2>&1 < /dev/null & p=$!; read s i < /proc/uptime; ended= start=
  exec 3< /tmp/f
  while IFS= read -r -t $LIMIT l <&3; do case "$l" in
    *GUEST-UP*) read e i < /proc/uptime; up="RES $n $(echo "$s $e" | awk '{printf "%.2f", $2-$1}')";;
    *kB\ beyond*) echo "$n: $l"; ended=1; break;;
    *GUEST-INFO*) echo "$n $l"; [ "$n" = jailed ] || { ended=1; break; };;
    *BOOT\ executed*) start="START $n $l";;
    *BOOT*|*panic*) echo "$n: $l";; esac; done
  exec 3<&-; kill -9 $p 2>/dev/null; wait $p 2>/dev/null; rm -f /tmp/f
  [ "$ended" ] || return 1
  echo "$up"; [ -z "$start" ] || echo "$start"; }
Q="/mnt/qemu-system-x86_64/run -L /mnt/firmware -accel kvm -cpu host -smp $N -m 256 -nodefaults -no-user-config -display none -no-reboot -serial stdio"
microvm() { one microvm $Q -M microvm -kernel /mnt/vmlinuz -initrd /mnt/initrd.gz -append "$A"; }
direct() { one direct /mnt/boot --exec --kernel /mnt/vmlinuz --initrd /mnt/initrd.gz --append "$A" --memory 256 --vcpus $N $O; }
disk() { one disk /mnt/boot --exec --disk /mnt/disk --memory 256 --vcpus $N $O; }
jailed() { one jailed /mnt/boot --exec --jail --disk /mnt/disk --memory 256 --vcpus $N $O --mark GUEST-INFO; }
q35() { one q35-disk $Q -M q35,hpet=off -drive if=none,id=root,file=/mnt/disk,format=raw -device virtio-blk-pci,drive=root; }
# What a machine before this one has measured is measured.
for round in 1 2 3; do for what in microvm direct disk jailed; do
  [ "$(grep -c "^RES $what " /mnt/measured)" -ge $round ] || $what
done; done
grep -q "^RES q35" /mnt/measured || q35
/mnt/boot --probe
exit 0
RUN
# Of machines that fall silent: tests/guests/l1/README.md. Another one measures what is left.
: > "$work/out"
for machine in 1 2 3 4 5 6 7 8; do
  grep '^RES ' "$work/out" > "$files/measured" || true
  if "$l1" count "$files" | tee -a "$work/out"; then break; fi
  # q35 comes last and only stands beside the rest: no other machine is made for it.
  if [ "$(grep -c '^RES jailed ' "$work/out")" -ge 3 ]; then break; fi
done
awk '
  # Where nothing stood still the rounds agree within one in a hundred: the least is what a boot takes.
  $1 == "RES" { if (!($2 in least) || $3 < least[$2]) least[$2] = $3 }
  # A firmware of 260 KB is what servers start with.
  $1 == "START" { first[$2] += $NF - $6; starts[$2]++ }
  / kB beyond the guest/ { for (i = 1; i < NF; i++) if ($(i + 1) == "kB" && $(i + 2) == "beyond") beyond = $i }
  function row(what, value, bar) {
    printf "%-34s %8.3f   bar %8.3f   %s\n", what, value, bar, value <= bar ? "ok" : "ABOVE"
    if (value > bar) bad = 1
  }
  END {
    if (!least["microvm"] || !least["direct"] || !least["disk"]) { print "boot.sh: a boot did not come up"; exit 1 }
    unit = least["microvm"] / 5.28
    printf "%-34s %8.2f\n", "QEMU microvm, direct", unit * 5.28
    row("built in, direct", least["direct"], 1.05 * 3.49 * unit)
    row("built in, disk", least["disk"], 1.05 * 4.73 * unit)
    row("exec to first instruction", first["disk"] / starts["disk"], 0.03 * unit)
    row("the same, in the jail", first["jailed"] / starts["jailed"], 0.03 * unit)
    row("MiB beyond the guest, in the jail", beyond / 1024, 5)
    if (least["q35-disk"]) printf "%-34s %8.2f\n", "QEMU q35, disk (SeaBIOS, GRUB)", least["q35-disk"]
    else print "QEMU q35, disk (SeaBIOS, GRUB): silent"
    exit bad
  }' "$work/out"
