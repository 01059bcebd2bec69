//! What lives on the garbage-collected heap: strings, lists, variables, closures, and the machine's own state, which is the root.

use exectrace::gc::{Gc, GcCell, GcRefCell, GcString, Mutation, Static};
use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;

#[derive(Clone, Copy)]
pub enum Value<'gc> {
    Nil,
    Bool(bool),
    Number(f64),
    Text(GcString<'gc>),
    List(Gc<'gc, List<'gc>>),
    Closure(Gc<'gc, Closure<'gc>>),
    Native(Static<super::machine::Native>),
}
exectrace::collect_fields!(impl['gc] enum Value<'gc> {
    Nil, Bool(b), Number(n), Text(t), List(l), Closure(c), Native(n)
});

/// A list. Its elements stand in a `Vec` of the native heap, which the collector is told of so that it counts in its pacing.
pub struct List<'gc> {
    pub items: GcRefCell<'gc, Vec<Value<'gc>>>,
    outside: Static<Outside>,
}
exectrace::collect_fields!(impl['gc] struct List<'gc> { items, outside });

impl<'gc> List<'gc> {
    pub fn new(mc: &Mutation<'gc>, items: Vec<Value<'gc>>, ledger: &Ledger) -> Gc<'gc, List<'gc>> {
        let outside = Outside { ledger: ledger.clone(), bytes: Cell::new(0) };
        let list = mc.alloc(List { items: GcRefCell::new(items), outside: Static(outside) });
        list.outside.update(&list.items.borrow());
        list
    }

    pub fn push(&self, mc: &Mutation<'gc>, item: Value<'gc>) {
        let mut items = self.items.borrow_mut(mc);
        items.push(item);
        self.outside.update(&items);
    }
}

/// The change in memory that lists own outside of the heap since it was last reported.
#[derive(Clone, Default)]
pub struct Ledger(Rc<Cell<isize>>);

impl Ledger {
    /// Tells the heap.
    pub fn settle(&self, mc: &Mutation<'_>) {
        let bytes = self.0.take();
        if bytes != 0 {
            mc.adjust_external(bytes);
        }
    }
}

/// What one list owns outside of the heap. Its drop is the list's.
struct Outside {
    ledger: Ledger,
    bytes: Cell<usize>,
}

impl Outside {
    fn update(&self, items: &Vec<Value<'_>>) {
        let now = items.capacity() * size_of::<Value<'_>>();
        let before = self.bytes.replace(now);
        self.ledger.0.set(self.ledger.0.get() + now as isize - before as isize);
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.ledger.0.set(self.ledger.0.get() - self.bytes.get() as isize);
    }
}

/// A local variable and those that are older.
pub struct Variable<'gc> {
    pub value: GcCell<'gc, Value<'gc>>,
    pub older: Scope<'gc>,
}
exectrace::collect_fields!(impl['gc] struct Variable<'gc> { value, older });

/// The newest variable that is in scope.
pub type Scope<'gc> = Option<Gc<'gc, Variable<'gc>>>;

pub struct Closure<'gc> {
    pub function: u32,
    pub scope: Scope<'gc>,
}
exectrace::collect_fields!(impl['gc] struct Closure<'gc> { function, scope });

impl<'gc> Value<'gc> {
    pub fn is_true(&self) -> bool {
        !matches!(self, Value::Nil | Value::Bool(false))
    }

    pub fn equals(&self, other: &Value<'gc>) -> bool {
        match (self, other) {
            (Value::Nil, Value::Nil) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => a == b,
            (Value::Number(a), Value::Number(b)) => a == b,
            (Value::List(a), Value::List(b)) => Gc::ptr_eq(*a, *b),
            (Value::Closure(a), Value::Closure(b)) => Gc::ptr_eq(*a, *b),
            (Value::Native(a), Value::Native(b)) => a == b,
            _ => false,
        }
    }

    /// The order of numbers, and that of strings.
    pub fn compare(&self, other: &Value<'gc>) -> Option<Ordering> {
        match (self, other) {
            (Value::Number(a), Value::Number(b)) => Some(a.total_cmp(b)),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Closure(_) | Value::Native(_) => "a function",
        }
    }
}

impl std::fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Nil => write!(f, "nil"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Number(n) => write!(f, "{n}"),
            Value::Text(t) => write!(f, "{t}"),
            Value::Closure(_) | Value::Native(_) => write!(f, "{}", self.kind()),
            Value::List(l) => {
                write!(f, "[")?;
                for (i, item) in l.items.borrow().iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                write!(f, "]")
            }
        }
    }
}
