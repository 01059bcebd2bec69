//! `exectrace profile` through the command, where the numbers are not those of Go: CPU samples, sums by function.
#![cfg(feature = "cli")]

mod cli_support;
mod read_support;

use cli_support::{expect, run};
use read_support::{data_file, text};

/// Three samples in a trace whose tracer says how much time one stands for, if `period` is not empty.
fn samples(period: &str) -> Vec<u8> {
    let meta = match period {
        "" => String::new(),
        ns => format!(
            "ExperimentalBatch exp=1 gen=1 m=1 time=3\n\tdata=\"\\xc8\\x01\\x06writer\\x09exectrace\\x10sample_period_ns\\x{:02x}{ns}\"\n",
            ns.len()
        ),
    };
    text::to_wire(&format!(
        "Trace Go1.23\nEventBatch gen=1 m=1 time=1 size=auto\nProcStatus dt=1 p=0 pstatus=1\n\
         GoStatus dt=1 g=1 m=1 gstatus=2\nGoLabel dt=9 label_string=0\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nFrequency freq=15625000\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStrings\nString id=1\n\tdata=\"worker\"\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStacks\n\
         Stack id=1 nframes=1\n\tpc=16 func=1 file=1 line=3\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nCPUSamples\n\
         CPUSample time=4 m=1 p=0 g=1 stack=1\nCPUSample time=5 m=1 p=0 g=1 stack=1\n\
         CPUSample time=6 m=1 p=0 g=1 stack=1\n{meta}"
    ))
}

#[test]
fn a_sample_stands_for_the_time_that_the_tracer_says() {
    for (period, total) in [("", 30_000_000), ("1000000", 3_000_000)] {
        let out = run(&["profile", "cpu", "--json", "-"], &samples(period));
        let v: serde_json::Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!((&v["count"], &v["total_ns"]), (&3.into(), &total.into()), "{period}");
        assert_eq!(v["sample_period_ns"], total / 3);
        // Nobody's name is in it.
        let hidden = run(&["anonymize", "-"], &samples(period)).stdout;
        let v: serde_json::Value =
            serde_json::from_slice(&run(&["profile", "cpu", "--json", "-"], &hidden).stdout).expect("JSON");
        assert_eq!(v["total_ns"], total, "{period}");
        // A sample has no length, so there is no longest one.
        let text = String::from_utf8(run(&["profile", "cpu", "-"], &samples(period)).stdout).expect("UTF-8");
        assert!(text.contains(" count  where\n") && !text.contains("max"), "{text}");
    }
}

#[test]
fn a_list_of_goroutines_says_how_many_there_are() {
    // A goroutine makes 1100 others and runs on.
    let others: String = (0..1100).map(|i| format!("GoCreate dt=1 new_g={} new_stack=0 stack=0\n", i + 2)).collect();
    let wire = text::to_wire(&format!(
        "Trace Go1.22\nEventBatch gen=1 m=1 time=1 size=auto\nProcStatus dt=1 p=0 pstatus=1\n\
         GoStatus dt=1 g=1 m=1 gstatus=2\n{others}\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nFrequency freq=1000000000\n"
    ));
    let of = |args: &[&str]| String::from_utf8(run(&[&["goroutines"], args].concat(), &wire).stdout).expect("UTF-8");
    let text = of(&["--list", "", "--top", "1050", "-"]);
    assert_eq!(text.lines().count(), 1 + 1050 + 1, "{text}");
    assert!(text.ends_with("... and 51 more\n"), "{text}");
    assert!(of(&["--list", "", "-"]).ends_with("... and 1081 more\n"));
    let v: serde_json::Value = serde_json::from_str(&of(&["--list", "", "--json", "-"])).expect("JSON");
    assert_eq!((v["goroutines"].as_array().map(Vec::len), &v["goroutines_total"]), (Some(1000), &1101.into()));
}

#[test]
fn a_frame_without_a_name_is_no_place() {
    let wire = text::to_wire(
        "Trace Go1.22\nEventBatch gen=1 m=1 time=1 size=auto\nProcStatus dt=1 p=0 pstatus=1\n\
         GoStatus dt=1 g=1 m=1 gstatus=2\nGoBlock dt=1 reason_string=1 stack=1\nGoUnblock dt=5 g=1 g_seq=1 stack=0\n\
         GoStart dt=1 g=1 g_seq=2\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nFrequency freq=1000000000\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStrings\nString id=1\n\tdata=\"sync\"\n\
         EventBatch gen=1 m=18446744073709551615 time=0 size=auto\nStacks\n\
         Stack id=1 nframes=1\n\tpc=16 func=0 file=0 line=0\n",
    );
    let out = run(&["profile", "sync", "--all", "-"], &wire);
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    assert!(text.ends_with("  sync: (no stack)\n"), "{text}");
}

#[test]
fn windows_are_no_longer_than_the_trace() {
    let file = data_file("go127-annotations.trace").display().to_string();
    let text = expect(0, &["mmu", &file]);
    assert!(text.lines().all(|l| l.trim_end() == l), "{text}");
    let v: serde_json::Value = serde_json::from_str(&expect(0, &["mmu", "--json", &file])).expect("JSON");
    let last = v["points"].as_array().and_then(|p| p.last()).expect("a point");
    assert_eq!(last["window_ns"], v["duration_ns"]);
    let (got, mean) = (last["utilization"].as_f64().expect("a share"), v["mean"].as_f64().expect("a share"));
    assert!((got - mean).abs() < 1e-6, "{got} {mean}");
}

#[test]
fn sums_by_function_are_in_the_json() {
    let file = data_file("go127-annotations.trace").display().to_string();
    let of = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&expect(0, &[&["profile", "sched", "--json"], args, &[&file]].concat())).expect("JSON")
    };
    assert!(of(&[]).get("functions").is_none());
    let v = of(&["--by", "function"]);
    assert_eq!(v["schema"], "exectrace.profile/1");
    let functions = v["functions"].as_array().expect("a list");
    let text = expect(0, &["profile", "sched", "--by", "function", &file]);
    let first = functions[0]["func"].as_str().expect("a name");
    assert!(text.lines().nth(3).is_some_and(|l| l.ends_with(first)), "{first}: {text}");
}
