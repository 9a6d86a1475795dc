//! A data plane's runs.

use abide_model::{
    AgentStep, JobEnd, Problem, ProblemCode, Run, RunStatus, Runtime, StepId, Timestamp,
};
use abide_store::{CreatedRun, Store, StoreError};

fn new_run(job: &str) -> Run {
    Run {
        id: format!("{job}-run"),
        job_id: job.to_owned(),
        session_id: format!("session of {job}"),
        step_id: StepId::new(),
        runtime: Runtime::Node,
        code: "1".to_owned(),
        stdin: Some("in".to_owned()),
        timeout_ms: Some(u64::MAX),
        workspace_ref: Some("w".to_owned()),
        created_at: Timestamp::from_micros(0),
        status: RunStatus::Running,
        finished_at: None,
        end: None,
    }
}

async fn created(store: &Store, new: Run) -> Run {
    match store.create_run(None, new).await.unwrap() {
        CreatedRun::New(run) => run,
        CreatedRun::Existing(run) => panic!("there is one already: {run:?}"),
    }
}

fn printed(text: &str) -> Option<JobEnd> {
    let step = AgentStep {
        stdout: text.to_owned(),
        exit_code: Some(0),
        ..AgentStep::default()
    };
    Some(JobEnd {
        step: Some(step),
        problem: None,
    })
}

pub(crate) async fn a_run_is_created_once_for_its_id(store: &Store) {
    let new = new_run("a");
    assert_eq!(store.run(&new.id).await.unwrap(), None);
    let run = created(store, new.clone()).await;
    assert!(run.created_at > new.created_at);
    let expected = Run {
        created_at: run.created_at,
        ..new.clone()
    };
    assert_eq!(run, expected);
    assert_eq!(store.run(&new.id).await.unwrap(), Some(run.clone()));
    let other = Run {
        code: "2".to_owned(),
        step_id: StepId::new(),
        ..new
    };
    let again = store.create_run(None, other.clone()).await.unwrap();
    assert_eq!(again, CreatedRun::Existing(run.clone()));
    assert!(!other.asks_the_same(&run) && expected.asks_the_same(&run));
}

pub(crate) async fn a_run_key_names_one_run(store: &Store) {
    let create = async |job| store.create_run(Some("k".to_owned()), new_run(job)).await;
    let CreatedRun::New(first) = create("a").await.unwrap() else {
        panic!("there is none yet");
    };
    assert_eq!(create("a").await.unwrap(), CreatedRun::Existing(first));
    let other = create("b").await;
    assert!(matches!(other, Err(StoreError::RequestKeyReused(key)) if key == "k"));
    assert_eq!(store.run("b-run").await.unwrap(), None);
}

pub(crate) async fn a_run_ends_once_and_keeps_what_came_of_it(store: &Store) {
    let (one, two) = (
        created(store, new_run("a")).await,
        created(store, new_run("b")).await,
    );
    let ids = async || -> Vec<String> {
        let runs = store.runs_under_way().await.unwrap();
        runs.into_iter().map(|run| run.id).collect()
    };
    assert_eq!(ids().await, ["a-run", "b-run"]);
    let finish = async |run: &Run, status, end| {
        let finished = store.finish_run(&run.id, status, end).await.unwrap();
        finished.unwrap()
    };
    let ended = finish(&one, RunStatus::Finished, printed("first")).await;
    assert_eq!(
        (ended.status, &ended.end),
        (RunStatus::Finished, &printed("first"))
    );
    assert!(ended.finished_at.unwrap() >= one.created_at);
    let again = finish(&one, RunStatus::Terminated, printed("second")).await;
    assert_eq!(again, ended);
    // Ended on request, and then its step tells what it had printed.
    let terminated = finish(&two, RunStatus::Terminated, None).await;
    assert_eq!(
        (terminated.status, &terminated.end),
        (RunStatus::Terminated, &None)
    );
    let told = finish(&two, RunStatus::Failed, printed("partly")).await;
    assert_eq!(
        (told.status, told.finished_at, told.end),
        (
            RunStatus::Terminated,
            terminated.finished_at,
            printed("partly")
        )
    );
    let problem = JobEnd {
        step: None,
        problem: Some(Problem::new(ProblemCode::LimitReached, "full")),
    };
    let never = store
        .finish_run("c-run", RunStatus::Failed, Some(problem))
        .await;
    assert_eq!(never.unwrap(), None);
    assert_eq!(ids().await, ["a-run", "b-run"], "their sessions are there");
    store.run_cleaned("a-run").await.unwrap();
    assert_eq!(ids().await, ["b-run"]);
    assert_eq!(store.run("a-run").await.unwrap(), Some(ended), "remembered");
}
