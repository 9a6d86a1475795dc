//! `abide doctor`: what is missing on this machine, and how to get it.

mod checks;

use clap::Args;
use serde::Serialize;

use super::App;
use crate::error::{CommandError, Kind, Result};
use crate::output::{Format, FormatArgs, Style};

/// Say what is missing on this machine, and how to get it
///
/// Ends with exit code 2 when something must be fixed before Abide can work.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Form of the output
    #[command(flatten)]
    format: FormatArgs,
}

/// How a check turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// Abide works, but not everything does.
    Warn,
    /// Abide cannot work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    /// What.
    what: &'static str,
    /// How it is.
    verdict: Verdict,
    /// What was found.
    detail: String,
    /// What to do about it; a command where one does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, detail: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Ok,
            detail: detail.into(),
            fix: None,
        }
    }
    fn warn(what: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Warn,
            detail: detail.into(),
            fix: Some(fix.into()),
        }
    }
    fn fail(what: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what,
            verdict: Verdict::Fail,
            detail: detail.into(),
            fix: Some(fix.into()),
        }
    }
}

/// Looks at everything.
pub(crate) async fn run(mut app: App<'_>, args: DoctorArgs) -> Result {
    let findings = checks::all(&app).await;
    if args.format.output == Format::Json {
        app.output.json(&findings)?;
    } else {
        show(&mut app, &findings)?;
    }
    if findings.iter().any(|f| f.verdict == Verdict::Fail) {
        return Err(CommandError::silent(Kind::Unhealthy));
    }
    Ok(())
}

fn show(app: &mut App<'_>, findings: &[Finding]) -> Result {
    let rows: Vec<Vec<(Style, String)>> = findings
        .iter()
        .map(|f| {
            let (style, word) = match f.verdict {
                Verdict::Ok => (Style::Green, "ok"),
                Verdict::Warn => (Style::Yellow, "warn"),
                Verdict::Fail => (Style::Red, "FAIL"),
            };
            let plain = |text: &str| (Style::Plain, text.to_owned());
            vec![(style, word.to_owned()), plain(f.what), plain(&f.detail)]
        })
        .collect();
    app.output.styled_table(&[], &rows)?;
    for finding in findings {
        if let Some(fix) = &finding.fix {
            app.output.line(format!("\n{}: {fix}", finding.what))?;
        }
    }
    Ok(())
}
