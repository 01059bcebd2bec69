//! What is left of a trace that is cut off or damaged: all whole generations, and how much is lost. And streams: what comes
//! in pieces through a pipe is read as the file is.
#![cfg(feature = "cli")]

mod read_support;

use exectrace::read::Event;
use read_support::{exectrace, read, read_threaded, scratch, text};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const GENERATIONS: u64 = 4;

/// A trace in which a goroutine waits for another one, again and again; and where each generation ends in it, the header
/// first.
fn trace(minor: u32) -> (Vec<u8>, Vec<usize>) {
    let mut wire = Vec::new();
    let mut ends = vec![16];
    let mut text = format!("Trace Go1.{minor}\n");
    for g in 1..=GENERATIONS {
        let time = g * 10_000_000;
        text += &format!("EventBatch gen={g} m=1 time={time} size=auto\n");
        text += "ProcStatus dt=1 p=0 pstatus=1\nGoStatus dt=1 g=1 m=1 gstatus=2\n";
        for round in 0..200 {
            // Blocks 2 us after the beginning of the round, can run 1 us later, runs 2 us after that.
            let dt = if round == 0 { 1_998 } else { 5_000 };
            text += &format!("GoBlock dt={dt} reason_string=1 stack=1\nGoStart dt=3000 g=1 g_seq={}\n", 2 * round + 2);
        }
        text += &format!("EventBatch gen={g} m=2 time={time} size=auto\n");
        text += "ProcStatus dt=2 p=1 pstatus=1\nGoStatus dt=2 g=2 m=2 gstatus=2\n";
        for round in 0..200 {
            let dt = if round == 0 { 2_996 } else { 8_000 };
            text += &format!("GoUnblock dt={dt} g=1 g_seq={} stack=1\n", 2 * round + 1);
        }
        text += &format!("EventBatch gen={g} m=18446744073709551615 time={time} size=auto\n");
        text += "Strings\nString id=1\n\tdata=\"sync\"\nString id=2\n\tdata=\"main.wait\"\nString id=3\n\tdata=\"main.go\"\n";
        text += &format!("EventBatch gen={g} m=18446744073709551615 time={time} size=auto\n");
        text += "Stacks\nStack id=1 nframes=1\n\tpc=16 func=2 file=3 line=9\n";
        text += &format!("EventBatch gen={g} m=18446744073709551615 time={time} size=auto\n");
        text += if minor >= 25 { "Sync\n" } else { "" };
        text += "Frequency freq=1000000000\n";
        text += if minor >= 25 { "ClockSnapshot dt=1 mono=99 sec=1740755049 nsec=123\n" } else { "" };
        text += if minor >= 26 { "EndOfGeneration\n" } else { "" };
        wire = text::to_wire(&text);
        ends.push(wire.len());
    }
    (wire, ends)
}

/// The events of a trace that may be damaged, and how much of it was whole; the same with and without threads.
fn rest(wire: &[u8], what: &str) -> (Vec<Event>, Option<u64>) {
    let (events, error) = read(wire);
    let (threaded, again) = read_threaded(wire);
    assert!(events == threaded, "{what}: threads read other events");
    assert_eq!(error.as_ref().map(ToString::to_string), again.map(|e| e.to_string()), "{what}");
    (events, error.map(|e| e.whole_bytes()))
}

#[test]
fn a_trace_that_is_cut_off_gives_its_whole_generations() {
    for minor in [23, 26] {
        let (wire, ends) = trace(minor);
        let (all, error) = read(&wire);
        assert!(error.is_none(), "{error:?}");
        // Of each generation: two statuses on both threads, 600 events in rounds, a `Sync`; and the last `Sync`.
        assert_eq!(all.len() as u64, GENERATIONS * (4 + 600 + 1) + 1);
        let whole: Vec<_> = ends.iter().map(|&end| read(&wire[..end]).0).collect();
        for k in 1..ends.len() {
            assert_eq!(whole[k].len(), 605 * k + 1);
            assert!(all.starts_with(&whole[k][..605 * k]), "go 1.{minor}, {k} generations");
        }
        // Near the ends of generations everywhere, elsewhere here and there.
        for cut in (17..wire.len()).filter(|cut| cut % 37 == 0 || ends.iter().any(|end| end.abs_diff(*cut) < 20)) {
            let k = ends.iter().rposition(|&end| end <= cut).expect("the header");
            let what = format!("go 1.{minor} cut at {cut}, {k} whole generations");
            let (events, whole_bytes) = rest(&wire[..cut], &what);
            if ends.contains(&cut) {
                assert_eq!(whole_bytes, None, "{what}");
                continue;
            }
            assert_eq!(whole_bytes, Some(ends[k] as u64), "{what}");
            assert!(events == whole[k], "{what}: {} events", events.len());
        }
    }
}

#[test]
fn damage_in_the_middle_leaves_what_is_before_it() {
    for minor in [23, 26] {
        let (wire, ends) = trace(minor);
        let (all, _) = read(&wire);
        let before = read(&wire[..ends[2]]).0;
        // No batch begins with such a byte.
        let mut bad = wire.clone();
        bad[ends[2]] = 0xee;
        let (events, whole) = rest(&bad, "first byte");
        assert_eq!((whole, events.len()), (Some(ends[2] as u64), before.len()), "go 1.{minor}");
        assert!(events == before);
        // An event of the third generation that cannot be decoded: what comes before it in that generation is given too.
        let mut bad = wire.clone();
        let middle = ends[2] + (ends[3] - ends[2]) / 3;
        bad[middle..middle + 40].fill(0xff);
        let (events, whole) = rest(&bad, "an event");
        assert_eq!(whole, Some(ends[2] as u64), "go 1.{minor}");
        let given = events.len() - 1;
        assert!(given > before.len() && given < 3 * 605, "go 1.{minor}: {given} events");
        assert!(all.starts_with(&events[..given]), "go 1.{minor}");
    }
}

/// Runs the command on a stream that comes in pieces.
fn piped(args: &[&str], input: &[u8], piece: usize) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_exectrace"))
        .args(args)
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start exectrace");
    let mut pipe = child.stdin.take().expect("a pipe");
    std::thread::scope(|s| {
        s.spawn(move || {
            for p in input.chunks(piece) {
                // The command may have seen enough.
                if pipe.write_all(p).is_err() {
                    return;
                }
            }
        });
        child.wait_with_output().expect("wait")
    })
}

fn file(name: &str, wire: &[u8]) -> PathBuf {
    let path = scratch("damage").join(name);
    std::fs::write(&path, wire).expect("write");
    path
}

fn words(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).trim().to_owned()
}

#[test]
fn a_stream_is_read_as_a_file_is() {
    let (wire, ends) = trace(26);
    let cut = (ends[2] + ends[3]) / 2;
    for (name, bytes, code) in [("whole.trace", &wire[..], 0), ("cut.trace", &wire[..cut], 3)] {
        let path = file(name, bytes);
        for args in [
            &["print"][..],
            &["print", "--format", "go"],
            &["print", "--format", "wire"],
            &["print", "--json"],
            &["summary"],
            &["summary", "--json"],
            &["profile", "sync"],
            &["goroutines"],
            &["latency"],
        ] {
            let of_file = exectrace(args, &path);
            assert_eq!(of_file.status.code(), Some(code), "{args:?}: {}", words(&of_file));
            assert!(!of_file.stdout.is_empty(), "{args:?}");
            for piece in [1, 1000, 1 << 20] {
                let of_stream = piped(args, bytes, piece);
                assert_eq!(of_stream.status.code(), Some(code), "{args:?}: {}", words(&of_stream));
                assert!(of_stream.stdout == of_file.stdout, "{name} {args:?} in pieces of {piece}");
            }
        }
    }
}

#[test]
fn answers_are_about_the_whole_part_and_say_what_is_lost() {
    let (wire, ends) = trace(26);
    let cut = ends[3] - 1;
    let path = file("lost.trace", &wire[..cut]);
    let share = format!("{:.1} %", (cut - ends[2]) as f64 / cut as f64 * 100.0);
    for args in [&["check"][..], &["print", "--format", "go"], &["summary"], &["profile", "sync"]] {
        let out = exectrace(args, &path);
        let line = words(&out);
        assert_eq!((out.status.code(), line.lines().count()), (Some(3), 1), "{args:?}: {line}");
        assert!(line.contains(&format!("generation 3, byte {:#x}", cut)), "{args:?}: {line}");
        assert!(line.contains(&format!("lost {share} of the trace")), "{args:?}: {line}, not {share}");
        let out = piped(args, &wire[..cut], 4096);
        assert!(words(&out).contains(&format!("lost at least {share}")), "{args:?}: {}", words(&out));
    }
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&exectrace(args, &path).stdout).unwrap_or_else(|e| panic!("{args:?}: {e}"))
    };
    let summary = json(&["summary", "--json"]);
    assert_eq!(summary["trace"]["generations"], 2);
    assert_eq!(summary["losses"]["damage"]["whole_bytes"], ends[2]);
    let profile = json(&["profile", "--all", "--json", "sync"]);
    // 200 waits of 1 us in each of two generations.
    assert_eq!((&profile["count"], &profile["total_ns"]), (&400.into(), &400_000.into()));
    assert_eq!(profile["damage"]["whole_bytes"], ends[2]);
}
