//! Where values come from, and which one wins: flag, variable, file, default.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Alias;
use super::value::Value;
use crate::error::{CommandError, Kind};

/// The environment as it was when the program started. Nothing else reads it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// That of this process. Variables whose names are not UTF-8 are left out.
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v)))
                .collect(),
        )
    }

    /// One variable; an empty one counts as not set.
    pub(crate) fn get(&self, name: &str) -> Option<&OsString> {
        self.0.get(name).filter(|v| !v.is_empty())
    }

    /// Names that begin with this.
    pub(crate) fn names<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .keys()
            .map(String::as_str)
            .filter(move |n| n.starts_with(prefix))
    }
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(
            pairs
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v.into()))
                .collect(),
        )
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// An argument.
    Flag(String),
    /// An environment variable.
    Variable(&'static str),
    /// The configuration file.
    File(PathBuf),
    /// Nobody said otherwise.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Variable(name) => f.write_str(name),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What was said on the command line.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags {
    /// By setting: the flag as the user knows it, and its text.
    given: BTreeMap<String, (String, String)>,
    /// The command; some variables mean something to one command only.
    command: String,
}

impl Flags {
    /// Notes which command it is.
    pub(crate) fn set_command(&mut self, command: &str) {
        command.clone_into(&mut self.command);
    }

    /// Notes a flag that was given.
    pub(crate) fn add(&mut self, setting: &str, flag: &str, text: impl Into<String>) {
        self.given
            .insert(setting.to_owned(), (flag.to_owned(), text.into()));
    }

    /// Notes a flag if it was given.
    pub(crate) fn add_some(&mut self, setting: &str, flag: &str, text: Option<impl Into<String>>) {
        if let Some(text) = text {
            self.add(setting, flag, text);
        }
    }
}

/// A configuration file that was read.
#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    table: toml::Table,
}

impl File {
    /// Reads a file. `None` when it does not exist and need not.
    pub(crate) fn read(path: &Path, required: bool) -> Result<Option<Self>, CommandError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => return Ok(None),
            Err(e) => {
                let message = format!("cannot read the configuration file {}", path.display());
                return Err(CommandError::usage(message).because(&e));
            }
        };
        let table = text.parse::<toml::Table>().map_err(|e| {
            let message = format!("the configuration file {} is not TOML", path.display());
            CommandError::usage(message).because(&e)
        })?;
        Ok(Some(Self {
            path: path.to_owned(),
            table,
        }))
    }

    /// Refuses names that are no settings.
    pub(crate) fn check_names(&self, known: &[&str]) -> Result<(), CommandError> {
        match self.table.keys().find(|k| !known.contains(&k.as_str())) {
            Some(name) => Err(CommandError::usage(format!(
                "{}: there is no setting {name:?}",
                self.path.display()
            ))
            .hint("`abide config show` lists every setting")),
            None => Ok(()),
        }
    }

    /// Whether it says something about a setting.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.contains_key(name)
    }
}

/// All sources together.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    pub(crate) flags: &'a Flags,
    pub(crate) environment: &'a Environment,
    pub(crate) file: Option<&'a File>,
}

impl Layers<'_> {
    /// The winning value of a setting and where it came from. The setting's own variable wins over
    /// its aliases.
    pub(crate) fn get<T: Value>(
        &self,
        name: &str,
        own: &'static str,
        aliases: &'static [Alias],
        default: &str,
    ) -> Result<(T, Origin), CommandError> {
        let (text, origin, place) = self.text(name, own, aliases)?.unwrap_or_else(|| {
            (
                default.to_owned(),
                Origin::Default,
                format!("the default of {name}"),
            )
        });
        match T::parse(&text) {
            Ok(value) => Ok((value, origin)),
            Err(wrong) => Err(match origin {
                Origin::Variable(variable) => {
                    CommandError::new(Kind::Config, format!("{variable} is wrong: {wrong}"))
                }
                _ => CommandError::usage(format!("{place}: {wrong}")),
            }),
        }
    }

    /// The winning text, its origin, and how to name that place in an error.
    fn text(
        &self,
        name: &str,
        own: &'static str,
        aliases: &'static [Alias],
    ) -> Result<Option<(String, Origin, String)>, CommandError> {
        if let Some((flag, text)) = self.flags.given.get(name) {
            return Ok(Some((
                text.clone(),
                Origin::Flag(flag.clone()),
                flag.clone(),
            )));
        }
        let heard = |alias: &&Alias| alias.command.is_none_or(|only| only == self.flags.command);
        let aliases = aliases.iter().filter(heard).map(|alias| alias.variable);
        let mut variables = std::iter::once(own).chain(aliases);
        let set = |variable| Some((variable, self.environment.get(variable)?));
        if let Some((variable, value)) = variables.find_map(set) {
            let Some(text) = value.to_str() else {
                let message = format!("{variable} is wrong: it is not UTF-8");
                return Err(CommandError::new(Kind::Config, message));
            };
            return Ok(Some((
                text.to_owned(),
                Origin::Variable(variable),
                variable.to_owned(),
            )));
        }
        let Some(file) = self.file else {
            return Ok(None);
        };
        let Some(value) = file.table.get(name) else {
            return Ok(None);
        };
        let place = format!("{}: {name}", file.path.display());
        let Some(text) = toml_text(value) else {
            let message =
                format!("{place}: it must be a text, a number, a boolean or a list of texts");
            return Err(CommandError::usage(message));
        };
        Ok(Some((text, Origin::File(file.path.clone()), place)))
    }
}

/// A value of the file as the text that a variable would have.
fn toml_text(value: &toml::Value) -> Option<String> {
    Some(match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Boolean(is) => is.to_string(),
        toml::Value::Array(items) => items
            .iter()
            .map(toml::Value::as_str)
            .collect::<Option<Vec<_>>>()?
            .join(","),
        _ => return None,
    })
}
