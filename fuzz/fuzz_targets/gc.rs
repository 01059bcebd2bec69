//! Any program on the GC heap, over its whole API: nothing dangles, nothing leaks, every invariant holds. What is done is
//! compared step by step with a model, by the code that the seeded test `gc_everything` runs as well.
//!
//! ```sh
//! cargo +nightly fuzz run gc                                # until it finds something; with the address sanitizer
//! cargo +nightly fuzz run gc -- -max_total_time=60          # the short form
//! ```
#![no_main]

#[path = "../../tests/gc_model/mod.rs"]
mod gc_model;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (settings, program) = data.split_at(data.len().min(6));
    gc_model::run(gc_model::config(settings), program);
});
