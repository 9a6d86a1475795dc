# What the Python harness puts in the place of the standard `site` start-up, which it skips.
# Part of one program with python.py, which follows it and explains the whole.

import sys


class _FirstImport:
    """Runs what `.pth` files ask for before the first real import, and fills linecache when it
    is loaded. Until then neither costs anything."""

    lines = ()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if cls.lines:
            lines, cls.lines = cls.lines, ()
            broken = None
            for directory, file, line in lines:
                if file != broken and not cls.run(directory, line):
                    broken = file
        if name != "linecache":
            return None
        # Found by somebody else; what is ours is to see the module when it has been loaded.
        sys.meta_path.remove(cls)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _ThenShowSources(spec.loader)
                return spec
        return None

    @staticmethod
    def run(sitedir, line):
        # Namespace packages look for a local named `sitedir` in the calling frame.
        try:
            exec(line, {"__name__": "site"})
            return True
        except Exception as error:
            _last_words("%s: %s raised %s" % (sitedir, line[:80], type(error).__name__))
            return False


class _ThenShowSources:
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader
        self.loader.exec_module(module)
        _show_sources()


class _Exit:
    """`exit` and `quit`, which the standard `site` module would provide."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "%s() ends the step; the interpreter and its variables stay" % self.name

    def __call__(self, code=None):
        raise SystemExit(code)


class _Help:
    """`help`, which the standard `site` module would provide."""

    def __repr__(self):
        return "help(object) shows help about object"

    def __call__(self, *args, **kwargs):
        import pydoc

        return pydoc.help(*args, **kwargs)


