//! Tests of the stack table: against a `HashMap`, from many threads, when full; and by model checking under `--cfg loom`.

use super::*;

/// The `n`th of a family of distinct stacks of 1 to `frames` frames that share most of their frames, as real ones do.
#[cfg(not(loom))]
fn stack(n: usize, frames: usize) -> Vec<usize> {
    let len = n % frames + 1;
    (0..len).map(|i| 0x5555_5555_0000 + i * 0x40 + if i == 0 { n << 7 } else { 0 }).collect()
}

#[cfg(not(loom))]
mod real {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::sync::Barrier;

    #[test]
    fn a_stack_has_one_id_and_an_id_one_stack() {
        let table = StackTable::new(DEFAULT_LIMIT_BYTES);
        let mut twin = HashMap::new();
        assert!(table.is_empty());
        for round in 0..2 {
            for n in 0..50_000 {
                let pcs = stack(n, 40);
                let id = table.insert(&pcs).expect("room");
                assert_eq!(*twin.entry(pcs).or_insert(id), id, "round {round}, stack {n}");
            }
        }
        assert_eq!(table.len(), twin.len());
        let ids: HashSet<u32> = twin.values().map(|id| id.get()).collect();
        assert_eq!(ids.len(), twin.len());
        assert_eq!(ids.iter().copied().max(), Some(twin.len() as u32), "dense from 1");
        for (pcs, id) in &twin {
            assert_eq!(table.get(*id), pcs);
        }
        assert_eq!(table.insert(&[]), None);
        assert_eq!(table.get(StackId::new(u32::MAX).unwrap()), &[]);
        assert_eq!(table.get(StackId::new(60_000).unwrap()), &[]);
    }

    #[test]
    fn prefixes_and_zeros_are_stacks_of_their_own() {
        let table = StackTable::new(DEFAULT_LIMIT_BYTES);
        let zeros = [0; 9];
        let ids: HashSet<_> = (1..=9).map(|n| table.insert(&zeros[..n]).unwrap()).collect();
        assert_eq!(ids.len(), 9);
        for n in 1..=9 {
            assert_eq!(table.get(table.insert(&zeros[..n]).unwrap()), &zeros[..n]);
        }
    }

    #[test]
    fn a_full_table_refuses_new_stacks_and_still_finds_old_ones() {
        for limit_bytes in [0, 8, 100, 4096, 3 << 20] {
            let table = StackTable::new(limit_bytes);
            let taken: Vec<_> = (0..200_000).map(|n| table.insert(&stack(n, 20))).take_while(Option::is_some).collect();
            assert!(taken.len() < 200_000 && table.stack_bytes() <= limit_bytes.max(8), "limit {limit_bytes}");
            assert!(taken.len() * 400 >= limit_bytes.saturating_sub(400), "limit {limit_bytes}: {}", taken.len());
            for (n, id) in taken.iter().enumerate() {
                assert_eq!(table.insert(&stack(n, 20)), *id);
            }
        }
    }

    #[test]
    fn the_smallest_stacks_fill_memory_and_ids_at_once() {
        let table = StackTable::new(usize::MAX);
        let n = (1..).take_while(|&pc| table.insert(&[pc]).is_some()).count();
        assert!(n <= IDS_MAX && n > IDS_MAX - SEGMENTS, "{n} of {IDS_MAX}");
        let last = StackId::new(n as u32).unwrap();
        assert_eq!(table.get(last), &[n]);
        table.mark_used(last, 1);
        let mut used = Vec::new();
        table.drain_used(1, |id| used.push(id));
        assert_eq!(used, [last]);
    }

    #[test]
    fn a_stack_longer_than_a_segment_is_refused() {
        let table = StackTable::new(DEFAULT_LIMIT_BYTES);
        assert_eq!(table.insert(&vec![1; SEGMENT_WORDS]), None);
        assert_eq!(table.insert(&[1; 128]).map(StackId::get), Some(1));
    }

    #[test]
    fn threads_agree_on_ids() {
        const THREADS: usize = 4;
        const STACKS: usize = 20_000;
        let table = StackTable::new(DEFAULT_LIMIT_BYTES);
        let start = Barrier::new(THREADS);
        let ids: Vec<Vec<StackId>> = std::thread::scope(|s| {
            let insert = || {
                start.wait();
                (0..STACKS).map(|n| table.insert(&stack(n, 30)).expect("room")).collect()
            };
            let threads: Vec<_> = (0..THREADS).map(|_| s.spawn(insert)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        for (n, id) in ids[0].iter().enumerate() {
            assert!(ids.iter().all(|theirs| theirs[n] == *id), "stack {n}");
            assert_eq!(table.get(*id), stack(n, 30));
        }
        // Ids that lost a race are holes; there is at most one a thread and stack, and few in practice.
        assert!((STACKS..STACKS * THREADS).contains(&table.len()));
    }

    #[test]
    fn marks_are_kept_by_parity_and_cleared_by_draining() {
        let table = StackTable::new(DEFAULT_LIMIT_BYTES);
        let ids: Vec<_> = (0..20_000).map(|n| table.insert(&stack(n, 5)).unwrap()).collect();
        let drain = |parity| {
            let mut used = Vec::new();
            table.drain_used(parity, |id| used.push(id));
            used
        };
        for parity in 0..2 {
            ids.iter().skip(parity).step_by(3).for_each(|&id| table.mark_used(id, parity));
            table.mark_used(ids[parity], parity);
        }
        for parity in 0..2 {
            assert_eq!(drain(parity), ids.iter().copied().skip(parity).step_by(3).collect::<Vec<_>>());
            assert_eq!(drain(parity), []);
        }
    }

    #[test]
    fn reasons_are_remembered_by_id() {
        let table = StackTable::new(DEFAULT_LIMIT_BYTES);
        let ids: Vec<_> = (0..10_000).map(|n| table.insert(&stack(n, 5)).unwrap()).collect();
        assert!(ids.iter().all(|&id| table.reason(id) == 0));
        ids.iter().for_each(|&id| table.set_reason(id, (id.get() % 251) as u8));
        assert!(ids.iter().all(|&id| table.reason(id) == (id.get() % 251) as u8));
        table.set_reason(StackId::new(u32::MAX).unwrap(), 1);
        assert_eq!(table.reason(StackId::new(u32::MAX).unwrap()), 0);
    }

    #[test]
    fn the_hash_spreads_similar_stacks() {
        let mut roots = vec![0u32; 1 << ROOT_LOG2];
        for n in 0..roots.len() {
            roots[(hash(&stack(n, 40)) >> (64 - ROOT_LOG2)) as usize] += 1;
        }
        // As many stacks as roots: of a random function the fullest root has 8 or so, and 1/e of them are empty.
        assert!(roots.iter().all(|&n| n < 16));
        let empty = roots.iter().filter(|&&n| n == 0).count() as f64 / roots.len() as f64;
        assert!((0.30..0.44).contains(&empty), "{empty}");
    }
}

/// Run with `RUSTFLAGS="--cfg loom" cargo test --release --lib loom_`.
#[cfg(loom)]
mod loom_model {
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    fn pcs(table: &StackTable, id: StackId) -> Vec<usize> {
        let node = table.node_of(id).expect("a published id has a node");
        pcs_of(node).iter().map(|word| word.load(Relaxed) as usize).collect()
    }

    fn model(threads: impl Fn(Arc<StackTable>) + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(move || threads(Arc::new(StackTable::new(DEFAULT_LIMIT_BYTES))));
    }

    #[test]
    fn two_threads_that_insert_one_stack_get_one_id() {
        model(|table| {
            let other = Arc::clone(&table);
            let there = thread::spawn(move || other.insert(&[7, 8]));
            let (here, there) = (table.insert(&[7, 8]), there.join().unwrap());
            assert_eq!(here, there);
            assert_eq!(pcs(&table, here.unwrap()), [7, 8]);
        });
    }

    #[test]
    fn two_threads_that_insert_two_stacks_get_two_ids() {
        model(|table| {
            let other = Arc::clone(&table);
            let there = thread::spawn(move || other.insert(&[2]));
            let (here, there) = (table.insert(&[1]).unwrap(), there.join().unwrap().unwrap());
            assert_ne!(here, there);
            assert_eq!((pcs(&table, here), pcs(&table, there)), (vec![1], vec![2]));
            assert_eq!((table.insert(&[1]), table.insert(&[2])), (Some(here), Some(there)));
        });
    }

    #[test]
    fn whoever_finds_an_id_sees_its_frames() {
        model(|table| {
            // The first stack makes the table map what it needs, so that the second is one store away from the reader.
            table.insert(&[1]).unwrap();
            let other = Arc::clone(&table);
            let reader = thread::spawn(move || {
                let node = other.node_of(StackId::new(2).unwrap())?;
                Some(pcs_of(node).iter().map(|word| word.load(Relaxed)).collect::<Vec<_>>())
            });
            table.insert(&[5, 6]).unwrap();
            if let Some(seen) = reader.join().unwrap() {
                assert_eq!(seen, [5, 6]);
                SEEN.store(true, Relaxed);
            }
        });
        assert!(SEEN.load(Relaxed), "in no run was the id there in time");
    }
    static SEEN: core::sync::atomic::AtomicBool = core::sync::atomic::AtomicBool::new(false);

    #[test]
    fn no_mark_is_lost() {
        model(|table| {
            let (a, b) = (table.insert(&[1]).unwrap(), table.insert(&[2]).unwrap());
            let other = Arc::clone(&table);
            let marker = thread::spawn(move || other.mark_used(a, 0));
            table.mark_used(b, 0);
            marker.join().unwrap();
            let mut used = Vec::new();
            table.drain_used(0, |id| used.push(id));
            assert_eq!(used, [a, b]);
        });
    }
}
