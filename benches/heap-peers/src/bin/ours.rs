//! exectrace over mimalloc.
use std::time::Duration;

use exectrace::{Allocations, Tracer};

#[global_allocator]
static ALLOC: exectrace::Alloc = exectrace::Alloc::new();

fn main() {
    let out = std::env::temp_dir().join(format!("heap-peers-ours-{}.trace", std::process::id()));
    let begin = |mode: &str| {
        let tracer = Tracer::new().cpu_sample_hz(0);
        let tracer = match mode {
            "curve" => tracer,
            "sampled" => tracer.allocations(Allocations::SAMPLED),
            "all" => tracer.allocations(Allocations::All).back_pressure(Duration::from_secs(60)),
            _ => return false,
        };
        tracer.start(std::fs::File::create(&out).expect("a file")).expect("start");
        true
    };
    heap_peers::run(begin, |on| {
        if on {
            let stats = exectrace::stop().expect("stop");
            assert_eq!((stats.lost_allocations, stats.lost_events()), (0, 0));
        }
    });
    let _ = std::fs::remove_file(out);
}
