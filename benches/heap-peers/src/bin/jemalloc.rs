//! jemalloc, whose profiler the environment turns on.
#[global_allocator]
static ALLOC: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    heap_peers::run(|_| (), |()| ());
}
