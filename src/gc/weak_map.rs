//! [`WeakMap`]: a map from objects to values that keeps no key alive, and each value only as long as its key.
//!
//! A [`GcMap`] of ephemerons by the address of the key. When a key dies its ephemeron says so; the entry is taken out
//! when the map is next made larger, or when it is asked to. Until then the address in it may be that of another object,
//! whose entry then takes its place.

use super::OutOfMemory;
use super::arena::Mutation;
use super::collect::{Collect, Visitor};
use super::map::GcMap;
use super::pointer::Gc;
use super::weak::Ephemeron;
use core::cell::Cell;

/// A map from objects, by identity, to values, which are alive as long as their keys are; a value may refer to its key.
/// To be a field of an object.
///
/// ```
/// use exectrace::gc::{Arena, Config, Gc, GcCell, Rootable, WeakMap};
/// struct Top<'gc> { key: GcCell<'gc, Option<Gc<'gc, u32>>>, names: WeakMap<'gc, u32, Gc<'gc, String>> }
/// exectrace::collect_fields!(impl['gc] struct Top<'gc> { key, names });
/// let mut arena = Arena::<Rootable!['gc => Top<'gc>]>::new(Config::new(), |_| Top {
///     key: GcCell::new(None),
///     names: WeakMap::new(),
/// });
/// arena.mutate(|mc, top| {
///     let key = mc.alloc(1);
///     top.names.insert(mc, key, mc.alloc("one".to_owned()));
///     top.names.insert(mc, mc.alloc(2), mc.alloc("two".to_owned()));
///     top.key.set(mc, Some(key));
/// });
/// arena.collect();
/// arena.mutate(|mc, top| {
///     assert_eq!(top.names.get(mc, top.key.get().unwrap()).map(|s| s.as_str()), Some("one"));
///     assert_eq!(top.names.iter(mc).count(), 1);
/// });
/// ```
pub struct WeakMap<'gc, K, V> {
    map: GcMap<'gc, usize, Ephemeron<'gc, K, V>>,
    /// The map is cleaned when it has so many entries.
    clean_at: Cell<usize>,
}

impl<'gc, K: Collect + 'gc, V: Collect + 'gc> WeakMap<'gc, K, V> {
    /// An empty one.
    pub fn new() -> Self {
        WeakMap { map: GcMap::new(), clean_at: Cell::new(16) }
    }

    /// The value of a key.
    pub fn get(&self, mc: &Mutation<'gc>, key: Gc<'gc, K>) -> Option<&'gc V> {
        self.pair(mc, key)?.value(mc)
    }

    fn pair(&self, mc: &Mutation<'gc>, key: Gc<'gc, K>) -> Option<Ephemeron<'gc, K, V>> {
        let pair = self.map.get(&Gc::as_ptr(key).addr())?;
        // Else it is what is left of an object that stood there before.
        pair.key(mc).is_some_and(|k| Gc::ptr_eq(k, key)).then_some(pair)
    }

    /// Sets the value of a key.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn insert(&self, mc: &Mutation<'gc>, key: Gc<'gc, K>, value: V) {
        if let Err(e) = self.try_insert(mc, key, value) {
            e.raise()
        }
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// When there is no memory; the map is as it was, and the value dropped.
    pub fn try_insert(&self, mc: &Mutation<'gc>, key: Gc<'gc, K>, value: V) -> Result<(), OutOfMemory> {
        if self.map.len() >= self.clean_at.get() {
            self.clean(mc);
            self.clean_at.set((self.map.len() * 2).max(16));
        }
        let pair = Ephemeron::try_new(mc, key, value)?;
        self.map.try_insert(mc, Gc::as_ptr(key).addr(), pair).map(drop)
    }

    /// Takes an entry out. `true` if there was one.
    pub fn remove(&self, mc: &Mutation<'gc>, key: Gc<'gc, K>) -> bool {
        let is_there = self.pair(mc, key).is_some();
        if is_there {
            self.map.remove(mc, &Gc::as_ptr(key).addr());
        }
        is_there
    }

    /// The entries whose keys are not known to be dead: those that the last cycle has not reached are gone.
    pub fn iter(&self, mc: &Mutation<'gc>) -> impl Iterator<Item = (Gc<'gc, K>, &'gc V)> {
        self.map.iter().filter_map(|(_, pair)| Some((pair.key(mc)?, pair.value(mc)?)))
    }

    /// Takes out the entries of keys that have died. Done by itself as the map grows.
    pub fn clean(&self, mc: &Mutation<'gc>) {
        self.map.retain(mc, |_, pair| pair.is_alive());
    }
}

impl<'gc, K: Collect + 'gc, V: Collect + 'gc> Default for WeakMap<'gc, K, V> {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: the map is shown.
unsafe impl<K, V: Collect> Collect for WeakMap<'_, K, V> {
    fn visit<Vis: Visitor>(&self, visitor: &mut Vis) {
        self.map.visit(visitor);
    }
}
