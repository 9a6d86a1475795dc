# Descriptors 0 to 2 of the Python harness, and the objects over them.
# Part of one program with python.py, which follows it and explains the whole.

import _io
import builtins
import posix
import sys


def _writer(descriptor):
    raw = _io.FileIO(descriptor, "w", closefd=False)
    return _io.TextIOWrapper(
        _io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True
    )


def _reader():
    raw = _io.FileIO(0, "r", closefd=False)
    return _io.TextIOWrapper(_io.BufferedReader(raw), "utf-8", "surrogateescape")


def _prepare_streams(stdin):
    """Before a step: descriptors 0, 1 and 2 are ours again, and the objects over them usable."""
    for target, saved in enumerate(S.saved):
        posix.dup2(saved, target)
    if S.stdout.closed:
        S.stdout = sys.__stdout__ = _writer(1)
    if S.stderr.closed:
        S.stderr = sys.__stderr__ = _writer(2)
    if getattr(sys.stdout, "closed", False):
        sys.stdout = S.stdout
    if getattr(sys.stderr, "closed", False):
        sys.stderr = S.stderr
    S.stdin_given = stdin is not None
    if stdin is not None:
        memory = posix.memfd_create("stdin", posix.MFD_CLOEXEC)
        rest = stdin
        while rest:
            rest = rest[posix.write(memory, rest) :]
        posix.lseek(memory, 0, 0)
        posix.dup2(memory, 0)
        posix.close(memory)
        S.stdin = sys.stdin = sys.__stdin__ = _reader()
    elif sys.stdin is not S.stdin_null or S.stdin_null.closed:
        if S.stdin_null.closed:
            S.stdin_null = _reader()
        if sys.stdin is S.stdin or getattr(sys.stdin, "closed", True):
            sys.stdin = S.stdin_null
        S.stdin = sys.__stdin__ = S.stdin_null


def _flush(_):
    """After a step: what was printed is in the pipes before the result is sent."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
    _flush_ours(None)


def _flush_ours(_):
    for stream in (S.stdout, S.stderr):
        try:
            stream.flush()
        except Exception:
            pass


_builtin_input = builtins.input


def _input(prompt="", /):
    """Reads a line of the step's `stdin`, after showing the prompt."""
    try:
        return _builtin_input(prompt)
    except EOFError:
        if sys.stdin is not S.stdin:
            raise
        if S.stdin_given:
            hint = "input() has read everything in the step's `stdin`"
        else:
            hint = "input() has nothing to read: give it in the `stdin` field of the step request"
        raise EOFError(hint) from None


