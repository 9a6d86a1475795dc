//! How the agent starts, and how it refuses to.

use abide_testkit::TestAgent;

use super::options;
use crate::abide::{Place, ended};

#[test]
fn production_refuses_bypass_in_one_line_that_names_the_variable() {
    let place = Place::new();
    for (env, variable) in [
        ("production", "SESSION_AGENT_AUTH_BYPASS"),
        ("Prod", "SESSION_AGENT_AUTH_BYPASS"),
        ("PRODUCTION", "ABIDE_AGENT_AUTH_BYPASS"),
    ] {
        let mut command = place.command(&["session-agent", "--addr", "127.0.0.1:0"]);
        let said = ended(
            &command
                .env("ENV", env)
                .env(variable, "true")
                .output()
                .unwrap(),
        );
        said.check(64, &format!("config error: {variable} "));
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        assert!(said.stderr.starts_with("config error: "), "{}", said.stderr);
    }
}

#[test]
fn only_the_exact_word_turns_tokens_off() {
    for text in ["TRUE", "1", "yes", " true"] {
        let agent = TestAgent::start(options().env("SESSION_AGENT_AUTH_BYPASS", text)).unwrap();
        let about = std::fs::read_to_string(agent.files().join("agent.json")).unwrap();
        assert!(about.contains(agent.url()), "{about}");
        let health = std::net::TcpStream::connect(agent.url().trim_start_matches("http://"));
        let mut health = health.unwrap();
        std::io::Write::write_all(&mut health, b"GET /v1/health HTTP/1.0\r\n\r\n").unwrap();
        let answer = std::io::read_to_string(health).unwrap();
        assert!(answer.contains("\"enforced\""), "{text:?}: {answer}");
    }
}

#[test]
fn addresses_are_checked_before_anything_is_done() {
    let place = Place::new();
    for (address, wrong) in [
        ("nonsense", "SESSION_AGENT_ADDR"),
        ("0.0.0.0:0", "SESSION_AGENT_ADDR names 0.0.0.0"),
    ] {
        let mut command = place.command(&["session-agent"]);
        let said = ended(&command.env("SESSION_AGENT_ADDR", address).output().unwrap());
        said.check(64, &format!("config error: {wrong}"));
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    }
    assert!(!place.data_dir().exists());
}

#[test]
fn one_agent_a_place() {
    let agent = TestAgent::start(options()).unwrap();
    let mut second = agent.command(&["session-agent", "--addr", "127.0.0.1:0"]);
    let said = ended(&second.output().unwrap());
    said.check(74, "another server");
}
