"""What the kernel is asked for: namespaces, a root of the interpreter alone, no capabilities, limits. Linux.

One user namespace and one root a worker (`enter`), and fresh process, mount, network and IPC namespaces with an empty
working directory a run (`fresh`); `drop` and `limit` take what is left from the candidate. Every step raises OSError
where the kernel does not allow it. man 7 namespaces, user_namespaces; man 2 mount, pivot_root, capset, prctl.

Not covered: cgroups, which need a delegation; a program is one process, and its limits are those of processes.
"""

import ctypes
import os
import platform
import resource
import signal
import sys
import sysconfig
from contextlib import suppress
from pathlib import Path

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, BIND, REC, PRIVATE, RELATIME = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18, 1 << 21
DETACH = 2
SET_PDEATHSIG, SET_DUMPABLE, CAPBSET_DROP, SET_CHILD_SUBREAPER, SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
CAPABILITIES_V3 = 0x20080522

NOBODY = 65534
"""Who the sandbox is outside of it, when started by root that may become another."""
INSIDE = 1000

PLACES = ("/mnt", "/srv", "/media", "/tmp", "/var/tmp", "/run")
"""Directories over which a new root can be mounted, in a mount namespace that nobody else sees."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")
WORK, STDIN = "/work", ".stdin"
"""The working directory, and the file in it that is a program's standard input under its other name, /dev/stdin."""

_libc = ctypes.CDLL(None, use_errno=True)


def _done(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def prctl(option: int, value: int, other: int = 0) -> None:
    """man 2 prctl"""
    _done(_libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(other), 0, 0), f"prctl {option}")


def die_with_parent() -> None:
    """Be killed when the process that forked this one is gone."""
    if sys.platform == "linux":
        prctl(SET_PDEATHSIG, signal.SIGKILL)


def hide() -> None:
    """Close this process, and what it forks, to ptrace and to readers of /proc/PID/mem and fd, other than root."""
    if sys.platform == "linux":
        prctl(SET_DUMPABLE, 0)


def unshare(flags: int) -> None:
    """man 2 unshare"""
    _done(_libc.unshare(flags), f"unshare {flags:#x}")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """man 2 mount"""
    arguments = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _done(_libc.mount(*arguments), f"mount {source} at {target}")


def enter() -> None:
    """Leave this machine behind: a new user namespace, and a root with the interpreter's library in it, read-only.

    Of this machine's processes only the next to be forked are in the new process namespace, the first as its number 1.
    """
    if platform.machine() not in PIVOT_ROOT:
        raise OSError(f"no sandbox on {platform.machine()}")
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    _write(proc, "self/oom_score_adj", "1000")  # if memory runs out, it was not Gristmill
    uid, gid = os.getuid(), os.getgid()
    if uid == 0 and _may(NEWNS):
        _new_root()
        become_nobody()
        uid, gid = os.getuid(), os.getgid()
        prctl(SET_DUMPABLE, 1)  # or the files of /proc/self stay root's
        unshare(NEWUSER)
        _map(proc, uid, gid)
    else:
        unshare(NEWUSER | NEWNS)
        _map(proc, uid, gid)
        _new_root()
    with suppress(OSError):  # /proc/sys may be read-only; what a nested namespace would give is given up by `drop`
        _write(proc, "sys/user/max_user_namespaces", "0")
    os.close(proc)
    prctl(SET_NO_NEW_PRIVS, 1)
    for capability in range(64):
        with suppress(OSError):  # numbers that this kernel does not have
            prctl(CAPBSET_DROP, capability)
    unshare(NEWPID | NEWNET | NEWIPC | NEWUTS)


def become_nobody(place: str = "") -> None:
    """Have root's rights no more, and leave `place` to whom we become; in a user namespace there may be nobody else."""
    with suppress(OSError):
        if place:
            os.chown(place, NOBODY, NOBODY)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _may(flags: int) -> bool:
    """Unshare, if that is allowed: root of a container often may not but by way of a user namespace."""
    try:
        unshare(flags)
    except PermissionError:
        return False
    return True


def _map(proc: int, uid: int, gid: int) -> None:
    _write(proc, "self/setgroups", "deny")
    _write(proc, "self/uid_map", f"{INSIDE} {uid} 1")
    _write(proc, "self/gid_map", f"{INSIDE} {gid} 1")


def _write(proc: int, path: str, text: str) -> None:
    file = os.open(path, os.O_WRONLY, dir_fd=proc)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _new_root() -> None:
    """Make a root of the interpreter's library, the shared libraries it loads, and four devices; move into it."""
    mount("none", "/", "", REC | PRIVATE)
    shown = visible()
    root = next(place for place in PLACES if Path(place).is_dir() and not any(s.startswith(place + "/") for s in shown))
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, "size=1m,mode=755")
    for link in ("/lib", "/lib64"):
        if Path(link).is_symlink():
            Path(root + link).symlink_to(Path(link).readlink())
    for source in shown:
        Path(root + source).mkdir(parents=True, exist_ok=True)
        mount(source, root + source, "", BIND | REC)
        _read_only(root + source)
    for packages in ("site-packages", "dist-packages"):
        hidden = root + sysconfig.get_path("stdlib") + "/" + packages
        if Path(hidden).is_dir():
            mount("tmpfs", hidden, "tmpfs", RDONLY | NOSUID | NODEV, "size=4k")
    Path(root + "/dev").mkdir()
    for device in DEVICES:
        Path(root + device).touch()
        mount(device, root + device, "", BIND)
    Path(root + "/dev/stdin").symlink_to(f"{WORK}/{STDIN}")
    Path(root + WORK).mkdir()
    _read_only(root)
    os.chdir(root)
    _done(_libc.syscall(PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _done(_libc.umount2(b".", DETACH), "umount")
    os.chdir("/")


def visible() -> list[str]:
    """The directories of this machine that a program can see: the standard library's, and those of shared libraries."""
    stdlib = str(Path(sysconfig.get_path("stdlib")).resolve())
    mapped = (line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines())
    files = {Path(parts[5]) for parts in mapped if len(parts) == 6 and ".so" in parts[5]}
    libraries = {str(file.parent) for file in files if file.is_file()}
    return [stdlib, *sorted(each for each in libraries if not each.startswith(stdlib))]


def _read_only(target: str) -> None:
    """Mount it again read-only, with the flags it has: a user namespace may add to them and not take away."""
    has = os.statvfs(target).f_flag
    kept = has & (NOSUID | NODEV | NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME)
    relative = RELATIME if has & os.ST_RELATIME else 0
    mount("none", target, "", REMOUNT | BIND | RDONLY | NOSUID | NODEV | kept | relative)


def fresh(disk: int) -> None:
    """New process, mount, network and IPC namespaces for a run, and an empty working directory of `disk` bytes.

    The next process to be forked is the first of its process namespace: nothing outside it has a number there.
    """
    unshare(NEWPID | NEWNS | NEWNET | NEWIPC)
    mount("tmpfs", WORK, "tmpfs", NOSUID | NODEV | NOEXEC, f"size={disk},nr_inodes=4096,mode=700")
    os.chdir(WORK)


def drop() -> None:
    """Give up every capability, for good: the bounding set is empty, and no new privileges are to be had."""
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    _done(_libc.capset(header, (ctypes.c_uint32 * 6)()), "capset")


def limit(*, memory: int, seconds: int, threads: int, disk: int) -> None:
    """Bound this process and what it forks. `threads` counts all of the user's, and in a sandbox all of the user's
    there; bytes of address space and of a file."""
    bounds = {
        "RLIMIT_AS": memory,
        "RLIMIT_CPU": seconds,
        "RLIMIT_NPROC": threads,
        "RLIMIT_FSIZE": disk,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
    }
    for name, bound in bounds.items():
        kind = getattr(resource, name, None)  # not every system has each
        if kind is not None:
            with suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS; a lower hard limit is in force already
                resource.setrlimit(kind, (bound, bound))


def kill_beneath() -> None:
    """Kill every process that was forked beneath this one, and wait for them.

    As the first process of its namespace, this one is the parent of all that lost theirs; elsewhere it must be a
    subreaper for that (`adopt`).
    """
    while True:
        if os.getpid() == 1:
            with suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        for child in _children():
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def adopt() -> None:
    """Become the parent of processes beneath this one whose own parent ends."""
    if sys.platform == "linux":
        prctl(SET_CHILD_SUBREAPER, 1)


def _children() -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:  # in the sandbox, where there is no /proc, or on another system
        return []
