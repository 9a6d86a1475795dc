//! Who gets in, and what is asked for in production.

use std::process::Stdio;

use abide_data_plane::auth::Minter;
use abide_model::ProblemCode;
use abide_testkit::{AgentOptions, Plane, TestStack};
use reqwest::Client;
use serde_json::json;

use super::http::Api;
use crate::api::http::Answer;

#[tokio::test]
async fn a_key_or_a_token_gets_in_and_nothing_else() {
    let api = Api::with(&[]);
    let url = api.server.url().to_owned();
    let http = Client::builder().no_proxy().build().unwrap();
    let get = async |bearer: Option<&str>| {
        let mut request = http.get(format!("{url}/sessions"));
        if let Some(bearer) = bearer {
            request = request.header("authorization", bearer);
        }
        Answer::of(request).await
    };
    get(None).await.problem(ProblemCode::AuthenticationRequired);
    get(Some("Bearer nonsense"))
        .await
        .problem(ProblemCode::InvalidApiKey);
    // The planes' own key is not for clients.
    let plane_key = format!("Bearer {}", TestStack::PLANE_KEY);
    get(Some(&plane_key))
        .await
        .problem(ProblemCode::InvalidApiKey);
    let forged = Minter::signed("another secret", None, None, "me");
    get(Some(&forged.authorization()))
        .await
        .problem(ProblemCode::InvalidApiKey);
    let token = Minter::signed(TestStack::JWT_SECRET, None, None, "me").authorization();
    get(Some(&token)).await.check(200);
    get(Some(&format!("Bearer {}", api.key))).await.check(200);
    for plane in [Plane::Data, Plane::Agent] {
        let path = match plane {
            Plane::Agent => "/v1/sessions",
            _ => "/sessions",
        };
        let url = format!("{}{path}", api.server.plane_url(plane));
        let status = Answer::of(http.get(url)).await.status;
        assert!([401, 403].contains(&status), "{plane:?}: {status}");
    }
}

#[tokio::test]
async fn what_a_token_says_of_its_bearer_counts_for_more_than_the_body() {
    let api = Api::with(&[]);
    let token = signed(&json!({
        "exp": 4_000_000_000_u64, "tenant_id": "of-the-token", "agent_id": "agent-of-the-token",
    }));
    let body =
        json!({ "tenantId": "of-the-body", "agentId": "agent-of-the-body", "runtime": "python" });
    let request = api
        .bare("POST", "/sessions")
        .bearer_auth(&token)
        .json(&body);
    let session = Answer::of(request).await.check(201);
    assert_eq!(
        session["runtime_metadata"],
        json!({ "tenant_id": "of-the-token" })
    );
    let owner = format!("/agents/{}", session["agent_id"].as_str().unwrap());
    assert_eq!(
        api.get(&owner).await.check(200)["name"],
        "agent-of-the-token"
    );
    let given = json!({ "runtime_metadata": {"a": 1, "tenant_id": "x"} });
    let request = api
        .bare("POST", "/sessions")
        .bearer_auth(&token)
        .json(&given);
    let session = Answer::of(request).await.check(201);
    assert_eq!(
        session["runtime_metadata"],
        json!({ "a": 1, "tenant_id": "of-the-token" })
    );
    // With a key the body is believed.
    let session = api.post("/sessions", &body).await.check(201);
    assert_eq!(
        session["runtime_metadata"],
        json!({ "tenant_id": "of-the-body" })
    );
}

/// A token of these claims (RFC 7515, HS256).
fn signed(claims: &serde_json::Value) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let head = BASE64.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let text = format!("{head}.{}", BASE64.encode(claims.to_string()));
    let mut mac: Hmac<sha2::Sha256> =
        Hmac::new_from_slice(TestStack::JWT_SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn where_nobody_is_asked_a_page_elsewhere_is_still_refused() {
    let stack = super::scripts::open();
    let http = Client::builder().no_proxy().build().unwrap();
    let url = format!("{}/sessions", stack.url());
    Answer::of(http.get(&url)).await.check(200);
    let rebound = http.get(&url).header("host", "attacker.example");
    Answer::of(rebound)
        .await
        .problem(ProblemCode::ForbiddenOrigin);
    let page = http.get(&url).header("origin", "https://attacker.example");
    Answer::of(page).await.problem(ProblemCode::ForbiddenOrigin);
}

#[test]
fn production_refuses_bypass_and_wants_to_know_its_data_plane() {
    let stack = TestStack::start(AgentOptions::new(env!("CARGO_BIN_EXE_abide"))).unwrap();
    for (variables, said) in [
        (
            &[("ENV", "Prod"), ("AUTHZ_BYPASS", "true")][..],
            "AUTHZ_BYPASS",
        ),
        (&[("ENV", "production")], "DATA_PLANE_URL"),
        (&[("DATABASE_DRIVER", "postgres")], "DATABASE_DRIVER"),
        (&[("DATABASE_URL", "postgres://x")], "DATABASE_URL"),
        (&[("DATA_PLANE_URL", "https://x")], "DATA_PLANE_URL"),
    ] {
        let mut command = stack.command(&["control-plane", "--port", "0"]);
        if said != "AUTHZ_BYPASS" {
            command.env_remove("DATA_PLANE_URL");
        }
        let output = command
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{variables:?}");
        assert!(
            errors.lines().count() == 1 && errors.contains(said),
            "{errors}"
        );
    }
}
