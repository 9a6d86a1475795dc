//! Who may speak to the server, and from where.

use abide_data_plane::auth::{Identity, NOT_ACCEPTED};
use abide_model::{Problem, ProblemCode};
use abide_session_agent::http::origin::{host_name, host_of, is_ours, origin_of};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq as _;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};

use super::App;
use super::error::ApiError;

/// Adds the two ways to send a key to the OpenAPI document.
pub(super) struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build()),
        );
        components.add_security_scheme(
            "api_key",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
        );
    }
}

/// Who a request is from: nobody in particular for those with a key, or in bypass.
#[derive(Debug, Clone, Default)]
pub(super) struct Who {
    /// The token's `tenant_id`.
    pub(super) tenant: Option<String>,
    /// The token's `agent_id`.
    pub(super) agent: Option<String>,
    /// The token's `sub`.
    pub(super) subject: Option<String>,
}

impl From<Identity> for Who {
    fn from(identity: Identity) -> Self {
        Self {
            tenant: identity.tenant_id,
            agent: identity.agent_id,
            subject: identity.subject,
        }
    }
}

/// Lets a request through that carries one of the keys, or that the authorizer lets in: then the
/// handlers find who it is from.
pub(super) async fn require_key(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Response {
    let config = &app.config;
    let others = config.auth.bypass || config.auth.jwt_secret.is_some();
    let key = key_of(request.headers());
    if key.is_some_and(|key| is_known(key, &config.keys)) {
        request.extensions_mut().insert(Who::default());
        return next.run(request).await;
    }
    let refusal = if others {
        let authorization = request.headers().get(header::AUTHORIZATION);
        let authorization = authorization.and_then(|value| value.to_str().ok());
        match app.authorizer.check(authorization) {
            Ok(identity) => {
                request.extensions_mut().insert(Who::from(identity));
                return next.run(request).await;
            }
            // Of a key there is nothing more to say than that it is none.
            Err(problem) => Some(problem)
                .filter(|it| it.code == ProblemCode::InvalidApiKey.as_str())
                .map(|it| it.message)
                .filter(|message| message != NOT_ACCEPTED),
        }
    } else {
        None
    };
    ApiError(match key {
        None => Problem::new(
            ProblemCode::AuthenticationRequired,
            "send the API key as `Authorization: Bearer KEY`; `abide key` prints it",
        )
        .with_details(serde_json::json!({
            "supported_methods": ["X-API-Key", "Authorization Bearer"]
        })),
        Some(key) => {
            let prefix: String = if key.chars().count() < 8 {
                "***".into()
            } else {
                key.chars().take(8).collect()
            };
            // What is wrong with a token is said to whoever could sign it.
            let message = refusal.unwrap_or_else(|| "Invalid API key provided".to_owned());
            Problem::new(ProblemCode::InvalidApiKey, message)
                .with_details(serde_json::json!({ "key_prefix": prefix }))
        }
    })
    .into_response()
}

/// Who shows one of these credentials, a key or a token each; the first that is accepted counts.
pub(super) fn who_shows<'a>(app: &App, mut shown: impl Iterator<Item = &'a str>) -> Option<Who> {
    let config = &app.config;
    if config.auth.bypass {
        return app.authorizer.check(None).ok().map(Who::from);
    }
    shown.find_map(|credential| {
        if is_known(credential, &config.keys) {
            return Some(Who::default());
        }
        config.auth.jwt_secret.as_ref()?;
        let authorization = format!("Bearer {credential}");
        let identity = app.authorizer.check(Some(&authorization)).ok()?;
        Some(identity.into())
    })
}

/// Every key is compared, and each comparison takes the same time whatever it finds.
fn is_known(key: &str, keys: &[String]) -> bool {
    keys.iter()
        .fold(subtle::Choice::from(0), |known, good| {
            known | good.as_bytes().ct_eq(key.as_bytes())
        })
        .into()
}

/// `X-API-Key`, else `Authorization` with or without the word `Bearer`.
pub(super) fn key_of(headers: &HeaderMap) -> Option<&str> {
    if let Some(key) = headers.get("x-api-key") {
        return key.to_str().ok();
    }
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let key = value
        .get(..7)
        .filter(|word| word.eq_ignore_ascii_case("bearer "));
    Some(key.map_or(value, |_| &value[7..]).trim())
}

/// Why a request is refused that a web page elsewhere made a browser send: a `Host` that is not this
/// server's (DNS rebinding), or an `Origin` that is not (cross-site request).
pub(super) fn foreign(app: &App, request: &Request) -> Option<Problem> {
    let headers = request.headers();
    let host = host_of(headers, request.uri());
    let refused = match (host, origin_of(headers)) {
        (None, _) => Some("a Host header is needed".to_owned()),
        (Some(host), _) if !is_ours(host_name(host), &app.config.allowed_hosts) => Some(format!(
            "the Host {host:?} is not this server's; add it to allowed_hosts if it should be"
        )),
        (_, Some(origin)) => (!is_ours(origin, &app.config.allowed_hosts))
            .then(|| format!("pages from {origin:?} may not use this server (allowed_hosts)")),
        (Some(_), None) => None,
    };
    refused.map(|message| Problem::new(ProblemCode::ForbiddenOrigin, message))
}
