//! Tokens that are accepted, and the many that are not.

use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::jwt::Signer;
use super::*;

const SECRET: &str = "a secret of the planes, long enough to sign with";
/// 2026-01-01T00:00:00Z in seconds.
const NOW: i64 = 1_767_225_600;

fn now() -> Timestamp {
    Timestamp::from_micros(NOW * 1_000_000)
}

fn authorizer() -> Authorizer {
    Authorizer::new(&AuthConfig {
        jwt_secret: Some(SECRET.to_owned()),
        ..AuthConfig::default()
    })
}

fn picky() -> Authorizer {
    Authorizer::new(&AuthConfig {
        jwt_secret: Some(SECRET.to_owned()),
        issuer: Some("abide".to_owned()),
        audience: Some("data-plane".to_owned()),
        ..AuthConfig::default()
    })
}

fn token(claims: Value) -> String {
    Signer::new(SECRET).sign(&claims).unwrap()
}

/// A token whose header is this, signed as HS256 whatever the header says.
fn token_with_header(header: &str, claims: &Value) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let signature = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn check(authorizer: &Authorizer, token: &str) -> Result<Identity, String> {
    let header = format!("Bearer {token}");
    authorizer
        .check_at(Some(&header), now())
        .map_err(|problem| {
            assert_eq!(
                (problem.status, problem.code.as_str(), problem.retryable),
                (401, "invalid_api_key", false)
            );
            problem.message
        })
}

#[track_caller]
fn refused(authorizer: &Authorizer, token: &str, why: &str) {
    let message = check(authorizer, token).unwrap_err();
    assert!(message.contains(why), "{message} / {why}");
}

#[test]
fn a_signed_token_says_who_it_is() {
    let claims = json!({"exp": NOW + 60, "sub": "control-plane", "tenant_id": "t1",
                        "agent_id": "a1", "more": {"is": "ignored"}});
    let identity = Identity {
        method: AuthMethod::Token,
        subject: Some("control-plane".to_owned()),
        tenant_id: Some("t1".to_owned()),
        agent_id: Some("a1".to_owned()),
    };
    assert_eq!(check(&authorizer(), &token(claims)), Ok(identity));
}

#[test]
fn a_token_of_another_implementation_is_understood() {
    // The example of RFC 7515 §A.1, with its key and line breaks; it expired in 2011.
    let key =
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let key = URL_SAFE_NO_PAD.decode(key).unwrap();
    let token = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.\
                 eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                 dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let verifier = jwt::Verifier::of_key(&key);
    let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
    verifier.verify(token, at(1_300_819_000)).unwrap();
    let late = verifier.verify(token, at(1_300_819_391)).unwrap_err();
    assert_eq!(late, Refusal::Expired);
}

#[test]
fn exp_is_required_and_means_it() {
    let authorizer = authorizer();
    for exp in [
        json!(NOW + 1),
        json!(NOW - 9),
        json!(NOW as f64 + 0.5),
        json!(1e300),
    ] {
        check(&authorizer, &token(json!({ "exp": exp }))).unwrap();
    }
    for exp in [
        json!(NOW - 10),
        json!(NOW - 3600),
        json!(0),
        json!(-1e300),
        json!(-5),
    ] {
        refused(&authorizer, &token(json!({ "exp": exp })), "expired");
    }
    for claims in [
        json!({}),
        json!({"sub": "x"}),
        json!({"exp": null}),
        json!({"exp": (NOW + 60).to_string()}),
        json!({"exp": [NOW + 60]}),
        json!({"EXP": NOW + 60}),
        json!([NOW + 60]),
    ] {
        refused(&authorizer, &token(claims), "`exp` is missing");
    }
    let twice = format!(r#"{{"exp":{},"exp":{}}}"#, NOW - 60, NOW + 60);
    let twice = serde_json::value::RawValue::from_string(twice).unwrap();
    let twice = Signer::new(SECRET).sign(&twice).unwrap();
    refused(&authorizer, &twice, "not understood");
}

#[test]
fn nbf_is_honoured() {
    let authorizer = authorizer();
    for nbf in [NOW - 60, NOW, NOW + 10] {
        check(&authorizer, &token(json!({"exp": NOW + 60, "nbf": nbf}))).unwrap();
    }
    let early = token(json!({"exp": NOW + 60, "nbf": NOW + 11}));
    refused(&authorizer, &early, "not valid yet");
}

#[test]
fn issuer_and_audience_are_checked_when_configured() {
    let of = |iss: Value, aud: Value| token(json!({"exp": NOW + 60, "iss": iss, "aud": aud}));
    let picky = picky();
    check(&picky, &of(json!("abide"), json!("data-plane"))).unwrap();
    let several = json!(["other", "data-plane"]);
    check(&picky, &of(json!("abide"), several)).unwrap();
    for iss in [json!("abide "), json!("Abide"), json!(""), json!(null)] {
        refused(&picky, &of(iss, json!("data-plane")), "issuer");
    }
    for aud in [
        json!("control-plane"),
        json!(["a", "b"]),
        json!([]),
        json!(null),
        json!("data-plane,other"),
    ] {
        refused(&picky, &of(json!("abide"), aud), "audience");
    }
    refused(
        &picky,
        &of(json!(["abide"]), json!("data-plane")),
        "not understood",
    );
    refused(&picky, &token(json!({"exp": NOW + 60})), "issuer");
    // Not configured: not looked at.
    check(&authorizer(), &of(json!("anybody"), json!("anything"))).unwrap();
    let blank = Authorizer::new(&AuthConfig {
        jwt_secret: Some(SECRET.to_owned()),
        issuer: Some(String::new()),
        audience: Some(String::new()),
        ..AuthConfig::default()
    });
    check(&blank, &token(json!({"exp": NOW + 60}))).unwrap();
}

#[test]
fn no_other_algorithm_gets_through() {
    let authorizer = authorizer();
    let claims = json!({"exp": NOW + 60});
    check(
        &authorizer,
        &token_with_header(r#"{"alg":"HS256"}"#, &claims),
    )
    .unwrap();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"ES256"}"#,
        r#"{"alg":"HS384"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":null}"#,
        r#"{"alg":["HS256"]}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        "[]",
        "",
        "not json",
    ] {
        refused(
            &authorizer,
            &token_with_header(header, &claims),
            "not accepted",
        );
    }
    // Without a signature at all.
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let body = URL_SAFE_NO_PAD.encode(claims.to_string());
    for token in [format!("{none}.{body}."), format!("{none}.{body}")] {
        refused(&authorizer, &token, "not accepted");
    }
}

#[test]
fn nothing_altered_or_cut_gets_through() {
    let authorizer = authorizer();
    let good = token(json!({"exp": NOW + 60, "sub": "x"}));
    check(&authorizer, &good).unwrap();
    for length in 0..good.len() {
        let header = format!("Bearer {}", &good[..length]);
        assert!(
            authorizer.check_at(Some(&header), now()).is_err(),
            "{length}"
        );
    }
    for at in 0..good.len() {
        for with in [b'A', b'z', b'.', b'='] {
            let mut altered = good.clone().into_bytes();
            if altered[at] == with {
                continue;
            }
            altered[at] = with;
            let altered = String::from_utf8(altered).unwrap();
            assert!(check(&authorizer, &altered).is_err(), "{altered}");
        }
    }
    let parts: Vec<&str> = good.split('.').collect();
    let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
    let start = format!("{}.{}", parts[0], parts[1]);
    for token in [
        format!("{good}."),
        format!("{good}.{}", parts[2]),
        format!("{good}="),
        format!(".{good}"),
        format!("{start}.{}", URL_SAFE.encode(&signature)),
        format!("{start}.{}", URL_SAFE_NO_PAD.encode(&signature[..16])),
        format!("{start}.{}", URL_SAFE_NO_PAD.encode([0; 32])),
        good.repeat(200),
    ] {
        refused(&authorizer, &token, "not accepted");
    }
    let other = Signer::new("another secret").sign(&json!({"exp": NOW + 60}));
    refused(&authorizer, &other.unwrap(), "not accepted");
}

#[test]
fn an_expired_token_tells_so_only_to_who_could_sign_it() {
    let expired = json!({"exp": NOW - 60});
    refused(&authorizer(), &token(expired.clone()), "expired");
    let forged = Signer::new("guess").sign(&expired).unwrap();
    refused(&authorizer(), &forged, "not accepted");
}

#[test]
fn without_a_bearer_token_it_is_asked_for() {
    for header in [
        None,
        Some(""),
        Some("Bearer"),
        Some("Bearer "),
        Some("Basic eDp5"),
        Some("token"),
    ] {
        for authorizer in [authorizer(), Authorizer::new(&AuthConfig::default())] {
            let problem = authorizer.check_at(header, now()).unwrap_err();
            assert_eq!(
                (problem.status, problem.code.as_str()),
                (401, "authentication_required"),
                "{header:?}"
            );
        }
    }
}

#[test]
fn the_scheme_is_written_as_one_likes() {
    let good = token(json!({"exp": NOW + 60}));
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let header = format!("{scheme} {good}");
        authorizer().check_at(Some(&header), now()).unwrap();
    }
}

#[test]
fn with_nothing_configured_nobody_gets_in() {
    let empty = AuthConfig {
        jwt_secret: Some(String::new()),
        keys: vec![String::new()],
        ..AuthConfig::default()
    };
    let signed_with_nothing = Signer::new("").sign(&json!({"exp": NOW + 60})).unwrap();
    for config in [AuthConfig::default(), empty] {
        let authorizer = Authorizer::new(&config);
        refused(&authorizer, &signed_with_nothing, "not accepted");
        refused(&authorizer, "x", "not accepted");
    }
}

#[test]
fn opaque_keys_get_in_as_they_are() {
    let authorizer = Authorizer::new(&AuthConfig {
        keys: vec!["first key".to_owned(), "k2".to_owned()],
        ..AuthConfig::default()
    });
    for key in ["first key", "k2"] {
        let identity = check(&authorizer, key).unwrap();
        assert_eq!(identity.method, AuthMethod::Key);
    }
    for key in ["first", "first key2", "First key", "k", "k22"] {
        refused(&authorizer, key, "not accepted");
    }
    let signed = token(json!({"exp": NOW + 60}));
    refused(&authorizer, &signed, "not accepted");
    let both = Authorizer::new(&AuthConfig {
        keys: vec!["k2".to_owned()],
        jwt_secret: Some(SECRET.to_owned()),
        ..AuthConfig::default()
    });
    assert_eq!(check(&both, "k2").unwrap().method, AuthMethod::Key);
    assert_eq!(check(&both, &signed).unwrap().method, AuthMethod::Token);
    refused(&both, SECRET, "not accepted");
}

#[test]
fn bypass_lets_everybody_in_and_logs_each_once() {
    let authorizer = Authorizer::new(&AuthConfig {
        bypass: true,
        jwt_secret: Some(SECRET.to_owned()),
        ..AuthConfig::default()
    });
    let lines = logged(|| {
        for header in [None, Some("Bearer wrong"), Some("nonsense")] {
            let identity = authorizer.check_at(header, now()).unwrap();
            assert_eq!(identity.method, AuthMethod::Bypass);
        }
    });
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("authz_bypass")));
    let lines = logged(|| {
        check(&self::authorizer(), &token(json!({"exp": NOW + 60}))).unwrap();
    });
    assert!(lines.is_empty(), "{lines:?}");
}

#[test]
fn what_is_minted_is_accepted_and_renewed_in_time() {
    let minter = |issuer: &str, audience: &str| {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Minter::signed(SECRET, some(issuer), some(audience), "control-plane")
    };
    let minted = minter("abide", "data-plane");
    let first = minted.authorization_at(now());
    let identity = picky().check_at(Some(&first), now()).unwrap();
    assert_eq!(identity.subject.as_deref(), Some("control-plane"));
    let mut renewed = 0;
    let mut last = first;
    for seconds in 0..3600 {
        let now = now().plus_seconds(seconds);
        let header = minted.authorization_at(now);
        picky()
            .check_at(Some(&header), now.plus_seconds(45))
            .unwrap();
        renewed += i32::from(header != last);
        last = header;
    }
    assert_eq!(renewed, 14, "every four minutes, after the first");

    for (issuer, audience) in [("", "data-plane"), ("abide", ""), ("x", "data-plane")] {
        let header = minter(issuer, audience).authorization_at(now());
        assert!(picky().check_at(Some(&header), now()).is_err());
    }
    let keyed = Authorizer::new(&AuthConfig {
        keys: vec!["k2".to_owned()],
        ..AuthConfig::default()
    });
    let header = Minter::opaque("k2".to_owned()).authorization();
    assert_eq!(keyed.check(Some(&header)).unwrap().method, AuthMethod::Key);
}

#[test]
fn secrets_are_not_shown() {
    let config = AuthConfig {
        jwt_secret: Some(SECRET.to_owned()),
        keys: vec!["sesame".to_owned()],
        ..AuthConfig::default()
    };
    let minters = [
        Minter::opaque("sesame".to_owned()),
        Minter::signed(SECRET, None, None, "x"),
    ];
    let shown = format!("{config:?} {:?} {minters:?}", Authorizer::new(&config));
    assert!(
        !shown.contains(SECRET) && !shown.contains("sesame"),
        "{shown}"
    );
}

/// The messages of what is logged meanwhile on this thread.
fn logged(work: impl FnOnce()) -> Vec<String> {
    use std::sync::{Arc, Mutex};
    use tracing::field::{Field, Visit};
    use tracing::span;

    struct Collector(Arc<Mutex<Vec<String>>>);
    struct Message<'a>(&'a mut String);
    impl Visit for Message<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                *self.0 = format!("{value:?}");
            }
        }
    }
    impl tracing::Subscriber for Collector {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut message = String::new();
            event.record(&mut Message(&mut message));
            self.0.lock().unwrap().push(message);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }
    let lines = Arc::default();
    let collector = Collector(Arc::clone(&lines));
    tracing::subscriber::with_default(collector, work);
    let lines = lines.lock().unwrap();
    lines.clone()
}
