//! MMTk's runs, in a program of their own: MMTk wants its heap at the address at which mimalloc, which the others run with,
//! begins. Started by `gc-peers`, as `mmtk PLAN PROGRAM`.

#![allow(dead_code, reason = "of the programs it has only some")]

#[path = "../mmtk_peer.rs"]
mod mmtk_peer;
#[path = "../watch.rs"]
mod watch;
#[path = "../work.rs"]
mod work;

use mmtk::util::options::PlanSelector;

fn main() {
    let mut args = std::env::args().skip(1);
    let plan = match args.next().as_deref() {
        Some("Immix") => PlanSelector::Immix,
        Some("StickyImmix") => PlanSelector::StickyImmix,
        Some("MarkSweep") => PlanSelector::MarkSweep,
        other => panic!("no plan: {other:?}"),
    };
    let program = args.next().expect("a program");
    watch::child(|| mmtk_peer::run(&program, plan));
}
