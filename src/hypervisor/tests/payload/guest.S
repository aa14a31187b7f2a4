# A guest of one sector, for the suite: prints "hello", then does what single bytes on the serial line say.
#   q power off   r reset   p panic (pvpanic)   f flood the line for ever   d ignore the power button from now on
# Anything else is echoed. The power button makes it print "bye" and power off.
#
# Rebuild guest.bin after a change:
#   as --32 -o guest.o guest.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
.code16
.globl _start
_start:
 xor %ax,%ax
 mov %ax,%ds
 mov %ax,%ss
 mov $0x7000,%sp
 xor %bx,%bx                    # 1: deaf
 mov $0x602,%dx                 # PM1_EN: power button
 mov $0x100,%ax
 out %ax,%dx
 movw $tick,0x20                # the firmware's timer handler would read the serial line itself
 movw $0,0x22
 mov $hello,%si
 call print
 sti
again:
 hlt                            # until the timer ticks
 mov $0x600,%dx                 # PM1_STS
 in %dx,%ax
 test $0x100,%ax
 jz typed
 mov $0x100,%ax                 # write one to clear
 out %ax,%dx
 test %bx,%bx
 jnz deaf
 mov $bye,%si
 call print
 jmp off
deaf:
 mov $button,%si
 call print
typed:
 mov $0x3fd,%dx
 in %dx,%al
 test $1,%al
 jz again
 mov $0x3f8,%dx
 in %dx,%al
 cmp $'q',%al
 je off
 cmp $'r',%al
 je reset
 cmp $'p',%al
 je panic
 cmp $'f',%al
 je flood
 cmp $'d',%al
 jne echo
 inc %bx
echo:
 call putc
 jmp typed
print:
 lodsb
 test %al,%al
 jz done
 call putc
 jmp print
putc:
 mov %al,%ah
 mov $0x3fd,%dx
full:
 in %dx,%al
 test $0x20,%al
 jz full
 mov %ah,%al
 mov $0x3f8,%dx
 out %al,%dx
done:
 ret
off:
 mov $0x604,%dx                 # PM1_CNT: SLP_EN, S5
 mov $0x2000,%ax
 out %ax,%dx
 jmp again
reset:
 mov $0xcf9,%dx
 mov $6,%al
 out %al,%dx
 jmp again
panic:
 mov $0x505,%dx
 mov $1,%al
 out %al,%dx
 jmp again
flood:
 mov $'x',%al
 call putc
 jmp flood
tick:
 push %ax
 mov $0x20,%al                  # end of interrupt
 out %al,$0x20
 pop %ax
 iret
hello: .asciz "hello\r\n"
bye: .asciz "bye\r\n"
button: .asciz "button\r\n"
.org 510
.word 0xaa55
