//! Whether the documentation holds examples that `cargo test --doc` would run.

use anyhow::Result;

use crate::repository::Repository;

/// Words after a fence that keep rustdoc from running a block.
const NOT_RUN: [&str; 8] = [
    "text", "ignore", "console", "sh", "json", "toml", "python", "js",
];

/// Running `cargo test --doc` for nothing would build and start one test binary per crate.
pub(crate) fn exist(repository: &Repository) -> Result<bool> {
    for path in repository.files()? {
        let library = path.components().any(|part| part.as_os_str() == "src");
        if library && path.extension().is_some_and(|extension| extension == "rs") {
            let text = repository.read(&path)?;
            if in_text(&text) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn in_text(text: &str) -> bool {
    let mut inside = false;
    for line in text.lines().map(str::trim_start) {
        let Some(line) = line
            .strip_prefix("///")
            .or_else(|| line.strip_prefix("//!"))
        else {
            inside = false;
            continue;
        };
        let Some(language) = line.trim_start().strip_prefix("```") else {
            continue;
        };
        if !inside
            && !language
                .split(',')
                .any(|word| NOT_RUN.contains(&word.trim()))
        {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::in_text;

    #[test]
    fn only_runnable_blocks_count() {
        assert!(in_text("/// ```\n/// let x = 1;\n/// ```\n"));
        assert!(in_text("//! ```no_run\n//! x();\n//! ```\n"));
        assert!(!in_text("/// ```text\n/// a -> b\n/// ```\n"));
        assert!(!in_text("let fence = \"```\";\n// ```\n"));
        assert!(in_text("/// ```text\n/// ```\nfn a() {}\n/// ```\n"));
    }
}
