//! What records cost: operations per second and CPU time per operation, here and now.
//!
//! `cargo run --release -p abide-store --example records [-- OPERATIONS [SESSIONS]]`
//!
//! Bounded: 10,000 sessions of 200 agents, or SESSIONS for the comparison of lists at the end;
//! everything in a temporary directory. CPU time is that of the whole process (caller, writer
//! and checkpoints). The baseline is the same statement prepared once on an open connection.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "prints a table, fails by panicking"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use abide_model::{
    AgentId, JsonObject, NewAgent, NewSession, Runtime, SessionChanges, SessionFilter, SessionId,
    SessionStatus, Workspace, WorkspaceKind,
};
use abide_store::{Store, StoreOptions, Synchronous};
use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinSet;

const AGENTS: usize = 200;
const SESSIONS: usize = 10_000;

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|text| text.parse::<usize>().unwrap());
    let operations = arguments.next().unwrap_or(20_000);
    let many = arguments.next();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    runtime.block_on(async {
        for synchronous in [Synchronous::Normal, Synchronous::Full] {
            measure(synchronous, operations).await;
        }
        if let Some(many) = many {
            compare_lists(many).await;
        }
    });
}

async fn measure(synchronous: Synchronous, operations: usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abide.db");
    let store = Store::open(
        &path,
        StoreOptions {
            synchronous,
            ..Default::default()
        },
    )
    .unwrap();
    let (agents, sessions) = seed(&store, SESSIONS).await;
    println!("\n{synchronous:?}, {SESSIONS} sessions of {AGENTS} agents");
    println!(
        "{:26} {:>8} {:>10} {:>8} {:>8} {:>8}",
        "", "callers", "per second", "CPU µs", "p50 µs", "p99 µs"
    );
    bare_get(&path, &sessions, operations);
    for callers in [1, 16] {
        let (one, ids) = (store.clone(), sessions.clone());
        run("get", callers, operations, move |n| {
            let (store, id) = (one.clone(), ids[n * 7919 % SESSIONS]);
            async move { assert!(store.session(id).await.unwrap().is_some()) }
        })
        .await;
        let (one, owners) = (store.clone(), agents.clone());
        run("list 50 of an agent", callers, operations / 10, move |n| {
            let (store, agent_id) = (one.clone(), Some(owners[n % AGENTS]));
            let filter = SessionFilter {
                agent_id,
                limit: 50,
                ..SessionFilter::default()
            };
            async move { assert_eq!(store.sessions(&filter).await.unwrap().len(), 50) }
        })
        .await;
        let (one, ids) = (store.clone(), sessions.clone());
        let body = JsonObject::from_text(format!("{{\"a\":\"{}\"}}", "x".repeat(1_000))).unwrap();
        run("patch 1 KiB, with event", callers, operations, move |n| {
            let (store, id) = (one.clone(), ids[n * 7919 % SESSIONS]);
            let changes = SessionChanges {
                checkpoint: Some(body.clone()),
                ..SessionChanges::default()
            };
            async move { assert!(store.update_session(id, changes).await.unwrap().is_some()) }
        })
        .await;
        let (one, owners) = (store.clone(), agents.clone());
        run("create, with event", callers, operations / 2, move |n| {
            let (store, new) = (one.clone(), new_session(owners[n % AGENTS]));
            async move { drop(store.create_session(new).await.unwrap()) }
        })
        .await;
    }
    store.close().await;
    let size = std::fs::metadata(&path).unwrap().len();
    let begun = Instant::now();
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    let opened = begun.elapsed();
    println!(
        "open {} MB: {:.1} ms",
        size / 1_000_000,
        opened.as_secs_f64() * 1e3
    );
    store.close().await;
    open_a_thousand().await;
}

/// `/readyz` of a server with a thousand sessions waits for this.
async fn open_a_thousand() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("abide.db");
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    seed(&store, 1_000).await;
    store.close().await;
    let begun = Instant::now();
    let store = Store::open(&path, StoreOptions::default()).unwrap();
    println!(
        "open with 1,000 sessions: {:.1} ms",
        begun.elapsed().as_secs_f64() * 1e3
    );
    store.close().await;
}

/// Lists by agent and status with few and with many sessions.
async fn compare_lists(many: usize) {
    println!("\nlist 50 by agent and status");
    println!(
        "{:26} {:>8} {:>10} {:>8} {:>8} {:>8}",
        "", "callers", "per second", "CPU µs", "p50 µs", "p99 µs"
    );
    let mut stores = Vec::new();
    for count in [1_000, many] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("abide.db");
        let store = Store::open(&path, StoreOptions::default()).unwrap();
        // The same rows for each list: ten agents have 100 sessions each, the rest is others'.
        let ten = seed_agents(&store, 10).await;
        create(&store, &ten, 500).await;
        let others = seed_agents(&store, AGENTS).await;
        create(&store, &others, count - 1_000).await;
        create(&store, &ten, 500).await;
        stores.push((count, directory, store, ten));
    }
    for _ in 0..5 {
        for (count, _, store, ten) in &stores {
            let (store, ten) = (store.clone(), ten.clone());
            run(&format!("{count} sessions"), 1, 4_000, move |n| {
                let filter = SessionFilter {
                    agent_id: Some(ten[n % ten.len()]),
                    statuses: vec![SessionStatus::Active],
                    limit: 50,
                    ..SessionFilter::default()
                };
                let store = store.clone();
                async move { assert_eq!(store.sessions(&filter).await.unwrap().len(), 50) }
            })
            .await;
        }
    }
}

/// Runs `operations` calls, shared among `callers`, and prints a row.
async fn run<F>(
    name: &str,
    callers: usize,
    operations: usize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send,
{
    let (begun, cpu) = (Instant::now(), cpu_time());
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = call.clone();
        tasks.spawn(async move {
            let mut times = Vec::with_capacity(operations / callers + 1);
            for n in (caller..operations).step_by(callers) {
                let begun = Instant::now();
                call(n).await;
                times.push(begun.elapsed());
            }
            times
        });
    }
    let mut times = tasks.join_all().await.concat();
    let (elapsed, cpu) = (begun.elapsed(), cpu_time() - cpu);
    print_row(name, callers, &mut times, elapsed, cpu);
}

fn print_row(name: &str, callers: usize, times: &mut [Duration], elapsed: Duration, cpu: Duration) {
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "{name:26} {callers:8} {:10.0} {:8.1} {:8.1} {:8.1}",
        times.len() as f64 / elapsed.as_secs_f64(),
        micros(cpu) / times.len() as f64,
        micros(times[times.len() / 2]),
        micros(times[times.len() * 99 / 100]),
    );
}

/// The smallest program that does the essential work of a get.
fn bare_get(path: &Path, sessions: &[SessionId], operations: usize) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let mut statement = connection
        .prepare("SELECT * FROM sessions WHERE id = ?1")
        .unwrap();
    let (start, cpu) = (Instant::now(), cpu_time());
    let mut times = Vec::with_capacity(operations);
    for n in 0..operations {
        let begun = Instant::now();
        let id = sessions[n * 7919 % sessions.len()].0;
        let context: String = statement.query_row([id], |row| row.get(4)).unwrap();
        assert!(!context.is_empty());
        times.push(begun.elapsed());
    }
    print_row(
        "bare prepared select",
        1,
        &mut times,
        start.elapsed(),
        cpu_time() - cpu,
    );
}

async fn seed(store: &Store, sessions: usize) -> (Vec<AgentId>, Vec<SessionId>) {
    let agents = seed_agents(store, AGENTS).await;
    let ids = create(store, &agents, sessions).await;
    (agents, ids)
}

async fn seed_agents(store: &Store, count: usize) -> Vec<AgentId> {
    let mut agents = Vec::new();
    for n in 0..count {
        let id = AgentId::new();
        let agent = NewAgent {
            id,
            did: format!("did:agent:{n}:{id}"),
            name: format!("agent {n}"),
            agent_type: "general".to_owned(),
            configuration: JsonObject::empty(),
            metadata: JsonObject::empty(),
            resource_limits: JsonObject::empty(),
        };
        store.create_agent(agent).await.unwrap();
        agents.push(id);
    }
    agents
}

/// Sessions dealt out to the agents in turn, by enough callers to fill transactions.
async fn create(store: &Store, agents: &[AgentId], count: usize) -> Vec<SessionId> {
    const CALLERS: usize = 250;
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, agents) = (store.clone(), agents.to_vec());
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for n in (caller..count).step_by(CALLERS) {
                let new = new_session(agents[n % agents.len()]);
                ids.push(store.create_session(new).await.unwrap().id);
            }
            ids
        });
    }
    tasks.join_all().await.concat()
}

fn new_session(agent_id: AgentId) -> NewSession {
    NewSession {
        id: SessionId::new(),
        agent_id,
        session_type: "conversation".to_owned(),
        context: JsonObject::from_text(r#"{"task":"measure","step":1}"#.to_owned()).unwrap(),
        runtime_backend: None,
        runtime_metadata: JsonObject::empty(),
        name: None,
        runtime: Runtime::Python,
        workspace: Workspace {
            kind: WorkspaceKind::Scratch,
            path: "/tmp/somewhere".to_owned(),
        },
        ttl_seconds: None,
        sliding: false,
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}
