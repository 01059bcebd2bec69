//! Tracy's wrapper of an allocator, without stacks, over mimalloc; nobody is connected, so that the events stay in memory.
#[global_allocator]
static ALLOC: tracy_client::ProfiledAllocator<mimalloc::MiMalloc> =
    tracy_client::ProfiledAllocator::new(mimalloc::MiMalloc, 0);

fn main() {
    heap_peers::run(|_| tracy_client::Client::start(), |_| ());
}
