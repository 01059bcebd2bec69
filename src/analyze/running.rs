//! How many goroutines run at the same time, and who runs alone.

use super::states::Change;
use crate::read::{GoId, GoState, Time};

/// Counts goroutines that run, over time.
#[derive(Default)]
pub struct Running {
    begin: Option<Time>,
    since: Option<Time>,
    now_running: u64,
    max_running: u64,
    /// Running goroutines times nanoseconds.
    weighted_ns: u128,
    /// By number of running goroutines: 0, 1, more.
    by_number_ns: [u64; 3],
    /// The sum of the ids of those that run: with one of them that is its id, so that nothing needs to be looked up.
    id_sum: u64,
    alone_since: Time,
    longest_alone: (u64, Time, u64),
    exist: u64,
    max_exist: u64,
    runnable: i64,
    runnable_weighted_ns: u128,
}

/// What [`Running`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Concurrency {
    /// The mean number of goroutines that ran.
    pub mean: f64,
    /// The most that ran at a time.
    pub max: u64,
    /// How long none ran, in nanoseconds.
    pub none_ns: u64,
    /// How long exactly one ran.
    pub one_ns: u64,
    /// The longest time that one ran with no other beside it: how long, since when, which one.
    pub longest_alone: Option<(u64, Time, GoId)>,
    /// The mean number of goroutines that could run and had no processor.
    pub mean_runnable: f64,
    /// The most that existed at a time.
    pub max_exist: u64,
}

impl Running {
    /// The trace begins.
    pub fn begin(&mut self, at: Time) {
        self.begin.get_or_insert(at);
        self.since.get_or_insert(at);
    }

    fn advance(&mut self, to: Time) {
        let Some(since) = self.since.replace(to) else { return };
        let ns = to.since(since).max(0) as u64;
        self.weighted_ns += u128::from(ns) * u128::from(self.now_running);
        self.runnable_weighted_ns += u128::from(ns) * self.runnable.max(0) as u128;
        self.by_number_ns[self.now_running.min(2) as usize] += ns;
    }

    /// Takes in a change. `at` is its time. Returns the goroutine if by this the longest time ends that one ran alone so far.
    #[inline]
    pub fn update(&mut self, at: Time, c: &Change) -> Option<GoId> {
        let new = matches!(c.from, GoState::NotExist | GoState::Undetermined);
        if new && c.to != GoState::NotExist {
            self.exist += 1;
            self.max_exist = self.max_exist.max(self.exist);
        } else if c.to == GoState::NotExist && !new {
            self.exist = self.exist.saturating_sub(1);
        }
        if c.from == GoState::Undetermined && c.to == GoState::Running {
            // It ran before it was first told.
            let lead = self.begin.map_or(0, |b| at.since(b).max(0));
            self.weighted_ns += lead as u128;
        }
        let ran = c.from == GoState::Running;
        let runs = c.to == GoState::Running;
        let runnable = i64::from(c.to == GoState::Runnable) - i64::from(c.from == GoState::Runnable);
        if ran == runs && runnable == 0 {
            return None;
        }
        self.advance(at);
        self.runnable += runnable;
        if ran == runs {
            return None;
        }
        let alone = self.now_running == 1 && self.alone_until(at);
        let who = GoId(self.id_sum);
        if runs {
            self.now_running += 1;
            self.id_sum = self.id_sum.wrapping_add(c.id.0);
        } else {
            self.now_running = self.now_running.saturating_sub(1);
            self.id_sum = self.id_sum.wrapping_sub(c.id.0);
        }
        self.max_running = self.max_running.max(self.now_running);
        if self.now_running == 1 {
            self.alone_since = at;
        }
        alone.then_some(who)
    }

    /// Whether it is the longest time so far.
    fn alone_until(&mut self, at: Time) -> bool {
        let ns = at.since(self.alone_since).max(0) as u64;
        let longest = ns > self.longest_alone.0;
        if longest {
            self.longest_alone = (ns, self.alone_since, self.id_sum);
        }
        longest
    }

    /// The trace ends. Says too whether the longest time alone goes on until there.
    #[must_use]
    pub fn finish(mut self, begin: Time, end: Time) -> (Concurrency, bool) {
        self.advance(end);
        let last = self.now_running == 1 && self.alone_until(end);
        let ns = end.since(begin).max(1) as f64;
        let (alone_ns, at, id) = self.longest_alone;
        let found = Concurrency {
            mean: self.weighted_ns as f64 / ns,
            max: self.max_running,
            none_ns: self.by_number_ns[0],
            one_ns: self.by_number_ns[1],
            longest_alone: (alone_ns > 0).then_some((alone_ns, at, GoId(id))),
            mean_runnable: self.runnable_weighted_ns as f64 / ns,
            max_exist: self.max_exist,
        };
        (found, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::states::Slot;

    fn go(at: i64, id: u64, from: GoState, to: GoState) -> (Time, Change) {
        (Time(at), Change { slot: Slot(0), id: GoId(id), from, to, span: None })
    }

    #[test]
    fn who_runs_alone_and_how_many_run() {
        use GoState::{NotExist, Runnable, Running as Runs, Waiting};
        let mut r = Running::default();
        r.begin(Time(0));
        for (at, c) in [
            go(0, 7, NotExist, Runnable),
            go(10, 7, Runnable, Runs),
            go(10, 9, NotExist, Runs),
            go(30, 9, Runs, Waiting),
            go(90, 9, Waiting, Runs),
            go(95, 7, Runs, NotExist),
        ] {
            r.update(at, &c);
        }
        let (c, last) = r.finish(Time(0), Time(100));
        assert!(!last);
        assert_eq!(c.longest_alone, Some((60, Time(30), GoId(7))));
        assert_eq!((c.none_ns, c.one_ns, c.max, c.max_exist), (10, 65, 2, 2));
        assert!((c.mean - (20.0 * 2.0 + 60.0 + 5.0 * 2.0 + 5.0) / 100.0).abs() < 1e-12);
        assert!((c.mean_runnable - 0.1).abs() < 1e-12);
    }
}
