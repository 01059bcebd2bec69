//! Damaged traces through everything that writes traces, by seed: no panic and no hang; and what was a valid trace before is
//! one afterwards, with the same events.
//!
//! `EXECTRACE_MUTATIONS=N` sets the number of damaged traces, `EXECTRACE_SEED=N` the first seed.
#![cfg(feature = "cli")]

mod read_support;

use exectrace::format::Version;
use exectrace::read::{ErrorKind, Event, EventKind, GoId, ThreadId, Time};
use exectrace::rewrite::{self, Binaries, Error, Report, Window};
use read_support::mutate::{bases, mutate, setting};
use read_support::read;
use std::io::Cursor;

/// What must stay: the events, but not the `Sync`s, which may get a clock.
fn shape(events: &[Event]) -> Vec<(Time, ThreadId, GoId, u8)> {
    let events = events.iter().filter(|e| e.kind() != EventKind::Sync);
    events.map(|e| (e.time, e.thread, e.goroutine, e.wire as u8)).collect()
}

type Rewrite = fn(&[u8], &mut Vec<u8>) -> Result<Report, Error>;

const ALL: &[(&str, Rewrite)] = &[
    ("cut", |i, o| rewrite::cut(i, o, Window::default(), &mut |_| {})),
    ("anonymize", |i, o| rewrite::anonymize(i, o, &mut |_| {})),
    ("merge", |i, o| rewrite::merge(&mut [Cursor::new(i), Cursor::new(i)], o, &mut |_| {})),
    ("to 1.23", |i, o| rewrite::convert(i, o, Version::Go123, &mut |_| {})),
    ("to 1.25", |i, o| rewrite::convert(i, o, Version::Go125, &mut |_| {})),
    ("to 1.26", |i, o| rewrite::convert(i, o, Version::Go126, &mut |_| {})),
    ("symbolize", |i, o| rewrite::symbolize(i, o, &Binaries::default(), &mut |_| {}).map(|r| r.written)),
];

#[test]
fn valid_traces_stay_valid_and_the_others_are_refused() {
    let bases = bases();
    let first = setting("EXECTRACE_SEED", 0);
    let n = setting("EXECTRACE_MUTATIONS", 1000);
    let (mut valid, mut saved) = (0, 0);
    for seed in first..first + n + bases.len() as u64 {
        let (name, base) = &bases[(seed % bases.len() as u64) as usize];
        // Each once as it is.
        let (wire, what) =
            if seed < bases.len() as u64 { (base.clone(), "nothing".to_owned()) } else { mutate(base, seed) };
        let (events, error) = read(&wire);
        for (rewrite, run) in ALL {
            let at = format!("seed {seed}: {rewrite} of {name} with {what}");
            let mut out = Vec::new();
            match run(&wire, &mut out) {
                Ok(report) => {
                    assert_eq!(report.bytes_written, out.len() as u64, "{at}");
                    let (again, e) = read(&out);
                    assert!(e.is_none(), "{at}: {e:?}");
                    // A version that asks for less may take what another refuses.
                    let lax =
                        error.as_ref().is_some_and(|e| rewrite.starts_with("to ") && e.kind() == ErrorKind::Clock);
                    assert!(error.is_none() || lax, "{at}: {error:?}");
                    assert!(lax || shape(&again) == shape(&events), "{at}: other events");
                    valid += 1;
                }
                // What cannot be done; whatever is written then is left out by the command.
                Err(Error::Cannot(_)) => {}
                Err(Error::Read(_)) => {
                    assert!(error.is_some(), "{at}");
                    // At most a header where nothing is whole.
                    let (whole, e) = if out.len() <= 16 { (Vec::new(), None) } else { read(&out) };
                    assert!(e.is_none(), "{at}: {e:?}");
                    saved += usize::from(!whole.is_empty());
                }
                Err(e) => assert!(error.is_some(), "{at}: {e}"),
            }
        }
    }
    assert!(n < 100 || (valid > 100 && saved > 0), "{valid} valid, {saved} saved in part");
}
