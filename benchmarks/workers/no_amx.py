"""Refuse AMX to a process: Linux gives it only to those who ask, and a filter answers no.

Whoever asks is told that AMX is not there and takes the next best; whoever uses it without asking
ends with SIGILL. So nothing that runs under the filter can have used AMX.

    python no_amx.py COMMAND ...
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

ARCH_REQ_XCOMP_PERM = 0x1023
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
SYS_ARCH_PRCTL = 158

# Classic BPF, see linux/filter.h; offsets are those of struct seccomp_data.
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
SYSCALL, FIRST_ARGUMENT = 0, 16
ALLOW, FAIL = 0x7FFF0000, 0x00050000
PROGRAM = (
    (LOAD, 0, 0, SYSCALL),
    (JUMP_IF_EQUAL, 0, 3, SYS_ARCH_PRCTL),
    (LOAD, 0, 0, FIRST_ARGUMENT),
    (JUMP_IF_EQUAL, 0, 1, ARCH_REQ_XCOMP_PERM),
    (RETURN, 0, 0, FAIL | errno.EPERM),
    (RETURN, 0, 0, ALLOW),
)


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("if_true", ctypes.c_uint8),
        ("if_false", ctypes.c_uint8),
        ("value", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def refuse_amx() -> None:
    """From here on, for this process and whatever it starts.

    Raises:
        OSError: the system does not allow the filter.
    """
    if platform.machine() != "x86_64":
        return
    instructions = (_Instruction * len(PROGRAM))(*PROGRAM)
    program = _Program(len(PROGRAM), instructions)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, *arguments in (
        (PR_SET_NO_NEW_PRIVS, 1, None),
        (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program)),
    ):
        if libc.prctl(option, *arguments, 0, 0):
            raise OSError(ctypes.get_errno(), "The filter that refuses AMX was not accepted.")


if __name__ == "__main__":
    refuse_amx()
    os.execvp(sys.argv[1], sys.argv[1:])
