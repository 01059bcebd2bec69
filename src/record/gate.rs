//! The gate between the threads that write events and the one that closes generations.
//!
//! Each thread has a [`Gate`]. Through it the thread opens a section, in which one generation is open to it and stays so; the
//! closer moves the global [`Generation`] on and then waits until nobody is inside a section of an older one. The threads pay
//! a store, a light fence and a load; see [`barrier`](crate::sys::barrier).
//!
//! ```text
//!  thread:  writing = 1 ; light fence ; read generation ; (adopt it) ; write events ; writing = 0
//!  closer:  generation = n + 1 ; heavy fence ; while writing && adopted <= n wait
//! ```

use crate::sys::sync::{AtomicU32, Ordering, spin};

/// The generation that is open; 0 while tracing is off.
#[derive(Debug)]
pub(crate) struct Generation(AtomicU32);

impl Generation {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Generation {
        Generation(AtomicU32::new(0))
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Generation {
        Generation(AtomicU32::new(0))
    }

    /// Whether one is open. No more than a hint: a section decides.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Acquire pairs with the Release in [`set`](Self::set): who sees a generation sees what was prepared for it.
    #[inline(always)]
    pub(crate) fn get(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// For the closer only; the heavy fence has to follow.
    pub(crate) fn set(&self, generation: u32) {
        self.0.store(generation, Ordering::Release);
    }
}

/// A thread's half of the gate.
#[derive(Debug)]
pub(crate) struct Gate {
    /// 1 inside a section. Written by the owner.
    writing: AtomicU32,
    /// The generation that the owner last adopted. Written by the owner.
    adopted: AtomicU32,
}

impl Gate {
    /// Outside of tests a gate is zeroed memory.
    #[cfg(loom)]
    pub(crate) fn new() -> Gate {
        Gate { writing: AtomicU32::new(0), adopted: AtomicU32::new(0) }
    }

    /// Opens a section. Returns the generation it belongs to, or `None` when tracing is off.
    #[inline(always)]
    pub(crate) fn open(&self, generation: &Generation, light_fence: impl Fn()) -> Option<u32> {
        self.writing.store(1, Ordering::Relaxed);
        light_fence();
        let g = generation.get();
        if g == 0 {
            self.close();
            return None;
        }
        Some(g)
    }

    /// Ends the section. Release pairs with the Acquire in [`quiesce`](Self::quiesce): the closer sees all that was written.
    #[inline(always)]
    pub(crate) fn close(&self) {
        self.writing.store(0, Ordering::Release);
    }

    #[inline(always)]
    pub(crate) fn adopted(&self) -> u32 {
        self.adopted.load(Ordering::Relaxed)
    }

    /// Whether the owner is in a section at the moment: then its state may be about to change.
    pub(crate) fn is_open(&self) -> bool {
        self.writing.load(Ordering::Acquire) != 0
    }

    /// Tells the closer that the open section is one of `generation`. Release pairs with [`quiesce`](Self::quiesce).
    pub(crate) fn adopt(&self, generation: u32) {
        self.adopted.store(generation, Ordering::Release);
    }

    /// Waits until the owner is in no section of `generation` or an older one. The closer's, after the heavy fence.
    pub(crate) fn quiesce(&self, generation: u32, mut pause: impl FnMut()) {
        let mut rounds = 0u32;
        while self.writing.load(Ordering::Acquire) != 0 && self.adopted.load(Ordering::Acquire) <= generation {
            rounds += 1;
            if rounds > 200 { pause() } else { spin() }
        }
    }
}

#[cfg(all(test, loom))]
mod tests {
    use super::*;
    use crate::sys::sync::{AtomicU64, fence};
    use loom::sync::Arc;

    /// Two sections against one switch: what a section of generation 1 writes is there when the closer has waited, and nothing
    /// is written to it afterwards. loom cannot model membarrier, so the light fence is the fallback's full one.
    #[test]
    fn loom_no_section_of_a_closed_generation_writes() {
        loom::model(|| {
            let generation = Arc::new(Generation::new());
            let gate = Arc::new(Gate::new());
            let written = Arc::new([AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0)]);
            generation.set(1);
            let t = {
                let (generation, gate, written) = (generation.clone(), gate.clone(), written.clone());
                loom::thread::spawn(move || {
                    let mut wrote_to_1 = 0;
                    for _ in 0..2 {
                        let g = gate.open(&generation, || fence(Ordering::SeqCst)).expect("open");
                        if gate.adopted() != g {
                            gate.adopt(g);
                        }
                        let w = &written[g as usize];
                        w.store(w.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                        wrote_to_1 += u64::from(g == 1);
                        gate.close();
                    }
                    wrote_to_1
                })
            };
            generation.set(2);
            fence(Ordering::SeqCst);
            gate.quiesce(1, loom::thread::yield_now);
            let seen = written[1].load(Ordering::Relaxed);
            let wrote_to_1 = t.join().expect("join");
            assert_eq!(seen, wrote_to_1);
        });
    }
}
