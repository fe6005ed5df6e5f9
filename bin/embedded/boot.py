"""A guest in 512 bytes: a boot sector that works a little and obeys its power button.

It says hello on the screen and the first serial port, then wakes at each tick of the
PC's timer (18.2 Hz), counts to 65,536 so that its CPU time grows, and about once a
second reads a sector of its disk and prints a dot. When the ACPI power button was
pressed, it switches the machine off: so `shutdown` and `reboot` work as on a real one.

SeaBIOS puts the ACPI power management registers of QEMU's PC at 0x600 (PM1 status),
0x602 (PM1 enable) and 0x604 (PM1 control); ACPI 6.5, section 4.8.3.
"""

import os
from pathlib import Path

from embedded.accounts import ordinary

SECTOR_BYTES = 512
IMAGE_BYTES = 16 * 1024 * 1024

HELLO = "\r\nVirtumancer demo machine: the power button works. "
BYE = "\r\nPower button: switching off.\r\n"
HELLO_AT, BYE_AT = 0x90, 0xD0

# The sector is loaded at 0x7c00. Its last bytes before the signature are variables:
# 0x7dfc counts ticks, 0x7dfd is the number of the drive that it was started from.
PROGRAM = """
    fa              cli
    31 c0           xor ax, ax
    8e d8           mov ds, ax
    8e c0           mov es, ax
    8e d0           mov ss, ax
    bc 00 7c        mov sp, 0x7c00
    88 16 fd 7d     mov [0x7dfd], dl
    b0 fe           mov al, 0xfe            only the timer may interrupt:
    e6 21           out 0x21, al
    b0 ff           mov al, 0xff            the button's own interrupt has no
    e6 a1           out 0xa1, al            reader here and would never end
    b8 00 01        mov ax, 0x100           PWRBTN_EN
    ba 02 06        mov dx, 0x602           PM1 enable
    ef              out dx, ax
    fb              sti
    be 90 7c        mov si, 0x7c90          HELLO
    e8 40 00        call print
tick:
    f4              hlt
    ba 00 06        mov dx, 0x600           PM1 status
    ed              in ax, dx
    f6 c4 01        test ah, 1              PWRBTN_STS
    75 27           jne off
    31 c9           xor cx, cx
    e2 fe           loop $                  65,536 times
    fe 06 fc 7d     inc byte [0x7dfc]
    f6 06 fc 7d 0f  test byte [0x7dfc], 15
    75 e7           jne tick
    b8 01 02        mov ax, 0x201           read one sector
    bb 00 7e        mov bx, 0x7e00          behind this one,
    b9 01 00        mov cx, 1               cylinder 0, sector 1,
    b6 00           mov dh, 0               head 0
    8a 16 fd 7d     mov dl, [0x7dfd]
    cd 13           int 0x13
    b0 2e           mov al, '.'
    e8 1b 00        call put
    eb cf           jmp tick
off:
    be d0 7c        mov si, 0x7cd0          BYE
    e8 09 00        call print
    b8 00 20        mov ax, 0x2000          SLP_EN, sleep type 0: soft off
    ba 04 06        mov dx, 0x604           PM1 control
    ef              out dx, ax
    eb c0           jmp tick
print:
    ac              lodsb
    84 c0           test al, al
    74 12           je return
    e8 02 00        call put
    eb f6           jmp print
put:
    50              push ax
    b4 0e           mov ah, 0x0e            on the screen
    bb 07 00        mov bx, 7
    cd 10           int 0x10
    58              pop ax
    ba f8 03        mov dx, 0x3f8           on the serial port
    ee              out dx, al
return:
    c3              ret
"""


def boot_sector() -> bytes:
    """The program, its two texts and the signature: one sector."""
    sector = bytearray(SECTOR_BYTES)
    code = b"".join(bytes.fromhex(_hex(line)) for line in PROGRAM.splitlines())
    for at, part in (
        (0, code),
        (HELLO_AT, HELLO.encode()),
        (BYE_AT, BYE.encode()),
        (SECTOR_BYTES - 2, b"\x55\xaa"),
    ):
        sector[at : at + len(part)] = part
    return bytes(sector)


def _hex(line: str) -> str:
    """The bytes of a listing's line: its columns 4 to 19; labels have none."""
    return line[4:20] if line.startswith("    ") else ""


def boot_image(path: Path) -> Path:
    """Write a raw disk image that starts the program, sparse, 16 MiB."""
    unfinished = path.with_name(f"{path.name}.new")
    with unfinished.open("wb") as image:
        image.write(boot_sector())
        image.truncate(IMAGE_BYTES)
    if os.geteuid() == 0:
        os.chown(unfinished, ordinary().uid, ordinary().gid)
    return unfinished.rename(path)
