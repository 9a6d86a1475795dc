//! Jobs.

use abide_model::{
    AgentId, AgentStep, Job, JobEnd, JobId, JobStatus, JsonObject, Problem, ProblemCode, Runtime,
    SessionId, StepId, Timestamp,
};
use abide_store::{CreatedJob, RequestKey, Store, StoreError};

fn new_job(code: &str) -> Job {
    Job {
        id: JobId::new(),
        session_id: SessionId::new(),
        step_id: StepId::new(),
        agent_id: AgentId::new(),
        runtime: Runtime::Node,
        code: code.to_owned(),
        stdin: Some("in".to_owned()),
        timeout_ms: Some(u64::MAX),
        metadata: JsonObject::empty(),
        created_at: Timestamp::from_micros(0),
        finished_at: None,
        end: None,
    }
}

async fn created(store: &Store, new: Job) -> Job {
    match store.create_job(None, new).await.unwrap() {
        CreatedJob::New(job) => job,
        CreatedJob::Existing(job) => panic!("there is one already: {job:?}"),
    }
}

pub(crate) async fn create_answers_the_job(store: &Store) {
    let new = new_job("1");
    assert_eq!(store.job(new.id).await.unwrap(), None);
    let job = created(store, new.clone()).await;
    assert!(job.created_at > new.created_at);
    let expected = Job {
        created_at: job.created_at,
        ..new.clone()
    };
    assert_eq!(job, expected);
    assert_eq!(store.job(new.id).await.unwrap(), Some(job));
    let again = store.create_job(None, new.clone()).await;
    assert!(matches!(again, Err(StoreError::IdTaken(id)) if id == new.id.0));
}

pub(crate) async fn a_job_key_creates_once(store: &Store) {
    let key = |fingerprint: &str| {
        Some(RequestKey {
            key: "k".to_owned(),
            fingerprint: fingerprint.to_owned(),
        })
    };
    let first = store.create_job(key("a"), new_job("1")).await.unwrap();
    let CreatedJob::New(first) = first else {
        panic!("{first:?}")
    };
    let second = store.create_job(key("a"), new_job("1")).await.unwrap();
    assert_eq!(second, CreatedJob::Existing(first));
    let other = store.create_job(key("b"), new_job("2")).await;
    assert!(matches!(other, Err(StoreError::RequestKeyReused(key)) if key == "k"));
}

pub(crate) async fn the_first_end_counts_and_cleaned_jobs_are_not_under_way(store: &Store) {
    let (one, two) = (
        created(store, new_job("1")).await,
        created(store, new_job("2")).await,
    );
    let ids = async || -> Vec<JobId> {
        let jobs = store.jobs_under_way().await.unwrap();
        jobs.iter().map(|job| job.id).collect()
    };
    assert_eq!(ids().await, [one.id, two.id]);
    let step = AgentStep {
        stdout: "out\n".to_owned(),
        exit_code: Some(0),
        ..AgentStep::default()
    };
    let end = JobEnd {
        step: Some(step),
        problem: None,
    };
    store.finish_job(one.id, end.clone()).await.unwrap();
    let problem = JobEnd {
        step: None,
        problem: Some(Problem::new(ProblemCode::LimitReached, "full")),
    };
    store.finish_job(one.id, problem.clone()).await.unwrap();
    store.finish_job(two.id, problem.clone()).await.unwrap();
    let ended = store.job(one.id).await.unwrap().unwrap();
    assert_eq!(ended.end, Some(end));
    assert_eq!(ended.end.unwrap().status(), JobStatus::Finished);
    assert!(ended.finished_at.unwrap() >= one.created_at);
    let failed = store.job(two.id).await.unwrap().unwrap().end;
    assert_eq!(failed.clone().unwrap().status(), JobStatus::Failed);
    assert_eq!(failed, Some(problem));
    assert_eq!(ids().await, [one.id, two.id], "their sessions are there");
    store.job_cleaned(one.id).await.unwrap();
    assert_eq!(ids().await, [two.id]);
    assert!(store.job(one.id).await.unwrap().is_some(), "remembered");
}
