# An option ROM of 1 KiB for QEMU's SeaBIOS, first among what it boots from. It starts our firmware, which QEMU has put into
# memory (`-device loader`); or lets SeaBIOS go on to the disk, if the firmware was started before and asked for that, or
# never came to its end. Who writes this to a file fills in the firmware's entry and the checksum (`firmware.rs`).
#
# What must stay true: it returns to SeaBIOS with nothing changed, or never. It is read-only when it runs; what it builds lies
# at 0x8000, where boot loaders have their own.
.pushsection .rodata.firmware_rom, "a", @progbits
.set SCRATCH, 0x8000
.set START_INFO, SCRATCH
.set GDT_POINTER, SCRATCH + 0x40
.set MEMORY_MAP, SCRATCH + 0x80
.set MOST_ENTRIES, 64
.code16
.balign 16
firmware_rom_start:
    .byte 0x55, 0xaa, 2             # signature; size in units of 512 bytes
    lret                            # nothing to initialise
.org firmware_rom_start + 0x10
    .long 0                         # the firmware's entry, filled in
.org firmware_rom_start + 0x1a
    .word 20f - firmware_rom_start

20: .ascii "$PnP"
    .byte 1, 2                      # revision; length in units of 16 bytes
    .word 0
    .byte 0, 0
    .long 0
    .word 0                         # manufacturer
    .word 21f - firmware_rom_start  # product
    .byte 2, 0, 0                   # class: a boot device
    .byte 0x14
    .word 0, 0
    .word 2f - firmware_rom_start   # the boot entry
    .word 0, 0
21: .asciz "Solostack"

2:  pushfl
    pushal
    pushw %ds
    pushw %es
    cli
    cld

    # The firmware's mark in CMOS (firmware/README.md) holds for one start.
    movb $0xff, %al
    outb %al, $0x70
    inb $0x71, %al
    movb %al, %bl
    movb $0xff, %al
    outb %al, $0x70
    xorb %al, %al
    outb %al, $0x71
    cmpb $0xb2, %bl                 # asked for
    je 39f
    cmpb $0xb1, %bl                 # started, and not heard of since
    jne 3f
    movw $(41f - firmware_rom_start), %si
    call 37f
    jmp 40f

    # The memory map as SeaBIOS gives it to boot loaders, in entries of 24 bytes instead of 20.
3:  xorw %ax, %ax
    movw %ax, %ds
    movw %ax, %es
    movw $MEMORY_MAP, %di
    xorl %ebx, %ebx
    xorw %bp, %bp
4:  movl $0xe820, %eax
    movl $20, %ecx
    movl $0x534d4150, %edx
    int $0x15
    jc 5f
    cmpl $0x534d4150, %eax
    jne 39f
    movl $0, 20(%di)
    addw $24, %di
    incw %bp
    cmpw $MOST_ENTRIES, %bp
    jae 5f
    testl %ebx, %ebx
    jnz 4b
5:  testw %bp, %bp
    jz 39f

    # "RSD PTR ", on a boundary of 16 bytes in the last 128 KiB.
    movw $0xe000, %ax
6:  movw %ax, %es
    cmpl $0x20445352, %es:0
    jne 7f
    cmpl $0x20525450, %es:4
    je 8f
7:  incw %ax
    jnz 6b
    jmp 39f

    # hvm_start_info: magic, version, flags, modules, their list, command line, ACPI, memory map, its entries.
8:  movzwl %ax, %edx
    shll $4, %edx
    xorw %ax, %ax
    movw %ax, %es
    movw $START_INFO, %di
    xorl %eax, %eax
    movw $16, %cx
    rep stosl
    movl $0x336ec578, START_INFO
    movl $1, START_INFO + 4
    movl %edx, START_INFO + 32
    movl $MEMORY_MAP, START_INFO + 40
    movw %bp, START_INFO + 48

    movw $(42f - firmware_rom_start), %si
    call 37f
    movb $0xff, %al
    outb %al, $0x70
    movb $0xb1, %al
    outb %al, $0x71

    # Protected mode with flat segments.
    xorl %eax, %eax
    movw %cs, %ax
    shll $4, %eax
    leal (43f - firmware_rom_start)(%eax), %ecx
    movw $23, GDT_POINTER
    movl %ecx, GDT_POINTER + 2
    lgdtl GDT_POINTER
    movl %cs:0x10, %edi
    movl $START_INFO, %ebx
    pushl $8
    addl $(9f - firmware_rom_start), %eax
    pushl %eax
    movl %cr0, %eax
    orb $1, %al
    movl %eax, %cr0
    lretl
.code32
9:  movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    jmp *%edi
.code16

    # A text of this ROM to the port that takes the firmware's lines.
37: movw $0xb08, %dx
38: movb %cs:(%si), %al
    incw %si
    testb %al, %al
    jz 36f
    outb %al, %dx
    jmp 38b
36: ret

# Back to SeaBIOS, which goes on to the disk.
39: movw $(44f - firmware_rom_start), %si
    call 37b
40: popw %es
    popw %ds
    popal
    popfl
    lret

41: .asciz "SKIP\n"
42: .asciz "TRY\n"
44: .asciz "BIOS\n"
.balign 8
43: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
.org firmware_rom_start + 0x400
firmware_rom_end:
.code64
.popsection
