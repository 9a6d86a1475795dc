# Values and errors of the Python harness: what a step's `finished` frame says about them.
# Part of one program with python.py, which follows it and explains the whole.

import _io
import builtins
import posix
import sys

MAX_MESSAGE = 16 * 1024
MAX_TRACEBACK = 64 * 1024
HARNESS_FILE = "<abide>"


# --- values ---------------------------------------------------------------------------------


def _bounded_repr(value, limit):
    """repr(value) as bytes, never raising an Exception, and whether something is missing.

    The common large values are sliced first, so that a list of millions costs no more than what
    is shown of it."""
    kind = type(value)
    sliced = False
    try:
        if kind in (str, bytes, bytearray, list, tuple) and len(value) > limit:
            value = value[:limit]
            sliced = True
        elif kind in (dict, set, frozenset) and len(value) > limit:
            import itertools

            items = value.items() if kind is dict else value
            value = kind(itertools.islice(items, limit))
            sliced = True
        text = repr(value)
        if not isinstance(text, str):
            raise TypeError("__repr__ returned non-string")
        if len(text) > limit:
            text = text[: limit + 1]
    except MemoryError:
        raise
    except Exception as error:
        text = "<%s object, whose repr() raised %s>" % (kind.__name__, type(error).__name__)
    text, cut = _cut(_text(text), limit)
    return text, cut or sliced


# Asked in this order; a method found on the type (never on the instance, which may answer to
# any name) gives one form of the value.
RICH_FORMS = (
    ("_repr_html_", "text/html"),
    ("_repr_markdown_", "text/markdown"),
    ("_repr_svg_", "image/svg+xml"),
    ("_repr_png_", "image/png"),
    ("_repr_jpeg_", "image/jpeg"),
    ("_repr_latex_", "text/latex"),
    ("_repr_json_", "application/json"),
)
PLAIN_TYPES = frozenset((int, float, complex, bool, str, bytes, list, tuple, dict, set, type))


def _rich_forms(value):
    """{mime: value} of everything a value offers besides its repr."""
    kind = type(value)
    if kind in PLAIN_TYPES or isinstance(value, type):
        return {}
    forms = {}
    try:
        method = getattr(kind, "_repr_mimebundle_", None)
        if method is not None:
            bundle = method(value, include=None, exclude=None)
            if isinstance(bundle, tuple):
                bundle = bundle[0]
            if isinstance(bundle, dict):
                forms.update(bundle)
    except Exception as error:
        _complain("_repr_mimebundle_", error)
    for name, mime in RICH_FORMS:
        if mime in forms:
            continue
        try:
            method = getattr(kind, name, None)
            form = None if method is None else method(value)
        except Exception as error:
            _complain(name, error)
            continue
        if isinstance(form, tuple) and mime != "application/json":
            form = form[0]
        if form is not None:
            forms[mime] = form
    return forms


def _complain(name, error):
    sys.stderr.write("abide: %s raised %s: %s\n" % (name, type(error).__name__, _message(error)))


def _encode_form(mime, form):
    """One form as bytes of text: binary as base64, JSON types as JSON."""
    if isinstance(form, (bytes, bytearray, memoryview)):
        if mime.startswith("text/") or mime.endswith(("+xml", "json")):
            return bytes(form).decode("utf-8", "replace").encode()
        import binascii

        return binascii.b2a_base64(form, newline=False)
    if isinstance(form, str) and not mime.endswith("json"):
        return _text(form)
    import json

    return _text(json.dumps(form, default=str))


def _bundle(value, budget):
    """(text, [data field], truncated, bytes used) of a value."""
    text, truncated = _bounded_repr(value, budget)
    used = len(text)
    data = []
    for mime, form in _rich_forms(value).items():
        if mime == "text/plain":
            if isinstance(form, str):
                used -= len(text)
                text, truncated = _cut(_text(form), budget)
                used += len(text)
            continue
        try:
            form = _encode_form(mime, form)
        except Exception as error:
            _complain(mime, error)
            continue
        if used + len(form) > budget:
            truncated = True
            continue
        used += len(form)
        data.append(_field("data", mime.encode("utf-8", "replace") + b"\0" + form))
    return text, data, truncated, used


def display(*values):
    """Shows values as rich outputs of the running step (text where there is none)."""
    for value in values:
        displays = S.displays
        if displays is None or posix.getpid() != S.pid:
            print(value)
            continue
        text, data, truncated, used = _bundle(value, max(S.budget, 0))
        S.budget -= used
        if truncated:
            displays.append(_field("truncated", b"1"))
        if used:
            data.append(_field("data", b"text/plain\0" + text))
            displays.append(_field("display", b"".join(data)))


def _show_figures(_):
    """Open matplotlib figures become displays, and are closed."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return
    for number in pyplot.get_fignums():
        try:
            figure = pyplot.figure(number)
            buffer = _io.BytesIO()
            figure.savefig(buffer, format="png", bbox_inches="tight")
            form = _encode_form("image/png", buffer.getvalue())
            plain = b"text/plain\0" + _bounded_repr(figure, 1024)[0]
            if len(form) > S.budget:
                S.displays.append(_field("truncated", b"1"))
                form = None
            else:
                S.budget -= len(form)
            data = [_field("data", plain)]
            if form is not None:
                data.append(_field("data", b"image/png\0" + form))
            S.displays.append(_field("display", b"".join(data)))
        except Exception as error:
            _complain("savefig", error)
    pyplot.close("all")


def _result(step):
    """Executes, and describes the value: the fields of a completed step."""
    code, limit = step
    value = _execute(code)
    if value is None:
        return []
    builtins._ = value
    text, data, truncated, used = _bundle(value, limit)
    S.budget -= used
    data.append(_field("text", text))
    if truncated:
        data.append(_field("truncated", b"1"))
    return data


# --- errors ---------------------------------------------------------------------------------


def _message(error):
    try:
        return str(error)
    except Exception:
        return "<str() of the exception failed>"


def _describe(error):
    """The fields of a failed step."""
    kind = type(error)
    if isinstance(error, SyntaxError) and error.text is None and error.filename in S.sources:
        lines = S.sources[error.filename].splitlines(True)
        if error.lineno and error.lineno <= len(lines):
            error.text = lines[error.lineno - 1]
    try:
        trace = _traceback(kind, error)
    except Exception:
        trace = kind.__name__ + ": " + _message(error)
    return _error_fields(kind.__qualname__, _message(error), trace)


def _error_fields(kind, message, trace):
    trace = _text(trace)
    if len(trace) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        trace = b"\n[...]\n".join(
            part.decode("utf-8", "ignore").encode() for part in (trace[:half], trace[-half:])
        )
    return [
        _field("error_type", _text(kind)),
        _field("error_message", _cut(_text(message), MAX_MESSAGE)[0]),
        _field("traceback", trace),
    ]


def _traceback(kind, error):
    """The traceback from the first frame of a step on, without frames of the harness."""
    trace = error.__traceback__
    while trace is not None and not trace.tb_frame.f_code.co_filename.startswith("<step "):
        trace = trace.tb_next
    import traceback

    _show_sources()
    report = traceback.TracebackException(kind, error, trace)
    pending = [report]
    seen = set()
    while pending:
        one = pending.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        stack = getattr(one, "stack", None)
        if stack:
            stack[:] = [frame for frame in stack if frame.filename != HARNESS_FILE]
        pending.extend((one.__cause__, one.__context__))
        pending.extend(getattr(one, "exceptions", None) or ())
    return "".join(report.format()).rstrip("\n")


