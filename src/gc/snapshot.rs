//! Heap snapshots in the format of V8's `.heapsnapshot`, which Chrome's developer tools open: objects by type, what
//! keeps them alive, dominators, and the difference of two.
//!
//! Two walks over what can be reached: the first numbers the objects and counts their references, the second writes the
//! references. Tables are on pages of their own. The format is described by its own `meta` part and by V8's
//! `heap-snapshot-generator`; an object's number is made from its address, which does not change while it lives.

use super::OutOfMemory;
use super::chunk::block_of;
use super::heap::Heap;
use super::page_vec::PageVec;
use super::raw::RawVisitor;
use core::ptr::NonNull;
use std::io::{self, Write};

/// Fields of a node in the file.
const NODE_FIELDS: usize = 7;
/// Indices into the node and edge types that `META` lists.
const NODE_OBJECT: usize = 3;
const NODE_SYNTHETIC: usize = 9;
const EDGE_ELEMENT: usize = 1;
const EDGE_PROPERTY: usize = 2;

const META: &str = r#""meta":{"node_fields":["type","name","id","self_size","edge_count","trace_node_id","detachedness"],
"node_types":[["hidden","array","string","object","code","closure","regexp","number","native","synthetic","concatenated string","sliced string","symbol","bigint","object shape"],"string","number","number","number","number","number"],
"edge_fields":["type","name_or_index","to_node"],
"edge_types":[["context","element","property","internal","hidden","shortcut","weak"],"string_or_number","node"],
"trace_function_info_fields":["function_id","name","script_name","script_id","line","column"],
"trace_node_fields":["id","function_info_index","count","size","children"],
"sample_fields":["timestamp_us","last_assigned_id"],"location_fields":["object_index","script_id","line","column"]}"#;

struct Node {
    object: NonNull<u8>,
    edges: u32,
    name: u32,
    bytes: usize,
}

/// What the first walk finds.
struct Graph {
    /// All objects that can be reached, in the order in which they were met. The node of the file with number 0 stands
    /// before them.
    nodes: PageVec<Node>,
    /// Open addressing: addresses and indices into `nodes`.
    places: PageVec<(usize, u32)>,
    strings: PageVec<&'static str>,
    roots: u32,
    edges: usize,
}

impl Heap {
    /// Writes what can be reached.
    pub(super) fn write_snapshot(&self, out: &mut dyn Write) -> io::Result<()> {
        let graph = Graph::walk(self).map_err(|e| io::Error::new(io::ErrorKind::OutOfMemory, e))?;
        graph.write(self, out)
    }

    fn for_each_root(&self, mut f: impl FnMut(NonNull<u8>)) {
        if let Some((object, _)) = self.root.get() {
            f(object);
        }
        self.roots.for_each(|object, _| f(object));
        self.visit_raw_roots(&mut RawVisitor::sink(&mut |_, object, _| f(object)));
    }
}

/// Calls `f` with each reference of an object.
fn edges_of(object: NonNull<u8>, f: &mut dyn FnMut(&'static str, NonNull<u8>)) {
    // SAFETY: an object that was reached from a root.
    let info = unsafe { block_of(object) }.info();
    // SAFETY: as above, and of the block's type (invariant 3).
    unsafe { (info.edges)(object, &mut |field, to, _| f(field, to)) };
}

impl Graph {
    fn walk(heap: &Heap) -> Result<Self, OutOfMemory> {
        let mut graph =
            Graph { nodes: PageVec::new(), places: PageVec::new(), strings: PageVec::new(), roots: 0, edges: 0 };
        for text in ["", "(roots)", "(root)", "(handle)"] {
            graph.strings.push(text)?;
        }
        let mut result = Ok(());
        heap.for_each_root(|object| {
            graph.roots += 1;
            if result.is_ok() {
                result = graph.add(object);
            }
        });
        let mut next = 0;
        while let Some(node) = graph.nodes.as_slice().get(next) {
            let mut edges = 0;
            edges_of(node.object, &mut |field, to| {
                edges += 1;
                if result.is_ok() {
                    result = graph.add(to).and_then(|()| graph.string(field).map(drop));
                }
            });
            graph.nodes.as_mut_slice()[next].edges = edges;
            graph.edges += edges as usize;
            next += 1;
        }
        graph.edges += graph.roots as usize + 1;
        result.map(|()| graph)
    }

    /// Makes a node for an object that has none.
    fn add(&mut self, object: NonNull<u8>) -> Result<(), OutOfMemory> {
        if (self.nodes.as_slice().len() + 1) * 2 > self.places.as_slice().len() {
            let mut places = PageVec::new();
            for _ in 0..(self.places.as_slice().len() * 2).max(1024) {
                places.push((0, 0))?;
            }
            self.places = places;
            for i in 0..self.nodes.as_slice().len() {
                let place = self.place(self.nodes.as_slice()[i].object);
                self.places.as_mut_slice()[place] = (self.nodes.as_slice()[i].object.addr().get(), i as u32);
            }
        }
        let place = self.place(object);
        if self.places.as_slice()[place].0 != 0 {
            return Ok(());
        }
        self.places.as_mut_slice()[place] = (object.addr().get(), self.nodes.as_slice().len() as u32);
        // SAFETY: an object that was reached from a root.
        let block = unsafe { block_of(object) };
        let name = self.string(block.info().type_name())?;
        self.nodes.push(Node { object, edges: 0, name, bytes: block.header().slot_bytes.get() })
    }

    /// Where the object stands, or where it belongs.
    fn place(&self, object: NonNull<u8>) -> usize {
        let places = self.places.as_slice();
        let mut at = (object.addr().get() >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        loop {
            at &= places.len() - 1;
            if places[at].0 == 0 || places[at].0 == object.addr().get() {
                return at;
            }
            at += 1;
        }
    }

    /// The index of a string. There are as many as types and fields, so few.
    fn string(&mut self, text: &'static str) -> Result<u32, OutOfMemory> {
        let known = self.strings.as_slice().iter().position(|s| *s == text);
        match known {
            Some(index) => Ok(index as u32),
            None => {
                self.strings.push(text)?;
                Ok(self.strings.as_slice().len() as u32 - 1)
            }
        }
    }

    /// The `to_node` of a reference to an object: two synthetic nodes stand before all objects.
    fn to_node(&self, object: NonNull<u8>) -> usize {
        (self.places.as_slice()[self.place(object)].1 as usize + 2) * NODE_FIELDS
    }

    fn write(&self, heap: &Heap, out: &mut dyn Write) -> io::Result<()> {
        let nodes = self.nodes.as_slice();
        write!(out, "{{\"snapshot\":{{{META},\"node_count\":{},", nodes.len() + 2)?;
        writeln!(out, "\"edge_count\":{},\"trace_function_count\":0}},", self.edges)?;
        // The root of all, and the list of roots below it.
        writeln!(out, "\"nodes\":[{NODE_SYNTHETIC},0,1,0,1,0,0")?;
        writeln!(out, ",{NODE_SYNTHETIC},1,3,0,{},0,0", self.roots)?;
        for n in nodes {
            let id = (n.object.addr().get() >> 4 << 1) + 1;
            writeln!(out, ",{NODE_OBJECT},{},{id},{},{},0,0", n.name, n.bytes, n.edges)?;
        }
        writeln!(out, "],\n\"edges\":[{EDGE_ELEMENT},1,{NODE_FIELDS}")?;
        let mut result = Ok(());
        let mut index = 0;
        heap.for_each_root(|object| {
            let name = if index == 0 { 2 } else { 3 };
            index += 1;
            if result.is_ok() {
                result = writeln!(out, ",{EDGE_PROPERTY},{name},{}", self.to_node(object));
            }
        });
        for n in nodes {
            let mut index = 0;
            edges_of(n.object, &mut |field, to| {
                index += 1;
                if result.is_ok() {
                    let name = self.strings.as_slice().iter().position(|s| *s == field).filter(|_| !field.is_empty());
                    let (kind, name) = name.map_or((EDGE_ELEMENT, index), |name| (EDGE_PROPERTY, name));
                    result = writeln!(out, ",{kind},{name},{}", self.to_node(to));
                }
            });
        }
        result?;
        writeln!(
            out,
            "],\n\"trace_function_infos\":[],\"trace_tree\":[],\"samples\":[],\"locations\":[],\n\"strings\":["
        )?;
        for (i, text) in self.strings.as_slice().iter().enumerate() {
            out.write_all(if i == 0 { b"" } else { b",\n" })?;
            write_json_string(out, text)?;
        }
        writeln!(out, "]}}")
    }
}

fn write_json_string(out: &mut dyn Write, text: &str) -> io::Result<()> {
    out.write_all(b"\"")?;
    for c in text.chars() {
        match c {
            '"' | '\\' => write!(out, "\\{c}")?,
            c if c < ' ' => write!(out, "\\u{:04x}", c as u32)?,
            c => write!(out, "{c}")?,
        }
    }
    out.write_all(b"\"")
}
