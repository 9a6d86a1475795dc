# Byte-compiles the Python harness, with its settings as constants, into the file it is told.
import importlib.util
import json
import marshal
import os
import sys

request = json.load(sys.stdin)
source = "SETTINGS = %r\n%s" % (request["settings"], request["source"])
# Compiled without docstrings and asserts; the name is that of HARNESS_FILE in the harness.
code = compile(source, "<abide>", "exec", dont_inherit=True, optimize=2)
temporary = "%s.%d" % (request["target"], os.getpid())
with open(temporary, "wb") as file:
    file.write(importlib.util.MAGIC_NUMBER + bytes(12) + marshal.dumps(code))
os.replace(temporary, request["target"])
