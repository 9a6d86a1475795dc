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

/// The size that a terminal is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) size: WindowSize,
    /// Whose windows it is of.
    pub(super) by: Vec<u64>,
}

/// `None` where nobody asks for a size. `claims` in the order in which the viewers came.
pub(super) fn decide<'a>(
    policy: SizePolicy,
    claims: impl Iterator<Item = (u64, &'a Claim)>,
) -> Option<Decision> {
    let sizes: Vec<(u64, u64, WindowSize)> = claims
        .filter(|(_, claim)| claim.role == ViewerRole::Drive)
        .filter_map(|(id, claim)| Some((id, claim.active, claim.size?)))
        .collect();
    let one = |(id, _, size): (u64, u64, WindowSize)| Decision { size, by: vec![id] };
    match policy {
        SizePolicy::Latest => sizes.into_iter().max_by_key(|it| it.1).map(one),
        SizePolicy::Owner => sizes.into_iter().next().map(one),
        SizePolicy::Smallest => {
            let columns = sizes.iter().map(|(.., size)| size.columns).min()?;
            let rows = sizes.iter().map(|(.., size)| size.rows).min()?;
            let bounds = |size: &WindowSize| size.columns == columns || size.rows == rows;
            let by = sizes.iter().filter(|(.., size)| bounds(size));
            Some(Decision {
                size: WindowSize::new(columns, rows),
                by: by.map(|(id, ..)| *id).collect(),
            })
        }
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
        let check = |policy, claims: &[Claim], expected: Option<(u16, u16, &[u64])>| {
            let expected = expected.map(|(columns, rows, by)| Decision {
                size: WindowSize::new(columns, rows),
                by: by.to_vec(),
            });
            let decision = decide(policy, (0..).zip(claims));
            assert_eq!(decision, expected, "{policy} {claims:?}");
        };
        let (drive, view) = (ViewerRole::Drive, ViewerRole::View);
        let claims = [
            claim(drive, None, 9),
            claim(drive, Some((100, 20)), 3),
            claim(view, Some((10, 5)), 8),
            claim(drive, Some((80, 40)), 7),
        ];
        check(SizePolicy::Latest, &claims, Some((80, 40, &[3])));
        check(SizePolicy::Owner, &claims, Some((100, 20, &[1])));
        check(SizePolicy::Smallest, &claims, Some((80, 20, &[1, 3])));
        check(SizePolicy::Latest, &claims[..1], None);
        check(SizePolicy::Smallest, &[], None);
    }
}
