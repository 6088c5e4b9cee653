"""System calls that a program has no use for: refused with EPERM by a seccomp filter. Linux on x86_64 and aarch64.

Namespaces decide what a process can reach; this decides how much of the kernel it can knock at: no new namespaces or
mounts, no processes (threads are allowed: one limit of memory holds for them all), no sockets but local ones, nothing
that looks into other processes, no memory that no limit counts (System V segments, memfd), no modules, keys, BPF.

man 2 seccomp; the numbers are those of asm/unistd_64.h and of asm-generic/unistd.h.
"""

import ctypes
import errno
import platform
import struct
import sys
from functools import cache

from .isolation import SET_NO_NEW_PRIVS, prctl

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Which of the two numbers is a machine's, and what the kernel calls it (linux/audit.h)."""

REFUSED: dict[str, tuple[int, int | None]] = {
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "mount_setattr": (442, 442),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "memfd_create": (319, 279),
    "open_by_handle_at": (304, 265),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "syslog": (103, 116),
}

REFUSED_WEAK: dict[str, tuple[int, int | None]] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "pidfd_send_signal": (424, 424),
    "execve": (59, 221),
    "execveat": (322, 281),
}
"""Refused besides where no namespace stands between the program and other processes."""

CLONE, CLONE3, SOCKET = (56, 220), (435, 435), (41, 198)
THREAD = 0x00010000
"""CLONE_THREAD: what is no thread is refused; clone3, whose flags a filter cannot read, is said not to exist."""
LOCAL = 1
"""AF_UNIX"""

SET_SECCOMP, FILTER = 22, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, JMP|JEQ|K, JGE, JSET, RET|K
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # of struct seccomp_data
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def available() -> bool:
    """Whether there is such a filter for this machine."""
    return sys.platform == "linux" and platform.machine() in MACHINES


def refuse(*, weak: bool) -> None:
    """Have the kernel refuse these calls to this process and what it forks, for good. Raises OSError if it cannot."""
    code = _program(weak)
    filters = ctypes.create_string_buffer(code)
    whole = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(filters)))
    prctl(SET_NO_NEW_PRIVS, 1)
    prctl(SET_SECCOMP, FILTER, ctypes.addressof(whole))


@cache
def _program(weak: bool) -> bytes:
    """The filter, in classic BPF: code, jump if true, jump if false, operand."""
    which, architecture = MACHINES[platform.machine()]
    program = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if architecture == MACHINES["x86_64"][1]:  # the same calls under other numbers (x32)
        program += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]
    for numbers in (REFUSED | (REFUSED_WEAK if weak else {})).values():
        if (number := numbers[which]) is not None:
            program += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | errno.EPERM)]
    program += [(EQUAL, 0, 1, CLONE3[which]), (RETURN, 0, 0, ERROR | errno.ENOSYS)]
    program += [(EQUAL, 0, 4, CLONE[which]), (LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 1, 0, THREAD)]
    program += [(RETURN, 0, 0, ERROR | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    program += [(EQUAL, 0, 3, SOCKET[which]), (LOAD, 0, 0, FIRST_ARGUMENT), (EQUAL, 1, 0, LOCAL)]
    program += [(RETURN, 0, 0, ERROR | errno.EPERM), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("HBBI", *each) for each in program)
