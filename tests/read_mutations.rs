//! Damaged traces, by seed: no panic, no hang, and the events and the verdict of Go.
//!
//! Each damaged trace is read by the library and printed by the command. Where a Go 1.27 is at hand its tool reads the same
//! file, and what both print must be equal byte for byte, up to the place where both give up.
//!
//! `EXECTRACE_MUTATIONS=N` sets the number of damaged traces (of those that Go reads, a tenth), `EXECTRACE_SEED=N` the first
//! seed. A failure names its seed; run it alone with `EXECTRACE_MUTATIONS=1 EXECTRACE_SEED=that`.
#![cfg(feature = "cli")]

mod read_support;

use read_support::go::{self, Verdict};
use read_support::mutate::{bases, mutate, setting};
use read_support::{exectrace, first_difference, read, read_threaded, scratch};
use std::time::{Duration, Instant};

/// A damaged trace of a few hundred KiB must not take longer, even on a busy machine in a debug build.
const SLOW: Duration = Duration::from_secs(20);

#[test]
fn damage_neither_panics_nor_hangs() {
    let bases = bases();
    let first = setting("EXECTRACE_SEED", 0);
    let mut broken = 0;
    let n = setting("EXECTRACE_MUTATIONS", 2000);
    for seed in first..first + n {
        let (name, base) = &bases[(seed % bases.len() as u64) as usize];
        let (wire, what) = mutate(base, seed);
        let start = Instant::now();
        let (events, error) = read(&wire);
        assert!(start.elapsed() < SLOW, "seed {seed}: {:?} for {name} with {what}", start.elapsed());
        assert!(events.is_sorted_by(|a, b| a.time < b.time), "seed {seed}: times fall in {name} with {what}");
        if let Some(e) = &error {
            broken += 1;
            assert!(e.whole_bytes() <= wire.len() as u64, "seed {seed}: {e}");
            assert!(!e.to_string().contains('\n'), "seed {seed}: {e}");
        }
        if seed % 20 == 0 {
            let (same, again) = read_threaded(&wire);
            assert_eq!(events, same, "seed {seed}");
            assert_eq!(error.map(|e| e.to_string()), again.map(|e| e.to_string()), "seed {seed}");
        }
    }
    // A test whose damage does nothing would prove nothing.
    assert!(n < 100 || (broken * 10 > n && broken < n), "{broken} of {n} are broken");
}

#[test]
fn go_gives_the_same_events_and_the_same_verdict() {
    let Some(go) = go::model() else { return };
    let bases = bases();
    let dir = scratch("mutations");
    let first = setting("EXECTRACE_SEED", 0);
    let n = setting("EXECTRACE_MUTATIONS", 1000).div_ceil(10);
    let (mut accepted, mut panics) = (0, 0);
    for seed in first..first + n {
        let (name, base) = &bases[(seed % bases.len() as u64) as usize];
        let (wire, what) = mutate(base, seed);
        let file = dir.join("damaged.trace");
        std::fs::write(&file, &wire).expect("write");
        let at = format!("seed {seed}: {name} with {what}");
        let (want, verdict) = go.parse(&file);
        let ours = exectrace(&["print", "--format", "go"], &file);
        let (_, error) = read(&wire);
        match verdict {
            Verdict::Panics(_) => {
                // Go's printer trips over what its reader let pass. What it printed before must agree.
                panics += 1;
                assert!(ours.stdout.starts_with(&want), "{at}: {}", first_difference(&ours.stdout, &want));
                continue;
            }
            Verdict::Accepts => {
                accepted += 1;
                let silent = error.as_ref().is_none_or(|e| e.go_is_silent());
                assert!(silent, "{at}: Go accepts it, we say: {error:?}");
            }
            Verdict::Rejects(words) => match error {
                Some(e) => assert!(!e.go_is_silent(), "{at}: Go is not silent but says {words}; we say {e}"),
                None => panic!("{at}: Go says {words}, we accept it"),
            },
        }
        assert!(ours.stdout == want, "{at}: {}", first_difference(&ours.stdout, &want));
    }
    assert!(n < 50 || accepted > 0, "Go accepts none of {n}");
    eprintln!("{n} damaged traces: Go accepts {accepted}, panics at {panics}");
}
