DefinitionBlock ("", "DSDT", 2, "SOLO  ", "SOLO-1  ", 0x00000001)
{
    Name (_S5, Package (0x04)  // _S5_: S5 System State
    {
        0x05, 
        0x05, 
        Zero, 
        Zero
    })
    Scope (\_SB)
    {
        Device (PCI0)
        {
            Name (_HID, EisaId ("PNP0A08") /* PCI Express Bus */)  // _HID: Hardware ID
            Name (_CID, EisaId ("PNP0A03") /* PCI Bus */)  // _CID: Compatible ID
            Name (_UID, Zero)  // _UID: Unique ID
            Name (_SEG, Zero)  // _SEG: PCI Segment
            Name (_BBN, Zero)  // _BBN: BIOS Bus Number
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
                    0x0000,             // Granularity
                    0x0000,             // Range Minimum
                    0x0000,             // Range Maximum
                    0x0000,             // Translation Offset
                    0x0001,             // Length
                    ,, )
                IO (Decode16,
                    0x0CF8,             // Range Minimum
                    0x0CF8,             // Range Maximum
                    0x01,               // Alignment
                    0x08,               // Length
                    )
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000,             // Granularity
                    0x0000,             // Range Minimum
                    0x0CF7,             // Range Maximum
                    0x0000,             // Translation Offset
                    0x0CF8,             // Length
                    ,, , TypeStatic, DenseTranslation)
                WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
                    0x0000,             // Granularity
                    0x0D00,             // Range Minimum
                    0xFFFF,             // Range Maximum
                    0x0000,             // Translation Offset
                    0xF300,             // Length
                    ,, , TypeStatic, DenseTranslation)
                DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite,
                    0x00000000,         // Granularity
                    0xC0000000,         // Range Minimum
                    0xFEBFFFFF,         // Range Maximum
                    0x00000000,         // Translation Offset
                    0x3EC00000,         // Length
                    ,, , AddressRangeMemory, TypeStatic)
                QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, Prefetchable, ReadWrite,
                    0x0000000000000000, // Granularity
                    0x0000008000000000, // Range Minimum
                    0x000000FFFFFFFFFF, // Range Maximum
                    0x0000000000000000, // Translation Offset
                    0x0000008000000000, // Length
                    ,, , AddressRangeMemory, TypeStatic)
            })
            Name (_PRT, Package (0x1F)  // _PRT: PCI Routing Table
            {
                Package (0x04)
                {
                    0x0001FFFF, 
                    Zero, 
                    Zero, 
                    0x11
                }, 

                Package (0x04)
                {
                    0x0002FFFF, 
                    Zero, 
                    Zero, 
                    0x12
                }, 

                Package (0x04)
                {
                    0x0003FFFF, 
                    Zero, 
                    Zero, 
                    0x13
                }, 

                Package (0x04)
                {
                    0x0004FFFF, 
                    Zero, 
                    Zero, 
                    0x14
                }, 

                Package (0x04)
                {
                    0x0005FFFF, 
                    Zero, 
                    Zero, 
                    0x15
                }, 

                Package (0x04)
                {
                    0x0006FFFF, 
                    Zero, 
                    Zero, 
                    0x16
                }, 

                Package (0x04)
                {
                    0x0007FFFF, 
                    Zero, 
                    Zero, 
                    0x17
                }, 

                Package (0x04)
                {
                    0x0008FFFF, 
                    Zero, 
                    Zero, 
                    0x10
                }, 

                Package (0x04)
                {
                    0x0009FFFF, 
                    Zero, 
                    Zero, 
                    0x11
                }, 

                Package (0x04)
                {
                    0x000AFFFF, 
                    Zero, 
                    Zero, 
                    0x12
                }, 

                Package (0x04)
                {
                    0x000BFFFF, 
                    Zero, 
                    Zero, 
                    0x13
                }, 

                Package (0x04)
                {
                    0x000CFFFF, 
                    Zero, 
                    Zero, 
                    0x14
                }, 

                Package (0x04)
                {
                    0x000DFFFF, 
                    Zero, 
                    Zero, 
                    0x15
                }, 

                Package (0x04)
                {
                    0x000EFFFF, 
                    Zero, 
                    Zero, 
                    0x16
                }, 

                Package (0x04)
                {
                    0x000FFFFF, 
                    Zero, 
                    Zero, 
                    0x17
                }, 

                Package (0x04)
                {
                    0x0010FFFF, 
                    Zero, 
                    Zero, 
                    0x10
                }, 

                Package (0x04)
                {
                    0x0011FFFF, 
                    Zero, 
                    Zero, 
                    0x11
                }, 

                Package (0x04)
                {
                    0x0012FFFF, 
                    Zero, 
                    Zero, 
                    0x12
                }, 

                Package (0x04)
                {
                    0x0013FFFF, 
                    Zero, 
                    Zero, 
                    0x13
                }, 

                Package (0x04)
                {
                    0x0014FFFF, 
                    Zero, 
                    Zero, 
                    0x14
                }, 

                Package (0x04)
                {
                    0x0015FFFF, 
                    Zero, 
                    Zero, 
                    0x15
                }, 

                Package (0x04)
                {
                    0x0016FFFF, 
                    Zero, 
                    Zero, 
                    0x16
                }, 

                Package (0x04)
                {
                    0x0017FFFF, 
                    Zero, 
                    Zero, 
                    0x17
                }, 

                Package (0x04)
                {
                    0x0018FFFF, 
                    Zero, 
                    Zero, 
                    0x10
                }, 

                Package (0x04)
                {
                    0x0019FFFF, 
                    Zero, 
                    Zero, 
                    0x11
                }, 

                Package (0x04)
                {
                    0x001AFFFF, 
                    Zero, 
                    Zero, 
                    0x12
                }, 

                Package (0x04)
                {
                    0x001BFFFF, 
                    Zero, 
                    Zero, 
                    0x13
                }, 

                Package (0x04)
                {
                    0x001CFFFF, 
                    Zero, 
                    Zero, 
                    0x14
                }, 

                Package (0x04)
                {
                    0x001DFFFF, 
                    Zero, 
                    Zero, 
                    0x15
                }, 

                Package (0x04)
                {
                    0x001EFFFF, 
                    Zero, 
                    Zero, 
                    0x16
                }, 

                Package (0x04)
                {
                    0x001FFFFF, 
                    Zero, 
                    Zero, 
                    0x17
                }
            })
            Method (_OSC, 4, Serialized)  // _OSC: Operating System Capabilities
            {
                CreateDWordField (Arg3, Zero, CDW1)
                If ((Arg0 == ToUUID ("33db4d5b-1ff7-401c-9657-7441c03dd766") /* PCI Host Bridge Device */))
                {
                    CreateDWordField (Arg3, 0x08, CDW3)
                    Local0 = (CDW3 & 0x1C)
                    If ((Local0 != CDW3))
                    {
                        CDW1 |= 0x10
                    }

                    If ((Arg1 != One))
                    {
                        CDW1 |= 0x08
                    }

                    CDW3 = Local0
                }
                Else
                {
                    CDW1 |= 0x04
                }

                Return (Arg3)
            }

            Device (S002)
            {
                Name (_SUN, 0x02)  // _SUN: Slot User Number
                Name (_ADR, 0x00020000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x02)
                }
            }

            Device (S003)
            {
                Name (_SUN, 0x03)  // _SUN: Slot User Number
                Name (_ADR, 0x00030000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x03)
                }
            }

            Device (S004)
            {
                Name (_SUN, 0x04)  // _SUN: Slot User Number
                Name (_ADR, 0x00040000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x04)
                }
            }

            Device (S005)
            {
                Name (_SUN, 0x05)  // _SUN: Slot User Number
                Name (_ADR, 0x00050000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x05)
                }
            }

            Device (S006)
            {
                Name (_SUN, 0x06)  // _SUN: Slot User Number
                Name (_ADR, 0x00060000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x06)
                }
            }

            Device (S007)
            {
                Name (_SUN, 0x07)  // _SUN: Slot User Number
                Name (_ADR, 0x00070000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x07)
                }
            }

            Device (S008)
            {
                Name (_SUN, 0x08)  // _SUN: Slot User Number
                Name (_ADR, 0x00080000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x08)
                }
            }

            Device (S009)
            {
                Name (_SUN, 0x09)  // _SUN: Slot User Number
                Name (_ADR, 0x00090000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x09)
                }
            }

            Device (S00A)
            {
                Name (_SUN, 0x0A)  // _SUN: Slot User Number
                Name (_ADR, 0x000A0000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x0A)
                }
            }

            Device (S00B)
            {
                Name (_SUN, 0x0B)  // _SUN: Slot User Number
                Name (_ADR, 0x000B0000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x0B)
                }
            }

            Device (S00C)
            {
                Name (_SUN, 0x0C)  // _SUN: Slot User Number
                Name (_ADR, 0x000C0000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x0C)
                }
            }

            Device (S00D)
            {
                Name (_SUN, 0x0D)  // _SUN: Slot User Number
                Name (_ADR, 0x000D0000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x0D)
                }
            }

            Device (S00E)
            {
                Name (_SUN, 0x0E)  // _SUN: Slot User Number
                Name (_ADR, 0x000E0000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x0E)
                }
            }

            Device (S00F)
            {
                Name (_SUN, 0x0F)  // _SUN: Slot User Number
                Name (_ADR, 0x000F0000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x0F)
                }
            }

            Device (S010)
            {
                Name (_SUN, 0x10)  // _SUN: Slot User Number
                Name (_ADR, 0x00100000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x10)
                }
            }

            Device (S011)
            {
                Name (_SUN, 0x11)  // _SUN: Slot User Number
                Name (_ADR, 0x00110000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x11)
                }
            }

            Device (S012)
            {
                Name (_SUN, 0x12)  // _SUN: Slot User Number
                Name (_ADR, 0x00120000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x12)
                }
            }

            Device (S013)
            {
                Name (_SUN, 0x13)  // _SUN: Slot User Number
                Name (_ADR, 0x00130000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x13)
                }
            }

            Device (S014)
            {
                Name (_SUN, 0x14)  // _SUN: Slot User Number
                Name (_ADR, 0x00140000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x14)
                }
            }

            Device (S015)
            {
                Name (_SUN, 0x15)  // _SUN: Slot User Number
                Name (_ADR, 0x00150000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x15)
                }
            }

            Device (S016)
            {
                Name (_SUN, 0x16)  // _SUN: Slot User Number
                Name (_ADR, 0x00160000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x16)
                }
            }

            Device (S017)
            {
                Name (_SUN, 0x17)  // _SUN: Slot User Number
                Name (_ADR, 0x00170000)  // _ADR: Address
                Method (_EJ0, 1, Serialized)  // _EJx: Eject Device, x=0-9
                {
                    \_SB.PHPR.PCEJ (0x17)
                }
            }

            Method (DVNT, 2, Serialized)
            {
                Local0 = (Arg0 & 0x04)
                If (Local0)
                {
                    Notify (S002, Arg1)
                }

                Local0 = (Arg0 & 0x08)
                If (Local0)
                {
                    Notify (S003, Arg1)
                }

                Local0 = (Arg0 & 0x10)
                If (Local0)
                {
                    Notify (S004, Arg1)
                }

                Local0 = (Arg0 & 0x20)
                If (Local0)
                {
                    Notify (S005, Arg1)
                }

                Local0 = (Arg0 & 0x40)
                If (Local0)
                {
                    Notify (S006, Arg1)
                }

                Local0 = (Arg0 & 0x80)
                If (Local0)
                {
                    Notify (S007, Arg1)
                }

                Local0 = (Arg0 & 0x0100)
                If (Local0)
                {
                    Notify (S008, Arg1)
                }

                Local0 = (Arg0 & 0x0200)
                If (Local0)
                {
                    Notify (S009, Arg1)
                }

                Local0 = (Arg0 & 0x0400)
                If (Local0)
                {
                    Notify (S00A, Arg1)
                }

                Local0 = (Arg0 & 0x0800)
                If (Local0)
                {
                    Notify (S00B, Arg1)
                }

                Local0 = (Arg0 & 0x1000)
                If (Local0)
                {
                    Notify (S00C, Arg1)
                }

                Local0 = (Arg0 & 0x2000)
                If (Local0)
                {
                    Notify (S00D, Arg1)
                }

                Local0 = (Arg0 & 0x4000)
                If (Local0)
                {
                    Notify (S00E, Arg1)
                }

                Local0 = (Arg0 & 0x8000)
                If (Local0)
                {
                    Notify (S00F, Arg1)
                }

                Local0 = (Arg0 & 0x00010000)
                If (Local0)
                {
                    Notify (S010, Arg1)
                }

                Local0 = (Arg0 & 0x00020000)
                If (Local0)
                {
                    Notify (S011, Arg1)
                }

                Local0 = (Arg0 & 0x00040000)
                If (Local0)
                {
                    Notify (S012, Arg1)
                }

                Local0 = (Arg0 & 0x00080000)
                If (Local0)
                {
                    Notify (S013, Arg1)
                }

                Local0 = (Arg0 & 0x00100000)
                If (Local0)
                {
                    Notify (S014, Arg1)
                }

                Local0 = (Arg0 & 0x00200000)
                If (Local0)
                {
                    Notify (S015, Arg1)
                }

                Local0 = (Arg0 & 0x00400000)
                If (Local0)
                {
                    Notify (S016, Arg1)
                }

                Local0 = (Arg0 & 0x00800000)
                If (Local0)
                {
                    Notify (S017, Arg1)
                }
            }
        }

        Device (PHPR)
        {
            Name (_HID, EisaId ("PNP0A06") /* Generic Container Device */)  // _HID: Hardware ID
            Name (_UID, "PCI hotplug")  // _UID: Unique ID
            Name (_STA, 0x0B)  // _STA: Status
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                IO (Decode16,
                    0x0A20,             // Range Minimum
                    0x0A20,             // Range Maximum
                    0x01,               // Alignment
                    0x10,               // Length
                    )
            })
            OperationRegion (PCST, SystemIO, 0x0A20, 0x10)
            Field (PCST, DWordAcc, NoLock, WriteAsZeros)
            {
                PCIU,   32, 
                PCID,   32, 
                B0EJ,   32
            }

            Mutex (BLCK, 0x00)
            Method (PCEJ, 1, Serialized)
            {
                Acquire (BLCK, 0xFFFF)
                Local0 = (One << Arg0)
                B0EJ = Local0
                Release (BLCK)
            }

            Method (PSCN, 0, Serialized)
            {
                Acquire (BLCK, 0xFFFF)
                Local0 = PCIU /* \_SB_.PHPR.PCIU */
                Local1 = PCID /* \_SB_.PHPR.PCID */
                Release (BLCK)
                If (Local0)
                {
                    \_SB.PCI0.DVNT (Local0, One)
                }

                If (Local1)
                {
                    \_SB.PCI0.DVNT (Local1, 0x03)
                }
            }
        }

        Device (MRES)
        {
            Name (_HID, EisaId ("PNP0C02") /* PNP Motherboard Resources */)  // _HID: Hardware ID
            Name (_UID, Zero)  // _UID: Unique ID
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                Memory32Fixed (ReadWrite,
                    0xB0000000,         // Address Base
                    0x10000000,         // Address Length
                    )
                IO (Decode16,
                    0x0610,             // Range Minimum
                    0x0610,             // Range Maximum
                    0x01,               // Alignment
                    0x08,               // Length
                    )
                IO (Decode16,
                    0x0608,             // Range Minimum
                    0x0608,             // Range Maximum
                    0x01,               // Alignment
                    0x04,               // Length
                    )
                IO (Decode16,
                    0x0A10,             // Range Minimum
                    0x0A10,             // Range Maximum
                    0x01,               // Alignment
                    0x01,               // Length
                    )
            })
        }

        Device (RTC)
        {
            Name (_HID, EisaId ("PNP0B00") /* AT Real-Time Clock */)  // _HID: Hardware ID
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                IO (Decode16,
                    0x0070,             // Range Minimum
                    0x0070,             // Range Maximum
                    0x01,               // Alignment
                    0x02,               // Length
                    )
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                {
                    0x00000008,
                }
            })
        }

        Device (KBD)
        {
            Name (_HID, EisaId ("PNP0303") /* IBM Enhanced Keyboard (101/102-key, PS/2 Mouse) */)  // _HID: Hardware ID
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                IO (Decode16,
                    0x0060,             // Range Minimum
                    0x0060,             // Range Maximum
                    0x01,               // Alignment
                    0x01,               // Length
                    )
                IO (Decode16,
                    0x0064,             // Range Minimum
                    0x0064,             // Range Maximum
                    0x01,               // Alignment
                    0x01,               // Length
                    )
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                {
                    0x00000001,
                }
            })
        }

        Device (MOU)
        {
            Name (_HID, EisaId ("PNP0F13") /* PS/2 Mouse */)  // _HID: Hardware ID
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                {
                    0x0000000C,
                }
            })
        }

        Device (COM1)
        {
            Name (_HID, EisaId ("PNP0501") /* 16550A-compatible COM Serial Port */)  // _HID: Hardware ID
            Name (_UID, One)  // _UID: Unique ID
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                IO (Decode16,
                    0x03F8,             // Range Minimum
                    0x03F8,             // Range Maximum
                    0x01,               // Alignment
                    0x08,               // Length
                    )
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                {
                    0x00000004,
                }
            })
        }

        Device (PEVT)
        {
            Name (_HID, "QEMU0001")  // _HID: Hardware ID
            Name (_STA, 0x0B)  // _STA: Status
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                IO (Decode16,
                    0x0505,             // Range Minimum
                    0x0505,             // Range Maximum
                    0x01,               // Alignment
                    0x01,               // Length
                    )
            })
            OperationRegion (PEOR, SystemIO, 0x0505, One)
            Field (PEOR, ByteAcc, NoLock, Preserve)
            {
                PEPT,   8
            }

            Method (RDPT, 0, Serialized)
            {
                Return (PEPT) /* \_SB_.PEVT.PEPT */
            }

            Method (WRPT, 1, Serialized)
            {
                PEPT = Arg0
            }
        }

        Device (FWCF)
        {
            Name (_HID, "QEMU0002")  // _HID: Hardware ID
            Name (_STA, 0x0B)  // _STA: Status
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                IO (Decode16,
                    0x0510,             // Range Minimum
                    0x0510,             // Range Maximum
                    0x01,               // Alignment
                    0x0C,               // Length
                    )
            })
        }

        Device (PWRB)
        {
            Name (_HID, EisaId ("PNP0C0C") /* Power Button Device */)  // _HID: Hardware ID
        }

        Device (VGEN)
        {
            Name (_HID, "VMGENCTR")  // _HID: Hardware ID
            Name (_CID, "VM_Gen_Counter")  // _CID: Compatible ID
            Name (_DDN, "VM_Gen_Counter")  // _DDN: DOS Device Name
            Name (ADDR, Package (0x02)
            {
                0xFEFFB000, 
                Zero
            })
        }

        Device (GED)
        {
            Name (_HID, "ACPI0013" /* Generic Event Device */)  // _HID: Hardware ID
            Name (_UID, Zero)  // _UID: Unique ID
            Name (_CRS, ResourceTemplate ()  // _CRS: Current Resource Settings
            {
                Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive, ,, )
                {
                    0x00000009,
                }
            })
            OperationRegion (GDST, SystemIO, 0x0A10, One)
            Field (GDST, ByteAcc, NoLock, WriteAsZeros)
            {
                GDAT,   8
            }

            Method (_EVT, 1, Serialized)  // _EVT: Event
            {
                Local0 = GDAT /* \_SB_.GED_.GDAT */
                Local1 = (Local0 & One)
                If (Local1)
                {
                    Notify (\_SB.PWRB, 0x80) // Status Change
                }

                Local1 = (Local0 & 0x02)
                If (Local1)
                {
                    \_SB.PHPR.PSCN ()
                }

                Local1 = (Local0 & 0x04)
                If (Local1)
                {
                    Notify (\_SB.VGEN, 0x80) // Status Change
                }
            }
        }

        Device (CPUS)
        {
            Name (_HID, "ACPI0010" /* Processor Container Device */)  // _HID: Hardware ID
            Name (_CID, EisaId ("PNP0A05") /* Generic Container Device */)  // _CID: Compatible ID
            Device (C000)
            {
                Name (_HID, "ACPI0007" /* Processor Device */)  // _HID: Hardware ID
                Name (_UID, Zero)  // _UID: Unique ID
            }

            Device (C001)
            {
                Name (_HID, "ACPI0007" /* Processor Device */)  // _HID: Hardware ID
                Name (_UID, One)  // _UID: Unique ID
            }

            Device (C002)
            {
                Name (_HID, "ACPI0007" /* Processor Device */)  // _HID: Hardware ID
                Name (_UID, 0x02)  // _UID: Unique ID
            }
        }
    }
}

