//! Hostile references and hostile trees, on a real file system.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::*;

/// A root, and beside it something that nobody may touch.
struct Place {
    directory: TempDir,
    root: WorkspaceRoot,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("outside/deep")).unwrap();
        fs::write(directory.path().join("outside/file"), "mine").unwrap();
        let root = WorkspaceRoot::open(&directory.path().join("root")).unwrap();
        Self { directory, root }
    }

    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn inside(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    #[track_caller]
    fn outside_is_whole(&self) {
        let mut names: Vec<_> = fs::read_dir(self.outside())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["deep", "file"]);
        assert_eq!(
            fs::read_dir(self.outside().join("deep")).unwrap().count(),
            0
        );
        assert_eq!(fs::read(self.outside().join("file")).unwrap(), b"mine");
    }
}

/// Lets the other thread end with the test, also when that fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Where an open directory really is.
fn real_path(directory: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd())).unwrap()
}

fn entries(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn missing_directories_are_made_for_the_owner_alone() {
    let place = Place::new();
    assert_eq!(
        fs::metadata(place.root.path()).unwrap().mode() & 0o777,
        0o700
    );
    for reference in [
        "a",
        "a/b/c",
        "x/y",
        "ünïcödé/with space",
        "..a",
        "a..",
        "...",
        "-rf",
        "~",
    ] {
        let made = place.root.resolve(reference).unwrap();
        assert!(made.created, "{reference}");
        assert_eq!(made.path, place.inside(reference));
        assert_eq!(real_path(&made.directory), made.path);
        for above in made.path.ancestors() {
            if above == place.root.path() {
                break;
            }
            assert_eq!(fs::metadata(above).unwrap().mode() & 0o777, 0o700);
        }
        let again = place.root.resolve(reference).unwrap();
        assert!(!again.created);
        assert_eq!(again.path, made.path);
    }
    assert!(!place.root.resolve("a/b").unwrap().created);
}

#[test]
fn what_cannot_name_a_workspace_is_refused_untouched() {
    let place = Place::new();
    let long = "x".repeat(256);
    let deep = "x/".repeat(600) + "x";
    for (reference, why) in [
        ("", "empty"),
        ("/", "absolute"),
        ("/etc", "absolute"),
        ("//x", "absolute"),
        (".", "`.`"),
        ("..", "`..`"),
        ("../outside", "`..`"),
        ("a/../../outside", "`..`"),
        ("a/..", "`..`"),
        ("a/./b", "`.`"),
        ("a//b", "empty name"),
        ("a/", "empty name"),
        ("a\0b", "control"),
        ("a\nb", "control"),
        ("a/\u{7f}", "control"),
        (&long, "255"),
        (&deep, "1024"),
        (".removing-x", "being removed"),
        (".removing-x/y", "being removed"),
    ] {
        for error in [
            place.root.resolve(reference).map(|_| ()).unwrap_err(),
            place.root.remove(reference).map(|_| ()).unwrap_err(),
        ] {
            assert!(
                matches!(error, ContainmentError::Reference { .. }),
                "{reference:?}: {error}"
            );
            assert!(error.to_string().contains(why), "{error} / {why}");
        }
    }
    assert_eq!(entries(place.root.path()), 0);
    let longest = format!("{0}/{0}/{0}/{0}", "y".repeat(255));
    assert_eq!(longest.len(), 1023);
    place.root.resolve(&longest).unwrap();
    assert!(place.root.remove(&longest).unwrap());
}

#[test]
fn links_lead_nowhere() {
    let place = Place::new();
    fs::create_dir(place.inside("a")).unwrap();
    fs::create_dir(place.inside("real")).unwrap();
    for (name, target) in [
        ("out", place.outside()),
        ("a/out", place.outside()),
        ("up", PathBuf::from("../outside")),
        ("root", PathBuf::from("/")),
        ("inside", PathBuf::from("real")),
        ("dangling", place.outside().join("not there")),
        ("loop", PathBuf::from("loop")),
        ("cwd", PathBuf::from("/proc/self/cwd")),
        ("fd", PathBuf::from("/proc/self/fd/0")),
    ] {
        symlink(&target, place.inside(name)).unwrap();
        for reference in [
            name.to_owned(),
            format!("{name}/deep"),
            format!("{name}/new/er"),
        ] {
            let error = place.root.resolve(&reference).unwrap_err();
            assert!(
                matches!(error, ContainmentError::Escapes { .. }),
                "{reference}: {error}"
            );
            place.root.remove(&reference).unwrap_err();
        }
        assert!(
            fs::symlink_metadata(place.inside(name))
                .unwrap()
                .is_symlink()
        );
    }
    assert_eq!(entries(&place.inside("real")), 0);
    place.outside_is_whole();
}

#[test]
fn what_is_no_directory_is_refused() {
    let place = Place::new();
    fs::write(place.inside("file"), "x").unwrap();
    let fifo = place.inside("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    for reference in ["file", "file/x", "fifo", "fifo/x/y"] {
        // Opening the fifo to read from it would block for ever.
        let error = place.root.resolve(reference).unwrap_err();
        assert!(
            matches!(error, ContainmentError::NotADirectory { .. }),
            "{reference}: {error}"
        );
        place.root.remove(reference).unwrap_err();
    }
    assert_eq!(fs::read(place.inside("file")).unwrap(), b"x");
}

#[test]
fn a_root_may_be_reached_through_a_link_and_must_be_a_directory() {
    let place = Place::new();
    let link = place.directory.path().join("link");
    symlink(place.root.path(), &link).unwrap();
    let same = WorkspaceRoot::open(&link).unwrap();
    assert_eq!(same.path(), place.root.path());
    let made = same.resolve("a").unwrap();
    assert_eq!(made.path, place.inside("a"));
    let error = WorkspaceRoot::open(&place.outside().join("file")).unwrap_err();
    assert!(matches!(error, ContainmentError::Root { .. }), "{error}");
}

#[test]
fn a_swapped_link_is_never_followed() {
    let place = Place::new();
    place.root.resolve("a").unwrap();
    symlink(place.outside(), place.inside("trick")).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // Now one, now the other is called `a`.
                let (a, trick) = (place.inside("a"), place.inside("trick"));
                renameat_with(CWD, &a, CWD, &trick, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _ended = Ends(&done);
        let (mut found, mut refused) = (0_u32, 0_u32);
        let mut round = 0;
        // Both must have happened, often, for this to mean something.
        while found < 500 || refused < 500 {
            round += 1;
            let reference = format!("a/deep/{}", round % 7);
            match place.root.resolve(&reference) {
                Ok(made) => {
                    found += 1;
                    // By the time we look it may be called `trick`, but it is inside.
                    let real = real_path(&made.directory);
                    assert!(real.starts_with(place.root.path()), "{real:?}");
                }
                Err(ContainmentError::Escapes { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
    });
    place.outside_is_whole();
}

#[test]
fn a_tree_goes_with_everything_in_it() {
    let place = Place::new();
    let scratch = place.root.resolve("scratch/s1").unwrap().path;
    place.root.resolve("scratch/s2").unwrap();
    fs::create_dir_all(scratch.join("a/b/c")).unwrap();
    fs::write(scratch.join("a/b/file"), "x").unwrap();
    fs::write(scratch.join(".hidden"), "x").unwrap();
    fs::hard_link(place.outside().join("file"), scratch.join("hard")).unwrap();
    symlink(place.outside(), scratch.join("a/out")).unwrap();
    symlink(place.outside().join("file"), scratch.join("a/b/out")).unwrap();
    symlink("..", scratch.join("a/b/c/up")).unwrap();
    let fifo = scratch.join("fifo");
    rustix::fs::mknodat(CWD, &fifo, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(scratch.join("socket")).unwrap();
    for number in 0..2_000 {
        fs::write(scratch.join(format!("a/{number}")), "").unwrap();
    }
    for name in ["shut", "a/b/shut"] {
        fs::create_dir_all(scratch.join(name).join("in/in")).unwrap();
        fs::write(scratch.join(name).join("file"), "x").unwrap();
        fs::set_permissions(
            scratch.join(name).join("in"),
            fs::Permissions::from_mode(0o000),
        )
        .unwrap();
        fs::set_permissions(scratch.join(name), fs::Permissions::from_mode(0o500)).unwrap();
    }
    assert!(place.root.remove("scratch/s1").unwrap());
    assert!(!scratch.exists());
    assert!(!place.root.remove("scratch/s1").unwrap());
    assert!(!place.root.remove("not/there").unwrap());
    assert_eq!(entries(&place.inside("scratch")), 1, "the other one stays");
    assert_eq!(entries(place.root.path()), 1, "nothing is left over");
    place.outside_is_whole();
}

#[test]
fn a_tree_deeper_than_any_path_goes_too() {
    let place = Place::new();
    let made = place.root.resolve("deep").unwrap();
    let mut at = made.directory;
    // More than a path can be long, and than a process may have files open.
    for _ in 0..1_500 {
        rustix::fs::mkdirat(&at, "deeper", Mode::RWXU).unwrap();
        at = open_beneath(at.as_fd(), "deeper").unwrap();
    }
    drop(at);
    assert!(place.root.remove("deep").unwrap());
    assert_eq!(entries(place.root.path()), 0);
}

#[test]
fn removing_does_not_follow_a_swapped_link() {
    let place = Place::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let root = place.root.path();
            symlink(place.outside(), root.join("trick")).unwrap();
            while !done.load(Ordering::Relaxed) {
                // Wherever there is a directory to be had, a link takes its place. Most of the time
                // there is none, or it has just gone.
                for victim in ["s/a", "s/a/b", "s"] {
                    let (trick, victim) = (root.join("trick"), root.join(victim));
                    let swap = || renameat_with(CWD, &trick, CWD, &victim, RenameFlags::EXCHANGE);
                    if swap().is_ok() {
                        let _ = swap();
                    }
                    if !fs::symlink_metadata(&trick).is_ok_and(|trick| trick.is_symlink()) {
                        // It went with the tree, or a directory has its name.
                        let _ = fs::remove_dir_all(&trick);
                        let _ = symlink(place.outside(), &trick);
                    }
                }
            }
        });
        let _ended = Ends(&done);
        let mut removed = 0;
        while removed < 300 {
            let made = place.root.resolve("s/a/b/c").is_ok();
            let went = place.root.remove("s").is_ok_and(|went| went);
            removed += u32::from(made && went);
        }
    });
    place.outside_is_whole();
}

#[test]
fn what_a_crash_left_is_removed_at_the_next_start() {
    let place = Place::new();
    fs::create_dir_all(place.inside(".removing-1/x/y")).unwrap();
    fs::write(place.inside(".removing-1/x/file"), "x").unwrap();
    symlink(place.outside(), place.inside(".removing-1/out")).unwrap();
    symlink(place.outside(), place.inside(".removing-link")).unwrap();
    fs::create_dir(place.inside("kept")).unwrap();
    let again = WorkspaceRoot::open(place.root.path()).unwrap();
    assert!(!place.inside(".removing-1").exists());
    assert!(again.resolve("kept").is_ok_and(|kept| !kept.created));
    place.outside_is_whole();
}
