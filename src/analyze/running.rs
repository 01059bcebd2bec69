//! How many goroutines run at the same time, and who runs alone.
//!
//! A goroutine's state may be told for the first time late in the first generation. If it runs then, it has run since the trace
//! began: whatever was counted until there is one too few. All of the past is raised by one, so nothing of it has to be kept
//! but sums and the longest times.

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
    /// Since when none runs, and the longest time that is over in which none did: who turns out to have run since the start was
    /// alone then.
    none_since: Time,
    longest_none: (u64, Time),
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
        if self.since.is_none() {
            self.since = Some(at);
            self.none_since = at;
        }
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
        let ran = c.from == GoState::Running;
        let runs = c.to == GoState::Running;
        let runnable = i64::from(c.to == GoState::Runnable) - i64::from(c.from == GoState::Runnable);
        if ran == runs && runnable == 0 {
            return None;
        }
        self.advance(at);
        self.runnable += runnable;
        if c.from == GoState::Undetermined {
            let lead = self.begin.map_or(0, |b| at.since(b).max(0) as u64);
            if runs && lead > 0 {
                return self.ran_from_the_start(lead, c.id);
            }
            self.runnable_weighted_ns += u128::from(lead) * runnable as u128;
        }
        if ran == runs {
            return None;
        }
        let alone = self.now_running == 1 && self.alone_until(at);
        let who = GoId(self.id_sum);
        if self.now_running == 0 {
            self.none_until(at);
        }
        if runs {
            self.now_running += 1;
            self.id_sum = self.id_sum.wrapping_add(c.id.0);
        } else {
            self.now_running = self.now_running.saturating_sub(1);
            self.id_sum = self.id_sum.wrapping_sub(c.id.0);
        }
        self.max_running = self.max_running.max(self.now_running);
        match self.now_running {
            0 => self.none_since = at,
            1 => self.alone_since = at,
            _ => {}
        }
        alone.then_some(who)
    }

    /// A goroutine turns out to run, and to have run since the trace began, `lead` nanoseconds ago. Returns it if now it has the
    /// longest time alone.
    #[cold]
    fn ran_from_the_start(&mut self, lead: u64, id: GoId) -> Option<GoId> {
        let [none, one, more] = self.by_number_ns;
        self.by_number_ns = [0, none, one + more];
        self.weighted_ns += u128::from(lead);
        self.max_running += 1;
        // Who seemed to be alone had this one beside him, and this one was alone where none seemed to run.
        let (ns, at) = std::mem::take(&mut self.longest_none);
        self.longest_alone = (ns, at, id.0);
        if self.now_running == 0 {
            self.alone_since = self.none_since;
        }
        self.now_running += 1;
        self.id_sum = self.id_sum.wrapping_add(id.0);
        (ns > 0).then_some(id)
    }

    fn none_until(&mut self, at: Time) {
        let ns = at.since(self.none_since).max(0) as u64;
        if ns > self.longest_none.0 {
            self.longest_none = (ns, self.none_since);
        }
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

    #[test]
    fn who_runs_when_first_seen_has_run_since_the_start() {
        use GoState::{NotExist, Runnable, Running as Runs, Undetermined, Waiting};
        let mut r = Running::default();
        r.begin(Time(0));
        let ends: Vec<_> = [
            go(10, 7, NotExist, Runs),
            go(40, 7, Runs, Waiting),
            // Goroutine 9 was alone until 10, beside 7 until 40, then alone again.
            go(60, 9, Undetermined, Runs),
            go(70, 8, NotExist, Runs),
            go(75, 8, Runs, NotExist),
            // Goroutine 5 was beside it all the time.
            go(80, 5, Undetermined, Runs),
            go(85, 4, Undetermined, Runnable),
            go(90, 9, Runs, Waiting),
        ]
        .into_iter()
        .map(|(at, c)| r.update(at, &c))
        .collect();
        assert_eq!(ends, [None, Some(GoId(7)), Some(GoId(9)), Some(GoId(9)), None, None, None, None]);
        let (c, last) = r.finish(Time(0), Time(100));
        assert!(last);
        assert_eq!(c.longest_alone, Some((10, Time(90), GoId(5))));
        assert_eq!((c.none_ns, c.one_ns, c.max), (0, 10, 3));
        assert!((c.mean - (30.0 + 90.0 + 5.0 + 100.0) / 100.0).abs() < 1e-12);
        assert!((c.mean_runnable - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_runs_and_when_none_does_agree() {
        use GoState::{NotExist, Running as Runs, Undetermined, Waiting};
        // All orders of a few changes, each told with and without a past.
        for bits in 0..64u64 {
            let mut r = Running::default();
            r.begin(Time(0));
            let mut ran = 0;
            for id in 0..6 {
                let begin = 10 * (id + 1);
                let early = bits >> id & 1 == 1;
                let from = if early { Undetermined } else { NotExist };
                let (at, c) = go(begin, id as u64 + 1, from, Runs);
                r.update(at, &c);
                let (at, c) = go(begin + 3 + id, id as u64 + 1, Runs, Waiting);
                r.update(at, &c);
                ran += 3 + id + if early { begin } else { 0 };
            }
            let (c, _) = r.finish(Time(0), Time(100));
            assert!((c.mean - ran as f64 / 100.0).abs() < 1e-12, "{bits:b}: {c:?}");
            let some = 1.0 - c.none_ns as f64 / 100.0;
            assert!(c.mean <= c.max as f64 * some + 1e-12 && c.mean >= some - 1e-12, "{bits:b}: {c:?}");
            assert!(c.longest_alone.is_none_or(|a| a.0 <= c.one_ns), "{bits:b}: {c:?}");
        }
    }
}
