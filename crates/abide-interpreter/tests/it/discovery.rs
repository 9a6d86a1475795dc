//! Finding interpreters: shims, staleness, refusals, virtual environments.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use abide_interpreter::{DiscoverError, Interpreter, discover};
use abide_model::Runtime;

use crate::running::interpreter;

#[test]
fn finds_the_real_binaries() {
    for runtime in [Runtime::Python, Runtime::Node] {
        let found = interpreter(runtime);
        assert!(found.binary.is_absolute());
        assert!(found.is_current());
        let mut start = [0; 4];
        std::io::Read::read_exact(&mut fs::File::open(&found.binary).unwrap(), &mut start).unwrap();
        assert_eq!(&start, b"\x7fELF", "{} is a shim", found.binary.display());
        let text = serde_json::to_string(found).unwrap();
        let back: Interpreter = serde_json::from_str(&text).unwrap();
        assert_eq!(&back, found);
        let directory = tempfile::tempdir().unwrap();
        found.prepare(directory.path()).unwrap();
        found.prepare(directory.path()).unwrap();
        let program = found.command(directory.path()).argv.pop().unwrap();
        assert!(Path::new(&program).exists());
    }
}

#[test]
fn sees_through_shims_and_notices_changes() {
    let real = &interpreter(Runtime::Python).binary;
    let directory = tempfile::tempdir().unwrap();
    let shim = directory.path().join("bin/python3");
    fs::create_dir(directory.path().join("bin")).unwrap();
    write_program(
        &shim,
        &format!("echo noise; exec {} \"$@\"", real.display()),
    );
    let found = discover(Runtime::Python, Some(&shim)).unwrap();
    assert_eq!(&found.binary, real);
    assert!(found.is_current());
    fs::write(directory.path().join("version"), "another one").unwrap();
    assert!(!found.is_current());
    let found = discover(Runtime::Python, Some(&shim)).unwrap();
    write_program(&shim, "echo changed");
    assert!(!found.is_current());
}

#[test]
fn refuses_what_is_not_an_interpreter() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("python3");
    write_program(&program, "echo 'cannot do that' >&2; exit 3");
    let error = discover(Runtime::Python, Some(&program)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("did not answer the probe: cannot do that"),
        "{error}"
    );
    write_program(
        &program,
        r#"echo 'abide-probe:{"binary": "/old", "version": "3.8.18", "path": [], "prefix": "", "exec_prefix": "", "lines": []}'"#,
    );
    let error = discover(Runtime::Python, Some(&program)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("is python 3.8.18; 3.9 or newer is needed"),
        "{error}"
    );
    let missing = directory.path().join("missing");
    let error = discover(Runtime::Node, Some(&missing)).unwrap_err();
    assert!(matches!(error, DiscoverError::Run { .. }));
}

#[test]
fn a_virtual_environment_stays_one() {
    let base = interpreter(Runtime::Python);
    let directory = tempfile::tempdir().unwrap();
    let venv = directory.path().join("venv");
    let made = Command::new(&base.binary)
        .args(["-m", "venv", "--without-pip"])
        .arg(&venv)
        .output()
        .unwrap();
    if !made.status.success() {
        // Some distributions ship Python without its `venv` module.
        return;
    }
    let python = venv.join("bin/python");
    let found = discover(Runtime::Python, Some(&python)).unwrap();
    assert_eq!(found.binary, python);
    let site = fs::read_dir(venv.join("lib"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let site = site.join("site-packages");
    // Adding packages, or lines of a `.pth` file, is noticed.
    fs::write(site.join("packaged.py"), "value = 5").unwrap();
    fs::write(
        site.join("lines.pth"),
        "/somewhere/else\nimport sys; sys.abide_marker = __import__('os').path.basename(sys._getframe(1).f_locals['sitedir'])\n",
    )
    .unwrap();
    assert!(!found.is_current());
    let found = discover(Runtime::Python, Some(&python)).unwrap();
    found.prepare(directory.path()).unwrap();
    let mut running = crate::running::Running::spawn_with(&found, directory.path());
    running.configure(&[]);
    running.value("import sys\nhasattr(sys, 'abide_marker')", "False");
    running.value(
        "import packaged\npackaged.value, sys.abide_marker",
        "(5, 'site-packages')",
    );
    let prefix = format!("'{}'", venv.display());
    running.value("sys.prefix", &prefix);
    running.value("sys.prefix != sys.base_prefix", "True");
}

fn write_program(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
