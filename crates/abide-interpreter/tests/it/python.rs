//! What a step means in Python, case by case.

use abide_interpreter::ToHarness;
use abide_model::{Runtime, StepId, StepStatus};

use crate::running::{RESULT_LIMIT, Running};

fn python() -> Running {
    Running::start(Runtime::Python)
}

#[test]
fn state_and_values() {
    let mut python = python();
    python.quiet("x = 41");
    python.value("x + 1", "42");
    python.value("_", "42");
    python.quiet("None");
    python.value("y = 1\ny\ny + x", "42");
    python.quiet("");
    python.quiet("# only a comment");
    python.quiet("for i in range(3):\n    i");
    python.value("def f(a, *, b=2):\n    return a * b\nf(21)", "42");
    python.value(
        "f.__module__, __name__, __doc__",
        "('__main__', '__main__', None)",
    );
    python.value("'ä\\ud800'", r"'ä\ud800'");
    python.prints("if __name__ == '__main__':\n    print('main')", "main\n");
    python
        .quiet("n: int = 5\nimport dataclasses\n@dataclasses.dataclass\nclass D:\n    a: int = n");
    python.value("D()", "D(a=5)");
    python.value("import pickle\npickle.loads(pickle.dumps(D(7))).a", "7");
    python.value("async def g():\n    return 5\nimport sys\nsys.argv", "['']");
    for i in 0..150 {
        python.value(&format!("x += 1\nx + {i}"), &(42 + 2 * i).to_string());
    }
}

/// A short expression is compiled without a syntax tree; nobody can tell.
#[test]
fn the_short_way_and_the_long_way_agree() {
    let mut python = python();
    python.quiet("x = 41");
    for (short, long) in [
        ("x + 1", "x +\\\n1"),
        ("x + 1 # why", "x + 1\n# why"),
        ("'doc'", "None\n'doc'"),
        ("[n for n in (1, 2)]", "[n\nfor n in (1, 2)]"),
    ] {
        let text = python.run(long).result.and_then(|result| result.text);
        python.value(short, &text.unwrap());
    }
    python.value("1;", "1");
    python.quiet("pass");
    python.quiet("if x: 1");
    python.value("(await __import__('asyncio').sleep(0, 5))", "5");
    for (code, kind) in [
        (" x", "IndentationError"),
        ("x +", "SyntaxError"),
        ("yield x", "SyntaxError"),
        ("nobody", "NameError"),
        ("1 / 0", "ZeroDivisionError"),
    ] {
        let error = python.run(code).error.unwrap();
        assert_eq!(error.kind, kind, "{code:?}");
        assert!(error.traceback.contains(code.trim()), "{}", error.traceback);
        assert!(!error.traceback.contains("abide"), "{}", error.traceback);
        assert!(!error.traceback.contains("During"), "{}", error.traceback);
    }
    let ended = python.run("x is 1");
    assert_eq!(
        ended.err.matches("SyntaxWarning").count(),
        1,
        "{}",
        ended.err
    );
}

#[test]
fn prints_and_value_are_apart() {
    let mut python = python();
    let ended = python.run("import sys\nprint('out')\nprint('err', file=sys.stderr)\n7");
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("out\n", "err\n"));
    assert_eq!(ended.result.unwrap().text.as_deref(), Some("7"));
    python.prints("print('no newline', end='')", "no newline");
    python.prints("sys.stdout.buffer.write(b'raw') and None", "raw");
    python.prints("print('\\udc80 \\ud800')", "\\udc80 \\ud800\n");
    python.prints(
        "import subprocess\nsubprocess.run(['echo', 'child']) and None",
        "child\n",
    );
    python.prints("import os\nos.system('echo system') or None", "system\n");
    python.prints("os.write(1, b'direct') and None", "direct");
    let ended = python.run("print('x' * 1_000_000)");
    assert_eq!(ended.out.len(), 1_000_001);
}

#[test]
fn errors_show_the_users_lines() {
    let mut python = python();
    python.quiet("def f(n):\n    return 1 / n\n\ndef g():\n    return f(0)");
    let error = python.fails("g()", "ZeroDivisionError", "division by zero");
    let lines: Vec<_> = error
        .traceback
        .lines()
        .filter(|line| !line.trim_matches([' ', '^', '~']).is_empty())
        .collect();
    let expected = [
        "Traceback (most recent call last):",
        "  File \"<step 2>\", line 1, in <module>",
        "    g()",
        "  File \"<step 1>\", line 5, in g",
        "    return f(0)",
        "  File \"<step 1>\", line 2, in f",
        "    return 1 / n",
        "ZeroDivisionError: division by zero",
    ];
    // 3.13 underlines the call and 3.12 does not; the lines are the same.
    assert_eq!(lines, expected);

    let error = python.fails("x = 1\nx = = 1", "SyntaxError", "invalid syntax");
    assert!(
        error
            .traceback
            .starts_with("  File \"<step 3>\", line 2\n    x = = 1\n")
    );
    let error = python.fails("return 5", "SyntaxError", "'return' outside function");
    assert!(
        error.traceback.contains("    return 5\n"),
        "{}",
        error.traceback
    );
    python.fails("if True:\n1", "IndentationError", "");
    python.fails("(", "SyntaxError", "");
    python.fails(
        "def r(): r()\nr()",
        "RecursionError",
        "maximum recursion depth",
    );
    let error = python.fails(
        "try:\n    f(0)\nexcept ZeroDivisionError as e:\n    raise RuntimeError('outer') from e",
        "RuntimeError",
        "outer",
    );
    assert!(error.traceback.contains("direct cause"));
    assert!(!error.traceback.contains("abide"), "{}", error.traceback);
    python.fails(
        "import json\njson.loads('{')",
        "JSONDecodeError",
        "line 1 column 2",
    );
    let error = python.fails("await g2()", "NameError", "g2");
    assert!(!error.traceback.contains("asyncio"), "{}", error.traceback);
    let error = python.fails(
        "async def deep():\n    import asyncio\n    await asyncio.sleep(0)\n    f(0)\nawait deep()",
        "ZeroDivisionError",
        "",
    );
    assert!(!error.traceback.contains("asyncio"), "{}", error.traceback);
    python.fails(
        "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
        "E",
        "",
    );
    python.fails("raise BaseException('base')", "BaseException", "base");
    assert!(python.run("x\0y").error.unwrap().message.contains("null"));
    python.value(
        "import inspect\ninspect.getsource(g)",
        r"'def g():\n    return f(0)\n'",
    );
}

#[test]
fn getsource_within_the_first_step() {
    let mut python = python();
    let code = "def f():\n    return 1\nimport inspect\nprint(inspect.getsource(f))";
    python.prints(code, "def f():\n    return 1\n\n");
}

#[test]
fn leaving() {
    let mut python = python();
    python.quiet("import sys\nx = 1\nsys.exit()");
    python.quiet("exit(0)");
    python.fails("sys.exit(3)", "SystemExit", "3");
    python.fails("quit('gone')", "SystemExit", "gone");
    python.value("x", "1");
    let id = python.submit("import os\nos._exit(5)", None);
    assert_eq!(python.exit().code(), Some(5), "{id}");
}

#[test]
fn the_end_of_the_channel_ends_it_in_order() {
    let mut python = python();
    python.quiet("import atexit\natexit.register(print, 'goodbye')\nf = open('left', 'w')");
    python.quiet("f.write('kept') and None");
    assert_eq!(python.hang_up().code(), Some(0));
    assert_eq!(python.out, b"goodbye\n");
    let left = std::fs::read_to_string(python.directory.path().join("left")).unwrap();
    assert_eq!(left, "kept");

    let mut python = self::python();
    python.quiet("import threading\nthreading.Thread(target=threading.Event().wait).start()");
    assert_eq!(
        python.hang_up().code(),
        Some(0),
        "a thread does not hold it"
    );
}

#[test]
fn standard_input() {
    let mut python = python();
    let ended = python.run_with("name = input('who? ')\nname", Some("Ann\nBob\n"));
    assert_eq!(ended.out, "who? ");
    assert_eq!(ended.result.unwrap().text.as_deref(), Some("'Ann'"));
    python.value("name", "'Ann'");
    python.fails("input()", "EOFError", "`stdin` field");
    let ended = python.run_with("[input(), input()]", Some("one\n"));
    assert!(ended.error.unwrap().message.contains("read everything"));
    let ended = python.run_with("import sys\nsys.stdin.read()", Some("ä\n"));
    assert_eq!(ended.result.unwrap().text.as_deref(), Some(r"'ä\n'"));
    let ended = python.run_with(
        "import subprocess\nsubprocess.run('cat') and None",
        Some("piped"),
    );
    assert_eq!(ended.out, "piped");
    python.prints("subprocess.run('cat') and None", "");
    python.value("sys.stdin.read()", "''");
    python.quiet("sys.stdin.close()");
    python.value("sys.stdin.read()", "''");
    let ended = python.run_with("sys.stdin.readline()", Some("after\n"));
    assert_eq!(ended.result.unwrap().text.as_deref(), Some(r"'after\n'"));
}

#[test]
fn top_level_await() {
    let mut python = python();
    python.value("import asyncio\nawait asyncio.sleep(0, 'slept')", "'slept'");
    python.quiet("lock = asyncio.Lock()\nasync with lock:\n    held = lock.locked()");
    python.value(
        "held, [i async for i in agen()] if 'agen' in dir() else []",
        "(True, [])",
    );
    python.quiet("async def later():\n    await asyncio.sleep(0)\n    return 9\nt = asyncio.ensure_future(later())\nawait asyncio.sleep(0)");
    python.value("await t", "9");
    python.value("asyncio.run(later())", "9");
    python.value("await later()", "9");
}

#[test]
fn rich_values() {
    let mut python = python();
    python.quiet(
        "class R:
    def __repr__(self): raise ValueError('no')
    def _repr_html_(self): return '<b>ä</b>'
    def _repr_png_(self): return b'\\x89PNG'
    def _repr_json_(self): return {'a': [1, 2]}
    def _repr_latex_(self): raise ValueError('broken')
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {'text/markdown': '*m*', 'application/x+json': [1]}, {}
class Proxy:
    def __getattr__(self, name): return lambda *a, **k: 'anything'",
    );
    let ended = python.run("R()");
    assert_eq!(ended.status, StepStatus::Completed);
    assert!(
        ended.err.contains("_repr_latex_ raised ValueError: broken"),
        "{}",
        ended.err
    );
    let result = ended.result.unwrap();
    assert_eq!(
        result.text.as_deref(),
        Some("<R object, whose repr() raised ValueError>")
    );
    let data: Vec<_> = result
        .data
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        data,
        [
            ("application/json", r#"{"a": [1, 2]}"#),
            ("application/x+json", "[1]"),
            ("image/png", "iVBORw=="),
            ("text/html", "<b>ä</b>"),
            ("text/markdown", "*m*"),
        ]
    );
    let result = python.run("Proxy()").result.unwrap();
    assert!(result.data.is_empty());
    let ended = python.run("display(1, R())\ndisplay('two')\n3");
    let result = ended.result.unwrap();
    let texts: Vec<_> = result
        .displays
        .iter()
        .map(|d| d["text/plain"].as_str())
        .collect();
    assert_eq!(
        texts,
        ["1", "<R object, whose repr() raised ValueError>", "'two'"]
    );
    assert_eq!(result.displays[1]["image/png"], "iVBORw==");
    assert_eq!(result.text.as_deref(), Some("3"));
}

#[test]
fn large_values_are_cut() {
    let mut python = python();
    for code in [
        "list(range(10**6))",
        "'ä' * 10**6",
        "b'x' * 10**6",
        "{i: i for i in range(10**6)}",
        "[[1] * 10**6]",
        "type('T', (), {'__repr__': lambda self: 'y' * 10**6})()",
    ] {
        let result = python.run(code).result.unwrap();
        let length = result.text.unwrap().len() as u64;
        assert!(result.truncated, "{code}");
        assert!(
            (RESULT_LIMIT - 4..=RESULT_LIMIT).contains(&length),
            "{code}: {length}"
        );
    }
    let result = python
        .run("class H:\n    def _repr_html_(self): return 'h' * 10**6\n    def __repr__(self): return 'small'\nH()")
        .result
        .unwrap();
    assert_eq!(
        (result.text.as_deref(), result.data.len(), result.truncated),
        (Some("small"), 0, true)
    );
    let result = python
        .run("for i in range(100): display('z' * 5000)")
        .result
        .unwrap();
    assert!(result.truncated);
    let bytes: usize = result.displays.iter().map(|d| d["text/plain"].len()).sum();
    assert!(bytes as u64 <= RESULT_LIMIT);
}

#[test]
fn figures_and_frames_of_libraries() {
    // Stands in for matplotlib, which is not there on every machine: the calls the harness makes.
    let mut python = python();
    let package = python.directory.path().join("matplotlib");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("__init__.py"), "").unwrap();
    std::fs::write(
        package.join("pyplot.py"),
        "open_figures = {}
class Figure:
    def __init__(self, n): self.n = n
    def __repr__(self): return 'Figure %d' % self.n
    def savefig(self, file, format, bbox_inches): file.write(b'PNG%d' % self.n)
def figure(n): return open_figures.setdefault(n, Figure(n))
def get_fignums(): return sorted(open_figures)
def close(which): open_figures.clear()
",
    )
    .unwrap();
    let ended = python
        .run("import os\nfrom matplotlib import pyplot\npyplot.figure(1)\npyplot.figure(2)\n1/0");
    assert_eq!(ended.status, StepStatus::Error);
    let displays = ended.result.unwrap().displays;
    let shown: Vec<_> = displays
        .iter()
        .map(|d| (d["text/plain"].as_str(), d["image/png"].as_str()))
        .collect();
    assert_eq!(shown, [("Figure 1", "UE5HMQ=="), ("Figure 2", "UE5HMg==")]);
    python.quiet("pass");
    python.value("os.environ['MPLBACKEND']", "'Agg'");
}

#[test]
fn future_imports_persist() {
    let mut python = python();
    python.quiet("from __future__ import annotations\ndef f(a: Undefined): pass");
    python.quiet("def g(a: Undefined): pass");
    python.value("g.__annotations__", "{'a': 'Undefined'}");
}

#[test]
fn environment_is_the_given_one() {
    let mut python = python();
    python.value(
        "import os\nsorted(os.environ)",
        "['GREETING', 'HOME', 'MPLBACKEND', 'PATH']",
    );
    python.value("os.environ['GREETING']", "'hello = world'");
    python.prints(
        "os.system('echo $GREETING; env | grep -c =') and 0",
        "hello = world\n5\n",
    );
    let directory = python.directory.path().canonicalize().unwrap();
    python.value(
        "os.getcwd()",
        &format!("{:?}", directory.display()).replace('"', "'"),
    );
    std::fs::write(python.directory.path().join("local_module.py"), "value = 8").unwrap();
    python.value("import local_module\nlocal_module.value", "8");
    let extra = tempfile::tempdir().unwrap();
    std::fs::write(extra.path().join("extra_module.py"), "value = 9").unwrap();
    python.configure(&[("A", "2"), ("PYTHONPATH", extra.path().to_str().unwrap())]);
    python.value(
        "os.environ.get('A'), os.environ.get('GREETING')",
        "('2', None)",
    );
    python.value("import extra_module\nextra_module.value", "9");
    python.prints("os.system('echo $A$GREETING') and 0", "2\n");
    python.value(
        "import sys\nsys.flags.isolated, 'site' in sys.modules",
        "(1, False)",
    );
}

#[test]
fn a_workspace_that_is_not_there() {
    let mut python = Running::spawn(Runtime::Python);
    let gone = tempfile::tempdir().unwrap();
    std::mem::replace(&mut python.directory, gone)
        .close()
        .unwrap();
    let path = python.directory.path().to_owned();
    std::fs::remove_dir(&path).unwrap();
    python.configure(&[]);
    assert_eq!(python.exit().code(), Some(72));
    assert!(String::from_utf8_lossy(&python.err).contains("cannot enter the workspace"));
}

#[test]
fn streams_survive_what_steps_do_to_them() {
    let mut python = python();
    python.run("import sys, os, io\nsys.stdout.close()");
    python.prints("print('again')", "again\n");
    python.run("os.close(1)\nos.close(2)\nos.close(0)");
    python.prints("print('again')\nsys.stdin.read()", "again\n");
    python.run("sys.stdout = sys.stderr = io.StringIO()\nprint('kept')");
    python.value("sys.stdout.getvalue()", r"'kept\n'");
    python.run("sys.stdout = sys.__stdout__; sys.stderr = sys.__stderr__");
    python.prints("print('again')", "again\n");
    python.run("sys.stdout = None");
    python.prints("print('nothing')\nsys.stdout = sys.__stdout__", "");
    python.run("os.dup2(os.open('/dev/null', os.O_WRONLY), 1)\nprint('into the void')");
    python.prints("print('again')", "again\n");
}

#[test]
fn threads_print_between_steps() {
    let mut python = python();
    python.quiet(
        "import threading\ngo = threading.Event()\ndef late():\n    go.wait(); print('late')\n    display('shown')\nt = threading.Thread(target=late)\nt.start()",
    );
    python.quiet("threading.Timer(0.01, go.set).start()");
    python.wait(|running| running.out == b"late\nshown\n");
    python.value("1", "1");
}

#[test]
fn out_of_memory_leaves_it_alive() {
    let mut python = python();
    let ended = python.run(
        "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, -1))\nx = bytearray(1 << 31)",
    );
    assert_eq!(ended.status, StepStatus::OutOfMemory);
    assert_eq!(ended.error.unwrap().kind, "MemoryError");
    python.value("1 + 1", "2");
}

#[test]
fn children_and_pools() {
    let mut python = python();
    python.value(
        "import multiprocessing
context = multiprocessing.get_context('fork')
queue = context.Queue()
def work(q): q.put(7)
p = context.Process(target=work, args=(queue,))
p.start(); p.join()
queue.get()",
        "7",
    );
    python.value(
        "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(2) as pool:\n    r = list(pool.map(abs, [-1, -2]))\nr",
        "[1, 2]",
    );
    python.value(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'print(6)'], capture_output=True).stdout",
        r"b'6\n'",
    );
    python.value("help, exit", "(help(object) shows help about object, exit() ends the step; the interpreter and its variables stay)");
}

#[test]
fn warnings_show_the_line() {
    let mut python = python();
    let ended = python.run("import warnings\nwarnings.warn('careful')");
    assert!(
        ended.err.contains("<step 1>:2: UserWarning: careful"),
        "{}",
        ended.err
    );
    assert!(
        ended.err.contains("warnings.warn('careful')"),
        "{}",
        ended.err
    );
}

/// Whoever wrote it first may have died before: then it is written again, whether it had come or not.
#[test]
fn a_step_that_is_written_twice_runs_once() {
    let mut python = python();
    for turn in ["1", "2", "3"] {
        let step = ToHarness::Step {
            id: StepId::new(),
            code: "print('once'); n = globals().get('n', 0) + 1; n".to_owned(),
            stdin: None,
            max_result_bytes: RESULT_LIMIT,
        };
        let ToHarness::Step { id, .. } = step else {
            unreachable!()
        };
        python.send(&step);
        python.send(&step);
        let ended = python.finished(id);
        assert_eq!(ended.out, "once\n");
        assert_eq!(ended.result.unwrap().text.unwrap(), turn);
        // And once more after its end.
        python.send(&step);
        python.value("n", turn);
    }
}
