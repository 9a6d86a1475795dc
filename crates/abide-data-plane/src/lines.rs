//! A body as lines of frames.

use abide_model::StepFrame;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};

use crate::link::{CallError, FrameLine, Frames};

/// Longest line: an `ended` frame with both views full, as numbers, is about 1 MiB.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// The frames of a body, as they come. Trailers and blank lines are skipped.
pub(crate) fn frames(body: Body, endpoint: String) -> Frames {
    let data = data(body, endpoint.clone());
    let state = (Box::pin(data), BytesMut::new(), endpoint, false);
    let lines =
        futures_util::stream::unfold(state, |(mut data, mut rest, endpoint, over)| async move {
            if over {
                return None;
            }
            loop {
                match next_line(&mut rest) {
                    Some(line) if line.trim_ascii().is_empty() => continue,
                    Some(line) => {
                        let parsed = parse(line, &endpoint);
                        let over = parsed.is_err();
                        return Some((parsed, (data, rest, endpoint, over)));
                    }
                    None => {}
                }
                match data.next().await {
                    Some(Ok(_)) if rest.len() > LONGEST_LINE => {
                        let error = broke(&endpoint, "a line of it is too long");
                        return Some((Err(error), (data, rest, endpoint, true)));
                    }
                    Some(Ok(bytes)) => rest.extend_from_slice(&bytes),
                    Some(Err(error)) => return Some((Err(error), (data, rest, endpoint, true))),
                    None if rest.is_empty() => return None,
                    None => {
                        let error = broke(&endpoint, "it ended within a line");
                        return Some((Err(error), (data, rest, endpoint, true)));
                    }
                }
            }
        });
    Box::pin(lines)
}

/// The data of a body, as it comes.
pub(crate) fn data(
    body: Body,
    endpoint: String,
) -> impl Stream<Item = Result<Bytes, CallError>> + Send {
    body.into_data_stream()
        .map(move |data| data.map_err(|error| broke(&endpoint, error)))
}

fn next_line(rest: &mut BytesMut) -> Option<Bytes> {
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    Some(rest.split_to(end + 1).freeze())
}

fn parse(raw: Bytes, endpoint: &str) -> Result<FrameLine, CallError> {
    let frame: StepFrame = serde_json::from_slice(&raw).map_err(|error| broke(endpoint, error))?;
    Ok(FrameLine { frame, raw })
}

fn broke(endpoint: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CallError {
    CallError::Broke {
        endpoint: endpoint.to_owned(),
        source: source.into(),
    }
}
