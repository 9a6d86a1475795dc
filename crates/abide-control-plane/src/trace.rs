//! The names of the request that is being answered, for the planes below.

use abide_data_plane::trace::TraceContext;
use abide_session_agent::http::error::{request_id, with_request_id};

tokio::task_local! {
    static TRACE: TraceContext;
}

/// Runs `work` as part of answering a request of these names.
pub(crate) async fn with_trace<T>(trace: TraceContext, work: impl Future<Output = T>) -> T {
    TRACE.scope(trace, work).await
}

/// The present request's names, under a span of our own; made up where there is no request.
pub(crate) fn current() -> TraceContext {
    let present = TRACE.try_with(TraceContext::beside);
    present.unwrap_or_else(|_| TraceContext::new(request_id().as_deref(), None))
}

/// `work` as part of answering the present request, whoever runs it.
pub(crate) fn carried<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let trace = TRACE.try_with(Clone::clone).ok();
    let id = request_id();
    async move {
        match (trace, id) {
            (Some(trace), Some(id)) => with_trace(trace, with_request_id(id, work)).await,
            (None, Some(id)) => with_request_id(id, work).await,
            (Some(trace), None) => with_trace(trace, work).await,
            (None, None) => work.await,
        }
    }
}
