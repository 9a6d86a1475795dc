//! What a step means in Node, case by case.

use abide_interpreter::ToHarness;
use abide_model::{Runtime, StepId, StepStatus};

use crate::running::{RESULT_LIMIT, Running};

fn node() -> Running {
    Running::start(Runtime::Node)
}

#[test]
fn state_and_values() {
    let mut node = node();
    node.quiet(
        "const x = 41; let y = 1; class C { hi() { return 1; } } function f() { return 1; }",
    );
    node.quiet(
        "const x = 40; let y = 2; class C { hi() { return 2; } } function f() { return 3; }",
    );
    node.value("x + y + new C().hi() * f()", "48");
    node.value("_", "48");
    node.quiet("undefined");
    node.quiet("");
    node.quiet("// only a comment");
    node.value("'two' // a comment at the end", "'two'");
    node.value("{ a: 1, b: [2] }", "{ a: 1, b: [ 2 ] }");
    node.value("{ let z = 3; z }", "3");
    node.value("for (var i = 0; i < 3; i++) i", "2");
    node.value("-0", "-0");
    node.value("10n ** 20n", "100000000000000000000n");
    node.value("NaN", "NaN");
    node.value("Symbol('q')", "Symbol(q)");
    node.value("null", "null");
    node.value(
        "new Map([[1, { a: new Set([1]) }]])",
        "Map(1) { 1 => { a: Set(1) { 1 } } }",
    );
    node.value("(() => 5)", "[Function (anonymous)]");
    node.value("'\u{e4}\u{1f600}'", "'\u{e4}\u{1f600}'");
    node.value("[0].concat([1])[1] = 5", "5");
    for i in 0..120 {
        node.value(
            &format!("y += 1; const k = y * {i}; k"),
            &((3 + i) * i).to_string(),
        );
    }
}

#[test]
fn json_where_it_is_json() {
    let mut node = node();
    let cases = [
        (
            "[1, 'a', null, true, { b: {} }]",
            Some(r#"[1,"a",null,true,{"b":{}}]"#),
        ),
        ("5", Some("5")),
        ("null", Some("null")),
        ("Object.create(null)", Some("{}")),
        ("NaN", None),
        ("[undefined]", None),
        ("[,1]", None),
        ("({ f() {} })", None),
        ("new Date(0)", None),
        ("const loop = {}; loop.me = loop; loop", None),
        ("({ get a() { return 1; } })", None),
        ("new Proxy({}, {})", None),
        ("(class {})", None),
        ("[1n]", None),
    ];
    for (code, json) in cases {
        let result = node.run(code).result.unwrap();
        let found = result.data.get("application/json").map(String::as_str);
        assert_eq!(found, json, "{code}");
    }
}

#[test]
fn prints_and_value_are_apart() {
    let mut node = node();
    let ended = node
        .run("console.log('%d %s', 5, 'a', { b: { c: {} } }, [undefined]); console.error('e'); 7");
    assert_eq!(ended.out, "5 a { b: { c: {} } } [ undefined ]\n");
    assert_eq!(ended.err, "e\n");
    assert_eq!(ended.result.unwrap().text.as_deref(), Some("7"));
    node.prints("process.stdout.write('raw'); undefined", "raw");
    let child = "require('child_process').execSync('echo child', { stdio: 'inherit' }); undefined";
    node.prints(child, "child\n");
    assert_eq!(
        node.run("console.log('x'.repeat(1e6))").out.len(),
        1_000_001
    );
    let table = node.run("console.table([{ a: 1 }])").out;
    assert!(
        table.starts_with("┌─────────┬───┐\n│ (index) │ a │\n"),
        "{table}"
    );
}

#[test]
fn awaiting_and_importing() {
    let mut node = node();
    node.value("await new Promise((done) => setTimeout(done, 1, 7))", "7");
    node.quiet("const a = await 5");
    node.value("a", "5");
    node.value("for await (const v of [1, 2]) { var last = v } last", "2");
    node.value(
        "const { readFile } = await import('fs/promises'); typeof readFile",
        "'function'",
    );
    node.value("(await import('node:path')).default.sep", "'/'");
    node.value(
        "const f = async () => (await import('path')).sep; await f()",
        "'/'",
    );
    let directory = node.directory.path().to_owned();
    std::fs::write(
        directory.join("local.mjs"),
        "export default 3; export const named = 4;",
    )
    .unwrap();
    std::fs::write(
        directory.join("common.cjs"),
        "module.exports = { five: 5 };",
    )
    .unwrap();
    let package = directory.join("node_modules/esm-only");
    std::fs::create_dir_all(&package).unwrap();
    let manifest = r#"{"type": "module", "exports": {"import": "./index.js"}}"#;
    std::fs::write(package.join("package.json"), manifest).unwrap();
    std::fs::write(package.join("index.js"), "export const six = 6;").unwrap();
    node.value("require('./common.cjs').five", "5");
    node.value("(await import('./local.mjs')).named", "4");
    node.value(
        "import local, { named as n }\n  from './local.mjs'\nimport * as all from \"esm-only\";\nimport 'node:os'\n[local, n, all.six]",
        "[ 3, 4, 6 ]",
    );
    node.value("export const e = 9; e", "9");
    let text =
        "`import('x') ${ `import ${1}` }` + \"import y from 'z'\" + /import(1)/.source // import(";
    node.value(text, r#""import('x') import 1import y from 'z'import(1)""#);
    node.value("const o = { import(x) { return x; } }; o.import(4)", "4");
    let error = node.fails("1;\nimport.meta", "SyntaxError", "import.meta");
    assert!(error.traceback.starts_with("<step-"), "{}", error.traceback);
    assert!(error.message.contains("await import("), "{}", error.message);
    node.fails(
        "await import('./missing.mjs')",
        "Error",
        "Cannot find module",
    );
    node.fails(
        "require('missing')",
        "Error",
        "Cannot find module 'missing'",
    );
}

#[test]
fn every_ordinary_global() {
    let mut node = node();
    node.value(
        "[typeof fetch, typeof URL, typeof structuredClone, typeof setImmediate, typeof TextEncoder, typeof queueMicrotask, typeof performance, typeof Buffer, typeof require.resolve].every((t) => t === 'function' || t === 'object')",
        "true",
    );
    node.value(
        "[typeof module, typeof exports, typeof fs.readFileSync, typeof os.cpus]",
        "[ 'object', 'object', 'function', 'function' ]",
    );
    let directory = node.directory.path().canonicalize().unwrap();
    node.value(
        "[process.cwd(), __dirname].every((d) => d === process.cwd())",
        "true",
    );
    node.value("process.cwd()", &format!("'{}'", directory.display()));
    node.value("require('path').basename(__filename)", "'[step]'");
    node.value(
        "Object.keys(process.env).sort()",
        "[ 'GREETING', 'HOME', 'PATH' ]",
    );
    node.prints(
        "require('child_process').execSync('echo $GREETING', { stdio: 'inherit' }); undefined",
        "hello = world\n",
    );
    node.value("const fs = require('fs'), path = 'mine'; path", "'mine'");
    node.value("Object.keys(globalThis).includes('require')", "false");
    node.value("process.argv.length", "1");
}

#[test]
fn errors_show_the_users_lines() {
    let mut node = node();
    node.quiet("function f(n) {\n  return n.x.y;\n}");
    let error = node.fails("f({})", "TypeError", "undefined");
    let expected = "<step-1>:2\n  return n.x.y;\n             ^\n\n\
        TypeError: Cannot read properties of undefined (reading 'y')\n    \
        at f (<step-1>:2:14)\n    at <step-2>:1:1";
    assert_eq!(error.traceback, expected);
    let error = node.fails(
        "let ok = 1;\nx = = 1",
        "SyntaxError",
        "Unexpected token '='",
    );
    assert!(
        error.traceback.starts_with("<step-3>:2\nx = = 1\n    ^\n"),
        "{}",
        error.traceback
    );
    node.fails(
        "let q = 1; let q = 2",
        "SyntaxError",
        "already been declared",
    );
    node.fails("missing", "ReferenceError", "missing is not defined");
    node.fails("throw 'text'", "string", "'text'");
    node.fails("throw null", "object", "null");
    node.fails("throw undefined", "undefined", "undefined");
    node.fails("throw { a: 1 }", "Object", "{ a: 1 }");
    node.fails(
        "class Mine extends Error { name = 'Mine' }; throw new Mine('m')",
        "Mine",
        "m",
    );
    let error = node.fails(
        "throw Object.assign(new TypeError('bad', { cause: new Error('why') }), { code: 'E_X' })",
        "TypeError",
        "bad",
    );
    for part in ["code: 'E_X'", "[cause]: Error: why"] {
        assert!(error.traceback.contains(part), "{}", error.traceback);
    }
    assert!(
        !error.traceback.contains("inspector"),
        "{}",
        error.traceback
    );
    node.fails(
        "await Promise.reject(new RangeError('r'))",
        "RangeError",
        "r",
    );
    node.fails("await null.x", "TypeError", "null");
    node.fails(
        "(function r() { r(); })()",
        "RangeError",
        "Maximum call stack",
    );
    node.fails(
        "const later = 1; later = 2",
        "TypeError",
        "Assignment to constant",
    );
    node.value("1 + 1", "2");
}

#[test]
fn what_would_end_node_ends_the_step() {
    let mut node = node();
    node.quiet("let kept = 1");
    node.fails("process.exit(3)", "ProcessExit", "process.exit(3)");
    node.fails("process.exit()", "ProcessExit", "process.exit(0)");
    node.fails(
        "try { process.exit(4) } catch {} 5",
        "ProcessExit",
        "process.exit(4)",
    );
    node.fails(
        "Promise.reject(new Error('unhandled')); 1",
        "Error",
        "unhandled",
    );
    node.fails(
        "Promise.reject('text'); 1",
        "UnhandledPromiseRejection",
        "text",
    );
    node.fails(
        "queueMicrotask(() => { throw new Error('micro') }); 1",
        "Error",
        "micro",
    );
    node.fails(
        "process.nextTick(() => { throw new Error('tick') }); 1",
        "Error",
        "tick",
    );
    let wait = "await new Promise(() => {})";
    for (code, kind, message) in [
        (
            "setTimeout(() => { throw new Error('timer') })",
            "Error",
            "timer",
        ),
        (
            "setTimeout(() => { process.exit(2) })",
            "ProcessExit",
            "process.exit(2)",
        ),
        (
            "setTimeout(() => { Promise.reject(new Error('late')) })",
            "Error",
            "late",
        ),
        (
            "new (require('events'))().emit('error', new Error('emitted'))",
            "Error",
            "emitted",
        ),
    ] {
        node.fails(&format!("{code}; {wait}"), kind, message);
    }
    node.value("kept", "1");
    node.value(
        "process.once('uncaughtException', (e) => console.log('mine', e.message)); 1",
        "1",
    );
    let ended = node.run("setTimeout(() => { throw new Error('own') }); await new Promise((r) => setTimeout(r, 5)); 2");
    assert_eq!(
        (ended.out.as_str(), ended.status),
        ("mine own\n", StepStatus::Completed)
    );
    let id = node.submit("process.abort()", None);
    assert!(!node.exit().success(), "{id}");
}

#[test]
fn late_callbacks_belong_to_no_step() {
    let mut node = node();
    node.value(
        "setTimeout(() => { console.log('late'); process.exit(1); }, 1); 1",
        "1",
    );
    node.wait(|running| running.err.ends_with(b"does nothing\n"));
    assert_eq!(String::from_utf8_lossy(&node.out), "late\n");
    node.value(
        "Promise.resolve().then(() => setTimeout(() => { throw new Error('gone') }, 1)); 2",
        "2",
    );
    node.wait(|running| String::from_utf8_lossy(&running.err).contains("Error: gone"));
    node.value("3", "3");
}

#[test]
fn standard_input() {
    let mut node = node();
    let read = "require('fs').readFileSync(0, 'utf8')";
    let text = |ended: crate::running::Ended| ended.result.unwrap().text.unwrap();
    assert_eq!(text(node.run_with(read, Some("Ann\n"))), r"'Ann\n'");
    node.value(read, "''");
    let lines = "const got = []; for await (const line of require('readline').createInterface({ input: process.stdin })) got.push(line); got";
    assert_eq!(text(node.run_with(lines, Some("a\nb"))), "[ 'a', 'b' ]");
    assert_eq!(text(node.run(lines)), "[]");
    let ended = node.run_with(
        "require('child_process').execSync('cat', { stdio: 'inherit' }); undefined",
        Some("piped"),
    );
    assert_eq!(ended.out, "piped");
    assert_eq!(
        text(node.run_with(
            "let all = ''; for await (const c of process.stdin) all += c; all",
            Some("ä")
        )),
        "'ä'"
    );
}

#[test]
fn rich_values_and_limits() {
    let mut node = node();
    let code = "display({ [Symbol.for('Jupyter.display')]: () => ({ 'text/html': '<b>', 'image/png': Buffer.from('x') }) }, 2); 3";
    let result = node.run(code).result.unwrap();
    assert_eq!(result.text.as_deref(), Some("3"));
    assert_eq!(result.displays[0]["image/png"], "eA==");
    assert_eq!(result.displays[1]["text/plain"], "2");
    for code in [
        "'ä'.repeat(1e6)",
        "'a'.repeat(1e6)",
        "({ [require('util').inspect.custom]: () => 'y'.repeat(1e6) })",
    ] {
        let result = node.run(code).result.unwrap();
        assert!(result.truncated, "{code}");
        let length = result.text.unwrap().len() as u64;
        assert!(
            length > RESULT_LIMIT / 2 && length <= RESULT_LIMIT,
            "{code}: {length}"
        );
    }
    let ended = node.run("({ [require('util').inspect.custom]() { throw new Error('no') } })");
    assert_eq!(ended.status, StepStatus::Completed);
    assert_eq!(
        ended.result.unwrap().text.as_deref(),
        Some("<object whose inspection threw Error>")
    );
}

#[test]
fn the_end_of_the_channel_ends_it() {
    let mut node = node();
    node.quiet(
        "process.on('exit', () => console.log('goodbye')); setInterval(() => {}, 1000); undefined",
    );
    assert_eq!(node.hang_up().code(), Some(0));
    assert_eq!(node.out, b"goodbye\n");
}

/// The promise of a step that never ends is collected while the session goes on.
#[test]
fn an_abandoned_promise_is_collected() {
    let mut node = node();
    node.quiet(
        "require('v8').setFlagsFromString('--expose-gc'); globalThis.collect = require('vm').runInNewContext('gc'); undefined",
    );
    for round in 1..=5 {
        let code =
            "setTimeout(() => { collect(); console.log('go'); }, 1); await new Promise(() => {})";
        let id = node.submit(code, None);
        node.wait(|running| running.out == b"go\n".repeat(round));
        node.signal();
        assert_eq!(node.finished(id).status, StepStatus::Interrupted);
        node.quiet("collect()");
    }
}

#[test]
fn logged_objects_are_not_kept() {
    let mut node = node();
    node.quiet("require('v8').setFlagsFromString('--expose-gc'); globalThis.collect = require('vm').runInNewContext('gc'); undefined");
    node.run("{ const big = { a: 1 }; globalThis.ref = new WeakRef(big); console.log(big); 0 }");
    node.value(
        "collect(); await new Promise((r) => setTimeout(r)); collect(); ref.deref() === undefined",
        "true",
    );
}

/// Whoever wrote it first may have died before: then it is written again, whether it had come or not.
#[test]
fn a_step_that_is_written_twice_runs_once() {
    let mut node = node();
    for turn in ["1", "2", "3"] {
        let step = ToHarness::Step {
            id: StepId::new(),
            code: "console.log('once'); globalThis.n = (globalThis.n ?? 0) + 1; n".to_owned(),
            stdin: None,
            max_result_bytes: RESULT_LIMIT,
        };
        let ToHarness::Step { id, .. } = step else {
            unreachable!()
        };
        node.send(&step);
        node.send(&step);
        let ended = node.finished(id);
        assert_eq!(ended.out, "once\n");
        assert_eq!(ended.result.unwrap().text.unwrap(), turn);
        // And once more after its end.
        node.send(&step);
        node.value("n", turn);
    }
}
