# The Python harness: runs steps in one persistent __main__ and speaks to Abide over a private
# channel. `abide-interpreter` puts `SETTINGS = {...}`, python_site.py, python_streams.py and
# python_values.py before it and byte-compiles the whole.
#
# Rules it keeps:
# - Nothing is imported at start beyond what is built into the interpreter; a rarely used module
#   is imported when it is needed. Start-up time and idle memory are those of a bare loop.
# - User code runs only inside `_enter`. KeyboardInterrupt is raised only in that frame or below
#   it, so that an interrupt can neither get lost nor hit the protocol code.
# - Whoever interrupts a step first writes a frame that names it, then sends SIGINT. A SIGINT
#   during the step needs no more. One that comes before the step has begun is noted, and the frame
#   tells the step that it was meant; one that comes late finds no frame for the next step. So a
#   step says nothing when it starts, and costs one message each way.
# - A signal can come after Python's last look for one and before a wait in the kernel, which no
#   program in Python can exclude: it would be found only after the wait. So whoever interrupts a
#   step nudges the interpreter with SIGURG while the step goes on. A nudge ends the wait and is
#   nothing else: an interrupt that was found is not repeated, and a step's cleaning up is not
#   disturbed.
# - The channel's descriptor is high, close-on-exec, closed in forked children, and its identity
#   is checked before each frame: a step may lose it (the interpreter then dies), never abuse it.
#   That, and taking descriptors 0 to 2 back before a step, takes two microseconds of a step's
#   hundred.

import _signal
import builtins
import posix
import sys

MAX_SOURCES = 8 * 1024 * 1024
# Read at a time when no longer frame is known to be coming.
READ = 8192
LONG_READ = 1024 * 1024
# Exit codes of a harness that gives up by itself.
EXIT_CHANNEL_LOST = 71
EXIT_NOT_CONFIGURED = 72
# compile(): PyCF_ONLY_AST, PyCF_ALLOW_TOP_LEVEL_AWAIT, every `from __future__` flag, CO_COROUTINE.
ONLY_AST = 0x400
TOP_LEVEL_AWAIT = 0x2000
FUTURE_MASK = 0x1FE0000
COROUTINE = 0x80


class _State:
    """What the harness itself must remember."""

    pid = 0
    # The id of the last step.
    last = b""
    channel = -1
    identity = None
    saved = ()
    # What was read from the channel and is not taken yet.
    received = b""
    # SIGINT interrupts the step that runs.
    accepting = False
    # It is to be raised as soon as user code runs.
    pending = False
    # It came between steps: perhaps early, for the next one.
    early = False
    # It was raised where Python drops what is raised: the next nudge raises it again.
    dropped = False
    step = 0
    futures = 0
    sources = {}
    sources_size = 0
    loop = None
    # An expression's tree, to put another node into; no need to import `_ast`.
    expression = None
    displays = None
    budget = 0
    stdin_given = False
    stdin_null = None
    stdin = None
    stdout = None
    stderr = None
    main = None


S = _State


# --- frames ---------------------------------------------------------------------------------


def _receive():
    """The next frame's payload, or None at the channel's end."""
    while True:
        held = len(S.received)
        end = 4
        if held >= 4:
            end += int.from_bytes(S.received[:4], "little")
            if held >= end:
                payload = S.received[4:end]
                S.received = S.received[end:]
                return payload
        # Whole short frames come in one read.
        parts = [S.received]
        while held < end:
            try:
                piece = posix.read(S.channel, min(max(end - held, READ), LONG_READ))
            except OSError:
                return None
            if not piece:
                return None
            parts.append(piece)
            held += len(piece)
        S.received = b"".join(parts)


def _fields(payload):
    """The payload's fields as (key, value) pairs, in order."""
    fields = []
    at = 0
    while at < len(payload):
        start = at + 1 + payload[at]
        end = start + 4 + int.from_bytes(payload[start : start + 4], "little")
        fields.append((payload[at + 1 : start], payload[start + 4 : end]))
        at = end
    return fields


def _field(key, value):
    return b"%c%b%b%b" % (len(key), key.encode(), len(value).to_bytes(4, "little"), value)


def _send(parts):
    """Writes one frame; ends the process when the channel is gone or is not ours any more."""
    payload = b"".join(parts)
    frame = len(payload).to_bytes(4, "little") + payload
    try:
        status = posix.fstat(S.channel)
        if (status.st_dev, status.st_ino) != S.identity:
            raise OSError
        written = posix.write(S.channel, frame)
        while written < len(frame):
            frame = frame[written:]
            written = posix.write(S.channel, frame)
    except OSError:
        _last_words("the step closed descriptors that belong to the interpreter")
        posix._exit(EXIT_CHANNEL_LOST)


def _last_words(text):
    try:
        posix.write(2, ("abide: " + text + "\n").encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def _text(value):
    return value.encode("utf-8", "backslashreplace")


def _cut(data, limit):
    """At most `limit` bytes of UTF-8, cut between characters, and whether something is missing."""
    if len(data) <= limit:
        return data, False
    while limit > 0 and data[limit] & 0xC0 == 0x80:
        limit -= 1
    return data[:limit], True


# --- interrupts -----------------------------------------------------------------------------


def _on_interrupt(signum, frame):
    if not S.accepting:
        S.early = True
        return
    if frame is None or frame.f_code in _OUTSIDE:
        S.pending = True
        return
    raise KeyboardInterrupt


def _on_nudge(signum, frame):
    """That it came is enough: Python has looked for other signals, too."""
    if S.dropped:
        S.dropped = False
        _on_interrupt(signum, frame)


def _on_unraisable(unraisable):
    """Python is about to drop an exception, of a `__del__` for one."""
    sys.__unraisablehook__(unraisable)
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # Last, since what is raised in here is dropped as well.
        S.dropped = True


def _is_interrupted(ident):
    """Whether the channel has an interrupt for this step, without waiting for it."""
    try:
        posix.set_blocking(S.channel, False)
        try:
            while piece := posix.read(S.channel, READ):
                S.received += piece
        except BlockingIOError:
            pass
        posix.set_blocking(S.channel, True)
    except OSError:
        # The next ordinary read sees it too.
        pass
    at = 0
    while at + 4 <= len(S.received):
        end = at + 4 + int.from_bytes(S.received[at : at + 4], "little")
        if end <= len(S.received):
            if _fields(S.received[at + 4 : end])[:2] == [(b"op", b"interrupt"), (b"id", ident)]:
                return True
        at = end
    return False


def _enter(function, argument):
    """The one door to user code; a pending interrupt is raised here."""
    if S.pending:
        S.pending = False
        raise KeyboardInterrupt
    return function(argument)


def _attempt(function, argument):
    """(value, None) or (None, exception)."""
    try:
        return _enter(function, argument), None
    except BaseException as error:
        return None, error


# --- running a step -------------------------------------------------------------------------


def _execute(code):
    """Compiles and runs a step; returns the value of its last expression, or None."""
    name = "<step %d>" % S.step
    _remember(name, code)
    flags = TOP_LEVEL_AWAIT | S.futures
    if _may_be_expression(code):
        try:
            body = compile(code, name, "eval", flags, True)
        except Exception:
            # Not an expression, or wrong: what follows tells.
            body = None
        if body is not None:
            return _run(body, S.main.__dict__)
    tree = compile(code, name, "exec", ONLY_AST | flags, True)
    last = None
    if tree.body and type(tree.body[-1]).__name__ == "Expr":
        last = S.expression
        last.body = tree.body.pop().value
    namespace = S.main.__dict__
    if tree.body:
        body = compile(tree, name, "exec", flags, True)
        S.futures |= body.co_flags & FUTURE_MASK
        flags |= S.futures
        _run(body, namespace)
    if last is None:
        return None
    return _run(compile(last, name, "eval", flags, True), namespace)


def _may_be_expression(code):
    """Whether to try the short way: without a syntax tree, it takes a third of the time. Only
    for what cannot be warned about twice (an invalid escape) and is not an obvious statement."""
    return (
        len(code) < 200
        and "=" not in code
        and "\\" not in code
        and "\n" not in code
        and not code[:1].isspace()
        and not code.startswith(("import ", "from ", "del "))
    )


def _run(code, namespace):
    value = eval(code, namespace)
    if code.co_flags & COROUTINE:
        return _await(value)
    return value


def _await(coroutine):
    """Runs a step's coroutine on the session's one event loop."""
    import asyncio

    if S.loop is None or S.loop.is_closed():
        S.loop = asyncio.new_event_loop()
    asyncio.set_event_loop(S.loop)
    task = S.loop.create_task(coroutine)
    try:
        return S.loop.run_until_complete(task)
    except BaseException:
        if not task.done():
            # An interrupt hit the loop itself: let the task run its `finally` blocks.
            task.cancel()
            try:
                S.loop.run_until_complete(task)
            except asyncio.CancelledError:
                pass
        raise


def _remember(name, code):
    """Keeps a step's source for tracebacks and inspect.getsource; the oldest go first."""
    S.sources[name] = code
    S.sources_size += len(code)
    while S.sources_size > MAX_SOURCES and len(S.sources) > 1:
        oldest = next(iter(S.sources))
        S.sources_size -= len(S.sources.pop(oldest))
        if "linecache" in sys.modules:
            sys.modules["linecache"].cache.pop(oldest, None)
    if "linecache" in sys.modules:
        _show_sources(name)


def _show_sources(*names):
    """Enters steps into linecache, where tracebacks and inspect look for source lines."""
    cache = getattr(sys.modules["linecache"], "cache", None)
    if cache is None:
        return
    for name in names or S.sources:
        code = S.sources[name] + "\n"
        cache[name] = (len(code), None, code.splitlines(True), name)


# --- processes ------------------------------------------------------------------------------


def _after_fork():
    """A forked child has no channel; see `_leave_child`."""
    try:
        posix.close(S.channel)
    except OSError:
        pass
    S.channel = -1


def _leave_child(error):
    """A child of os.fork() that came to the end of the step ends like a script."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        if error.code is not None and not isinstance(error.code, int):
            sys.stderr.write("%s\n" % (error.code,))
    elif error is not None:
        code = 1
        try:
            sys.stderr.write(_traceback(type(error), error) + "\n")
        except Exception:
            pass
    _flush(None)
    posix._exit(code & 0xFF)


def _leave():
    """The channel has ended: finish like a script, but never wait for a thread."""
    S.accepting = False
    threading = sys.modules.get("threading")
    if threading is not None and len(threading.enumerate()) > 1:
        import atexit

        _attempt(lambda _: atexit._run_exitfuncs(), None)
        _attempt(_flush, None)
        posix._exit(0)
    sys.exit(0)


# --- the loop -------------------------------------------------------------------------------


def _configure(fields):
    """Replaces the environment, enters the working directory, honours PYTHONPATH."""
    environment = {}
    directory = None
    for key, value in fields:
        if key == b"cwd":
            directory = value
        elif key == b"env":
            name, _, text = value.partition(b"=")
            environment[name] = text
    environment.setdefault(b"MPLBACKEND", b"Agg")
    for name in list(posix.environ):
        posix.unsetenv(name)
    posix.environ.clear()
    posix.environ.update(environment)
    for name, text in environment.items():
        posix.putenv(name, text)
    if "os" in sys.modules:
        # os.environ is its own copy; bytes keys are what it holds inside.
        data = sys.modules["os"].environ._data
        data.clear()
        data.update(environment)
    if b"TZ" in environment:
        import time

        time.tzset()
    extra = environment.get(b"PYTHONPATH", b"").decode("utf-8", "surrogateescape")
    sys.path[:] = ["", *filter(None, extra.split(":")), *SETTINGS["path"]]
    if environment.get(b"PYTHONDONTWRITEBYTECODE"):
        sys.dont_write_bytecode = True
    if directory is not None:
        try:
            posix.chdir(directory)
        except OSError as error:
            _last_words("cannot enter the workspace: %s" % error)
            posix._exit(EXIT_NOT_CONFIGURED)


def _step(fields):
    """Runs one step and answers with exactly one `finished` frame."""
    ident = b""
    code = ""
    stdin = None
    limit = 1024 * 1024
    for key, value in fields:
        if key == b"id":
            ident = value
        elif key == b"code":
            code = value.decode("utf-8", "replace")
        elif key == b"stdin":
            stdin = value
        elif key == b"max_result_bytes":
            limit = int(value)
    if ident == S.last:
        # Written twice, since whoever wrote it first may have died before.
        return
    S.last = ident
    S.step += 1
    S.displays = displays = []
    S.budget = limit
    try:
        _prepare_streams(stdin)
    except OSError as error:
        _last_words("the interpreter's descriptors are gone: %s" % error)
        posix._exit(EXIT_CHANNEL_LOST)
    # Code of an earlier step may have put its own handler there, or SIG_IGN.
    if _signal.getsignal(_signal.SIGINT) is not _on_interrupt:
        _signal.signal(_signal.SIGINT, _on_interrupt)
    S.pending = S.dropped = False
    S.accepting = True
    if S.early:
        # Its frame was written before it was sent, and so is to be found by now.
        S.early = False
        if _is_interrupted(ident):
            S.pending = True
    parts, error = _attempt(_result, (code, limit))
    if posix.getpid() != S.pid:
        _leave_child(error)
    # Drawing, and streams of the user's own, may take for ever too.
    for after in (_show_figures, _flush):
        if isinstance(error, KeyboardInterrupt):
            break
        failed = _attempt(after, None)[1]
        if isinstance(failed, KeyboardInterrupt):
            error = failed
    status = b"completed"
    if error is not None:
        if isinstance(error, SystemExit):
            parts, failed = _attempt(_exit_fields, error)
            if failed is None and parts:
                status = b"error"
        else:
            if isinstance(error, KeyboardInterrupt):
                status = b"interrupted"
            elif isinstance(error, MemoryError):
                status = b"out_of_memory"
            else:
                status = b"error"
            parts, failed = _attempt(_describe, error)
        if failed is not None:
            parts = _error_fields(type(error).__name__, "", type(error).__name__)
        # Frames of the failed step, and what they hold, go now and not with the next failure.
        error = failed = None
    _attempt(_flush_ours, None)
    S.accepting = False
    S.displays = None
    _send((_FINISHED, _field("id", ident), _field("status", status), *parts, *displays))


def _exit_fields(error):
    """sys.exit() and sys.exit(0) complete the step; anything else is an error."""
    if error.code is None or (isinstance(error.code, int) and error.code == 0):
        return []
    return _describe(error)


_FINISHED = _field("op", b"finished")
# Code that must never be unwound by an interrupt.
_OUTSIDE = frozenset(
    function.__code__
    for function in (
        _receive, _fields, _field, _send, _last_words, _text, _cut, _attempt, _is_interrupted,
        _prepare_streams, _writer, _reader, _configure, _step, _error_fields, _leave_child, _leave,
        _after_fork,
    )
)


def _take_channel():
    """Moves the channel and copies of 0, 1, 2 to high, close-on-exec descriptors."""
    for base in (250, 60, 20):
        try:
            S.saved = tuple(posix.dup2(fd, base + fd, inheritable=False) for fd in (0, 1, 2))
            S.channel = posix.dup2(3, base + 3, inheritable=False)
            break
        except OSError:
            # A lower limit on open files.
            continue
    posix.close(3)
    status = posix.fstat(S.channel)
    S.identity = (status.st_dev, status.st_ino)
    S.pid = posix.getpid()
    posix.register_at_fork(after_in_child=_after_fork)


def _fresh_main():
    """The user's `__main__`; the harness keeps its own, unnamed."""
    S.harness = sys.modules["__main__"]
    S.main = main = type(sys)("__main__")
    main.__builtins__ = builtins
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    sys.modules["__main__"] = main


def _main():
    _signal.signal(_signal.SIGINT, _on_interrupt)
    _signal.signal(_signal.SIGURG, _on_nudge)
    sys.unraisablehook = _on_unraisable
    _take_channel()
    sys.argv[:] = [""]
    sys.path[:] = ["", *SETTINGS["path"]]
    sys.prefix = SETTINGS["prefix"]
    sys.exec_prefix = SETTINGS["exec_prefix"]
    _FirstImport.lines = SETTINGS["lines"]
    sys.meta_path.insert(0, _FirstImport)
    S.stdout, S.stderr, S.stdin = sys.stdout, sys.stderr, sys.stdin
    S.stdin_null = sys.stdin
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace", line_buffering=True)
    builtins.display = display
    builtins.input = _input
    builtins.help = _Help()
    builtins.exit = _Exit("exit")
    builtins.quit = _Exit("quit")
    _fresh_main()
    version = "%d.%d.%d" % sys.version_info[:3]
    _send((
        _field("op", b"ready"),
        _field("version", version.encode()),
        _field("pid", str(S.pid).encode()),
    ))
    # The first compile() makes the types of the syntax tree, for a millisecond: now rather than in
    # the first step, which may be a while away.
    S.expression = compile("0", HARNESS_FILE, "eval", ONLY_AST, True)
    while True:
        payload = _receive()
        if payload is None:
            _leave()
        fields = _fields(payload)
        operation = fields[0][1] if fields else b""
        if operation == b"step":
            _step(fields)
        elif operation == b"configure":
            _configure(fields)
        # Steps do not keep each other's source and values alive through this frame.
        payload = fields = None


_OUTSIDE |= {_main.__code__}
_main()
