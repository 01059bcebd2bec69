//! What `measure`, `assert_no_leak!` and `assert_max_heap!` say, in tests that run beside each other and allocate all the time.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use exectrace::heap::{count_allocations, measure, measure_process};
use exectrace::{assert_max_heap, assert_no_leak};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

/// Something to disturb: another thread that allocates while `f` runs.
fn beside<R>(f: impl FnOnce() -> R) -> R {
    let over = AtomicBool::new(false);
    std::thread::scope(|s| {
        s.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                drop(black_box(vec![1u8; 3_000_000]));
                std::mem::forget(black_box(vec![1u8; 10]));
            }
        });
        let r = f();
        over.store(true, Ordering::Relaxed);
        r
    })
}

fn block(bytes: usize) -> Vec<u8> {
    black_box(Vec::with_capacity(bytes))
}

/// The message of a panic, if `f` panics.
fn complaint(f: impl FnOnce()) -> Option<String> {
    let e = catch_unwind(AssertUnwindSafe(f)).err()?;
    Some(e.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn each_thread_measures_its_own() {
    beside(|| {
        for n in [1usize, 10, 1000, 500_000] {
            let (kept, m) = measure(|| {
                let (a, b) = (block(n), block(2 * n));
                drop(a);
                let mut c = block(n);
                c.reserve_exact(5 * n);
                drop((b, c));
                block(n)
            });
            assert_eq!((m.allocs, m.frees, m.reallocs), (4, 3, 1), "{n}");
            assert_eq!((m.allocated_bytes, m.freed_bytes), (9 * n as u64, 8 * n as u64), "{n}");
            // The second block and the one that has grown.
            assert_eq!((m.peak_bytes, m.kept_bytes(), m.kept_blocks()), (7 * n as u64, n as i64, 1), "{n}");
            drop(kept);
        }
    });
}

#[test]
fn measurements_nest() {
    let ((inner, _), outer) = measure(|| {
        drop(block(5_000));
        measure(|| drop(block(300)))
    });
    assert_eq!(outer.peak_bytes, 5_000);
    let _: () = inner;
    let (inner, outer) = measure(|| {
        let held = block(1_000);
        let ((), inner) = measure(|| drop(block(9_000)));
        drop(held);
        inner
    });
    assert_eq!((inner.peak_bytes, outer.peak_bytes), (9_000, 10_000));
    // After both the thread is as before.
    assert_eq!(measure(|| drop(block(7))).1.peak_bytes, 7);
}

#[test]
fn counting() {
    beside(|| {
        let mut v = block(100);
        assert_eq!(count_allocations(|| v.push(1)), 0);
        assert_eq!(count_allocations(|| v.reserve_exact(1_000)), 1);
        assert_eq!(count_allocations(|| drop(block(1))), 1);
    });
}

#[test]
fn leaks_are_found_and_nothing_else() {
    beside(|| {
        assert_eq!(assert_no_leak!(block(10).capacity()), 10);
        assert_no_leak!({
            let v = block(100);
            drop(v);
        });
        let held = block(50);
        // To free what was there before is no leak.
        assert_no_leak!(drop(held));
        let said = complaint(|| assert_no_leak!(std::mem::forget(block(1234))));
        assert_eq!(said.as_deref(), Some("leaked 1234 bytes in 1 blocks"));
        let mut held = block(10);
        let said = complaint(|| assert_no_leak!(held.reserve_exact(40)));
        assert_eq!(said.as_deref(), Some("leaked 30 bytes in 0 blocks"));
    });
}

#[test]
fn the_most_that_is_needed() {
    beside(|| {
        assert_max_heap!(3_000, drop((block(1_000), block(2_000))));
        let said = complaint(|| assert_max_heap!(2_999, drop((block(1_000), block(2_000)))));
        assert_eq!(said.as_deref(), Some("the heap grew by 3000 bytes: at most 2999 are allowed"));
        assert_max_heap!(0, ());
        // A panic inside leaves the thread as it was.
        assert!(catch_unwind(|| assert_max_heap!(10, panic!("inside"))).is_err());
        assert_eq!(measure(|| drop(block(20))).1.peak_bytes, 20);
    });
}

#[test]
fn the_whole_process() {
    let worker = || {
        std::thread::spawn(|| {
            drop(block(10 << 20));
            std::mem::forget(block(20 << 20));
        })
        .join()
        .expect("join");
    };
    assert_eq!(measure(worker).1.peak_bytes >> 20, 0, "the worker's blocks are not this thread's");
    // Other tests run beside: at least this much.
    let ((), m) = measure_process(worker);
    assert!(m.peak_bytes >= 19 << 20 && m.allocated_bytes >= 30 << 20, "{m:?}");
    assert!(complaint(|| assert_no_leak!(process: worker())).is_some_and(|said| said.starts_with("leaked ")));
    assert!(
        complaint(|| assert_max_heap!(process: 1 << 20, worker())).is_some_and(|said| said.starts_with("the heap"))
    );
    assert_max_heap!(process: 1 << 40, worker());
}

/// While all allocations are recorded, and while a sample is, the figures are the same.
#[test]
fn a_trace_changes_nothing() {
    use exectrace::{Allocations, Tracer};
    for which in [Allocations::None, Allocations::Sampled { every_bytes: 64 }, Allocations::All] {
        Tracer::new().allocations(which).start(std::io::sink()).expect("start");
        for _ in 0..100 {
            let ((), m) = measure(|| drop((block(100), block(50))));
            assert_eq!((m.allocs, m.peak_bytes, m.kept_bytes()), (2, 150, 0), "{which:?}");
        }
        exectrace::stop().expect("stop");
    }
    assert_eq!(measure(|| drop(block(9))).1.peak_bytes, 9);
}
