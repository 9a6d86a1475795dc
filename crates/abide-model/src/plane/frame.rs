//! Reading a [`StepFrame`].
//!
//! By hand: what is derived for a type with its tag among its fields reads all of them into a tree
//! first, wherever the tag is, and builds the frame from that. Here the tag comes first, as it is
//! written, and the fields are read as they come; only where it does not is there a tree.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, IntoDeserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::StepFrame;
use crate::{StepOutcome, Timestamp, WorkerId};

const TAG: &str = "frame";

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Started,
    Output,
    Gap,
    Ended,
}

#[derive(Deserialize)]
struct Started {
    at: Timestamp,
    worker_id: WorkerId,
    output_start: u64,
}

#[derive(Deserialize)]
struct Output {
    stderr: bool,
    data: String,
    end: u64,
}

#[derive(Deserialize)]
struct Gap {
    from: u64,
    to: u64,
}

#[derive(Deserialize)]
struct Ended {
    outcome: Box<StepOutcome>,
    worker_id: Option<WorkerId>,
}

impl Kind {
    fn read<'de, D: Deserializer<'de>>(self, fields: D) -> Result<StepFrame, D::Error> {
        Ok(match self {
            Self::Started => {
                let Started {
                    at,
                    worker_id,
                    output_start,
                } = Started::deserialize(fields)?;
                StepFrame::Started {
                    at,
                    worker_id,
                    output_start,
                }
            }
            Self::Output => {
                let Output { stderr, data, end } = Output::deserialize(fields)?;
                StepFrame::Output { stderr, data, end }
            }
            Self::Gap => {
                let Gap { from, to } = Gap::deserialize(fields)?;
                StepFrame::Gap { from, to }
            }
            Self::Ended => {
                let Ended { outcome, worker_id } = Ended::deserialize(fields)?;
                StepFrame::Ended { outcome, worker_id }
            }
        })
    }
}

impl<'de> Deserialize<'de> for StepFrame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Frame)
    }
}

struct Frame;

impl<'de> Visitor<'de> for Frame {
    type Value = StepFrame;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a step's frame")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<StepFrame, A::Error> {
        let mut before = Map::new();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            if name != TAG {
                before.insert(name.into_owned(), map.next_value()?);
                continue;
            }
            let kind: Kind = map.next_value()?;
            if before.is_empty() {
                return kind.read(MapAccessDeserializer::new(map));
            }
            while let Some((name, value)) = map.next_entry::<String, Value>()? {
                before.insert(name, value);
            }
            return kind
                .read(before.into_deserializer())
                .map_err(A::Error::custom);
        }
        Err(A::Error::missing_field(TAG))
    }
}

#[cfg(test)]
mod tests {
    use crate::{StepId, StepOutcome};

    use super::*;

    fn check(frame: &StepFrame) {
        let written = serde_json::to_string(frame).unwrap();
        assert!(written.starts_with(r#"{"frame":""#), "{written}");
        assert_eq!(&serde_json::from_str::<StepFrame>(&written).unwrap(), frame);
        // As somebody else may write it: the tag last.
        let (first, rest) = written[1..].split_once(',').unwrap();
        let turned = format!("{{{},{first}}}", rest.strip_suffix('}').unwrap());
        assert_eq!(&serde_json::from_str::<StepFrame>(&turned).unwrap(), frame);
    }

    #[test]
    fn every_frame_is_read_as_it_was_written_and_with_its_tag_elsewhere() {
        let worker_id = WorkerId::new();
        check(&StepFrame::Started {
            at: Timestamp::from_micros(1_700_000_000_000_000),
            worker_id,
            output_start: 7,
        });
        check(&StepFrame::Output {
            stderr: true,
            data: "aGk=".to_owned(),
            end: 9,
        });
        check(&StepFrame::Gap { from: 9, to: 12 });
        for worker_id in [None, Some(worker_id)] {
            check(&StepFrame::Ended {
                outcome: Box::new(StepOutcome::lost(StepId::new(), "gone")),
                worker_id,
            });
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for text in [
            "{}",
            "[]",
            r#"{"frame":"begun"}"#,
            r#"{"frame":"gap","from":1}"#,
        ] {
            assert!(serde_json::from_str::<StepFrame>(text).is_err(), "{text}");
        }
        let more = r#"{"frame":"gap","from":1,"more":[],"to":2}"#;
        assert!(serde_json::from_str::<StepFrame>(more).is_ok());
    }
}
