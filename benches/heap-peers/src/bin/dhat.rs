//! dhat-rs, over the C library's allocator.
#[global_allocator]
static ALLOC: dhat::Alloc = dhat::Alloc;

fn main() {
    let out = std::env::temp_dir().join(format!("heap-peers-dhat-{}.json", std::process::id()));
    let begin = |mode: &str| (mode == "on").then(|| dhat::Profiler::builder().file_name(&out).build());
    heap_peers::run(begin, drop);
    let _ = std::fs::remove_file(out);
}
