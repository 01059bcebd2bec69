//! The values and objects of the little Scheme. What each refers to, `derive(Collect)` finds.

use exectrace::gc::{Collect, Gc, GcArray, GcCell, GcMap, GcString, GcVec, Mutation};
use std::fmt;
use std::hash::{Hash, Hasher};

/// A value: two words (see below), copied about. The tag is a word, or the compiler would copy the other fifteen bytes in
/// odd pieces, for which the processor waits.
#[derive(Clone, Copy, Collect)]
#[repr(u64)]
pub enum Value<'gc> {
    Nil,
    Unspecified,
    Bool(bool),
    Int(i64),
    Real(f64),
    Str(GcString<'gc>),
    Symbol(Gc<'gc, Symbol<'gc>>),
    Pair(Gc<'gc, Pair<'gc>>),
    Vector(Gc<'gc, GcVec<'gc, Value<'gc>>>),
    Table(Gc<'gc, Table<'gc>>),
    Closure(Gc<'gc, Closure<'gc>>),
    Builtin(BuiltinRef),
    /// The rest of the program, as `call/cc` takes it.
    Continuation(Gc<'gc, Frame<'gc>>),
}

pub type Table<'gc> = GcMap<'gc, Value<'gc>, Value<'gc>>;

/// A name, of which there is one object, with the global variable of that name in it.
#[derive(Collect)]
pub struct Symbol<'gc> {
    pub name: GcString<'gc>,
    pub global: GcCell<'gc, Option<Value<'gc>>>,
}

#[derive(Collect)]
pub struct Pair<'gc> {
    pub head: GcCell<'gc, Value<'gc>>,
    pub tail: GcCell<'gc, Value<'gc>>,
}

/// The variables of one call, and those around them.
#[derive(Collect)]
pub struct Env<'gc> {
    pub slots: GcArray<'gc, GcCell<'gc, Value<'gc>>>,
    pub outer: Option<Gc<'gc, Env<'gc>>>,
}

#[derive(Collect)]
pub struct Lambda<'gc> {
    pub params: usize,
    /// What is given beyond the parameters comes as a list in one more variable.
    pub has_rest: bool,
    /// Parameters, and the variables that the body defines.
    pub slots: usize,
    pub body: Gc<'gc, Node<'gc>>,
}

#[derive(Collect)]
pub struct Closure<'gc> {
    pub lambda: Gc<'gc, Lambda<'gc>>,
    pub env: Option<Gc<'gc, Env<'gc>>>,
}

/// An expression, with its variables looked up.
#[derive(Collect)]
pub enum Node<'gc> {
    Const(Value<'gc>),
    Local {
        up: usize,
        at: usize,
    },
    Global(Gc<'gc, Symbol<'gc>>),
    SetLocal {
        up: usize,
        at: usize,
        value: Gc<'gc, Node<'gc>>,
    },
    SetGlobal {
        to: Gc<'gc, Symbol<'gc>>,
        defines: bool,
        value: Gc<'gc, Node<'gc>>,
    },
    If(Gc<'gc, Node<'gc>>, Gc<'gc, Node<'gc>>, Gc<'gc, Node<'gc>>),
    Lambda(Gc<'gc, Lambda<'gc>>),
    Seq(Nodes<'gc>),
    Call(Nodes<'gc>),
    /// A call by a global name whose arguments are constants, variables, or such calls. If it is of a function written in
    /// Rust, as it mostly is, it needs no frame.
    Simple(Nodes<'gc>),
}
pub type Nodes<'gc> = GcArray<'gc, Gc<'gc, Node<'gc>>>;

/// What is to be done with a value when it is there. Frames are never changed, so that a continuation can be used again
/// and again.
#[derive(Collect)]
pub struct Frame<'gc> {
    pub next: Option<Gc<'gc, Frame<'gc>>>,
    pub env: Option<Gc<'gc, Env<'gc>>>,
    pub then: Then<'gc>,
}

#[derive(Collect)]
pub enum Then<'gc> {
    If(Gc<'gc, Node<'gc>>, Gc<'gc, Node<'gc>>),
    Seq {
        of: Nodes<'gc>,
        at: usize,
    },
    SetLocal {
        up: usize,
        at: usize,
    },
    SetGlobal {
        to: Gc<'gc, Symbol<'gc>>,
        defines: bool,
    },
    /// The function and arguments so far, the last first.
    Call {
        of: Nodes<'gc>,
        at: usize,
        done: Option<Gc<'gc, Done<'gc>>>,
    },
    /// Errors below come here.
    Handler(Value<'gc>),
    /// The program's end.
    Stop,
}

#[derive(Collect)]
pub struct Done<'gc> {
    pub value: Value<'gc>,
    pub before: Option<Gc<'gc, Done<'gc>>>,
}

/// What a builtin function is: its name, and a function of its arguments.
#[derive(Clone, Copy)]
pub struct Builtin {
    pub name: &'static str,
    /// It changes the machine, which therefore does it itself.
    pub is_special: bool,
    pub run: for<'gc> fn(&Mutation<'gc>, &[Value<'gc>]) -> Result<Value<'gc>, Error<'gc>>,
}

/// One of the functions, which are all there is of them: so that a value that is one is no longer than others.
#[derive(Clone, Copy)]
pub struct BuiltinRef(pub &'static Builtin);
exectrace::collect_static!(BuiltinRef);
const _: () = assert!(size_of::<Value<'static>>() == 16);

impl std::ops::Deref for BuiltinRef {
    type Target = Builtin;
    fn deref(&self) -> &Builtin {
        self.0
    }
}

/// A value that is raised.
pub struct Error<'gc>(pub Value<'gc>);

impl<'gc> Error<'gc> {
    pub fn new(mc: &Mutation<'gc>, text: impl fmt::Display) -> Self {
        Error(Value::Str(mc.alloc_str(&text.to_string())))
    }
}

impl<'gc> Value<'gc> {
    pub fn cons(mc: &Mutation<'gc>, head: Value<'gc>, tail: Value<'gc>) -> Self {
        Value::Pair(mc.alloc(Pair { head: GcCell::new(head), tail: GcCell::new(tail) }))
    }

    pub fn list(mc: &Mutation<'gc>, items: &[Value<'gc>]) -> Self {
        items.iter().rev().fold(Value::Nil, |tail, head| Value::cons(mc, *head, tail))
    }

    /// The items of a list, up to what is no pair.
    pub fn items(self) -> impl Iterator<Item = Value<'gc>> {
        let mut at = self;
        std::iter::from_fn(move || {
            let Value::Pair(p) = at else { return None };
            at = p.tail.get();
            Some(p.head.get())
        })
    }

    pub fn is_true(self) -> bool {
        !matches!(self, Value::Bool(false))
    }
}

/// As `eqv?`, but strings by what is in them: for the keys of tables.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Nil, Value::Nil) | (Value::Unspecified, Value::Unspecified) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Real(a), Value::Real(b)) => a.to_bits() == b.to_bits(),
            (Value::Str(a), Value::Str(b)) => a == b,
            (Value::Symbol(a), Value::Symbol(b)) => Gc::ptr_eq(*a, *b),
            (Value::Pair(a), Value::Pair(b)) => Gc::ptr_eq(*a, *b),
            (Value::Vector(a), Value::Vector(b)) => Gc::ptr_eq(*a, *b),
            (Value::Table(a), Value::Table(b)) => Gc::ptr_eq(*a, *b),
            (Value::Closure(a), Value::Closure(b)) => Gc::ptr_eq(*a, *b),
            (Value::Continuation(a), Value::Continuation(b)) => Gc::ptr_eq(*a, *b),
            (Value::Builtin(a), Value::Builtin(b)) => a.name == b.name,
            _ => false,
        }
    }
}
impl Eq for Value<'_> {}

impl Hash for Value<'_> {
    fn hash<H: Hasher>(&self, h: &mut H) {
        match *self {
            Value::Nil | Value::Unspecified => 0.hash(h),
            Value::Bool(x) => x.hash(h),
            Value::Int(x) => x.hash(h),
            Value::Real(x) => x.to_bits().hash(h),
            Value::Str(x) => x.hash(h),
            Value::Symbol(x) => Gc::as_ptr(x).addr().hash(h),
            Value::Pair(x) => Gc::as_ptr(x).addr().hash(h),
            Value::Vector(x) => Gc::as_ptr(x).addr().hash(h),
            Value::Table(x) => Gc::as_ptr(x).addr().hash(h),
            Value::Closure(x) => Gc::as_ptr(x).addr().hash(h),
            Value::Continuation(x) => Gc::as_ptr(x).addr().hash(h),
            Value::Builtin(x) => x.name.hash(h),
        }
    }
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("()"),
            Value::Unspecified => f.write_str("#unspecified"),
            Value::Bool(x) => f.write_str(if *x { "#t" } else { "#f" }),
            Value::Int(x) => write!(f, "{x}"),
            Value::Real(x) => write!(f, "{x:?}"),
            Value::Str(x) => write!(f, "{x}"),
            Value::Symbol(x) => write!(f, "{}", x.name),
            Value::Pair(_) => {
                let (mut at, mut open) = (*self, '(');
                while let Value::Pair(p) = at {
                    write!(f, "{open}{}", p.head.get())?;
                    (at, open) = (p.tail.get(), ' ');
                }
                if at != Value::Nil {
                    write!(f, " . {at}")?;
                }
                f.write_str(")")
            }
            Value::Vector(x) => {
                f.write_str("#(")?;
                for (i, v) in x.iter().enumerate() {
                    write!(f, "{}{v}", if i > 0 { " " } else { "" })?;
                }
                f.write_str(")")
            }
            Value::Table(x) => write!(f, "#table[{}]", x.len()),
            Value::Closure(_) | Value::Builtin(_) | Value::Continuation(_) => f.write_str("#procedure"),
        }
    }
}
