//! Sampled allocations: what they say of who allocates, by type, by the interpreter's own place, and in a trace by stack.

mod guest;

use exectrace::gc::{AllocationSample, Arena, Config, Mode, Observer, Rootable};
use exectrace::read::{EventKind, Reader};
use guest::Memory;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// What an interpreter might have: the line that it is at, and bytes by type and line.
#[derive(Default)]
struct Profile {
    line: Cell<u32>,
    bytes: RefCell<HashMap<(&'static str, u32), usize>>,
}

struct Sampler(Rc<Profile>);
impl Observer for Sampler {
    fn sampled(&self, sample: &AllocationSample) {
        let key = (sample.type_name, self.0.line.get());
        *self.0.bytes.borrow_mut().entry(key).or_default() += sample.stands_for_bytes;
    }
}

struct Small([u64; 4]);
struct Large([u64; 64]);
exectrace::collect_static!(Small, Large);
type Nothing = Rootable!['gc => ()];

#[test]
fn the_sums_are_what_was_allocated_by_type_and_place() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        let profile = Rc::new(Profile::default());
        let config = Config::new().mode(mode).sample_bytes(64 << 10);
        let mut arena =
            Arena::<Nothing, _>::try_with_observer(config, Sampler(profile.clone()), |_| ()).expect("memory");
        let mut expected = HashMap::new();
        for i in 0..400_000_u64 {
            arena.mutate(|mc, _| {
                // Line 1 allocates 3 small ones for each of line 2, and line 3 one that is as large as 16.
                let line = [1, 1, 1, 2, 3][i as usize % 5];
                profile.line.set(line);
                let (name, bytes) = if line == 3 {
                    assert_eq!(mc.alloc(Large([i; 64])).0[63], i);
                    (std::any::type_name::<Large>(), 512)
                } else {
                    assert_eq!(mc.alloc(Small([i; 4])).0[3], i);
                    (std::any::type_name::<Small>(), 32)
                };
                *expected.entry((name, line)).or_insert(0) += bytes;
            });
            arena.safepoint();
        }
        let got = profile.bytes.borrow();
        assert_eq!(got.len(), expected.len(), "{got:?}");
        for (key, bytes) in &expected {
            let ratio = got[key] as f64 / f64::from(*bytes);
            // Some 40 samples for the rarest.
            assert!((0.5..2.0).contains(&ratio), "{key:?}: {ratio}, of {got:?} and {expected:?}");
        }
        let (sum, all) = (got.values().sum::<usize>() as f64, f64::from(expected.values().sum::<i32>()));
        assert!((0.95..1.05).contains(&(sum / all)), "{sum} of {all}");
    }
}

#[test]
fn without_a_rate_nothing_is_sampled_and_one_object_can_stand_for_many_times_the_rate() {
    let run = |sample_bytes| {
        let profile = Rc::new(Profile::default());
        let config = Config::new().sample_bytes(sample_bytes);
        let mut arena =
            Arena::<Nothing, _>::try_with_observer(config, Sampler(profile.clone()), |_| ()).expect("memory");
        arena.mutate(|mc, _| {
            for _ in 0..10 {
                assert_eq!(mc.alloc_array(1 << 20, |i| i as u8).len(), 1 << 20);
            }
        });
        let sum: usize = profile.bytes.borrow().values().sum();
        sum
    };
    assert_eq!(run(0), 0);
    let sum = run(1 << 16);
    assert!((9 << 20..11 << 20).contains(&sum), "{sum}");
}

#[inline(never)]
fn a_greedy_function(arena: &mut Arena<Nothing>) {
    for i in 0..100_000 {
        arena.mutate(|mc, _| assert_eq!(mc.alloc(Large([i; 64])).0[7], i));
        arena.safepoint();
    }
}

#[test]
fn a_trace_has_samples_with_the_stack_that_allocates() {
    let sink = Memory::new();
    exectrace::start(sink.clone()).unwrap();
    let mut arena = Arena::<Nothing>::new(Config::new(), |_| ());
    a_greedy_function(&mut arena);
    exectrace::stop().unwrap();
    let trace = sink.bytes();
    let mut reader = Reader::new(&*trace).unwrap();
    let (mut samples, mut at_home) = (0, 0);
    while let Some(ev) = reader.next_event().unwrap() {
        if ev.kind() == EventKind::Log && ev.log().is_some_and(|l| ev.string(l.category) == "gc sample") {
            samples += 1;
            let message = ev.log().map(|l| ev.string(l.message).to_owned()).unwrap();
            assert!(message.contains("524288 bytes for 512 of ") && message.ends_with("Large"), "{message}");
            at_home += u32::from(ev.stack().frames().any(|f| f.func.contains("a_greedy_function")));
        }
    }
    // 51.2 MB, one in 512 KiB.
    assert!((70..130).contains(&samples), "{samples}");
    assert_eq!(at_home, samples, "each from the one place that allocates");
}
