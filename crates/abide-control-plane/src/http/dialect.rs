//! The multi-terminal dialect: `/terminal/ws/multi`, `/terminal/ws` and `/terminal/resize`. What goes over
//! them is described in [`abide_model::DialectRequest`]'s module.

mod allowance;
mod link;
mod multi;
mod single;
mod tab;
mod text;
mod typist;

use abide_model::DIALECT_MAX_SIDE;
use abide_session_agent::WindowSize;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;

use super::App;
use super::auth::{key_of, who_shows};
use super::body::Whole;
use super::error::ApiError;
use crate::service::{Owner, Refusal};

/// Longest message of a client, in bytes; input beyond a piece is handed on in several.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

pub(super) fn router() -> Router<App> {
    Router::new()
        .route("/terminal/ws/multi", get(multi))
        .route("/terminal/ws", get(single))
        .route("/terminal/resize", post(resize))
}

#[derive(Debug, Default, Deserialize)]
struct Asked {
    token: Option<String>,
    rows: Option<String>,
    cols: Option<String>,
}

impl FromRequestParts<App> for Owner {
    type Rejection = Response;

    /// The owner of what the caller makes: who has no key, no token and no cookie with one of them is
    /// answered 401.
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let Query(Asked { token, .. }) = Query::try_from_uri(&parts.uri).unwrap_or_default();
        let cookies = cookies(&parts.headers, &app.dialect.config.cookie_name);
        let shown = key_of(&parts.headers)
            .into_iter()
            .chain(cookies)
            .chain(token.as_deref());
        let Some(who) = who_shows(app, shown) else {
            // As clients of this dialect expect it.
            return Err((StatusCode::UNAUTHORIZED, "Unauthorized").into_response());
        };
        let named = who.agent.as_deref().or(who.subject.as_deref());
        let owner = app.dialect_owner(named, who.tenant.as_deref()).await;
        owner.map_err(|problem| ApiError(problem).into_response())
    }
}

/// The values of the cookies of this name, and of those that have a workspace's id behind it.
fn cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a str> {
    let all = headers.get_all(header::COOKIE).into_iter();
    let pairs = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.filter_map(move |pair| {
        let (its, value) = pair.trim().split_once('=')?;
        let rest = its.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('_')).then_some(value)
    })
}

/// Rows and columns as they are taken: each that is out of bounds is the usual one.
fn clamped((usual_rows, usual_cols): (u16, u16), rows: i64, cols: i64) -> (u16, u16) {
    let side = |given: i64, usual: u16| match u16::try_from(given) {
        Ok(side) if (1..=DIALECT_MAX_SIDE).contains(&given) => side,
        _ => usual,
    };
    (side(rows, usual_rows), side(cols, usual_cols))
}

async fn multi(State(app): State<App>, owner: Owner, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| multi::serve(app, owner, socket))
}

async fn single(
    State(app): State<App>,
    owner: Owner,
    Query(asked): Query<Asked>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    let size = clamped(
        app.dialect.config.size,
        number(asked.rows),
        number(asked.cols),
    );
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| single::serve(app, owner, size, socket))
}

/// Gives a terminal another size, for clients that do not do it over their connection.
async fn resize(State(app): State<App>, owner: Owner, Whole(body): Whole) -> Response {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Body {
        session_id: String,
        #[serde(default)]
        rows: i64,
        #[serde(default)]
        cols: i64,
    }
    let Ok(body) = serde_json::from_slice::<Body>(&body) else {
        return (StatusCode::BAD_REQUEST, "Invalid request body").into_response();
    };
    let found = match app.dialect_find(&owner, &body.session_id).await {
        Err(Refusal::NotFound) => app.dialect_single(&owner, &body.session_id),
        found => found,
    };
    let (rows, cols) = clamped(app.dialect.config.size, body.rows, body.cols);
    let done = match found {
        Ok(found) => {
            let size = found.terminal.set_size(WindowSize::new(cols, rows));
            size.await.map_err(|_| Refusal::NotFound)
        }
        Err(refusal) => Err(refusal),
    };
    match done {
        Ok(()) => Json(serde_json::json!({ "success": true })).into_response(),
        Err(refusal) => {
            let status = match &refusal {
                Refusal::InvalidId => StatusCode::BAD_REQUEST,
                Refusal::NotAuthorized => StatusCode::FORBIDDEN,
                Refusal::NotFound | Refusal::Exited(_) => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (status, refusal.to_string()).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_out_of_bounds_are_the_usual_ones() {
        let check = |rows, cols, expected| {
            assert_eq!(clamped((24, 80), rows, cols), expected, "{rows} {cols}");
        };
        check(30, 100, (30, 100));
        check(1, 500, (1, 500));
        check(0, 501, (24, 80));
        check(-3, 100_000_000, (24, 80));
        check(500, 0, (500, 80));
    }

    #[test]
    fn cookies_of_any_workspace() {
        let mut headers = HeaderMap::new();
        let value = "a=1; vm_session_w1=one; vm_session=two; vm_sessions=no";
        headers.insert(header::COOKIE, value.parse().unwrap());
        let found: Vec<_> = cookies(&headers, "vm_session").collect();
        assert_eq!(found, ["one", "two"]);
    }
}
