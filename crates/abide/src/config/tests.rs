//! Layering, with maps instead of the real environment.

use super::*;

pub(super) fn load<const N: usize>(
    flags: &[(&str, &str)],
    variables: [(&str, &str); N],
    file: Option<&str>,
) -> Result<Config, CommandError> {
    let dir = tempfile::tempdir().unwrap();
    let mut given = Flags::default();
    for (name, text) in flags {
        given.add(name, &format!("--{name}"), *text);
    }
    if let Some(text) = file {
        std::fs::write(dir.path().join("config.toml"), text).unwrap();
    }
    if !flags.iter().any(|(n, _)| *n == "data_dir") {
        given.add("data_dir", "--data-dir", dir.path().to_str().unwrap());
    }
    Config::load(&given, &Environment::from(variables), None)
}

#[test]
fn flag_beats_variable_beats_file_beats_default() {
    let file = Some("port = 3");
    let cases = [
        (
            load(&[("port", "1")], [("ABIDE_PORT", "2")], file),
            1,
            "--port",
        ),
        (load(&[], [("ABIDE_PORT", "2")], file), 2, "ABIDE_PORT"),
        (load(&[], [("ABIDE_PORT", "")], file), 3, "config.toml"),
        (load(&[], [], None), 8080, "default"),
    ];
    for (config, port, origin) in cases {
        let config = config.unwrap();
        assert_eq!(config.port, port);
        let shown = config.origin("port").to_string();
        assert!(shown.ends_with(origin), "{shown}");
    }
}

#[test]
fn every_default_is_valid_and_every_name_is_distinct() {
    let config = load(&[], [], None).unwrap();
    assert_eq!(config.host.show(), "127.0.0.1,::1");
    assert_eq!(config.journal_bytes, ByteSize(16 << 20));
    assert_eq!(config.step_timeout, None);
    assert_eq!(config.key, None);
    let mut names: Vec<_> = SETTINGS
        .iter()
        .flat_map(|s| {
            [s.name, s.variable]
                .into_iter()
                .chain(s.aliases.iter().map(|alias| alias.variable))
                // The one name that means something else to each of two commands.
                .filter(|name| *name != "PORT")
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let named: Vec<_> = SETTINGS.iter().flat_map(|s| s.aliases).collect();
    let aliases = named.iter().filter(|a| a.variable != "PORT").count();
    assert!(
        named
            .iter()
            .all(|a| (a.variable == "PORT") == a.command.is_some())
    );
    assert_eq!(names.len(), 2 * SETTINGS.len() + aliases);
    for setting in SETTINGS {
        assert_eq!(
            setting.variable,
            format!("ABIDE_{}", setting.name.to_uppercase())
        );
    }
}

#[test]
fn a_file_may_use_lists_numbers_and_booleans() {
    let text = "host = [\"127.0.0.1\", \"10.0.0.1\"]\nallow_remote = true\nwarm_python = 0\n\
                step_timeout = \"90s\"\nsynchronous = \"full\"\nlog_format = \"json\"";
    let config = load(&[], [], Some(text)).unwrap();
    assert_eq!(config.host.0.len(), 2);
    assert!(config.allow_remote);
    assert_eq!(config.warm_python, 0);
    assert_eq!(config.step_timeout.map(|s| s.0.as_secs()), Some(90));
    assert_eq!(
        (config.synchronous, config.log_format),
        (Synchronous::Full, LogFormat::Json)
    );
    config.check_listen().unwrap();
}

#[test]
fn errors_name_the_place() {
    for (result, place) in [
        (load(&[("port", "x")], [], None), "--port: "),
        (
            load(&[], [("ABIDE_PORT", "70000")], None),
            "ABIDE_PORT is wrong: ",
        ),
        (load(&[], [], Some("port = \"x\"")), "config.toml: port: "),
        (load(&[], [], Some("port = 1.5")), "config.toml: port: "),
        (
            load(&[], [], Some("prot = 1")),
            "config.toml: there is no setting \"prot\"",
        ),
        (load(&[], [], Some("port = ")), "config.toml is not TOML"),
        (
            load(&[], [], Some("data_dir = \"/x\"")),
            "config.toml: data_dir cannot",
        ),
    ] {
        let error = result.unwrap_err();
        assert!(error.message.contains(place), "{} / {place}", error.message);
        assert_eq!(error.kind.code(), 64);
    }
}

#[test]
fn the_data_directory_is_found() {
    let find = |variables: &[(&str, &str)]| {
        let mut flags = Flags::default();
        let mut environment = Environment::default();
        for (name, value) in variables {
            if *name == "flag" {
                flags.add("data_dir", "--data-dir", *value);
            } else {
                environment = match *name {
                    "HOME" => Environment::from([("HOME", *value)]),
                    "XDG" => Environment::from([("HOME", "/none"), ("XDG_DATA_HOME", *value)]),
                    _ => Environment::from([("HOME", "/none"), ("ABIDE_DATA_DIR", *value)]),
                };
            }
        }
        Config::load(&flags, &environment, None)
            .map(|c| {
                (
                    c.data_dir.display().to_string(),
                    c.origin("data_dir").to_string(),
                )
            })
            .map_err(|e| e.message)
    };
    let is = |path: &str, origin: &str| Ok((path.to_owned(), origin.to_owned()));
    assert_eq!(
        find(&[("HOME", "/none")]),
        is("/none/.local/share/abide", "default")
    );
    assert_eq!(find(&[("XDG", "/xdg")]), is("/xdg/abide", "default"));
    assert_eq!(find(&[("ABIDE", "/a")]), is("/a", "ABIDE_DATA_DIR"));
    assert_eq!(
        find(&[("ABIDE", "/a"), ("flag", "/b")]),
        is("/b", "--data-dir")
    );
    assert!(find(&[]).unwrap_err().contains("HOME"));
}

#[test]
fn a_named_file_must_exist_and_may_set_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("abide.toml");
    let load = || Config::load(&Flags::default(), &Environment::default(), Some(&path));
    assert_eq!(load().unwrap_err().kind.code(), 64);
    std::fs::write(&path, "data_dir = \"/elsewhere\"").unwrap();
    assert_eq!(load().unwrap().data_dir, Path::new("/elsewhere"));
}

#[test]
fn the_key_is_not_shown() {
    let config = load(&[], [("ABIDE_KEY", "sesame")], None).unwrap();
    assert!(
        config
            .effective()
            .iter()
            .all(|e| !e.value.contains("sesame"))
    );
    assert!(
        config
            .effective()
            .iter()
            .any(|e| e.name == "key" && e.value == "(hidden)")
    );
}

#[test]
fn listening_beyond_loopback_is_refused_with_a_reason() {
    for host in ["0.0.0.0", "::", "127.0.0.1,192.168.1.5"] {
        let error = load(&[("host", host)], [], None)
            .unwrap()
            .check_listen()
            .unwrap_err();
        assert!(
            error.message.contains("TLS") && !error.hints.is_empty(),
            "{}",
            error.message
        );
        load(&[("host", host), ("allow_remote", "true")], [], None)
            .unwrap()
            .check_listen()
            .unwrap();
    }
    load(&[("host", "127.0.0.2,::1")], [], None)
        .unwrap()
        .check_listen()
        .unwrap();
}

#[test]
fn an_alias_counts_where_the_own_variable_says_nothing() {
    for (variables, env, origin) in [
        ([("ENV", "Prod"), ("ABIDE_ENV", "")], "Prod", "ENV"),
        (
            [("ENV", "prod"), ("ABIDE_ENV", "test")],
            "test",
            "ABIDE_ENV",
        ),
    ] {
        let config = load(&[], variables, Some("env = \"file\"")).unwrap();
        assert_eq!(
            (
                config.env.as_str(),
                config.origin("env").to_string().as_str()
            ),
            (env, origin)
        );
    }
    let error = load(&[], [("SESSION_AGENT_ADDR", "nine")], None).unwrap_err();
    assert_eq!(error.kind, Kind::Config);
    assert!(
        error.message.starts_with("SESSION_AGENT_ADDR "),
        "{}",
        error.message
    );
}

#[test]
fn production_refuses_a_session_agent_without_authentication() {
    for (env, bypass, refused) in [
        ("production", "true", true),
        ("PROD", "true", true),
        ("Production", "TRUE", false),
        ("production", "1", false),
        ("dev", "true", false),
    ] {
        let config = load(
            &[],
            [("ENV", env), ("SESSION_AGENT_AUTH_BYPASS", bypass)],
            None,
        );
        let checked = config.unwrap().check_session_agent();
        assert_eq!(checked.is_err(), refused, "{env} {bypass}");
        if let Err(error) = checked {
            assert!(
                error.message.starts_with("SESSION_AGENT_AUTH_BYPASS "),
                "{}",
                error.message
            );
            assert!(error.hints.is_empty() && error.causes.is_empty());
        }
    }
}
