//! Live bytes and blocks are exact, to the byte, whatever the program does: over the system allocator.

mod guest;

#[global_allocator]
static ALLOC: exectrace::Alloc<std::alloc::System> = exectrace::Alloc::with(std::alloc::System);

exectrace::interpose!();

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = guest::heap::before_main;

fn main() {
    guest::heap::all();
}
