//! The interpreter of the example runs its programs right in every mode, also with a collection at every safepoint.

#[path = "../examples/scheme/builtins.rs"]
mod builtins;
#[path = "../examples/scheme/compile.rs"]
mod compile;
#[path = "../examples/scheme/machine.rs"]
mod machine;
#[path = "../examples/scheme/programs.rs"]
mod programs;
#[path = "../examples/scheme/value.rs"]
mod value;

use exectrace::gc::{Config, Mode};
use machine::Scheme;
use std::time::Duration;

#[test]
fn known_programs_run_right_in_every_mode() {
    for mode in [Mode::StopTheWorld, Mode::Incremental, Mode::Generational] {
        let mut cycles = 0;
        for (name, text, answer) in programs::PROGRAMS {
            let config = Config::new().mode(mode).heap_bytes_min(1 << 18).max_pause(Duration::ZERO).poison(true);
            let mut scheme = Scheme::new(config);
            assert_eq!(scheme.run(text).as_deref(), Ok(*answer), "{name}");
            scheme.arena().collect();
            scheme.arena().verify().expect(name);
            cycles += scheme.stats().cycles + scheme.stats().minors.count;
        }
        assert!(cycles > 100, "{cycles}");
    }
}

#[test]
fn small_programs_run_right_under_stress() {
    for (name, text, answer) in programs::PROGRAMS {
        if ["closures", "words", "strings", "errors", "coroutines", "again"].contains(name) {
            let mut scheme = Scheme::new(Config::new().mode(Mode::Generational).stress(true).poison(true));
            assert_eq!(scheme.run(text).as_deref(), Ok(*answer), "{name}");
        }
    }
}

#[test]
fn what_nobody_handles_is_told_and_the_machine_goes_on() {
    let mut scheme = Scheme::new(Config::new());
    assert_eq!(scheme.run("(+ 1 (error \"no\" 'good 7))"), Err("no good 7".into()));
    assert_eq!(scheme.run("(car"), Err("a list without its end".into()));
    assert_eq!(scheme.run("(define x 5) (* x x)").as_deref(), Ok("25"));
}
