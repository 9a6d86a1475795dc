# Asks the user's Python, started the ordinary way, what its start-up has worked out.
import json
import os
import sys

directories = []
try:
    import site

    if hasattr(site, "getsitepackages"):
        directories += site.getsitepackages()
    if site.ENABLE_USER_SITE:
        directories.append(site.getusersitepackages())
except ImportError:
    pass

lines = []
watched = [os.path.join(sys.prefix, "pyvenv.cfg")]
for directory in dict.fromkeys(directories):
    watched.append(directory)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        continue
    for name in names:
        if not name.endswith(".pth") or name.startswith("."):
            continue
        file = os.path.join(directory, name)
        watched.append(file)
        try:
            with open(file, encoding="utf-8-sig", errors="replace") as opened:
                for line in opened:
                    if line.startswith(("import ", "import\t")):
                        lines.append((directory, file, line.rstrip()))
        except OSError:
            pass
for name in ("sitecustomize", "usercustomize"):
    if name in sys.modules:
        lines.append(("", name, "import " + name))

# The first entry is what `-c` puts there.
path = [entry for entry in dict.fromkeys(sys.path[1:]) if isinstance(entry, str) and entry]
answer = {
    "binary": sys.executable,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "watched": watched,
    "path": path,
    "prefix": sys.prefix,
    "exec_prefix": sys.exec_prefix,
    "lines": lines,
}
sys.stdout.write("\nabide-probe:" + json.dumps(answer) + "\n")
