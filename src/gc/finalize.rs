//! [`Finalizers`]: tells the program of objects that have died, and hands them back once more.
//!
//! What is watched is kept in a table beside the heap, with a number for each queue. When marking has reached all that
//! can be reached, the watched objects that it did not reach are dead: the weak references to them are cleared, and then
//! they are marked after all, with everything they refer to, and wait in their queues. The heap never calls code of the
//! embedder for this: finalizers run when and where the program asks for the next object.
//!
//! The table is linked through its own entries, so that nothing in here asks for memory while marking (invariant 6).

use super::OutOfMemory;
use super::arena::{Mutation, RootOf, Rootable};
use super::heap::{Heap, Phase};
use super::marker::Marker;
use super::page_vec::PageVec;
use super::pointer::Gc;
use super::root::Roots;
use super::type_info::{Fixed, TypeInfo};
use core::marker::PhantomData;
use core::ptr::NonNull;

/// The end of a list.
const NONE: u32 = u32::MAX;
/// Entries looked at in one go while a cycle marks in steps: at a cache miss each some 100 us.
const ENTRIES_PER_STEP: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Free,
    /// Not known to be dead.
    Watched,
    /// Not reached by the marking that is about to end.
    Dead,
    /// Alive again, and waits in its queue.
    Ready,
}

#[derive(Clone, Copy)]
struct Entry {
    object: NonNull<u8>,
    info: &'static TypeInfo,
    queue: u32,
    state: State,
    /// The next in the list that the state says: of free entries, of those watched since the last collection, of the
    /// dead, of the queue.
    next: u32,
}

/// Entries linked through the table, first in, first out.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
}

impl List {
    const EMPTY: List = List { head: NONE, tail: NONE };
}

#[derive(Clone, Copy)]
struct Queue {
    ready: List,
    /// Entries of any state; the number is given away again when there are none and no handle.
    entries: usize,
    has_handle: bool,
    next_free: u32,
}

/// How far a cycle has come with the table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The entry to look at next.
    At(usize),
    Done,
}

/// All that is watched on a heap.
pub(super) struct Watch {
    entries: PageVec<Entry>,
    queues: PageVec<Queue>,
    free: u32,
    free_queue: u32,
    /// Those watched since the last collection: no others can be young.
    young: u32,
    dead: List,
    progress: Progress,
}

/// What looking for dead objects came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// Some were marked, and what they refer to has to be.
    Some,
    /// There is more to look at.
    Unfinished,
}

impl Watch {
    pub(super) const fn new() -> Self {
        Watch {
            entries: PageVec::new(),
            queues: PageVec::new(),
            free: NONE,
            free_queue: NONE,
            young: NONE,
            dead: List::EMPTY,
            progress: Progress::Done,
        }
    }

    fn entry(&mut self, index: u32) -> &mut Entry {
        &mut self.entries.as_mut_slice()[index as usize]
    }

    fn queue(&mut self, index: u32) -> &mut Queue {
        &mut self.queues.as_mut_slice()[index as usize]
    }

    fn add_queue(&mut self) -> Result<u32, OutOfMemory> {
        let queue = Queue { ready: List::EMPTY, entries: 0, has_handle: true, next_free: NONE };
        let index = self.free_queue;
        if index != NONE {
            self.free_queue = self.queue(index).next_free;
            *self.queue(index) = queue;
            return Ok(index);
        }
        let index = u32::try_from(self.queues.as_slice().len()).ok().filter(|i| *i != NONE).ok_or(OutOfMemory)?;
        self.queues.push(queue)?;
        Ok(index)
    }

    fn drop_queue(&mut self, queue: u32) {
        self.queue(queue).has_handle = false;
        while let Some(index) = self.pop_ready(queue) {
            self.free_entry(index);
        }
        self.free_queue_if_unused(queue);
    }

    fn free_queue_if_unused(&mut self, queue: u32) {
        let first_free = self.free_queue;
        let q = self.queue(queue);
        if !q.has_handle && q.entries == 0 {
            q.next_free = first_free;
            self.free_queue = queue;
        }
    }

    fn watch(&mut self, queue: u32, object: NonNull<u8>, info: &'static TypeInfo) -> Result<(), OutOfMemory> {
        let entry = Entry { object, info, queue, state: State::Watched, next: self.young };
        let mut index = self.free;
        if index != NONE {
            self.free = self.entry(index).next;
            *self.entry(index) = entry;
        } else {
            index = u32::try_from(self.entries.as_slice().len()).ok().filter(|i| *i != NONE).ok_or(OutOfMemory)?;
            self.entries.push(entry)?;
        }
        self.young = index;
        self.queue(queue).entries += 1;
        Ok(())
    }

    fn free_entry(&mut self, index: u32) {
        let free = self.free;
        let entry = self.entry(index);
        entry.state = State::Free;
        entry.next = free;
        let queue = entry.queue;
        self.free = index;
        self.queue(queue).entries -= 1;
    }

    fn push(&mut self, list: fn(&mut Watch, u32) -> &mut List, of: u32, index: u32) {
        self.entry(index).next = NONE;
        let tail = list(self, of).tail;
        if tail == NONE {
            list(self, of).head = index;
        } else {
            self.entry(tail).next = index;
        }
        list(self, of).tail = index;
    }

    fn pop_ready(&mut self, queue: u32) -> Option<u32> {
        let index = self.queue(queue).ready.head;
        if index == NONE {
            return None;
        }
        let next = self.entry(index).next;
        let list = &mut self.queue(queue).ready;
        list.head = next;
        if next == NONE {
            list.tail = NONE;
        }
        Some(index)
    }

    /// A full cycle begins: every entry is to be looked at when all is marked.
    pub(super) fn cycle_begins(&mut self) {
        self.young = NONE;
        self.revive_dead();
        self.progress = Progress::At(0);
    }

    /// A collection was given up: nothing is known to be dead. The next one is a full one, which needs no list of the
    /// young.
    pub(super) fn cycle_abandoned(&mut self) {
        self.young = NONE;
        self.revive_dead();
        self.progress = Progress::Done;
    }

    /// A collection is over: what is watched is old.
    pub(super) fn all_old(&mut self) {
        self.young = NONE;
    }

    fn revive_dead(&mut self) {
        let mut index = core::mem::replace(&mut self.dead, List::EMPTY).head;
        while index != NONE {
            let entry = self.entry(index);
            entry.state = State::Watched;
            index = entry.next;
        }
    }

    fn look_at(&mut self, index: u32, marker: &Marker) {
        let entry = *self.entry(index);
        if entry.state != State::Watched {
            return;
        }
        if !self.queue(entry.queue).has_handle {
            self.free_entry(index);
            self.free_queue_if_unused(entry.queue);
        } else if !marker.is_marked(entry.object) {
            self.entry(index).state = State::Dead;
            self.push(|w, _| &mut w.dead, 0, index);
        }
    }

    /// Looks for dead objects among up to `most` of all that are watched. `true` when all were looked at.
    fn look_at_all(&mut self, marker: &Marker, most: usize) -> bool {
        let Progress::At(from) = self.progress else { return true };
        let to = self.entries.as_slice().len().min(from.saturating_add(most));
        for index in from..to {
            self.look_at(index as u32, marker);
        }
        let done = to == self.entries.as_slice().len();
        self.progress = if done { Progress::Done } else { Progress::At(to) };
        done
    }

    fn look_at_young(&mut self, marker: &Marker) {
        let mut index = core::mem::replace(&mut self.young, NONE);
        // The list is newest first; what is watched first is to be told first.
        let mut in_order = NONE;
        while index != NONE {
            let next = core::mem::replace(&mut self.entry(index).next, in_order);
            in_order = index;
            index = next;
        }
        while in_order != NONE {
            let next = self.entry(in_order).next;
            self.look_at(in_order, marker);
            in_order = next;
        }
    }

    /// Marks the dead and puts them into their queues.
    fn resurrect(&mut self, marker: &mut Marker) -> bool {
        // Those that a weak reference led to since they were found are not dead, and have to be told apart before the
        // first of the others is marked.
        let mut index = core::mem::replace(&mut self.dead, List::EMPTY).head;
        while index != NONE {
            let Entry { object, next, .. } = *self.entry(index);
            if marker.is_marked(object) {
                self.entry(index).state = State::Watched;
            } else {
                self.push(|w, _| &mut w.dead, 0, index);
            }
            index = next;
        }
        let mut index = core::mem::replace(&mut self.dead, List::EMPTY).head;
        let found = index != NONE;
        while index != NONE {
            let Entry { object, info, queue, next, .. } = *self.entry(index);
            if !self.queue(queue).has_handle {
                self.free_entry(index);
                self.free_queue_if_unused(queue);
                index = next;
                continue;
            }
            // SAFETY: an object of that type on this heap: it was alive when it was watched, and nothing is freed before
            // marking is over. Marking an object runs none of the embedder's code.
            unsafe { (info.mark)(object, marker) };
            self.entry(index).state = State::Ready;
            self.push(|w, q| &mut w.queue(q).ready, queue, index);
            index = next;
        }
        found
    }

    /// The objects that wait in queues: they are roots.
    pub(super) fn for_each_ready(&self, mut f: impl FnMut(NonNull<u8>, &'static TypeInfo)) {
        for e in self.entries.as_slice() {
            if e.state == State::Ready {
                f(e.object, e.info);
            }
        }
    }
}

impl Heap {
    /// When all is marked that can be reached: finds the watched objects that are not, and marks them after all. Call
    /// again until there is `Nothing`.
    pub(super) fn finalize(&self, in_steps: bool) -> Found {
        let mut watch = self.roots.watch().borrow_mut();
        let most = if in_steps { ENTRIES_PER_STEP } else { usize::MAX };
        if self.phase.get() == Phase::Mark {
            if !watch.look_at_all(&self.marker.borrow(), most) {
                return Found::Unfinished;
            }
        } else {
            watch.look_at_young(&self.marker.borrow());
        }
        if watch.dead.head == NONE {
            return Found::Nothing;
        }
        // What is handed out and holds no object yet must not be looked at.
        self.retire_all();
        self.clear_weak_references();
        if watch.resurrect(&mut self.marker.borrow_mut()) { Found::Some } else { Found::Nothing }
    }
}

/// A queue of objects that have died. Made by [`Mutation::finalizers`].
///
/// * An object that is watched and can no longer be reached is *resurrected* in the cycle that finds this out: it and all
///   that it refers to stay alive, and the queue holds it until [`next`](Finalizers::next) gives it out, once. After
///   that it is an object like any other: it may be stored, which makes it live on, or watched again; if neither is done,
///   the next cycle frees it.
/// * Weak references to the object are cleared before it gets into the queue, so that nobody meets it by these any more.
///   Ephemerons (and weak maps) whose key it is keep key and value until it is freed, so that a finalizer finds what was
///   tied to the object; a program that asks an ephemeron for its key can meet an object there that waits in a queue.
/// * Dead objects that refer to each other are told of in the same cycle, in no particular order. (An old one may die
///   later than a young one in generational mode.)
/// * An object that is watched twice is told of twice. Watching has no end before that, except that of the handle: when
///   it is dropped, its objects are no longer watched, and those in its queue are let go.
/// * Nothing is told when the arena is dropped.
///
/// `next` is called from the program's own code, so a finalizer may allocate, store, and panic like the rest of it.
///
/// ```
/// use exectrace::gc::{Arena, Config, Gc, GcCell, Rootable};
/// struct File { name: &'static str }
/// exectrace::collect_static!(File);
/// type Root = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, File>>>];
/// let mut arena = Arena::<Root>::new(Config::new(), |_| GcCell::new(None));
/// let closed = arena.mutate(|mc, root| {
///     let closed = mc.finalizers::<Rootable!['gc => File]>();
///     let file = mc.alloc(File { name: "a.txt" });
///     closed.watch(mc, file);
///     root.set(mc, Some(file));
///     closed
/// });
/// arena.collect();
/// arena.mutate(|mc, root| {
///     assert!(closed.next(mc).is_none());
///     root.set(mc, None);
/// });
/// arena.collect();
/// arena.mutate(|mc, _| {
///     assert_eq!(closed.next(mc).map(|f| f.name), Some("a.txt"));
///     assert!(closed.next(mc).is_none());
/// });
/// ```
pub struct Finalizers<R: for<'a> Rootable<'a> + ?Sized> {
    roots: Roots,
    queue: u32,
    kind: PhantomData<R>,
}

impl Mutation<'_> {
    /// A queue for objects of a type that die.
    ///
    /// # Panics
    /// When there is no memory.
    pub fn finalizers<R: for<'a> Rootable<'a> + ?Sized>(&self) -> Finalizers<R> {
        let queue = self.heap().roots.watch().borrow_mut().add_queue();
        match queue {
            Ok(queue) => Finalizers { roots: self.heap().roots.share(), queue, kind: PhantomData },
            Err(e) => e.raise(),
        }
    }
}

impl<R: for<'a> Rootable<'a> + ?Sized> Finalizers<R> {
    /// Watches an object.
    ///
    /// # Panics
    /// If `mc` is not of the heap that the queue was made on, and when there is no memory.
    #[track_caller]
    pub fn watch<'gc>(&self, mc: &Mutation<'gc>, object: Gc<'gc, RootOf<'gc, R>>) {
        if let Err(e) = self.try_watch(mc, object) {
            e.raise()
        }
    }

    /// Watches an object.
    ///
    /// # Errors
    /// When there is no memory.
    ///
    /// # Panics
    /// If `mc` is not of the heap that the queue was made on.
    #[track_caller]
    pub fn try_watch<'gc>(&self, mc: &Mutation<'gc>, object: Gc<'gc, RootOf<'gc, R>>) -> Result<(), OutOfMemory> {
        self.check(mc);
        let info = <Fixed<RootOf<'gc, R>>>::INFO;
        self.roots.watch().borrow_mut().watch(self.queue, Gc::as_erased(object), info)
    }

    /// The next object that has died, if one waits.
    ///
    /// # Panics
    /// If `mc` is not of the heap that the queue was made on.
    #[track_caller]
    pub fn next<'gc>(&self, mc: &Mutation<'gc>) -> Option<Gc<'gc, RootOf<'gc, R>>> {
        self.check(mc);
        let mut watch = self.roots.watch().borrow_mut();
        let index = watch.pop_ready(self.queue)?;
        let object = watch.entry(index).object;
        watch.free_entry(index);
        // SAFETY: watched as a `Gc` of this type on this heap. It was a root until now, so it is alive; and a cycle that
        // is marking has marked it, at its beginning or as it put it into the queue (invariant 5).
        Some(unsafe { Gc::from_erased(object) })
    }

    #[track_caller]
    fn check(&self, mc: &Mutation<'_>) {
        assert!(mc.heap().roots.is_same(&self.roots), "finalizers of another heap");
    }
}

impl<R: for<'a> Rootable<'a> + ?Sized> Drop for Finalizers<R> {
    fn drop(&mut self) {
        self.roots.watch().borrow_mut().drop_queue(self.queue);
    }
}
