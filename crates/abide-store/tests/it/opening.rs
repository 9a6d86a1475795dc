//! From a file to a store, or to a refusal that says why.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use abide_model::AgentId;
use abide_store::{OpenError, SCHEMA_VERSION, Store, StoreOptions, Synchronous};
use rusqlite::Connection;

use crate::fixtures::{TestStore, log, new_session, options, owner, session};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn refusal(path: &Path) -> OpenError {
    let before = fs::read(path).ok();
    let error = Store::open(path, options()).map(|_| ()).unwrap_err();
    assert_eq!(
        fs::read(path).ok(),
        before,
        "a refused file is left as it is"
    );
    error
}

#[tokio::test]
async fn files_are_the_owners_alone() {
    let test = TestStore::new();
    session(&test.store).await;
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", test.path.display());
        assert_eq!(mode(Path::new(&path)), 0o600, "{path}");
    }
    test.store.close().await;
    fs::set_permissions(&test.path, fs::Permissions::from_mode(0o644)).unwrap();
    let again = Store::open(&test.path, options()).unwrap();
    assert_eq!(mode(&test.path), 0o600);
    again.close().await;
}

#[tokio::test]
async fn reopening_finds_everything() {
    for synchronous in [Synchronous::Normal, Synchronous::Full] {
        let test = TestStore::new();
        let session = session(&test.store).await;
        let events = log(&test.store).await;
        test.store.close().await;
        let wal = format!("{}-wal", test.path.display());
        assert!(!Path::new(&wal).exists(), "closing leaves one file");

        let again = Store::open(
            &test.path,
            StoreOptions {
                synchronous,
                ..options()
            },
        )
        .unwrap();
        assert_eq!(
            again.session(session.id).await.unwrap(),
            Some(session.clone())
        );
        assert_eq!(log(&again).await, events);
        assert_eq!(again.count_sessions().await.unwrap(), 1);
        assert_eq!(
            *again.watch_events().borrow(),
            events.last().unwrap().sequence
        );
        assert_eq!(again.verify().await.unwrap(), Vec::<String>::new());
        again.delete_session(session.id).await.unwrap();
        again.check().await.unwrap();
        again.close().await;
    }
}

#[tokio::test]
async fn sequence_numbers_are_never_given_twice() {
    let test = TestStore::new();
    owner(&test.store).await;
    test.store.close().await;
    let raw = Connection::open(&test.path).unwrap();
    raw.execute("DELETE FROM events", []).unwrap();
    drop(raw);
    let again = Store::open(&test.path, options()).unwrap();
    owner(&again).await;
    assert_eq!(log(&again).await[0].sequence, 2);
}

#[tokio::test]
async fn a_newer_schema_is_refused_by_both_versions() {
    let test = TestStore::new();
    test.store.close().await;
    let raw = Connection::open(&test.path).unwrap();
    raw.pragma_update(None, "user_version", SCHEMA_VERSION + 6)
        .unwrap();
    drop(raw);
    let error = refusal(&test.path);
    assert!(
        matches!(error, OpenError::NewerSchema { found, supported }
            if found == SCHEMA_VERSION + 6 && supported == SCHEMA_VERSION),
        "{error}"
    );
    let text = error.to_string();
    assert!(
        text.contains(&format!("version {}", SCHEMA_VERSION + 6)),
        "{text}"
    );
    assert!(text.contains(&format!("up to {SCHEMA_VERSION}")), "{text}");
}

#[tokio::test]
async fn an_older_schema_is_brought_up_with_all_it_holds() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abide.db");
    let raw = Connection::open(&path).unwrap();
    raw.execute_batch(include_str!("../../migrations/0001_records.sql"))
        .unwrap();
    // What the first version wrote: its mark, and a record.
    raw.execute_batch(
        "PRAGMA application_id = 0x61626964; PRAGMA user_version = 1;
         INSERT INTO agents VALUES (zeroblob(16), 'did:agent:a:1', 'a', 'general', 'active',
                                    '{}', '{}', '{}', 1, 1);",
    )
    .unwrap();
    drop(raw);
    let store = Store::open(&path, options()).unwrap();
    assert_eq!(store.routes(None, 10).await.unwrap(), []);
    let agent = store
        .agent(AgentId(uuid::Uuid::nil()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(agent.name, "a");
    store.close().await;
    let raw = Connection::open(&path).unwrap();
    let version: i64 = raw
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .unwrap();
    assert_eq!(version, SCHEMA_VERSION);
}

#[tokio::test]
async fn another_programs_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE sessions (id)")
        .unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::NotAbide { .. }), "{error}");
}

#[tokio::test]
async fn what_is_no_database_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abide.db");
    fs::write(&path, "to be or not to be ".repeat(1_000)).unwrap();
    let error = refusal(&path);
    assert!(matches!(error, OpenError::Corrupted { .. }), "{error}");
    assert!(error.to_string().contains("restore a copy"), "{error}");
}

#[tokio::test]
async fn damaged_pages_are_found_when_opening() {
    let test = TestStore::new();
    let agent = owner(&test.store).await;
    for _ in 0..300 {
        test.store
            .create_session(new_session(agent.id))
            .await
            .unwrap();
    }
    test.store.close().await;
    let sound = fs::read(&test.path).unwrap();
    let pages = sound.len() / 4096;
    assert!(pages > 30);
    // Whichever page is damaged (the first holds the schema; free pages there are none).
    for page in (1..pages).step_by(5) {
        let mut damaged = sound.clone();
        damaged[page * 4096..page * 4096 + 64].fill(0xa5);
        fs::write(&test.path, damaged).unwrap();
        let error = refusal(&test.path);
        assert!(
            matches!(error, OpenError::Corrupted { .. }),
            "page {page}: {error}"
        );
    }
    fs::write(&test.path, &sound[..sound.len() / 2]).unwrap();
    let error = refusal(&test.path);
    assert!(
        matches!(error, OpenError::Corrupted { .. }),
        "half a file: {error}"
    );

    fs::write(&test.path, &sound).unwrap();
    let again = Store::open(&test.path, options()).unwrap();
    assert_eq!(again.count_sessions().await.unwrap(), 300);
}

#[tokio::test]
async fn an_unreachable_path_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let error = refusal(&directory.path().join("missing").join("abide.db"));
    assert!(matches!(error, OpenError::File { .. }), "{error}");
    assert!(error.to_string().contains("missing/abide.db"), "{error}");
}

#[tokio::test]
async fn an_empty_file_becomes_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abide.db");
    fs::write(&path, "").unwrap();
    let store = Store::open(&path, options()).unwrap();
    session(&store).await;
    store.close().await;
}
