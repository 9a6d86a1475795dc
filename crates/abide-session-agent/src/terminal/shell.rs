//! Which program a terminal starts when nobody names one.

use std::path::Path;

/// Where shells are, the best first.
const SHELLS: [&str; 2] = ["/bin/bash", "/usr/bin/bash"];

/// `$SHELL` of the environment if there is such a program, else bash, else sh.
pub(crate) fn shell(environment: &[(String, String)]) -> String {
    let named = environment
        .iter()
        .rev()
        .find(|(name, _)| name == "SHELL")
        .map(|(_, shell)| shell.as_str());
    named
        .into_iter()
        .chain(SHELLS)
        .find(|shell| Path::new(shell).is_file())
        .unwrap_or("/bin/sh")
        .to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_shell_that_is_there() {
        let check = |shell: &str, expected: &str| {
            let environment = [("SHELL".to_owned(), shell.to_owned())];
            assert_eq!(super::shell(&environment), expected, "{shell}");
        };
        check("/bin/sh", "/bin/sh");
        let bash = super::shell(&[]);
        check("/nowhere/fish", &bash);
        check("", &bash);
    }
}
