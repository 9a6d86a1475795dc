//! The names of the request that is being answered, for the planes below.

use abide_data_plane::trace::TraceContext;
use abide_session_agent::http::error::{request_id, with_request_id};

tokio::task_local! {
    static TRACEPARENT: Option<String>;
}

/// Runs `work` as part of answering a request that came with this `traceparent` header.
pub(crate) async fn with_traceparent<T>(
    traceparent: Option<String>,
    work: impl Future<Output = T>,
) -> T {
    TRACEPARENT.scope(traceparent, work).await
}

/// The present request's names, under a span of our own; made up where there is no request.
pub(crate) fn current() -> TraceContext {
    let traceparent = TRACEPARENT.try_with(Clone::clone).ok().flatten();
    TraceContext::new(request_id().as_deref(), traceparent.as_deref())
}

/// `work` as part of answering the present request, whoever runs it.
pub(crate) fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let traceparent = TRACEPARENT.try_with(Clone::clone).ok().flatten();
    let id = request_id();
    async move {
        let work = with_traceparent(traceparent, work);
        match id {
            Some(id) => with_request_id(id, work).await,
            None => work.await,
        }
    }
}
