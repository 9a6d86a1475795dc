//! The agent registry.

use abide_model::ProblemCode;
use serde_json::{Value, json};

use super::http::Api;

#[tokio::test]
async fn all_five_operations_also_with_objects() {
    let api = Api::cold();
    let created = api
        .post("/agents/", &json!({ "name": "Ada" }))
        .await
        .check(201);
    let did = created["did"].as_str().unwrap();
    let digits = did.strip_prefix("did:agent:Ada:").unwrap();
    assert!(
        digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
        "{did}"
    );
    let expected = json!({
        "id": created["id"], "did": did, "name": "Ada", "agent_type": "general",
        "status": "created", "configuration": {}, "metadata": {}, "resource_limits": {},
        "created_at": created["created_at"], "updated_at": created["created_at"],
    });
    assert_eq!(created, expected);
    let path = format!("/agents/{}", created["id"].as_str().unwrap());
    assert_eq!(
        api.get(&path).await.check(200),
        created,
        "an existing agent can be read"
    );
    let rich = json!({
        "name": "Bob", "agent_type": "coder", "configuration": {"b": 1, "a": {}},
        "metadata": {"m": [1]}, "resource_limits": {"cpu": 2},
    });
    let bob = api.post("/agents", &rich).await.check(201);
    for (field, value) in rich.as_object().unwrap() {
        assert_eq!(&bob[field], value);
    }
    let objects = json!({
        "configuration": {"model": "x"}, "metadata": {"a": 1}, "resource_limits": {"ram": 4},
        "status": "busy", "name": "Ada L.", "agent_type": null,
    });
    let changed = api.patch(&path, &objects).await.check(200);
    for (field, value) in objects.as_object().unwrap() {
        let expected = if value.is_null() {
            &json!("general")
        } else {
            value
        };
        assert_eq!(&changed[field], expected, "{field}");
    }
    assert_eq!(changed["did"], created["did"]);
    assert!(changed["updated_at"].as_str() > created["updated_at"].as_str());
    assert_eq!(api.get(&path).await.check(200), changed);
    let unchanged = api.patch(&path, &json!({ "status": null, "x": 1 })).await;
    assert_eq!(unchanged.check(200), changed);
    assert_eq!(api.delete(&path).await.status, 204);
    api.get(&path).await.problem(ProblemCode::AgentNotFound);
    api.delete(&path).await.problem(ProblemCode::AgentNotFound);
}

#[tokio::test]
async fn lists_are_newest_first_by_status_and_page() {
    let api = Api::cold();
    let mut ids: Vec<Value> = Vec::new();
    for name in ["a", "b", "c", "d"] {
        let agent = api
            .post("/agents", &json!({ "name": name }))
            .await
            .check(201);
        ids.insert(0, agent["id"].clone());
    }
    for status in [
        "active",
        "idle",
        "busy",
        "suspended",
        "terminated",
        "error",
        "created",
    ] {
        let path = format!("/agents/{}", ids[1].as_str().unwrap());
        api.patch(&path, &json!({ "status": status }))
            .await
            .check(200);
        let found = api
            .get(&format!("/agents/?status={status}"))
            .await
            .check(200);
        let found: Vec<&Value> = found.as_array().unwrap().iter().map(|a| &a["id"]).collect();
        let all: Vec<&Value> = ids.iter().collect();
        assert_eq!(
            found,
            if status == "created" {
                all
            } else {
                vec![&ids[1]]
            }
        );
    }
    for (query, expected) in [
        ("", &ids[..]),
        ("?limit=2", &ids[..2]),
        ("?limit=2&offset=1", &ids[1..3]),
        ("?offset=3", &ids[3..]),
        ("?limit=0", &[]),
        ("?offset=9", &[]),
    ] {
        let found = api.get(&format!("/agents{query}")).await.check(200);
        let found: Vec<Value> = found
            .as_array()
            .unwrap()
            .iter()
            .map(|a| a["id"].clone())
            .collect();
        assert_eq!(found, expected, "{query}");
    }
}

#[tokio::test]
async fn an_agent_with_sessions_stays_and_neither_touches_the_other() {
    let api = Api::cold();
    let agent = api
        .post("/agents", &json!({ "name": "a" }))
        .await
        .check(201);
    let path = format!("/agents/{}", agent["id"].as_str().unwrap());
    let session = api.session(json!({ "agent_id": agent["id"] })).await;
    api.delete(&path).await.problem(ProblemCode::AgentInUse);
    api.patch(&session, &json!({ "status": "crashed" }))
        .await
        .check(200);
    assert_eq!(api.get(&path).await.check(200), agent);
    let before = api.get(&session).await.check(200);
    api.patch(&path, &json!({ "status": "terminated" }))
        .await
        .check(200);
    assert_eq!(api.get(&session).await.check(200), before);
    assert_eq!(api.delete(&session).await.status, 204);
    assert_eq!(api.delete(&path).await.status, 204);
}

#[tokio::test]
async fn unknown_agents_are_registered_only_where_that_is_wanted() {
    let id = "0191e7a0-7c1e-7000-8000-0000000000aa";
    let api = Api::with(&["warm_python=0", "auto_register_agents=true"]);
    let sessions =
        futures_util::future::join_all((0..4).map(|_| api.session(json!({ "agent_id": id }))));
    assert_eq!(sessions.await.len(), 4);
    let agent = api.get(&format!("/agents/{id}")).await.check(200);
    assert_eq!(agent["id"], id);
}
