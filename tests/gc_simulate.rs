//! `exectrace gc simulate` from end to end: a program with a known load is recorded exactly, and the command says what a
//! collector would make of it.

use exectrace::{Allocations, Tracer};
use std::fs::{self, File};
use std::hint::black_box;
use std::path::Path;
use std::process::Command;

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

/// What is alive all the time, and what comes and goes beside it.
const LIVE: usize = 8 << 20;
const CHURN: usize = 96 << 20;
const BLOCK: usize = 4 << 10;

fn record(path: &Path) {
    Tracer::new().allocations(Allocations::All).start(File::create(path).unwrap()).unwrap();
    let mut live: Vec<Vec<u8>> = (0..LIVE / BLOCK).map(|_| vec![1; BLOCK]).collect();
    for i in 0..CHURN / BLOCK {
        let at = i * 7919 % live.len();
        live[at] = black_box(vec![i as u8; BLOCK]);
    }
    assert_eq!(live.len(), LIVE / BLOCK);
    exectrace::stop().unwrap();
}

fn simulate(path: &Path, args: &[&str]) -> Vec<serde_json::Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exectrace"));
    let out = command.args(["gc", "simulate", "--json"]).args(args).arg(path).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let rows = answer.as_object().unwrap().values().find_map(|v| v.as_array()).expect("the outcomes");
    rows.clone()
}

#[test]
fn what_a_load_costs_under_a_collector() {
    let path = std::env::temp_dir().join(format!("exectrace-gc-simulate-{}.trace", std::process::id()));
    record(&path);
    let number = |row: &serde_json::Value, name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name} in {row}"));
    let rows = simulate(&path, &["--gc-percent", "50,100,200"]);
    assert_eq!(rows.len(), 3);
    for (row, percent) in rows.iter().zip([50.0, 100.0, 200.0]) {
        // Each cycle comes after `percent` of what is alive was allocated; what it finds alive may be more by what was
        // allocated while the one before marked, up to 0.6 of it.
        let ideal = CHURN as f64 / (LIVE as f64 * percent / 100.0);
        let cycles = number(row, "cycles");
        assert!((ideal * 0.5..ideal * 1.6 + 3.0).contains(&cycles), "{percent} %: {cycles} cycles and not {ideal}");
        let peak = number(row, "peak_bytes") / (LIVE as f64 * (1.0 + percent / 100.0));
        assert!((0.8..1.7).contains(&peak), "{percent} %: the peak is {peak} of the goal");
        let per_cycle = number(row, "marked_bytes") / cycles / LIVE as f64;
        assert!((0.7..1.7).contains(&per_cycle), "{percent} %: {per_cycle} of what is alive is marked in a cycle");
    }
    let cycles: Vec<_> = rows.iter().map(|r| number(r, "cycles")).collect();
    assert!(cycles[0] > cycles[1] && cycles[1] > cycles[2], "{cycles:?}");
    // A limit that is far away changes nothing.
    let limited = simulate(&path, &["--gc-percent", "200", "--memory-limit", "512MiB"]);
    assert_eq!(
        (number(&limited[0], "cycles"), number(&limited[0], "peak_bytes")),
        (cycles[2], number(&rows[2], "peak_bytes"))
    );
    // One below what is alive does not bring the program to a stand, which a cycle for each little room would do. How many cycles there
    // are hangs on how fast the program allocated.
    let tight = simulate(&path, &["--gc-percent", "100", "--memory-limit", "4MiB"]);
    let share = number(&tight[0], "gc_ns") / number(&tight[0], "duration_ns");
    // Marking alone takes about half of it; without the protection it would be over 0.99.
    assert!(share < 0.9, "{share} of the time is the collector's");
    let spiral = (CHURN / (256 << 10)) as f64;
    assert!((1.0..spiral / 4.0).contains(&number(&tight[0], "cycles")), "{} cycles", tight[0]["cycles"]);
    assert!(number(&tight[0], "peak_bytes") > LIVE as f64, "{} bytes", tight[0]["peak_bytes"]);
    fs::remove_file(path).unwrap();
}
