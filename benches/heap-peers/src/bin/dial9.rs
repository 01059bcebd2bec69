//! dial9's wrapper of an allocator over mimalloc: a sample for each 512 KiB, and the frees of what is in it.
use dial9_core::buffer::DiskBuffer;
use dial9_perf_self_profile::memory_profiling::{Dial9Allocator, MemoryProfiler, MemoryProfilingConfig};

#[global_allocator]
static ALLOC: Dial9Allocator<mimalloc::MiMalloc> = Dial9Allocator::new(mimalloc::MiMalloc);

fn main() {
    let out = std::env::temp_dir().join(format!("heap-peers-dial9-{}.bin", std::process::id()));
    let begin = |mode: &str| {
        (mode == "on").then(|| {
            let recorder = dial9_core::recorder::recorder(DiskBuffer::single_file(&out).expect("a file")).build();
            let config = MemoryProfilingConfig::builder().track_liveset(true).build();
            let guard = MemoryProfiler::from_config(config).install(recorder.handle().clone()).expect("installed");
            (guard, recorder)
        })
    };
    heap_peers::run(begin, drop);
    let _ = std::fs::remove_file(out);
}
