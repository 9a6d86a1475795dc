#!/usr/bin/env python3
"""Records real programs under a PTY into recordings/, for the tests of the screen.

Run once, by hand, where vim, htop, less, tmux, bash and Python are installed; what it writes is committed. A
recording is a line `columns rows` and then the output. Programs run in a directory of their own with an
environment that says nothing of the machine, htop in a process namespace of its own.
"""

import fcntl
import os
import pathlib
import pty
import select
import shutil
import signal
import struct
import sys
import tempfile
import termios

HERE = pathlib.Path(__file__).resolve().parent / "recordings"
# Output has paused for this many seconds: the program waits for input.
QUIET = 0.25


def record(name, cols, rows, command, keys, home):
    """Runs `command`, types each of `keys` when it waits, and writes what it printed."""
    environment = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "PS1": "\\[\\e[1;32m\\]abide\\[\\e[0m\\]:\\[\\e[34m\\]\\W\\[\\e[0m\\]$ ",
        "LS_COLORS": "di=01;34:ln=01;36:ex=01;32:*.gz=01;31:*.md=38;5;208:*.rs=38;2;200;120;40",
        "HISTFILE": "/dev/null",
        "TMUX_TMPDIR": str(home),
        "LESSHISTFILE": "-",
    }
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(home)
        os.execvpe(command[0], command, environment)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))
    output = bytearray()

    def drain(quiet):
        while select.select([master], [], [], quiet)[0]:
            try:
                data = os.read(master, 65536)
            except OSError:
                return False
            if not data:
                return False
            output.extend(data)
        return True

    drain(1.0)
    for key in keys:
        os.write(master, key if isinstance(key, bytes) else key.encode())
        if not drain(QUIET):
            break
    drain(QUIET)
    os.kill(pid, signal.SIGHUP)
    os.close(master)
    os.waitpid(pid, 0)
    (HERE / f"{name}.bin").write_bytes(f"{cols} {rows}\n".encode() + bytes(output))
    print(f"{name}: {len(output)} bytes", file=sys.stderr)


def prepare(home):
    """Files to look at, all of them the same wherever this runs."""
    project = home / "project"
    (project / "src").mkdir(parents=True)
    for index in range(60):
        (project / f"chapter-{index:02}.md").write_text(f"# Chapter {index}\n")
        (project / "src" / f"part_{index:02}.rs").write_text("fn main() {}\n")
    os.symlink("chapter-00.md", project / "latest")
    lines = []
    for index in range(300):
        lines.append(f"fn step_{index}(input: &str) -> Result<u32, Error> {{")
        lines.append(f"    // 日本語のコメント {index} — naïve café e\u0301")
        lines.append(f'    let text = "{"word " * (index % 40)}";')
        lines.append("    input.parse().map_err(Error::from)")
        lines.append("}")
    (home / "code.rs").write_text("\n".join(lines) + "\n")
    coloured = []
    for index in range(500):
        colour = 31 + index % 7
        coloured.append(f"\x1b[{colour}m{index:5}\x1b[0m \x1b[48;5;{index % 256}m{'=' * (index % 120)}\x1b[0m end")
    (home / "coloured.txt").write_text("\n".join(coloured) + "\n")
    wide = []
    for index in range(60):
        wide.append("".join(f"\x1b[38;5;{(index + col) % 256}m{(index * 7 + col) % 10}{'=' * 9}" for col in range(20)) + "\x1b[0m")
        wide.append("漢字" * (index % 60) + "x" * (index % 3) + "🦀🎉👩‍👩‍👧" * (index % 13))
        wide.append("\x1b[7m" + "ー" * (20 + index % 60) + "\x1b[0m" + "e\u0301a\u0308" * (index % 50))
    (home / "wide.txt").write_text("\n".join(wide) + "\n")
    (home / "emoji.sh").write_text(
        "for i in $(seq 1 80); do printf '\\e[%d;%dH🦀🎉\\e[4%dm漢\\e[0m👍🏽e\\u0301' $((i*7%24+1)) $((i*13%79+1)) $((i%8)); done\n"
        "printf '\\e[H\\e[2J'; for i in $(seq 1 60); do printf '%0.s🎉' $(seq 1 $i); printf '\\e[%dG字\\e[1K%s\\n' $((i%70+1)) $i; done\n"
        "for i in $(seq 1 40); do printf '\\e]8;id=l%d;https://example.org/%d\\e\\\\link %d\\e]8;;\\e\\\\ \\e[4:3;58;2;255;0;0mwavy\\e[0m\\n' $((i/3)) $i $i; done\n"
    )
    (home / ".vimrc").write_text("set nocompatible number mouse=a title termguicolors hlsearch nomodeline viminfo=\nset t_RV= \nsyntax on\n")
    (home / ".tmux.conf").write_text("set -g status-right 'right'\nset -g default-terminal 'tmux-256color'\nset -g mouse on\nset -g default-command 'bash --norc'\nset -g automatic-rename off\nset -g set-titles on\nset -g set-titles-string 'panes'\n")
    (home / "progress.sh").write_text(
        "printf '\\n\\e7\\e[0;23r\\e8\\e[1A'; for i in $(seq 1 60); do echo unpacking $i; "
        "printf '\\e7\\e[24;1H\\e[42;30mprogress %3d%%\\e[0m [%-40.*s]\\e8' $i $((i*2/3)) '########################################'; done; "
        "printf '\\n\\e7\\e[0;24r\\e8\\e[1A\\e[J'\n"
    )
    (home / "busy.sh").write_text("exec -a worker-$1 tail -f /dev/null\n")


def main():
    HERE.mkdir(exist_ok=True)
    home = pathlib.Path(tempfile.mkdtemp(prefix="abide")) / "home"
    home.mkdir()
    prepare(home)
    bash = ["bash", "--norc", "--noprofile", "-i"]
    up, down, right, page = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[6~"
    record("vim", 80, 24, ["vim", "code.rs"], [
        "\x06", "\x06", "gg", "/step_25\r", "n", "n", "ohello \u5b57 world\x1b", "yyPP", ":split\r", "G", "\x17w", "gg",
        ":set wrap!\r", "20j", "ddp", "vjjj", ">", "u", "u", ":%s/step/stage/g\r", "zt", "\x05\x05\x05", "\x19\x19", ":vsplit\r",
        "\x04", "\x15", ":only\r", "i" + "typed text \u00e9\u00e8 " * 12 + "\x1b", ":help\r", "\x06", ":q\r", ":q!\r",
    ], home)
    record("less", 80, 24, ["less", "-R", "coloured.txt"], [
        " ", " ", "j", "j", "j", "k", "/499\r", "b", "b", "G", "g", "-S\r", right, right, " ", "-S\r", "&1.*2\r", "\x1b[B", "h", "q", "q",
    ], home)
    record("less-wide", 100, 30, ["less", "-R", "wide.txt"], [" ", " ", "j", "k", " ", "u", "u", "G", "b", "g", " ", "q"], home)
    record("shell", 80, 24, bash, [
        "cd project\r", "ls --color\r", "ls -x --color src | head -40\r", "grep --color=always -n main -r src | sort | head -70\r",
        "clear\r", "for i in $(seq 1 400); do printf '\\e[3%dm%d\\e[0m %s\\n' $((i%8)) $i \"$(seq -s. 1 $((i%60)))\"; done\r",
        "echo unfinished \x7f\x7f\x7f" + up + up + down + "\x01\x05\x15", "cat ../coloured.txt\r", "bash ../progress.sh\r",
        "printf '\\e]0;a title\\a\\e[5 q\\e[?2004h'\r", "\x12main\x1b", "\x03", "exit\r",
    ], home)
    record("wrap", 80, 24, bash, ["cat wide.txt\r", "cat wide.txt | tail -30\r", "reset -Q 2>/dev/null; tput cup 3 4\r", "exit\r"], home)
    record("emoji", 80, 24, bash, ["bash emoji.sh\r", "bash emoji.sh\r", "echo 🦀🦀\x7f\x7f👩‍👩‍👧x\r", "exit\r"], home)
    record("columns-200", 200, 50, bash, ["cat wide.txt\r", "ls -C --color project/src\r", "exit\r"], home)
    record("python", 80, 24, ["/usr/bin/python3" if os.path.exists("/usr/bin/python3") else "python3", "-q", "-I"], [
        "import json, os\r", "for i in range(30):\r    print(i, '\\033[3%dm' % (i % 8), 'x' * (i * 5), '\\033[0m')\r\r",
        "json.dumps({'a': list(range(60))}, indent=2)\r", "print(json.dumps(_ and {'b': 'é🦀' * 30}))\r", up + up + "\x15", "'unknown' + 1\r", "help(len)\r", "q", "exit()\r",
    ], home)
    record("tmux", 100, 30, ["tmux", "-f", str(home / ".tmux.conf"), "new", "-s", "abide"], [
        "ls --color project\r", "\x02%", "seq 1 100\r", '\x02"', "cat coloured.txt | head -60\r", "\x02o", "less -R coloured.txt\r", " ", " ",
        "\x02z", " ", "\x02z", "\x02[", "\x1b[5~", "\x1b[5~", "q", "\x02c", "bash emoji.sh\r", "\x02n", "\x02p", "\x02:", "kill-server\r",
    ], home)
    htop = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "sh", "-c",
            "hostname abide; for i in 1 2 3 4 5 6 7 8; do bash busy.sh $i & done; htop -d 5"]
    record("htop", 100, 30, htop, [down, down, "t", page, "\x1b", ">", "\r", "I", "u", "\r", "q", "\x1b", "q"], home)
    shutil.rmtree(home.parent)


main()
