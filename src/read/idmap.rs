//! A map from the ids of a trace to small indices.
//!
//! Ids are mostly small and dense, and then an array answers; any other id goes to a hash table. No memory is taken for an
//! id's sake: the array never grows beyond a fixed multiple of the entries made, plus a page or so, and the hash is keyed by
//! chance so that no input can aim at it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes one `u64` by a folded multiplication with two random keys.
#[derive(Clone)]
pub(crate) struct IdHash {
    add: u64,
    mul: u64,
}

impl Default for IdHash {
    fn default() -> Self {
        let random = RandomState::new();
        IdHash { add: random.hash_one(0u8), mul: random.hash_one(1u8) | 1 }
    }
}

impl BuildHasher for IdHash {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher { add: self.add, mul: self.mul, value: 0 }
    }
}

pub(crate) struct IdHasher {
    add: u64,
    mul: u64,
    value: u64,
}

impl Hasher for IdHasher {
    #[inline]
    fn write_u64(&mut self, v: u64) {
        let p = u128::from(v ^ self.add) * u128::from(self.mul);
        self.value = (p >> 64) as u64 ^ p as u64;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Only `u64` keys are used; this keeps the trait's promise for others.
        for &b in bytes {
            self.write_u64(self.value.rotate_left(8) ^ u64::from(b));
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.value
    }
}

/// A hash map with ids as keys.
pub(crate) type IdHashMap<V> = HashMap<u64, V, IdHash>;

/// How far the array may outgrow the number of entries ever made.
const SPREAD: usize = 4;
/// Ids below this are in the array from the start; 4 bytes each, allocated as ids come.
const SMALL: usize = 1 << 12;

/// A map from id to index.
#[derive(Default)]
pub(super) struct IdMap {
    /// Index + 1 by id; 0 is "none".
    dense: Vec<u32>,
    sparse: IdHashMap<u32>,
    /// How many entries were ever made; decides how long `dense` may be.
    made: usize,
    /// The longest that `dense` may ever be.
    cap: usize,
}

impl IdMap {
    /// A map whose array part is bounded by the number of entries alone: for tables that are filled and dropped.
    pub(super) fn new() -> IdMap {
        IdMap { cap: u32::MAX as usize, ..IdMap::default() }
    }

    /// A map whose array part never has more than `cap` places: for tables that live long while their ids rise.
    pub(super) fn with_cap(cap: usize) -> IdMap {
        IdMap { cap, ..IdMap::default() }
    }

    #[inline]
    pub(super) fn get(&self, id: u64) -> Option<u32> {
        if let Some(&i) = usize::try_from(id).ok().and_then(|i| self.dense.get(i))
            && i != 0
        {
            return Some(i - 1);
        }
        if self.sparse.is_empty() { None } else { self.sparse.get(&id).copied() }
    }

    /// Adds an id that the map does not have. Indices must be below `u32::MAX`.
    pub(super) fn insert(&mut self, id: u64, index: u32) {
        self.made += 1;
        match usize::try_from(id) {
            Ok(i) if i < self.dense.len() => self.dense[i] = index + 1,
            Ok(i) if i < (SMALL + SPREAD * self.made).min(self.cap) => {
                self.dense.resize(i + 1, 0);
                self.dense[i] = index + 1;
            }
            _ => {
                self.sparse.insert(id, index);
            }
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        if let Some(i) = usize::try_from(id).ok().and_then(|i| self.dense.get_mut(i)) {
            *i = 0;
        }
        if !self.sparse.is_empty() {
            self.sparse.remove(&id);
        }
    }

    /// How many ids, from 0 on, the map has without a gap, as far as the array goes.
    pub(super) fn prefix(&self) -> u64 {
        self.dense.iter().position(|&i| i == 0).unwrap_or(self.dense.len()) as u64
    }

    /// Moves what fits from the hash table to the array, when no more entries will come.
    pub(super) fn compact(&mut self) {
        let limit = (SMALL + SPREAD * self.made).min(self.cap) as u64;
        let Some(max) = self.sparse.keys().filter(|&&id| id < limit).max() else { return };
        let len = *max as usize + 1;
        if self.dense.len() < len {
            self.dense.resize(len, 0);
        }
        let dense = &mut self.dense;
        self.sparse.retain(|&id, &mut index| {
            let fits = id < limit;
            if fits {
                dense[id as usize] = index + 1;
            }
            !fits
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Does the same to an [`IdMap`] and to a plain map and compares.
    fn check(mut map: IdMap, ids: &[u64]) {
        let mut twin = BTreeMap::new();
        for (i, &id) in ids.iter().enumerate() {
            if twin.contains_key(&id) {
                map.remove(id);
                twin.remove(&id);
                assert_eq!(map.get(id), None);
            }
            map.insert(id, i as u32);
            twin.insert(id, i as u32);
        }
        let all = |map: &IdMap| {
            for (&id, &i) in &twin {
                assert_eq!(map.get(id), Some(i), "id {id}");
                for near in [id.wrapping_sub(1), id.wrapping_add(1)] {
                    assert_eq!(map.get(near), twin.get(&near).copied(), "id {near}");
                }
            }
        };
        all(&map);
        map.compact();
        all(&map);
    }

    #[test]
    fn agrees_with_a_plain_map() {
        for make in [IdMap::new, || IdMap::with_cap(64)] {
            check(make(), &[]);
            check(make(), &[0, 1, 2, 3]);
            check(make(), &[u64::MAX, 0, u64::MAX - 1, 1 << 32, 1 << 63]);
            check(make(), &[5, 5, 1 << 40, 5, 1 << 40]);
            check(make(), &(0..20_000).rev().collect::<Vec<_>>());
            check(make(), &(0..5_000).map(|i| i * i * 7919).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_large_id_takes_no_large_array() {
        let mut map = IdMap::new();
        map.insert(u64::from(u32::MAX), 0);
        map.insert(1 << 20, 1);
        map.compact();
        assert!(map.dense.is_empty());
        assert_eq!(map.get(1 << 20), Some(1));
    }
}
