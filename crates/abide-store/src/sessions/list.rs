//! How a list of sessions is asked for.

use abide_model::{SessionFilter, SessionStatus};
use rusqlite::types::Value;

use super::COLUMNS;

/// The query for a list and its values.
///
/// Every combination of owner and status has an index in list order, so the cost is that of the
/// rows shown, however many there are. Several statuses are several such walks, merged.
pub(super) fn query(filter: &SessionFilter) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut place = |value: Value| {
        values.push(value);
        format!("?{}", values.len())
    };
    let limit = place(filter.limit.max(0).into());
    let mut common = String::new();
    if let Some(id) = filter.agent_id {
        // A name is more selective; the `+` keeps the database from looking up the owner first.
        let plus = if filter.name.is_some() { "+" } else { "" };
        common += &format!(
            " AND {plus}agent_id = {}",
            place(id.0.as_bytes().to_vec().into())
        );
    }
    if let Some(name) = &filter.name {
        common += &format!(" AND name = {}", place(name.clone().into()));
    }
    if let Some((time, id)) = filter.after {
        let time = place(time.as_micros().into());
        let id = place(id.0.as_bytes().to_vec().into());
        common += &format!(" AND (created_at, id) < ({time}, {id})");
    }
    let branch =
        |condition: &str| format!("SELECT {COLUMNS} FROM sessions WHERE true{common}{condition}");
    let wanted: Vec<_> = SessionStatus::ALL
        .iter()
        .filter(|status| filter.statuses.contains(status))
        .collect();
    let all = wanted.is_empty() || wanted.len() == SessionStatus::ALL.len();
    let body = if all {
        branch("")
    } else if filter.name.is_some() {
        let list = wanted
            .iter()
            .map(|s| format!("'{s}'"))
            .collect::<Vec<_>>()
            .join(", ");
        branch(&format!(" AND +status IN ({list})"))
    } else {
        let branches = wanted
            .iter()
            .map(|status| branch(&format!(" AND status = '{status}'")));
        branches.collect::<Vec<_>>().join(" UNION ALL ")
    };
    (
        format!("{body} ORDER BY created_at DESC, id DESC LIMIT {limit}"),
        values,
    )
}

#[cfg(test)]
mod tests {
    use abide_model::{AgentId, SessionId, Timestamp};

    use super::*;

    #[track_caller]
    fn check(filter: &SessionFilter, index: &str) {
        let plan = crate::open::plan(&query(filter).0);
        let used = plan
            .lines()
            .any(|step| step.split(' ').any(|word| word == index));
        assert!(used, "{index} in:\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{plan}");
    }

    #[test]
    fn every_list_walks_an_index_in_order() {
        use SessionStatus::{Active, Crashed};
        let agent_id = Some(AgentId::new());
        for after in [None, Some((Timestamp::from_micros(0), SessionId::new()))] {
            let all = SessionFilter {
                after,
                limit: 50,
                ..SessionFilter::default()
            };
            let of_agent = SessionFilter {
                agent_id,
                ..all.clone()
            };
            let with = |filter: &SessionFilter, statuses: &[SessionStatus]| SessionFilter {
                statuses: statuses.to_vec(),
                ..filter.clone()
            };
            check(&all, "sessions_by_age");
            check(&of_agent, "sessions_by_agent");
            check(&with(&all, &[Active]), "sessions_by_status");
            check(&with(&all, &[Active, Crashed]), "sessions_by_status");
            check(&with(&of_agent, &[Active]), "sessions_by_agent_status");
            check(
                &with(&of_agent, &[Active, Crashed]),
                "sessions_by_agent_status",
            );
            check(&with(&all, SessionStatus::ALL), "sessions_by_age");
            let name = Some("demo".to_owned());
            check(&SessionFilter { name, ..of_agent }, "sessions_by_name");
        }
    }
}
