//! Safepoints at any depth, and what keeps heaps apart there; heap snapshots.

use exectrace::gc::{Arena, Config, Cx, Gc, GcArray, GcCell, Root, Rootable};
use std::panic::{AssertUnwindSafe, catch_unwind};

struct Node<'gc> {
    left: GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>,
    right: Option<Gc<'gc, Node<'gc>>>,
    name: GcArray<'gc, u8>,
}
exectrace::collect_fields!(impl['gc] struct Node<'gc> { left, right, name });
type NodeRoot = Rootable!['gc => Node<'gc>];
type Top = Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Node<'gc>>>>];

fn build(cx: &mut Cx<Top>, depth: usize) -> Root<NodeRoot> {
    let below = (depth > 0).then(|| (build(cx, depth - 1), build(cx, depth - 1)));
    cx.safepoint();
    let mc = cx.mc();
    let (left, right) = below.map(|(l, r)| (l.get(mc), r.get(mc))).unzip();
    let node = mc.alloc(Node { left: GcCell::new(None), right, name: mc.alloc_slice(&vec![b'x'; depth]) });
    node.left.set(mc, left);
    mc.root(node)
}

fn count(node: Gc<'_, Node<'_>>, depth: usize) -> usize {
    assert_eq!(node.name.len(), depth);
    1 + node.left.get().map_or(0, |n| count(n, depth - 1)) + node.right.map_or(0, |n| count(n, depth - 1))
}

#[test]
fn a_recursive_program_collects_at_every_depth() {
    for stress in [false, true] {
        let depth = if cfg!(miri) {
            4
        } else if stress {
            5
        } else {
            14
        };
        let config = Config::new().stress(stress).poison(true).heap_bytes_min(1 << 17);
        let mut arena = Arena::<Top>::new(config, |_| GcCell::new(None));
        let total = arena.enter(|cx| {
            let top = build(cx, depth);
            cx.root().set(cx.mc(), Some(top.get(cx.mc())));
            drop(top);
            cx.collect();
            count(cx.root().get().unwrap(), depth)
        });
        assert_eq!(total, (2 << depth) - 1);
        assert!(cfg!(miri) || arena.stats().cycles > 3);
        arena.verify().unwrap();
    }
}

#[test]
fn a_thread_that_has_entered_a_heap_uses_no_other() {
    let new = || Arena::<Top>::new(Config::new(), |_| GcCell::new(None));
    let (mut a, mut b) = (new(), new());
    let mut refused = |f: &mut dyn FnMut(&mut Arena<Top>)| catch_unwind(AssertUnwindSafe(|| f(&mut b))).is_err();
    a.enter(|_| {
        assert!(refused(&mut |b| b.enter(|_| ())));
        assert!(refused(&mut |b| b.mutate(|_, _| ())));
    });
    a.mutate(|_, _| {
        assert!(refused(&mut |b| b.enter(|_| ())));
        assert!(!refused(&mut |b| b.mutate(|_, _| ())));
    });
    assert!(!refused(&mut |b| b.enter(|_| ())));
}

#[cfg(feature = "read")]
#[test]
fn a_snapshot_holds_every_object_and_reference() {
    let mut arena = Arena::<Top>::new(Config::new(), |_| GcCell::new(None));
    let depth = 6;
    let handle = arena.enter(|cx| {
        let top = build(cx, depth);
        cx.root().set(cx.mc(), Some(top.get(cx.mc())));
        top
    });
    let mut bytes = Vec::new();
    arena.write_snapshot(&mut bytes).unwrap();
    drop(handle);
    let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let list = |name: &str| json[name].as_array().unwrap().clone();
    let number = |v: &serde_json::Value| v.as_u64().unwrap() as usize;
    let (nodes, edges, strings) = (list("nodes"), list("edges"), list("strings"));
    let objects = (2 << depth) - 1;
    // The tree and its names, the arena's root, and two synthetic nodes.
    assert_eq!(number(&json["snapshot"]["node_count"]), 2 * objects + 3);
    assert_eq!(nodes.len(), 7 * (2 * objects + 3));
    // Two roots and their list, the root's reference, all but the top below another node, and the names.
    assert_eq!(number(&json["snapshot"]["edge_count"]), 3 + 1 + (objects - 1) + objects);
    assert_eq!(edges.len(), 3 * (3 + 1 + (objects - 1) + objects));
    let counted: usize = nodes.chunks(7).map(|n| number(&n[4])).sum();
    assert_eq!(counted, edges.len() / 3);
    assert!(edges.chunks(3).all(|e| number(&e[2]).is_multiple_of(7) && number(&e[2]) < nodes.len()));
    assert!(edges.chunks(3).all(|e| number(&e[0]) == 1 || number(&e[1]) < strings.len()));
    let mut ids: Vec<usize> = nodes.chunks(7).map(|n| number(&n[2])).collect();
    ids.sort();
    assert!(ids.windows(2).all(|w| w[0] < w[1]));
    let left = strings.iter().position(|s| s == "left").unwrap();
    assert_eq!(edges.chunks(3).filter(|e| number(&e[0]) == 2 && number(&e[1]) == left).count(), objects / 2);
    let names: Vec<&str> = strings.iter().map(|s| s.as_str().unwrap()).collect();
    assert!(names.iter().any(|n| n.ends_with("Node<'_>") || n.ends_with("Node")), "{names:?}");
}
