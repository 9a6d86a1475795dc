//! How large a terminal is when several look at it.

use abide_keeper::WindowSize;
use abide_model::{SizePolicy, ViewerRole};

/// What one viewer has to do with the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claim {
    /// Those who only look have no say.
    pub(super) role: ViewerRole,
    /// `None` until it has said.
    pub(super) size: Option<WindowSize>,
    /// When it last did something, as a number that grows.
    pub(super) active: u64,
}

/// The size that the terminal is to have; `None` where nobody asks for one. `claims` in the order in
/// which the viewers came.
pub(super) fn wanted<'a>(
    policy: SizePolicy,
    claims: impl Iterator<Item = &'a Claim>,
) -> Option<WindowSize> {
    let mut sizes = claims
        .filter(|claim| claim.role == ViewerRole::Drive)
        .filter_map(|claim| Some((claim.active, claim.size?)));
    match policy {
        SizePolicy::Latest => sizes
            .max_by_key(|(active, _)| *active)
            .map(|(_, size)| size),
        SizePolicy::Owner => sizes.next().map(|(_, size)| size),
        SizePolicy::Smallest => sizes.map(|(_, size)| size).reduce(|one, other| {
            WindowSize::new(one.columns.min(other.columns), one.rows.min(other.rows))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decides() {
        let claim = |role, size: Option<(u16, u16)>, active| Claim {
            role,
            size: size.map(|(columns, rows)| WindowSize::new(columns, rows)),
            active,
        };
        let check = |policy, claims: &[Claim], expected: Option<(u16, u16)>| {
            let expected = expected.map(|(columns, rows)| WindowSize::new(columns, rows));
            assert_eq!(
                wanted(policy, claims.iter()),
                expected,
                "{policy} {claims:?}"
            );
        };
        let (drive, view) = (ViewerRole::Drive, ViewerRole::View);
        let claims = [
            claim(drive, None, 9),
            claim(drive, Some((100, 20)), 3),
            claim(view, Some((10, 5)), 8),
            claim(drive, Some((80, 40)), 7),
        ];
        check(SizePolicy::Latest, &claims, Some((80, 40)));
        check(SizePolicy::Owner, &claims, Some((100, 20)));
        check(SizePolicy::Smallest, &claims, Some((80, 20)));
        check(SizePolicy::Latest, &claims[..1], None);
        check(SizePolicy::Smallest, &[], None);
    }
}
