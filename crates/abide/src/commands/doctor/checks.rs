//! What `abide doctor` looks at.

use std::fs::File;
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use abide_model::Runtime;
use rustix::event::EventfdFlags;
use rustix::process::{PidfdFlags, Resource};

use super::Finding;
use crate::commands::App;
use crate::config::{Config, OTHER_VARIABLES, SETTINGS, Value as _};
use crate::connect::{ServerFile, key_path};
use crate::output::human_bytes;

/// Below this much free space something will soon go wrong.
const LITTLE_SPACE: u64 = 1 << 30;
/// A session needs about ten descriptors of the server.
const FEW_DESCRIPTORS: u64 = 4096;
/// `close_range` (5.9) and `pidfd_open` (5.3) are needed.
const OLDEST_KERNEL: (u32, u32) = (5, 9);

/// Every check, in the order that a reader wants.
pub(super) async fn all(app: &App<'_>) -> Vec<Finding> {
    let config = &app.config;
    let running = ServerFile::of_running(&config.data_dir);
    let mut findings = vec![
        interpreter(Runtime::Python, config.python.as_deref()),
        interpreter(Runtime::Node, config.node.as_deref()),
        data_dir(&config.data_dir),
        space(&config.data_dir),
        key(&config.data_dir),
        database(&config.data_dir),
        kernel(),
        descriptors(),
        server(app, running.as_ref()).await,
    ];
    if running.is_none() && config.url.is_none() {
        findings.push(port(config));
    }
    findings.extend(variables(app));
    findings
}

fn interpreter(runtime: Runtime, given: Option<&Path>) -> Finding {
    let what = runtime.as_str();
    match abide_interpreter::discover(runtime, given) {
        Ok(found) => Finding::ok(
            what,
            format!("{} at {}", found.version, found.binary.display()),
        ),
        Err(error) => {
            let mut detail = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                detail.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            let package = match runtime {
                Runtime::Python => "python3",
                Runtime::Node => "nodejs",
            };
            let fix = format!("{}; or name one with --set {what}=PATH", install(package));
            match runtime {
                // Python is what sessions run unless they say otherwise.
                Runtime::Python => Finding::fail(what, detail, fix),
                Runtime::Node => Finding::warn(what, detail, fix),
            }
        }
    }
}

/// The command that installs a package here.
fn install(package: &str) -> String {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    install_on(&release, package)
}

fn install_on(release: &str, package: &str) -> String {
    let ids: Vec<&str> = release
        .lines()
        .filter_map(|l| l.strip_prefix("ID=").or_else(|| l.strip_prefix("ID_LIKE=")))
        .flat_map(|v| v.trim_matches('"').split(' '))
        .collect();
    let is = |names: &[&str]| ids.iter().any(|id| names.contains(id));
    if is(&["debian", "ubuntu"]) {
        format!("sudo apt-get update && sudo apt-get install -y {package}")
    } else if is(&["fedora", "rhel"]) {
        format!("sudo dnf install -y {package}")
    } else if is(&["arch"]) {
        format!(
            "sudo pacman -S {}",
            if package == "python3" {
                "python"
            } else {
                package
            }
        )
    } else if is(&["alpine"]) {
        format!("sudo apk add {package}")
    } else if is(&["suse", "opensuse"]) {
        format!("sudo zypper install {package}")
    } else {
        format!("install {package} with this system's package manager")
    }
}

fn data_dir(dir: &Path) -> Finding {
    const WHAT: &str = "data directory";
    let probe = dir.join(format!(".doctor-{}", std::process::id()));
    let existed = dir.exists();
    let tried = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .and_then(|()| std::fs::write(&probe, b"x"))
        .and_then(|()| std::fs::remove_file(&probe));
    let owner = std::fs::metadata(dir).map(|m| m.uid());
    if !existed {
        // Only looked whether it could be made.
        let _ = std::fs::remove_dir(dir);
    }
    let shown = dir.display();
    match (tried, owner) {
        (Err(error), _) => Finding::fail(
            WHAT,
            format!("{shown} is not writable: {error}"),
            "give it to this user, or name another with --data-dir or ABIDE_DATA_DIR",
        ),
        (Ok(()), Ok(owner)) if owner != rustix::process::getuid().as_raw() => Finding::warn(
            WHAT,
            format!("{shown} belongs to user {owner}"),
            format!("sudo chown -R \"$USER\" {shown}"),
        ),
        (Ok(()), _) => Finding::ok(WHAT, format!("{shown} is writable")),
    }
}

fn space(dir: &Path) -> Finding {
    const WHAT: &str = "disk space";
    let existing = dir
        .ancestors()
        .find(|p| p.exists())
        .unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(existing) {
        Err(error) => Finding::warn(WHAT, format!("not known: {error}"), "look with `df -h`"),
        Ok(stat) => {
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            let detail = format!("{} free", human_bytes(free));
            if free < LITTLE_SPACE {
                let fix = format!("free some space below {}", existing.display());
                Finding::warn(WHAT, detail, fix)
            } else {
                Finding::ok(WHAT, detail)
            }
        }
    }
}

fn key(dir: &Path) -> Finding {
    let path = key_path(dir);
    match std::fs::metadata(&path).map(|m| m.permissions().mode() & 0o777) {
        Err(_) => Finding::ok("key", "none yet; the first `abide up` makes one"),
        Ok(mode) if mode & 0o077 != 0 => Finding::warn(
            "key",
            format!(
                "{} can be read by other users (mode {mode:o})",
                path.display()
            ),
            format!("chmod 600 {}", path.display()),
        ),
        Ok(_) => Finding::ok("key", format!("{} is private", path.display())),
    }
}

fn database(dir: &Path) -> Finding {
    const WHAT: &str = "database";
    let path = dir.join("abide.db");
    match head_of(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::ok(WHAT, "none yet; the first `abide up` makes one")
        }
        Err(error) => Finding::fail(
            WHAT,
            format!("{} cannot be read: {error}", path.display()),
            "give it to this user",
        ),
        Ok((size, true)) => Finding::ok(
            WHAT,
            format!(
                "{}, a SQLite database; `abide up` checks its integrity",
                human_bytes(size)
            ),
        ),
        Ok((0, _)) => Finding::ok(WHAT, "empty"),
        Ok(_) => Finding::fail(
            WHAT,
            format!("{} is not a SQLite database", path.display()),
            "restore it from a backup, or move it away to begin anew",
        ),
    }
}

/// Size of the file, and whether it begins like a database.
fn head_of(path: &Path) -> std::io::Result<(u64, bool)> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut head = Vec::new();
    file.by_ref()
        .take(MAGIC.len() as u64)
        .read_to_end(&mut head)?;
    Ok((size, head == MAGIC))
}

fn kernel() -> Finding {
    const WHAT: &str = "kernel";
    const FIX: &str = "update to Linux 5.9 or newer; in a container, allow these system calls";
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut missing = Vec::new();
    if rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).is_err() {
        missing.push("pidfd_open");
    }
    if rustix::event::eventfd(0, EventfdFlags::CLOEXEC).is_err() {
        missing.push("eventfd2");
    }
    if rustix::fs::memfd_create("abide", rustix::fs::MemfdFlags::CLOEXEC).is_err() {
        missing.push("memfd_create");
    }
    if !missing.is_empty() {
        return Finding::fail(
            WHAT,
            format!("Linux {release} without {}", missing.join(", ")),
            FIX,
        );
    }
    match version_of(&release) {
        Some(version) if version < OLDEST_KERNEL => {
            Finding::fail(WHAT, format!("Linux {release} is too old"), FIX)
        }
        _ => Finding::ok(WHAT, format!("Linux {release}")),
    }
}

/// `6.1.0-13-amd64` as (6, 1).
fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn descriptors() -> Finding {
    const WHAT: &str = "open files";
    let limit = rustix::process::getrlimit(Resource::Nofile);
    match limit.maximum {
        Some(most) if most < FEW_DESCRIPTORS => Finding::warn(
            WHAT,
            format!(
                "at most {most}, enough for about {} live sessions",
                most / 10
            ),
            format!("raise the hard limit (`ulimit -Hn`) to {FEW_DESCRIPTORS} or more"),
        ),
        Some(most) => Finding::ok(WHAT, format!("up to {most}")),
        None => Finding::ok(WHAT, "no limit"),
    }
}

async fn server(app: &App<'_>, running: Option<&ServerFile>) -> Finding {
    const WHAT: &str = "server";
    let Ok(client) = app.connect() else {
        return Finding::ok(WHAT, "not running; `abide up` starts it");
    };
    let url = client.base_url();
    let fix = match running {
        Some(server) => format!(
            "look into its log; `kill -9 {}` ends it, `abide up` takes over",
            server.pid
        ),
        None => "check --url, --port and their variables".to_owned(),
    };
    match tokio::time::timeout(std::time::Duration::from_secs(5), client.status()).await {
        Err(_) => Finding::fail(WHAT, format!("{url} does not answer"), fix),
        Ok(Err(error)) => Finding::fail(WHAT, format!("{url}: {error}"), fix),
        Ok(Ok(status)) => Finding::ok(
            WHAT,
            format!("{} at {url}, pid {}", status.version, status.pid),
        ),
    }
}

fn port(config: &Config) -> Finding {
    let mut taken = Vec::new();
    for host in &config.host.0 {
        let address = SocketAddr::new(*host, config.port);
        if let Err(error) = TcpListener::bind(address) {
            taken.push(format!("{address}: {error}"));
        }
    }
    if taken.is_empty() {
        return Finding::ok(
            "port",
            format!("{} is free on {}", config.port, config.host.show()),
        );
    }
    let detail = taken.join("; ");
    // One family is enough: many containers have no IPv6.
    if taken.len() < config.host.0.len() {
        return Finding::warn(
            "port",
            detail,
            "fine unless something else listens there; see --host",
        );
    }
    Finding::fail(
        "port",
        detail,
        format!(
            "`ss -ltnp 'sport = :{}'` shows who has it; or take another with --port",
            config.port
        ),
    )
}

/// Variables that look like ours and are not.
fn variables(app: &App<'_>) -> Option<Finding> {
    let unknown = |name: &&str| {
        !SETTINGS.iter().any(|s| s.variable == *name) && !OTHER_VARIABLES.contains(name)
    };
    let unknown: Vec<&str> = app.environment.names("ABIDE_").filter(unknown).collect();
    (!unknown.is_empty()).then(|| {
        let fix = "docs/configuration.md has every name; `abide config show` what is in force";
        Finding::warn(
            "variables",
            format!("{} mean nothing", unknown.join(", ")),
            fix,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_manager_is_known() {
        for (release, begins) in [
            ("NAME=x\nID=debian\n", "sudo apt-get"),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt-get"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"", "sudo dnf"),
            ("ID=arch", "sudo pacman -S python"),
            ("", "install python3 with"),
        ] {
            let command = install_on(release, "python3");
            assert!(command.starts_with(begins), "{release} {command}");
        }
    }

    #[test]
    fn kernel_releases() {
        assert_eq!(version_of("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(
            version_of("5.15.153.1-microsoft-standard-WSL2"),
            Some((5, 15))
        );
        assert_eq!(version_of("odd"), None);
    }
}
