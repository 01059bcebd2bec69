//! Sums by name and by stack.
//!
//! Names that a program makes up (tasks, regions) may be without number. The first [`NAMES`] have distributions of their own,
//! the rest share one, so that memory stays bounded.

use super::dist::Dist;
use crate::read::{IdHashMap, StackKey, StringKey, Time};

/// How many names have a distribution of their own.
pub const NAMES: usize = 1024;

/// How many keys are found without hashing.
const RECENT: usize = 64;

/// Values by key, where a few keys come again and again.
///
/// The place of a key is guessed by its lower bits, and the guess checked; only a wrong one costs a look into the hash table.
struct Keyed<V> {
    recent: [u32; RECENT],
    index: IdHashMap<u32>,
    list: Vec<(u64, V)>,
}

impl<V> Default for Keyed<V> {
    fn default() -> Self {
        Keyed { recent: [0; RECENT], index: IdHashMap::default(), list: Vec::new() }
    }
}

impl<V: Default> Keyed<V> {
    /// The value of a key, made if there is room for it: `None` if the key is new and there are `most` already.
    #[inline]
    fn get(&mut self, key: u64, most: usize) -> Option<&mut V> {
        let guess = (key ^ key >> 32) as usize % RECENT;
        let mut i = self.recent[guess] as usize;
        if self.list.get(i).is_none_or(|e| e.0 != key) {
            i = self.find(key, most)?;
            self.recent[guess] = i as u32;
        }
        Some(&mut self.list[i].1)
    }

    #[inline(never)]
    fn find(&mut self, key: u64, most: usize) -> Option<usize> {
        if let Some(&i) = self.index.get(&key) {
            return Some(i as usize);
        }
        if self.list.len() >= most {
            return None;
        }
        self.index.insert(key, self.list.len() as u32);
        self.list.push((key, V::default()));
        Some(self.list.len() - 1)
    }
}

/// Distributions by name.
#[derive(Default)]
pub struct ByName {
    names: Keyed<Dist>,
    others: Dist,
}

impl ByName {
    /// Adds a duration under a name.
    #[inline]
    pub fn add(&mut self, name: StringKey, ns: u64) {
        self.names.get(name.0.into(), NAMES).unwrap_or(&mut self.others).add(ns);
    }

    /// The names and their distributions, the greatest sum first; `None` is the name of all names beyond the limit.
    #[must_use]
    pub fn sorted(&self) -> Vec<(Option<StringKey>, &Dist)> {
        let mut all: Vec<_> = self.names.list.iter().map(|(name, d)| (Some(StringKey(*name as u32)), d)).collect();
        if self.others.count() > 0 {
            all.push((None, &self.others));
        }
        all.sort_by_key(|(name, d)| (std::cmp::Reverse(d.total()), *name));
        all
    }
}

/// What was spent with one stack (and one reason).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// How many times.
    pub count: u64,
    /// How long together, in nanoseconds.
    pub total_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// When that began.
    pub max_at: Time,
}

impl Spent {
    /// Adds a span.
    #[inline]
    pub fn add(&mut self, begin: Time, ns: u64) {
        self.count += 1;
        self.total_ns = self.total_ns.saturating_add(ns);
        if ns > self.max_ns || self.count == 1 {
            self.max_ns = ns;
            self.max_at = begin;
        }
    }

    /// Adds the spans of another. Of two equally long ones the earlier is kept.
    fn merge(&mut self, other: &Spent) {
        if self.count == 0 || (other.max_ns, self.max_at) > (self.max_ns, other.max_at) {
            (self.max_ns, self.max_at) = (other.max_ns, other.max_at);
        }
        self.count += other.count;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
    }
}

/// Sums by name and stack.
#[derive(Default)]
pub struct ByStack {
    spent: Keyed<Spent>,
}

impl ByStack {
    /// Adds a span.
    #[inline]
    pub fn add(&mut self, name: StringKey, stack: StackKey, begin: Time, ns: u64) {
        if let Some(s) = self.spent.get(u64::from(name.0) << 32 | u64::from(stack.0), usize::MAX) {
            s.add(begin, ns);
        }
    }

    /// Adds the sums of another.
    pub fn merge(&mut self, other: &ByStack) {
        for (key, spent) in &other.spent.list {
            if let Some(s) = self.spent.get(*key, usize::MAX) {
                s.merge(spent);
            }
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spent.list.len()
    }

    /// All entries, the greatest sum first.
    #[must_use]
    pub fn sorted(&self) -> Vec<(StringKey, StackKey, Spent)> {
        let mut all: Vec<_> =
            self.spent.list.iter().map(|&(k, s)| (StringKey((k >> 32) as u32), StackKey(k as u32), s)).collect();
        all.sort_by_key(|&(name, stack, s)| (std::cmp::Reverse(s.total_ns), name, stack));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_beyond_the_limit_share_one_distribution() {
        let mut t = ByName::default();
        for i in 0..NAMES as u32 + 10 {
            t.add(StringKey(i), 5);
            t.add(StringKey(i), 1 + u64::from(i == 3));
        }
        let sorted = t.sorted();
        assert_eq!(sorted.len(), NAMES + 1);
        assert_eq!((sorted[0].0, sorted[0].1.count()), (None, 20));
        assert_eq!((sorted[1].0, sorted[1].1.total()), (Some(StringKey(3)), 7));
    }

    #[test]
    fn keys_that_share_a_guess_are_kept_apart() {
        let mut t = ByStack::default();
        let keys = [0, 1, RECENT as u32, 2 * RECENT as u32, 1 + RECENT as u32, 0, RECENT as u32];
        for round in 0..3 {
            for k in keys {
                t.add(StringKey(0), StackKey(k), Time(round), u64::from(k) + 1);
            }
        }
        for (_, stack, s) in t.sorted() {
            let times = 3 * keys.iter().filter(|&&k| k == stack.0).count() as u64;
            assert_eq!((s.count, s.total_ns), (times, times * (u64::from(stack.0) + 1)), "{stack:?}");
        }
        assert_eq!(t.sorted().len(), 5);
    }

    #[test]
    fn stacks_are_sorted_by_what_was_spent() {
        let mut t = ByStack::default();
        t.add(StringKey(1), StackKey(9), Time(10), 5);
        t.add(StringKey(1), StackKey(9), Time(20), 7);
        t.add(StringKey(2), StackKey(9), Time(30), 100);
        assert_eq!(
            t.sorted(),
            [
                (StringKey(2), StackKey(9), Spent { count: 1, total_ns: 100, max_ns: 100, max_at: Time(30) }),
                (StringKey(1), StackKey(9), Spent { count: 2, total_ns: 12, max_ns: 7, max_at: Time(20) }),
            ]
        );
        let mut other = ByStack::default();
        other.add(StringKey(1), StackKey(9), Time(15), 7);
        other.add(StringKey(3), StackKey(9), Time(40), 1);
        t.merge(&other);
        assert_eq!(
            t.sorted()[1..],
            [
                (StringKey(1), StackKey(9), Spent { count: 3, total_ns: 19, max_ns: 7, max_at: Time(15) }),
                (StringKey(3), StackKey(9), Spent { count: 1, total_ns: 1, max_ns: 1, max_at: Time(40) }),
            ]
        );
    }
}
