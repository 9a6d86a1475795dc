//! What is said over the channel, in both directions.

use abide_model::{MimeBundle, StepError, StepId, StepResult, StepStatus};

use crate::frame::{Fields, FrameError, FrameWriter, text};

/// From the session agent to a harness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToHarness {
    /// Sets working directory and environment; not answered. May come again between steps.
    Configure {
        /// Where the interpreter goes; it exits with code 72 when it cannot.
        cwd: String,
        /// The whole environment user code sees from then on, as (name, value).
        env: Vec<(String, String)>,
    },
    /// Runs a step. Send the next one only after [`FromHarness::Finished`]. The same one again does nothing.
    Step {
        /// Comes back in `Finished`.
        id: StepId,
        /// Source text.
        code: String,
        /// What the step reads from descriptor 0; `/dev/null` without it.
        stdin: Option<String>,
        /// The result's text and data, and all displays, may be this long in all.
        max_result_bytes: u64,
    },
    /// The SIGINT that is sent next is for this step. It needs the frame only when it comes before
    /// the step has begun; for a step that has ended it does nothing. Not answered.
    Interrupt {
        /// A step whose frame was written before this one.
        id: StepId,
    },
}

/// From a harness to the session agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHarness {
    /// The harness is up and accepts frames.
    Ready {
        /// The language's version, `3.11.7` or `20.20.2`.
        version: String,
        /// The interpreter's process id, as it sees it itself.
        pid: u32,
    },
    /// The step has ended; everything it printed is in the pipes.
    Finished {
        /// Which step.
        id: StepId,
        /// `completed`, `error`, `interrupted` or `out_of_memory`.
        status: StepStatus,
        /// Present when there is a value or a display.
        result: Option<StepResult>,
        /// Present unless `completed`.
        error: Option<StepError>,
    },
}

impl ToHarness {
    /// The whole frame, length prefix included.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = FrameWriter::new();
        match self {
            Self::Configure { cwd, env } => {
                frame.field("op", b"configure");
                frame.field("cwd", cwd.as_bytes());
                for (name, value) in env {
                    frame.field("env", format!("{name}={value}").as_bytes());
                }
            }
            Self::Step {
                id,
                code,
                stdin,
                max_result_bytes,
            } => {
                frame.field("op", b"step");
                frame.field("id", id.to_string().as_bytes());
                frame.field("code", code.as_bytes());
                if let Some(stdin) = stdin {
                    frame.field("stdin", stdin.as_bytes());
                }
                frame.field("max_result_bytes", max_result_bytes.to_string().as_bytes());
            }
            Self::Interrupt { id } => {
                frame.field("op", b"interrupt");
                frame.field("id", id.to_string().as_bytes());
            }
        }
        frame.finish()
    }
}

impl ToHarness {
    /// Reads a step back from its whole frame, as a journal keeps it; `None` for anything else.
    pub fn decode_step(frame: &[u8]) -> Option<Self> {
        let (mut op, mut id, mut code, mut stdin, mut max_result_bytes) =
            (None, None, None, None, 0);
        for field in Fields::new(frame.get(4..)?) {
            let (key, value) = field.ok()?;
            let value = text(key, value).ok()?;
            match key {
                "op" => op = Some(value),
                "id" => id = StepId::parse(value).ok(),
                "code" => code = Some(value.to_owned()),
                "stdin" => stdin = Some(value.to_owned()),
                "max_result_bytes" => max_result_bytes = value.parse().ok()?,
                _ => {}
            }
        }
        if op != Some("step") {
            return None;
        }
        Some(Self::Step {
            id: id?,
            code: code?,
            stdin,
            max_result_bytes,
        })
    }
}

impl FromHarness {
    /// Reads a payload (without its length prefix). Unknown fields are ignored.
    ///
    /// # Errors
    /// Anything that no harness sends: the caller should treat the interpreter as lost.
    pub fn decode(payload: &[u8]) -> Result<Self, FrameError> {
        let mut read = Read::default();
        for field in Fields::new(payload) {
            let (key, value) = field?;
            read.take(key, value)?;
        }
        match read.op.as_deref() {
            Some("ready") => read.ready(),
            Some("finished") => read.finished(),
            Some(other) => Err(invalid("op", other)),
            None => Err(FrameError::Missing("op")),
        }
    }
}

/// Every field a harness may send.
#[derive(Default)]
struct Read {
    op: Option<String>,
    id: Option<StepId>,
    version: Option<String>,
    pid: Option<u32>,
    status: Option<StepStatus>,
    result: StepResult,
    error: StepError,
}

impl Read {
    fn take(&mut self, key: &str, value: &[u8]) -> Result<(), FrameError> {
        match key {
            "op" => self.op = Some(text(key, value)?.to_owned()),
            "id" => {
                let value = text(key, value)?;
                self.id = Some(StepId::parse(value).map_err(|_| invalid("id", value))?);
            }
            "version" => self.version = Some(text(key, value)?.to_owned()),
            "pid" => {
                let value = text(key, value)?;
                self.pid = Some(value.parse().map_err(|_| invalid("pid", value))?);
            }
            "status" => {
                let value = text(key, value)?;
                self.status = Some(finished_status(value)?);
            }
            "text" => self.result.text = Some(text(key, value)?.to_owned()),
            "data" => add_form(&mut self.result.data, value)?,
            "display" => self.result.displays.push(display(value)?),
            "truncated" => self.result.truncated = true,
            "error_type" => self.error.kind = text(key, value)?.to_owned(),
            "error_message" => self.error.message = text(key, value)?.to_owned(),
            "traceback" => self.error.traceback = text(key, value)?.to_owned(),
            _ => {}
        }
        Ok(())
    }

    fn id(&self) -> Result<StepId, FrameError> {
        self.id.ok_or(FrameError::Missing("id"))
    }

    fn ready(self) -> Result<FromHarness, FrameError> {
        Ok(FromHarness::Ready {
            version: self.version.ok_or(FrameError::Missing("version"))?,
            pid: self.pid.ok_or(FrameError::Missing("pid"))?,
        })
    }

    fn finished(self) -> Result<FromHarness, FrameError> {
        let id = self.id()?;
        let status = self.status.ok_or(FrameError::Missing("status"))?;
        let failed = status != StepStatus::Completed;
        if failed && self.error.kind.is_empty() {
            return Err(FrameError::Missing("error_type"));
        }
        let empty = self.result == StepResult::default();
        Ok(FromHarness::Finished {
            id,
            status,
            result: (!empty).then_some(self.result),
            error: failed.then_some(self.error),
        })
    }
}

/// The states a harness can vouch for; the others are somebody else's to tell.
fn finished_status(value: &str) -> Result<StepStatus, FrameError> {
    match StepStatus::parse(value) {
        Some(
            status @ (StepStatus::Completed
            | StepStatus::Error
            | StepStatus::Interrupted
            | StepStatus::OutOfMemory),
        ) => Ok(status),
        _ => Err(invalid("status", value)),
    }
}

/// `mime NUL value`
fn add_form(bundle: &mut MimeBundle, value: &[u8]) -> Result<(), FrameError> {
    let value = text("data", value)?;
    let (mime, form) = value
        .split_once('\0')
        .ok_or_else(|| invalid("data", value))?;
    bundle.insert(mime.to_owned(), form.to_owned());
    Ok(())
}

/// A nested list of `data` fields.
fn display(value: &[u8]) -> Result<MimeBundle, FrameError> {
    let mut bundle = MimeBundle::new();
    for field in Fields::new(value) {
        let (key, value) = field?;
        if key == "data" {
            add_form(&mut bundle, value)?;
        }
    }
    Ok(bundle)
}

fn invalid(field: &'static str, value: &str) -> FrameError {
    FrameError::Invalid {
        field,
        value: value.chars().take(40).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::split_frame;

    const ID: &str = "0191e7a0-7c1e-7000-8000-00000000002a";

    fn payload(fields: &[(&'static str, &[u8])]) -> Vec<u8> {
        let mut frame = FrameWriter::new();
        for (key, value) in fields {
            frame.field(key, value);
        }
        frame.finish().split_off(4)
    }

    #[test]
    fn a_step_is_encoded_in_order() {
        let frame = ToHarness::Step {
            id: StepId::parse(ID).unwrap(),
            code: "x".to_owned(),
            stdin: Some(String::new()),
            max_result_bytes: 9,
        }
        .encode();
        let (payload, _) = split_frame(&frame).unwrap().unwrap();
        let fields: Vec<_> = Fields::new(payload).map(Result::unwrap).collect();
        let expected: [(&str, &[u8]); 5] = [
            ("op", b"step"),
            ("id", ID.as_bytes()),
            ("code", b"x"),
            ("stdin", b""),
            ("max_result_bytes", b"9"),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_finished_frame_with_everything() {
        let mut inner = FrameWriter::new();
        inner.field("data", b"image/png\0AA==");
        let inner = inner.finish().split_off(4);
        let decoded = FromHarness::decode(&payload(&[
            ("op", b"finished"),
            ("id", ID.as_bytes()),
            ("status", b"completed"),
            ("text", b"42"),
            ("data", b"text/html\0<b>"),
            ("display", &inner),
            ("truncated", b"1"),
            ("of the future", b"\xff"),
        ]));
        let bundle = |mime: &str, form: &str| MimeBundle::from([(mime.into(), form.into())]);
        assert_eq!(
            decoded,
            Ok(FromHarness::Finished {
                id: StepId::parse(ID).unwrap(),
                status: StepStatus::Completed,
                result: Some(StepResult {
                    text: Some("42".into()),
                    data: bundle("text/html", "<b>"),
                    displays: vec![bundle("image/png", "AA==")],
                    truncated: true,
                }),
                error: None,
            })
        );
    }

    #[test]
    fn what_no_harness_says_is_refused() {
        let id = ID.as_bytes();
        for (fields, expected) in [
            (&[][..], FrameError::Missing("op")),
            (&[("op", &b"forged"[..])], invalid("op", "forged")),
            (&[("op", b"finished")], FrameError::Missing("id")),
            (&[("op", b"finished"), ("id", b"7")], invalid("id", "7")),
            (
                &[("op", b"finished"), ("id", id)],
                FrameError::Missing("status"),
            ),
            (
                &[("op", b"finished"), ("id", id), ("status", b"lost")],
                invalid("status", "lost"),
            ),
            (
                &[("op", b"finished"), ("id", id), ("status", b"error")],
                FrameError::Missing("error_type"),
            ),
            (
                &[("op", b"ready"), ("version", b"\xff")],
                FrameError::NotText("version".into()),
            ),
            (
                &[("op", b"finished"), ("data", b"no separator")],
                invalid("data", "no separator"),
            ),
        ] {
            assert_eq!(FromHarness::decode(&payload(fields)), Err(expected));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = FromHarness::decode(&bytes);
        }

        /// Garbage that looks right from afar: real keys, wrong values, a cut somewhere.
        #[test]
        fn mutilated_frames_decode_or_fail(
            picks in prop::collection::vec((0usize..10, prop::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in any::<prop::sample::Index>(),
        ) {
            const KEYS: [&str; 10] = [
                "op", "id", "status", "text", "data", "display", "truncated", "error_type",
                "version", "pid",
            ];
            let mut frame = FrameWriter::new();
            frame.field("op", b"finished");
            frame.field("id", ID.as_bytes());
            frame.field("status", b"completed");
            for (key, value) in &picks {
                frame.field(KEYS[*key], value);
            }
            let payload = frame.finish().split_off(4);
            let _ = FromHarness::decode(&payload);
            let _ = FromHarness::decode(&payload[..cut.index(payload.len())]);
        }
    }
}
