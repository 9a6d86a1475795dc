//! Whether anybody looks at a terminal, and whether it is to be ended because nobody does.

/// ```text
///            the last one leaves
///  attached ─────────────────────► orphaned(n) ── timer n ──► reaped
///      ▲       n grows by one          │
///      └───────────────────────────────┘
///               somebody comes
/// ```
///
/// A timer carries the number of the absence that it was set for. One that was overtaken by somebody who
/// came, or by an absence that began later, does nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Presence {
    viewers: usize,
    absence: Absence,
    is_reaped: bool,
}

/// Numbers the times during which nobody looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Absence(u64);

impl Presence {
    /// Nobody looks.
    pub(super) const fn is_orphaned(&self) -> bool {
        self.viewers == 0
    }

    /// The absence that goes on now; none while somebody looks.
    pub(super) fn absence(&self) -> Option<Absence> {
        self.is_orphaned().then_some(self.absence)
    }

    /// Somebody comes; `false`: too late.
    pub(super) const fn come(&mut self) -> bool {
        if self.is_reaped {
            return false;
        }
        self.viewers += 1;
        true
    }

    /// One of those who came leaves; the absence that begins, if that was the last.
    pub(super) fn leave(&mut self) -> Option<Absence> {
        self.viewers = self.viewers.saturating_sub(1);
        if self.viewers == 0 {
            self.absence.0 += 1;
        }
        self.absence()
    }

    /// The timer of an absence fires; whether the terminal is to be ended now.
    pub(super) fn expire(&mut self, absence: Absence) -> bool {
        let reaps = self.absence() == Some(absence) && !self.is_reaped;
        self.is_reaped |= reaps;
        reaps
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Act {
        Come,
        Leave,
        /// A timer that was set earlier fires now, whenever it was due.
        Fire(usize),
        /// All that is due fires, in the order in which it was set.
        Pass(u64),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            3 => Just(Act::Come),
            3 => Just(Act::Leave),
            1 => any::<usize>().prop_map(Act::Fire),
            2 => (0_u64..25).prop_map(Act::Pass),
        ]
    }

    const GRACE: u64 = 10;

    proptest! {
        /// The model: it is reaped at the moment at which nobody has looked for a whole grace, and not before.
        #[test]
        fn reaped_after_a_whole_grace_and_never_while_somebody_looks(acts in prop::collection::vec(act(), 1..60)) {
            let mut presence = Presence::default();
            let mut timers = vec![(GRACE, presence.absence().unwrap())];
            // Which timer belongs to the absence that goes on.
            let (mut now, mut viewers, mut live) = (0_u64, 0_u32, Some(0_usize));
            let mut is_reaped = false;
            for act in acts {
                match act {
                    Act::Come => {
                        prop_assert_eq!(presence.come(), !is_reaped);
                        if !is_reaped {
                            viewers += 1;
                            live = None;
                        }
                    }
                    Act::Leave if viewers > 0 => {
                        viewers -= 1;
                        let absence = presence.leave();
                        prop_assert_eq!(absence.is_some(), viewers == 0);
                        if let Some(absence) = absence {
                            live = Some(timers.len());
                            timers.push((now + GRACE, absence));
                        }
                    }
                    Act::Leave => {}
                    Act::Fire(which) => {
                        // Late, or twice: all of these have fired, or were overtaken.
                        let due: Vec<_> = timers.iter().filter(|(at, _)| *at <= now).collect();
                        if !due.is_empty() {
                            let (_, absence) = due[which % due.len()];
                            prop_assert!(!presence.expire(*absence));
                        }
                    }
                    Act::Pass(time) => {
                        let end = now + time;
                        for (n, (at, absence)) in timers.iter().enumerate() {
                            if (now..=end).contains(at) {
                                let reaps = presence.expire(*absence);
                                prop_assert_eq!(reaps, live == Some(n) && !is_reaped);
                                is_reaped |= reaps;
                            }
                        }
                        now = end;
                    }
                }
                prop_assert_eq!(presence.is_orphaned(), viewers == 0);
                let is_over = live.is_some_and(|live| timers[live].0 <= now);
                prop_assert!(is_reaped || !is_over, "nobody looked for a whole grace");
            }
        }
    }

    #[test]
    fn an_overtaken_timer_does_nothing() {
        let mut presence = Presence::default();
        let first = presence.absence().unwrap();
        assert!(presence.come());
        let second = presence.leave().unwrap();
        assert!(!presence.expire(first));
        assert!(presence.come());
        assert!(presence.come());
        // One who goes is not the last.
        assert_eq!(presence.leave(), None);
        assert!(!presence.expire(second));
        let third = presence.leave().unwrap();
        assert!(presence.expire(third));
        assert!(!presence.come() && !presence.expire(third));
    }
}
