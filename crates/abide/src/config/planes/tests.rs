//! The settings of the planes, under the names that deployments have set so far.

use std::path::Path;

use abide_model::AuthMode;

use super::super::tests::load;
use super::super::{Exactly, Flags, SETTINGS};
use super::*;
use crate::config::Environment;

type Check = fn(&Config) -> Result<(), CommandError>;

const DATA: Check = Config::check_data_plane;
const CONTROL: Check = Config::check_control_plane;

/// The one line that the program would end with.
#[track_caller]
fn refused<const N: usize>(check: Check, variables: [(&str, &str); N], line: &str) {
    let error = load(&[], variables, None).map_or_else(Err, |config| check(&config));
    let error = error.unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(
        error.message.starts_with(line),
        "{} / {line}",
        error.message
    );
    assert!(!error.message.contains('\n'));
    assert!(error.hints.is_empty() && error.causes.is_empty());
}

#[track_caller]
fn accepted<const N: usize>(check: Check, variables: [(&str, &str); N]) -> Config {
    let config = load(&[], variables, None).unwrap();
    check(&config).unwrap();
    config
}

fn load_for(command: &str, variables: &[(&str, &str)]) -> Config {
    let mut flags = Flags::default();
    flags.set_command(command);
    flags.add("data_dir", "--data-dir", "/nowhere");
    let environment = match variables {
        [one] => Environment::from([*one]),
        [one, two] => Environment::from([*one, *two]),
        _ => panic!("one or two"),
    };
    Config::load(&flags, &environment, None).unwrap()
}

#[test]
fn every_alias_reaches_its_setting_and_never_wins() {
    for (alias, name, value, own_value) in [
        ("SESSION_RUNTIME_BACKEND", "runtime_backend", "k8s", "local"),
        (
            "SESSION_REGISTRY_BACKEND",
            "registry_backend",
            "file",
            "memory",
        ),
        (
            "SESSION_REGISTRY_PATH",
            "registry_path",
            "/r/x.db",
            "/o/x.db",
        ),
        (
            "SESSION_AGENT_ENDPOINT",
            "agent_endpoint",
            "http://a:9000",
            "http://b:1",
        ),
        (
            "SESSION_AGENT_AUTH_MODE",
            "agent_auth_mode",
            "bypass",
            "enforced",
        ),
        ("SESSION_AGENT_PREFER", "agent_prefer", "false", "true"),
        ("SESSION_AGENT_LAUNCH", "agent_launch", "true", "false"),
        ("SESSION_AGENT_BIN", "agent_bin", "/bin/agent", "/bin/other"),
        ("SESSION_READY_TIMEOUT", "ready_timeout", "90s", "1s"),
        ("WORKSPACE_ROOT", "workspace_root", "/w", "/o"),
        (
            "DATA_PLANE_URL",
            "data_plane_url",
            "http://d:8081",
            "http://o:1",
        ),
        ("DATABASE_DRIVER", "database_driver", "postgres", "sqlite"),
        ("DATABASE_URL", "database_url", "(hidden)", "(hidden)"),
        ("AUTH_JWT_SECRET", "jwt_secret", "(hidden)", "(hidden)"),
        ("AUTH_ISSUER", "jwt_issuer", "abide", "other"),
        ("AUTH_AUDIENCE", "jwt_audience", "planes", "other"),
        ("AUTHZ_BYPASS", "authz_bypass", "true", "false"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "otlp_endpoint",
            "http://o:4317",
            "http://p:4317",
        ),
        ("OTEL_SERVICE_NAME", "service_name", "data", "other"),
        ("ARTIFACT_BUCKET", "artifact_bucket", "s3://b", "s3://o"),
        ("MCP_ADDR", "mcp_addr", ":8090", ":1"),
        ("ENV", "env", "prod", "test"),
        ("SESSION_AGENT_ADDR", "agent_addr", ":9001", ":1"),
        (
            "SESSION_AGENT_AUTH_BYPASS",
            "agent_auth_bypass",
            "true",
            "false",
        ),
    ] {
        let setting = SETTINGS.iter().find(|s| s.name == name).unwrap();
        let shown = |config: &Config| {
            let mut all = config.effective().into_iter();
            let one = all.find(|one| one.name == name).unwrap();
            (one.value, one.origin.to_string())
        };
        let config = load(&[], [(alias, value)], None).unwrap();
        assert_eq!(shown(&config), (value.to_owned(), alias.to_owned()));
        let both = [(alias, value), (setting.variable, own_value)];
        let config = load(&[], both, None).unwrap();
        let own = (own_value.to_owned(), setting.variable.to_owned());
        assert_eq!(shown(&config), own);
        let file = format!("{name} = \"nonsense\"");
        let config = load(&[], [(alias, value)], Some(&file)).unwrap();
        assert_eq!(shown(&config).1, alias, "before the file");
    }
}

#[test]
fn port_is_the_planes_own() {
    let ports = |config: Config| (config.port, config.data_plane_port);
    let port = [("PORT", "7000")];
    assert_eq!(ports(load_for("control-plane", &port)), (7000, 8081));
    assert_eq!(ports(load_for("data-plane", &port)), (8080, 7000));
    for command in ["up", "run", "session-agent", ""] {
        assert_eq!(ports(load_for(command, &port)), (8080, 8081), "{command}");
        // Nor does another program's nonsense disturb.
        load_for(command, &[("PORT", "x")]);
    }
    let both = [("PORT", "7000"), ("ABIDE_DATA_PLANE_PORT", "7001")];
    assert_eq!(ports(load_for("data-plane", &both)), (8080, 7001));
}

#[test]
fn production_has_its_guards_however_it_is_spelt() {
    for env in ["production", "prod", "PRODUCTION", "Prod"] {
        let env = ("ENV", env);
        let line = "SESSION_REGISTRY_BACKEND must be persistent in production";
        refused(DATA, [env, ("SESSION_REGISTRY_BACKEND", "memory")], line);
        let line = "SESSION_AGENT_AUTH_MODE must not be bypass in production (ENV is ";
        refused(DATA, [env, ("SESSION_AGENT_AUTH_MODE", "bypass")], line);
        let line = "AUTHZ_BYPASS must not be true in production (ENV is ";
        refused(DATA, [env, ("AUTHZ_BYPASS", "true")], line);
        let url = ("DATA_PLANE_URL", "http://d:8081");
        refused(CONTROL, [env, url, ("AUTHZ_BYPASS", "true")], line);
        refused(CONTROL, [env], "DATA_PLANE_URL is required in production");
        accepted(DATA, [env, ("SESSION_REGISTRY_BACKEND", "file")]);
        accepted(CONTROL, [env, url]);
        // Only the exact text turns it on, so there is nothing to refuse.
        for text in ["True", "TRUE", "1", "yes", " true"] {
            let config = accepted(DATA, [env, ("AUTHZ_BYPASS", text)]);
            assert_eq!(config.authz_bypass, Exactly(false), "{text:?}");
        }
    }
    for env in ["dev", "development", "staging", "produce", "preprod"] {
        let env = ("ENV", env);
        accepted(DATA, [env, ("SESSION_REGISTRY_BACKEND", "memory")]);
        accepted(DATA, [env, ("SESSION_AGENT_AUTH_MODE", "bypass")]);
        accepted(DATA, [env, ("AUTHZ_BYPASS", "true")]);
        accepted(CONTROL, [env, ("AUTHZ_BYPASS", "true")]);
    }
}

#[test]
fn errors_name_the_variable_that_was_set() {
    let prod = ("ABIDE_ENV", "prod");
    let line = "ABIDE_AUTHZ_BYPASS must not be true in production (ABIDE_ENV is \"prod\")";
    refused(DATA, [prod, ("ABIDE_AUTHZ_BYPASS", "true")], line);
    let own = ("ABIDE_RUNTIME_BACKEND", "k8s");
    let line = "ABIDE_RUNTIME_BACKEND must be local";
    refused(DATA, [own, ("SESSION_RUNTIME_BACKEND", "local")], line);

    let config = load(&[("runtime_backend", "k8s")], [], None).unwrap();
    let error = config.check_data_plane().unwrap_err().message;
    assert!(error.starts_with("--runtime_backend must be"), "{error}");
    let config = load(&[], [], Some("runtime_backend = \"k8s\"")).unwrap();
    let error = config.check_data_plane().unwrap_err().message;
    assert!(
        error.contains("config.toml: runtime_backend must"),
        "{error}"
    );
}

#[test]
fn what_is_not_built_is_refused_as_that() {
    for (check, variable, value, line) in [
        (
            DATA,
            "SESSION_RUNTIME_BACKEND",
            "k8s",
            "must be local: running sessions in pods (k8s) is not built yet",
        ),
        (
            DATA,
            "SESSION_RUNTIME_BACKEND",
            "docker",
            "must be local or k8s",
        ),
        (
            DATA,
            "SESSION_REGISTRY_BACKEND",
            "redis",
            "must be store, file (the same) or memory",
        ),
        (
            DATA,
            "SESSION_AGENT_PREFER",
            "false",
            "must be true: every step runs in",
        ),
        (
            DATA,
            "SESSION_AGENT_PREFER",
            "1",
            "must be true: every step runs in",
        ),
        (
            DATA,
            "SESSION_AGENT_AUTH_MODE",
            "none",
            "is wrong: \"none\" is neither",
        ),
        (
            DATA,
            "SESSION_AGENT_ENDPOINT",
            ":9000",
            "is wrong: \":9000\" is not a URL",
        ),
        (
            DATA,
            "SESSION_READY_TIMEOUT",
            "0s",
            "must be longer than nothing",
        ),
        (
            CONTROL,
            "DATABASE_DRIVER",
            "postgres",
            "must be sqlite: postgres is not built yet",
        ),
        (CONTROL, "DATABASE_DRIVER", "mysql", "must be sqlite"),
        (
            CONTROL,
            "DATABASE_URL",
            "postgres://u:p@h/d",
            "must be the URL of an SQLite file",
        ),
        (
            CONTROL,
            "DATA_PLANE_URL",
            "localhost:8081",
            "is wrong: \"localhost:8081\" is not a URL",
        ),
    ] {
        refused(check, [(variable, value)], &format!("{variable} {line}"));
    }
    // A variable that some other program is meant to read does not keep unrelated commands from
    // working: only the plane it concerns looks closer.
    load(
        &[],
        [("DATABASE_DRIVER", "mysql"), ("DATABASE_URL", "x")],
        None,
    )
    .unwrap();
    accepted(DATA, [("DATABASE_DRIVER", "mysql"), ("DATABASE_URL", "x")]);
    accepted(CONTROL, [("SESSION_RUNTIME_BACKEND", "k8s")]);
}

#[test]
fn a_session_agent_is_in_the_process_or_somewhere_else() {
    let here = ("ABIDE_AGENT_IN_PROCESS", "true");
    for other in [
        ("SESSION_AGENT_LAUNCH", "true"),
        ("SESSION_AGENT_ENDPOINT", "http://a:9000"),
    ] {
        let line = "ABIDE_AGENT_IN_PROCESS must not be true where a session agent is named";
        refused(DATA, [here, other], line);
    }
    let config = accepted(DATA, [here]);
    assert_eq!(config.agent_source(), AgentSource::InProcess);
}

#[test]
fn durations_are_read_as_go_writes_them() {
    for (text, millis) in [
        ("60s", 60_000),
        ("1m30s", 90_000),
        ("500ms", 500),
        ("1h0m0s", 3_600_000),
        ("1.5s", 1_500),
        ("1000000us", 1_000),
    ] {
        let config = accepted(DATA, [("SESSION_READY_TIMEOUT", text)]);
        assert_eq!(config.ready_timeout.0.as_millis(), millis, "{text}");
    }
    for text in ["60", "sixty", "1x", "-5s", "s", "1m30"] {
        let line = "SESSION_READY_TIMEOUT is wrong: ";
        refused(DATA, [("SESSION_READY_TIMEOUT", text)], line);
    }
}

#[test]
fn the_data_plane_finds_its_agent_and_its_files() {
    let endpoint = ("SESSION_AGENT_ENDPOINT", "http://127.0.0.1:9000/");
    let fixed = accepted(DATA, [endpoint]).agent_source();
    assert_eq!(
        fixed,
        AgentSource::Fixed(BaseUrl("http://127.0.0.1:9000".to_owned()))
    );
    let launched = accepted(DATA, [endpoint, ("SESSION_AGENT_LAUNCH", "true")]);
    assert_eq!(launched.agent_source(), AgentSource::Launched);
    let config = accepted(DATA, [("SESSION_AGENT_LAUNCH", "false")]);
    assert_eq!(
        config.agent_source(),
        AgentSource::Launched,
        "nothing else is there"
    );
    assert_eq!(config.agent_auth_mode, AuthMode::Enforced);
    let Registry::File(routes) = config.registry() else {
        panic!("routes outlive the process unless told otherwise");
    };
    assert_eq!(routes, config.data_dir.join("data-plane/routes.db"));
    assert_eq!(
        config.workspaces(),
        config.data_dir.join("data-plane/workspaces")
    );

    let path = ("SESSION_REGISTRY_PATH", "/r/routes");
    for backend in ["file", "store"] {
        let config = accepted(DATA, [path, ("SESSION_REGISTRY_BACKEND", backend)]);
        assert_eq!(config.registry(), Registry::File("/r/routes".into()));
    }
    let config = accepted(DATA, [path, ("SESSION_REGISTRY_BACKEND", "memory")]);
    assert_eq!(config.registry(), Registry::Memory);
    let config = accepted(DATA, [("WORKSPACE_ROOT", "/w")]);
    assert_eq!(config.workspaces(), Path::new("/w"));
}

#[test]
fn the_database_is_a_file() {
    let file = |url: &str| {
        let config = load(&[], [("DATABASE_URL", url)], None).unwrap();
        config
            .database_file()
            .map(|path| path.display().to_string())
    };
    for (url, path) in [
        (
            "file:control-plane.db?cache=shared&mode=rwc",
            "control-plane.db",
        ),
        ("file:/var/lib/abide.db", "/var/lib/abide.db"),
        ("file:///var/lib/abide.db", "/var/lib/abide.db"),
        ("file://localhost/var/lib/abide.db", "/var/lib/abide.db"),
    ] {
        assert_eq!(file(url).unwrap(), path);
    }
    for url in [
        "file:",
        "file:?mode=rwc",
        "file::memory:",
        "file:x?mode=memory&cache=shared",
        "file://other/x.db",
        "file:a%20b",
        "x.db",
        "sqlite:x.db",
    ] {
        let error = file(url).unwrap_err();
        assert!(
            error.message.starts_with("DATABASE_URL "),
            "{url}: {}",
            error.message
        );
    }
    let config = load(&[], [], None).unwrap();
    let default = config.data_dir.join("control-plane/abide.db");
    assert_eq!(config.database_file().unwrap(), default);
}

#[test]
fn what_the_reference_sets_is_taken() {
    let data = accepted(
        DATA,
        [
            ("ENV", "dev"),
            ("RUNTIME_NAMESPACE", "default"),
            ("RUNTIME_CLASS", "gvisor"),
            ("SESSION_RUNTIME_BACKEND", "local"),
            ("SESSION_REGISTRY_BACKEND", "memory"),
            ("SESSION_REGISTRY_PATH", "/tmp/session-registry.json"),
            ("SESSION_AGENT_AUTH_MODE", "bypass"),
            ("SESSION_AGENT_PREFER", "true"),
            ("AUTHZ_BYPASS", "true"),
        ],
    );
    assert!(data.authz_bypass.0 && data.notices().is_empty());
    let control = accepted(
        CONTROL,
        [
            ("ENV", "dev"),
            ("DATA_PLANE_URL", "http://localhost:8081"),
            ("DATABASE_DRIVER", "sqlite"),
            (
                "DATABASE_URL",
                "file:control-plane.db?cache=shared&mode=rwc",
            ),
            ("MCP_ADDR", ":8090"),
            ("AUTHZ_BYPASS", "true"),
        ],
    );
    assert_eq!(
        control.notices(),
        ["MCP_ADDR has no effect: it is not built yet"]
    );
}

#[test]
fn secrets_of_the_planes_are_not_shown() {
    let secrets = [
        ("AUTH_JWT_SECRET", "sesame1"),
        ("ABIDE_PLANE_KEYS", "sesame2,sesame3"),
        ("DATABASE_URL", "postgres://u:sesame4@h/d"),
        ("ABIDE_AGENT_SECRET", "sesame5"),
    ];
    let config = load(&[], secrets, None).unwrap();
    let shown: String = config.effective().into_iter().map(|s| s.value).collect();
    assert!(!shown.contains("sesame"), "{shown}");
    let error = config.check_control_plane().unwrap_err();
    assert!(!error.message.contains("sesame"), "{}", error.message);
}
