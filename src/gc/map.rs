//! [`GcMap`]: a hash map on the heap, keyed by values or by the identity of objects, and [`ById`], which makes the
//! latter.
//!
//! Open addressing with linear probing in an array of cells: as with [`GcVec`](super::GcVec), each place has the write
//! barrier to itself and the marker goes through the table in parts. A removed entry leaves a mark that later searches
//! pass over; when these and the entries fill 7/8 of the table, it is made anew.

use super::OutOfMemory;
use super::arena::Mutation;
use super::array::{GcArray, GcString};
use super::cell::GcCell;
use super::collect::{Collect, Visitor};
use super::pointer::Gc;
use core::cell::Cell;
use core::fmt;
use core::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// The smallest table, in places.
const PLACES_MIN: usize = 8;

/// One place of the table.
#[derive(Clone, Copy)]
enum Place<K, V> {
    Empty,
    Removed,
    /// The upper half of the hash spares most comparisons of keys.
    Full(u32, K, V),
}
crate::collect_fields!(impl[K, V] enum Place<K, V> { Empty, Removed, Full(hash, key, value) } where K: Collect, V: Collect,);

type Table<'gc, K, V> = GcArray<'gc, GcCell<'gc, Place<K, V>>>;

/// A hash map of `Copy` keys and values on the heap. To be a field of an object; it is changed through a shared borrow.
///
/// Its own hasher is quick and the same in every run. For keys that an enemy of the program may choose, give it
/// [`RandomState`](std::hash::RandomState).
///
/// A key's `Hash` and `Eq` must not change while it is in the map. If one of them panics, the map is as it was.
///
/// ```
/// use exectrace::gc::{Arena, ById, Config, Gc, GcMap, GcString, Rootable};
/// struct Env<'gc> {
///     globals: GcMap<'gc, GcString<'gc>, Gc<'gc, u32>>,
///     seen: GcMap<'gc, ById<Gc<'gc, u32>>, bool>,
/// }
/// exectrace::collect_fields!(impl['gc] struct Env<'gc> { globals, seen });
/// let mut arena =
///     Arena::<Rootable!['gc => Env<'gc>]>::new(Config::new(), |_| Env { globals: GcMap::new(), seen: GcMap::new() });
/// arena.mutate(|mc, env| {
///     let one = mc.alloc(1);
///     env.globals.insert(mc, mc.alloc_str("one"), one);
///     env.seen.insert(mc, ById(one), true);
/// });
/// arena.collect();
/// arena.mutate(|mc, env| {
///     let one = env.globals.get(&mc.alloc_str("one")).unwrap();
///     assert_eq!(env.seen.get(&ById(one)), Some(true));
///     assert_eq!(env.seen.get(&ById(mc.alloc(1))), None, "another object with the same value");
/// });
/// ```
pub struct GcMap<'gc, K, V, S = BuildHasherDefault<MapHasher>> {
    table: GcCell<'gc, Option<Table<'gc, K, V>>>,
    len: Cell<usize>,
    /// Places that are not empty.
    used: Cell<usize>,
    hasher: S,
}

impl<K, V> GcMap<'_, K, V> {
    /// An empty one, which takes no memory.
    pub fn new() -> Self
    where
        K: Collect,
        V: Collect,
    {
        Self::with_hasher(BuildHasherDefault::default())
    }
}

impl<K: Collect, V: Collect, S> GcMap<'_, K, V, S> {
    /// An empty one.
    pub const fn with_hasher(hasher: S) -> Self {
        GcMap { table: GcCell::new(None), len: Cell::new(0), used: Cell::new(0), hasher }
    }

    /// The number of entries.
    #[inline]
    pub fn len(&self) -> usize {
        self.len.get()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a search ended.
enum At {
    Found(usize),
    /// Not there; a new entry belongs here.
    Free(usize),
}

impl<'gc, K, V, S> GcMap<'gc, K, V, S>
where
    K: Collect + Copy + Eq + Hash + 'gc,
    V: Collect + Copy + 'gc,
    S: BuildHasher + 'static,
{
    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &K) -> Option<V> {
        let table = self.table.get()?;
        match self.find(table, self.hasher.hash_one(key), key) {
            At::Found(at) => value_at(table, at),
            At::Free(_) => None,
        }
    }

    /// Whether there is an entry for the key.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of a key, and returns the old one.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn insert(&self, mc: &Mutation<'gc>, key: K, value: V) -> Option<V> {
        match self.try_insert(mc, key, value) {
            Ok(old) => old,
            Err(e) => e.raise(),
        }
    }

    /// Sets the value of a key, and returns the old one. The key of an entry that exists stays.
    ///
    /// # Errors
    /// When there is no memory; the map is as it was.
    pub fn try_insert(&self, mc: &Mutation<'gc>, key: K, value: V) -> Result<Option<V>, OutOfMemory> {
        let hash = self.hasher.hash_one(key);
        let mut table = match self.table.get() {
            Some(table) => table,
            None => self.rebuild(mc)?,
        };
        let at = match self.find(table, hash, &key) {
            At::Found(at) => {
                if let Place::Full(h, k, old) = table[at].get() {
                    table[at].set(mc, Place::Full(h, k, value));
                    return Ok(Some(old));
                }
                at
            }
            At::Free(_) if (self.used.get() + 1) * 8 > table.len() * 7 => {
                table = self.rebuild(mc)?;
                free_place(table, hash)
            }
            At::Free(at) => at,
        };
        if matches!(table[at].get(), Place::Empty) {
            self.used.set(self.used.get() + 1);
        }
        table[at].set(mc, Place::Full((hash >> 32) as u32, key, value));
        self.len.set(self.len.get() + 1);
        Ok(None)
    }

    /// Takes an entry out.
    pub fn remove(&self, mc: &Mutation<'gc>, key: &K) -> Option<V> {
        let table = self.table.get()?;
        let At::Found(at) = self.find(table, self.hasher.hash_one(key), key) else { return None };
        let old = value_at(table, at);
        self.remove_at(mc, table, at);
        old
    }

    /// Takes out every entry for which `keep` says no.
    pub fn retain(&self, mc: &Mutation<'gc>, mut keep: impl FnMut(K, V) -> bool) {
        let Some(table) = self.table.get() else { return };
        for at in 0..table.len() {
            if let Place::Full(_, k, v) = table[at].get()
                && !keep(k, v)
                // `keep` may have changed the map.
                && matches!(table[at].get(), Place::Full(_, now, _) if now == k)
                && self.table.get().is_some_and(|now| GcArray::ptr_eq(now, table))
            {
                self.remove_at(mc, table, at);
            }
        }
    }

    /// Takes out all entries, and lets the table go.
    pub fn clear(&self, mc: &Mutation<'gc>) {
        self.table.set(mc, None);
        self.len.set(0);
        self.used.set(0);
    }

    /// The entries in no particular order. What is inserted meanwhile may come or not, and the other entries too, if the
    /// table has to be made anew for it.
    pub fn iter(&self) -> impl Iterator<Item = (K, V)> + use<'_, 'gc, K, V, S> {
        let mut at = 0;
        core::iter::from_fn(move || {
            let (next, k, v) = self.entry_from(at)?;
            at = next;
            Some((k, v))
        })
    }

    /// The entry behind that of `key`, in the order of [`iter`](GcMap::iter); the first for `None`. For languages whose
    /// programs go through tables a step at a time. `Err` if the key is not there.
    #[allow(clippy::result_unit_err)] // There is one way to fail.
    pub fn next_after(&self, key: Option<&K>) -> Result<Option<(K, V)>, ()> {
        let from = match key {
            None => 0,
            Some(key) => {
                let table = self.table.get().ok_or(())?;
                match self.find(table, self.hasher.hash_one(key), key) {
                    At::Found(at) => at + 1,
                    At::Free(_) => return Err(()),
                }
            }
        };
        Ok(self.entry_from(from).map(|(_, k, v)| (k, v)))
    }

    /// The first entry at or after a place, and the place behind it.
    fn entry_from(&self, from: usize) -> Option<(usize, K, V)> {
        let table = self.table.get()?;
        table.iter().enumerate().skip(from).find_map(|(at, place)| match place.get() {
            Place::Full(_, k, v) => Some((at + 1, k, v)),
            _ => None,
        })
    }

    fn remove_at(&self, mc: &Mutation<'gc>, table: Table<'gc, K, V>, at: usize) {
        // A place before an empty one need not be passed over.
        let next = table[(at + 1) & (table.len() - 1)].get();
        let is_last = matches!(next, Place::Empty);
        if is_last {
            self.used.set(self.used.get() - 1);
        }
        table[at].set(mc, if is_last { Place::Empty } else { Place::Removed });
        self.len.set(self.len.get() - 1);
    }

    fn find(&self, table: Table<'gc, K, V>, hash: u64, key: &K) -> At {
        let mask = table.len() - 1;
        let mut at = hash as usize & mask;
        let mut free = None;
        loop {
            match table[at].get() {
                Place::Empty => return At::Free(free.unwrap_or(at)),
                Place::Removed => free = free.or(Some(at)),
                Place::Full(h, k, _) if h == (hash >> 32) as u32 && k == *key => return At::Found(at),
                Place::Full(..) => {}
            }
            at = (at + 1) & mask;
        }
    }

    /// A new table for the entries and some more. The old one is not changed.
    #[cold]
    fn rebuild(&self, mc: &Mutation<'gc>) -> Result<Table<'gc, K, V>, OutOfMemory> {
        let places = (self.len() + 1).checked_mul(2).and_then(usize::checked_next_power_of_two).ok_or(OutOfMemory)?;
        let table: Table<'gc, K, V> = mc.try_alloc_array(places.max(PLACES_MIN), |_| GcCell::new(Place::Empty))?;
        if let Some(old) = self.table.get() {
            // All hashes first, since a panic of the embedder's `Hash` must leave nothing half done: the new table is
            // not in use yet.
            for place in old.iter() {
                if let Place::Full(_, k, _) = place.get() {
                    let hash = self.hasher.hash_one(k);
                    table[free_place(table, hash)].set(mc, place.get());
                }
            }
        }
        self.table.set(mc, Some(table));
        self.used.set(self.len());
        Ok(table)
    }
}

/// The first place for a key with this hash in a table without removed entries.
fn free_place<K: Collect + Copy, V: Collect + Copy>(table: Table<'_, K, V>, hash: u64) -> usize {
    let mask = table.len() - 1;
    let mut at = hash as usize & mask;
    while !matches!(table[at].get(), Place::Empty) {
        at = (at + 1) & mask;
    }
    at
}

fn value_at<K: Collect + Copy, V: Collect + Copy>(table: Table<'_, K, V>, at: usize) -> Option<V> {
    match table[at].get() {
        Place::Full(_, _, v) => Some(v),
        _ => None,
    }
}

// SAFETY: the table is shown, through the cell; numbers and a `'static` hasher hold no references.
unsafe impl<K: Collect, V: Collect, S: 'static> Collect for GcMap<'_, K, V, S> {
    #[inline]
    fn visit<Vis: Visitor>(&self, visitor: &mut Vis) {
        self.table.visit(visitor);
    }
}

impl<K: Collect, V: Collect, S: Default> Default for GcMap<'_, K, V, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

impl<'gc, K, V, S> fmt::Debug for GcMap<'gc, K, V, S>
where
    K: Collect + Copy + Eq + Hash + fmt::Debug + 'gc,
    V: Collect + Copy + fmt::Debug + 'gc,
    S: BuildHasher + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A reference that is compared and hashed by which object it refers to, and not by the object's value. Objects do not
/// move, so that this stays the same.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct ById<P>(pub P);

/// References that have an identity, see [`ById`].
pub trait Identity {
    /// The address of the object.
    fn address(&self) -> usize;
}

impl<T> Identity for Gc<'_, T> {
    fn address(&self) -> usize {
        Gc::as_ptr(*self).addr()
    }
}

impl<T: Collect> Identity for GcArray<'_, T> {
    fn address(&self) -> usize {
        GcArray::as_erased(*self).addr().get()
    }
}

impl Identity for GcString<'_> {
    fn address(&self) -> usize {
        self.as_ptr().addr()
    }
}

impl<P: Identity> PartialEq for ById<P> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.0.address() == other.0.address()
    }
}

impl<P: Identity> Eq for ById<P> {}

impl<P: Identity> Hash for ById<P> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_usize(self.0.address());
    }
}

// SAFETY: the reference is shown.
unsafe impl<P: Collect> Collect for ById<P> {
    const NEEDS_VISIT: bool = P::NEEDS_VISIT;
    #[inline]
    fn visit<V: Visitor>(&self, visitor: &mut V) {
        self.0.visit(visitor);
    }
}

/// The hasher of [`GcMap`]: a multiplication for each eight bytes, and the product's halves folded at the end, so that
/// every bit of the key tells in the bits that choose the place.
#[derive(Clone, Copy, Default)]
pub struct MapHasher(u64);

impl MapHasher {
    #[inline]
    fn add(&mut self, word: u64) {
        // The fraction of the golden ratio, as in Fibonacci hashing.
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for MapHasher {
    fn write(&mut self, bytes: &[u8]) {
        // The length first, or zeros at the end would not count; a key of nothing but zeros must not be 0.
        self.add(bytes.len() as u64 ^ 0x5851_F42D_4C95_7F2D);
        let mut words = bytes.chunks_exact(8);
        for w in words.by_ref() {
            self.add(w.iter().rev().fold(0, |word, b| word << 8 | u64::from(*b)));
        }
        self.add(words.remainder().iter().fold(1, |word, b| word << 8 | u64::from(*b)));
    }

    #[inline]
    fn write_u8(&mut self, x: u8) {
        self.add(u64::from(x));
    }

    #[inline]
    fn write_u32(&mut self, x: u32) {
        self.add(u64::from(x));
    }

    #[inline]
    fn write_u64(&mut self, x: u64) {
        self.add(x);
    }

    #[inline]
    fn write_usize(&mut self, x: usize) {
        self.add(x as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
