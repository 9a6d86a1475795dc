//! How one who comes to look is described in the query of a request, from plane to plane.

use abide_keeper::WindowSize;
use abide_model::{ACK_WINDOW, Problem, ViewerRole};

use super::super::body::Fields;
use crate::terminal::Visit;

/// What `visit_of` reads.
pub fn query_of(visit: &Visit) -> String {
    let Visit {
        role,
        size,
        resume_from,
        scrollback,
        screen_first,
        blocks,
        ack_window,
    } = visit;
    let (screen_first, blocks) = (u8::from(*screen_first), u8::from(*blocks));
    let mut query = format!(
        "role={role}&scrollback={scrollback}&screen_first={screen_first}&blocks={blocks}\
         &ack_window={ack_window}"
    );
    if let Some(size) = size {
        query.push_str(&format!("&cols={}&rows={}", size.columns, size.rows));
    }
    if let Some(offset) = resume_from {
        query.push_str(&format!("&resume_from={offset}"));
    }
    query
}

/// Who comes to look.
pub(in super::super) fn visit_of(query: Option<&str>) -> Result<Visit, Problem> {
    let mut fields = Fields::of_query(query);
    let role = fields.parsed("role", "must be drive or view", ViewerRole::parse)?;
    let mut side = |name| {
        let side = fields.number(name, u64::from(u16::MAX))?;
        Ok::<_, Problem>(side.and_then(|side| u16::try_from(side).ok()))
    };
    let size = (side("cols")?, side("rows")?);
    Ok(Visit {
        role: role.unwrap_or(ViewerRole::Drive),
        size: match size {
            (Some(cols), Some(rows)) => Some(WindowSize::new(cols, rows)),
            _ => None,
        },
        resume_from: fields.number("resume_from", u64::MAX)?,
        scrollback: fields
            .number("scrollback", u64::MAX)?
            .map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        screen_first: fields.flag("screen_first", false)?,
        blocks: fields.flag("blocks", false)?,
        ack_window: fields.number("ack_window", u64::MAX)?.unwrap_or(ACK_WINDOW),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut visit = Visit {
            role: ViewerRole::View,
            size: Some(WindowSize::new(101, 31)),
            resume_from: Some(7),
            scrollback: usize::MAX,
            screen_first: true,
            blocks: true,
            ack_window: 8,
        };
        for _ in 0..2 {
            let read = visit_of(Some(&query_of(&visit))).unwrap();
            assert_eq!(format!("{read:?}"), format!("{visit:?}"));
            visit.size = None;
            visit.resume_from = None;
            visit.blocks = false;
        }
        assert!(visit_of(Some("role=admin")).is_err());
    }
}
