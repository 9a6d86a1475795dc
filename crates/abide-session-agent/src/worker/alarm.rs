//! A timer for moments that mostly do not come.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// Waits for one moment after another, of which most are called off before they come: thousands of
/// times a second where steps are short. To register each would cost the runtime a system call and
/// a turn; here one that is registered stays so, and where it comes for nothing the next one is.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    registered: bool,
}

impl Alarm {
    /// Until `moment`; for ever where there is none. May be given up and called again.
    pub(super) async fn until(&mut self, moment: Option<Instant>) {
        loop {
            match (moment, &mut self.sleep) {
                (None, _) if !self.registered => return std::future::pending().await,
                (Some(moment), Some(sleep)) if !self.registered || sleep.deadline() > moment => {
                    sleep.as_mut().reset(moment);
                }
                (Some(moment), None) => self.sleep = Some(Box::pin(sleep_until(moment))),
                _ => {}
            }
            self.registered = true;
            if let Some(sleep) = &mut self.sleep {
                sleep.as_mut().await;
            }
            self.registered = false;
            if moment.is_some_and(|moment| moment <= Instant::now()) {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(2);

    #[tokio::test(start_paused = true)]
    async fn each_moment_comes_when_it_is_due() {
        let mut alarm = Alarm::default();
        for _ in 0..3 {
            let due = Instant::now() + MOMENT;
            alarm.until(Some(due)).await;
            assert_eq!(Instant::now(), due);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_was_called_off_does_not_come() {
        let mut alarm = Alarm::default();
        let first = Instant::now() + MOMENT;
        assert!(timeout(MOMENT / 2, alarm.until(Some(first))).await.is_err());
        assert!(timeout(MOMENT * 10, alarm.until(None)).await.is_err());
        let next = Instant::now() + MOMENT;
        alarm.until(Some(next)).await;
        assert_eq!(Instant::now(), next);
    }

    #[tokio::test(start_paused = true)]
    async fn another_moment_in_its_place_comes_at_its_own_time() {
        let mut alarm = Alarm::default();
        let begun = Instant::now();
        for (registered, wanted) in [(4, 6), (20, 9)] {
            let registered = begun + Duration::from_millis(registered);
            let given_up = timeout(Duration::from_millis(1), alarm.until(Some(registered)));
            assert!(given_up.await.is_err());
            let wanted = begun + Duration::from_millis(wanted);
            alarm.until(Some(wanted)).await;
            assert_eq!(Instant::now(), wanted);
        }
    }
}
