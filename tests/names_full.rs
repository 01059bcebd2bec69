//! A program that makes up names by the thousand: the table of names is full, and traces stay whole.

mod guest;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use exectrace::format::Kind;
use exectrace::read::{Interner, Reader};
use exectrace::{Region, Symbolize, Task, Tracer};

use guest::{Memory, check};

exectrace::interpose!();

/// More than there is room for.
const NAMES: usize = 9000;

#[test]
fn reasons_tasks_and_regions_are_told_when_the_names_are_used_up() {
    for round in 0..2 {
        let sink = Memory::new();
        let tracer = Tracer::new().symbolize(Symbolize::Live).generation_period(Duration::from_secs(100));
        tracer.start(sink.clone()).expect("start");
        for i in 0..NAMES {
            let _region = Region::new(&format!("region {round} {i}"));
        }
        // Reasons that are found out by the stack come after that, in several generations.
        for _ in 0..5 {
            let lock = Arc::new(Mutex::new(()));
            let held = lock.lock().expect("a lock");
            let waiter = thread::spawn({
                let lock = Arc::clone(&lock);
                move || drop(lock.lock())
            });
            let parked = thread::spawn(thread::park);
            thread::sleep(Duration::from_millis(20));
            drop(held);
            parked.thread().unpark();
            waiter.join().expect("join");
            parked.join().expect("join");
            exectrace::flush();
        }
        let task = Task::new(&format!("task {round}"));
        let region = task.region("after all");
        exectrace::log!(task: &task, "category", "message {}", 7);
        drop((region, task));
        let stats = exectrace::stop().expect("stop");
        assert_eq!(stats.lost_events(), 0, "{stats:?}");

        let trace = sink.bytes();
        let seen = check(&trace);
        assert_eq!(seen.kind(Kind::UserRegionBegin), NAMES as u64 + 1);
        assert!(seen.generations >= 5);
        let mut reader = Reader::new(&trace[..]).expect("a trace");
        let mut interner = Interner::new();
        let (mut tasks, mut nameless, mut logs) = (Vec::new(), 0, 0);
        while let Some(ev) = reader.next_event().expect("a good trace") {
            match ev.wire {
                Kind::UserTaskBegin => tasks.push(ev.string(exectrace::read::StringId(ev.args[2])).to_owned()),
                Kind::UserRegionBegin => {
                    let name = exectrace::read::StringId(ev.args[1]);
                    let key = interner.string(ev.generation(), name);
                    nameless += u32::from(interner.text(key) == "(more names)");
                }
                Kind::UserLog => {
                    logs += 1;
                    assert_eq!(
                        (ev.args[0] != 0, ev.string(exectrace::read::StringId(ev.args[2]))),
                        (true, "message 7")
                    );
                }
                _ => {}
            }
        }
        assert_eq!((tasks, logs), (vec![format!("task {round}")], 1));
        // In the first trace the last of them, in the second all: names are kept as long as the process runs.
        assert_eq!(nameless as usize > NAMES / 2, round == 1, "{nameless} in round {round}");
        assert!(nameless > 100);
    }
}
