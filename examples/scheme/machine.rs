//! The machine: an expression or a value at hand, the variables, and a chain of frames that says what is to be done next.
//!
//! The chain is on the heap, so calls may be as deep as there is memory, and to take a continuation is to take a
//! reference. Between two slices of steps all of the state stands in the arena's root, and the heap has its safepoint.

use super::builtins;
use super::compile::{Compiler, Names, read, symbol};
use super::value::{BuiltinRef, Closure, Done, Env, Error, Frame, Node, Nodes, Then, Value};
use exectrace::gc::{Arena, Collect, Config, Gc, GcCell, HeapStats, Mutation, Rootable};

/// Arguments that a call may have without being written to the heap.
pub const ARGS_MAX: usize = 4;
/// Steps between two safepoints.
const SLICE: usize = 1000;

#[derive(Clone, Copy, Collect)]
enum Control<'gc> {
    Eval(Gc<'gc, Node<'gc>>),
    Return(Value<'gc>),
    Stopped(Value<'gc>),
    Failed(Value<'gc>),
}

#[derive(Clone, Copy, Collect)]
struct State<'gc> {
    control: Control<'gc>,
    env: Option<Gc<'gc, Env<'gc>>>,
    next: Option<Gc<'gc, Frame<'gc>>>,
}

#[derive(Collect)]
pub struct Machine<'gc> {
    names: Names<'gc>,
    state: GcCell<'gc, State<'gc>>,
}

impl<'gc> Machine<'gc> {
    /// Makes the next form of the text the one to run; `false` at its end.
    fn load(&self, mc: &Mutation<'gc>, text: &mut &str) -> Result<bool, Error<'gc>> {
        let Some(form) = read(mc, &self.names, text)? else { return Ok(false) };
        let code = Compiler { mc, names: &self.names }.node(form, None)?;
        let stop = mc.alloc(Frame { next: None, env: None, then: Then::Stop });
        self.state.set(mc, State { control: Control::Eval(code), env: None, next: Some(stop) });
        Ok(true)
    }
}

/// An interpreter with a heap of its own.
pub struct Scheme {
    arena: Arena<Rootable!['gc => Machine<'gc>]>,
}

impl Scheme {
    pub fn new(config: Config) -> Self {
        let mut arena = Arena::new(config, |_| {
            let state = State { control: Control::Stopped(Value::Unspecified), env: None, next: None };
            Machine { names: Names::new(), state: GcCell::new(state) }
        });
        arena.mutate(|mc, machine: &Machine<'_>| {
            for builtin in builtins::TABLE.iter() {
                symbol(mc, &machine.names, builtin.name).global.set(mc, Some(Value::Builtin(BuiltinRef(builtin))));
            }
        });
        let mut scheme = Scheme { arena };
        scheme.run(builtins::PRELUDE).expect("the prelude is right");
        scheme
    }

    /// Runs all forms of a text, and returns the last one's value as it would be shown, or the error that nobody handled.
    pub fn run(&mut self, text: &str) -> Result<String, String> {
        let mut rest = text;
        let mut last = String::new();
        loop {
            let more = self.arena.mutate(|mc, machine| machine.load(mc, &mut rest).map_err(|Error(e)| e.to_string()));
            match more? {
                true => last = self.finish()?,
                false => return Ok(last),
            }
        }
    }

    fn finish(&mut self) -> Result<String, String> {
        loop {
            self.arena.safepoint();
            let result = self.arena.mutate(|mc, machine| {
                let mut state = machine.state.get();
                for _ in 0..SLICE {
                    match state.control {
                        Control::Stopped(v) => return Some(Ok(v.to_string())),
                        Control::Failed(v) => return Some(Err(v.to_string())),
                        _ => state = step(mc, state),
                    }
                }
                machine.state.set(mc, state);
                None
            });
            if let Some(result) = result {
                return result;
            }
        }
    }

    pub fn stats(&self) -> HeapStats {
        self.arena.stats()
    }

    #[allow(dead_code)] // For tests.
    pub fn arena(&mut self) -> &mut Arena<Rootable!['gc => Machine<'gc>]> {
        &mut self.arena
    }
}

fn step<'gc>(mc: &Mutation<'gc>, s: State<'gc>) -> State<'gc> {
    let result = match s.control {
        Control::Eval(node) => eval(mc, s, Gc::as_ref(node)),
        Control::Return(value) => resume(mc, s, value),
        Control::Stopped(_) | Control::Failed(_) => Ok(s),
    };
    result.unwrap_or_else(|Error(value)| raise(mc, s, value))
}

fn variable<'gc>(env: Option<Gc<'gc, Env<'gc>>>, up: usize, at: usize) -> &'gc GcCell<'gc, Value<'gc>> {
    let mut env = Gc::as_ref(env.expect("a variable has a scope"));
    for _ in 0..up {
        env = Gc::as_ref(env.outer.expect("a variable has a scope"));
    }
    &exectrace::gc::GcArray::as_slice(env.slots)[at]
}

type Step<'gc> = Result<State<'gc>, Error<'gc>>;

fn eval<'gc>(mc: &Mutation<'gc>, s: State<'gc>, node: &'gc Node<'gc>) -> Step<'gc> {
    let value = |v| Ok(State { control: Control::Return(v), ..s });
    let first = |node, then| {
        let next = Some(mc.alloc(Frame { next: s.next, env: s.env, then }));
        Ok(State { control: Control::Eval(node), env: s.env, next })
    };
    match *node {
        Node::Const(v) => value(v),
        Node::Local { up, at } => value(variable(s.env, up, at).get()),
        Node::Global(name) => match name.global.get() {
            Some(v) => value(v),
            None => Err(Error::new(mc, format_args!("not defined: {}", name.name))),
        },
        Node::Lambda(lambda) => value(Value::Closure(mc.alloc(Closure { lambda, env: s.env }))),
        Node::If(test, yes, no) => match direct(mc, s.env, Gc::as_ref(test))? {
            Some(v) => Ok(State { control: Control::Eval(if v.is_true() { yes } else { no }), ..s }),
            None => first(test, Then::If(yes, no)),
        },
        Node::SetLocal { up, at, value: node } => match direct(mc, s.env, Gc::as_ref(node))? {
            Some(v) => {
                variable(s.env, up, at).set(mc, v);
                value(Value::Unspecified)
            }
            None => first(node, Then::SetLocal { up, at }),
        },
        Node::SetGlobal { to, defines, value } => first(value, Then::SetGlobal { to, defines }),
        Node::Seq(of) => seq(mc, s, of, 0),
        Node::Call(of) | Node::Simple(of) => call(mc, s, of, 0, None),
    }
}

/// The value of an expression that needs no frame: a constant, a variable, or a call of a function written in Rust whose
/// arguments are such. `None` if it turns out to be another one, before anything was done.
fn direct<'gc>(
    mc: &Mutation<'gc>,
    env: Option<Gc<'gc, Env<'gc>>>,
    node: &'gc Node<'gc>,
) -> Result<Option<Value<'gc>>, Error<'gc>> {
    Ok(match *node {
        Node::Const(v) => Some(v),
        Node::Local { up, at } => Some(variable(env, up, at).get()),
        Node::Global(name) => match name.global.get() {
            Some(v) => Some(v),
            None => return Err(Error::new(mc, format_args!("not defined: {}", name.name))),
        },
        Node::Simple(of) if is_builtin(of) => Some(run_builtin(mc, env, of)?),
        _ => None,
    })
}

/// Whether a simple call, and those among its arguments, are of functions written in Rust, and not of the machine's own.
/// The variables are global, so that they may be anything by now.
fn is_builtin<'gc>(of: Nodes<'gc>) -> bool {
    let Node::Global(name) = *of[0] else { return false };
    matches!(name.global.get(), Some(Value::Builtin(b)) if !b.is_special)
        && of[1..].iter().all(|node| match **node {
            Node::Simple(of) => is_builtin(of),
            _ => true,
        })
}

/// Calls a function of which [`is_builtin`] is true: nothing in it can change what a name stands for.
fn run_builtin<'gc>(
    mc: &Mutation<'gc>,
    env: Option<Gc<'gc, Env<'gc>>>,
    of: Nodes<'gc>,
) -> Result<Value<'gc>, Error<'gc>> {
    let Node::Global(name) = *of[0] else { unreachable!("a simple call has a name") };
    let Some(Value::Builtin(b)) = name.global.get() else { unreachable!("a simple call is of a builtin") };
    let mut args = [Value::Nil; ARGS_MAX];
    for (arg, node) in args.iter_mut().zip(&of[1..]) {
        *arg = match **node {
            Node::Simple(of) => run_builtin(mc, env, of)?,
            _ => direct(mc, env, Gc::as_ref(*node))?.expect("a simple argument"),
        };
    }
    (b.run)(mc, &args[..of.len() - 1])
}

/// Evaluates the parts of a sequence from `at` on.
fn seq<'gc>(mc: &Mutation<'gc>, s: State<'gc>, of: Nodes<'gc>, mut at: usize) -> Step<'gc> {
    while at + 1 < of.len() {
        if direct(mc, s.env, Gc::as_ref(of[at]))?.is_none() {
            let next = Some(mc.alloc(Frame { next: s.next, env: s.env, then: Then::Seq { of, at: at + 1 } }));
            return Ok(State { control: Control::Eval(of[at]), env: s.env, next });
        }
        at += 1;
    }
    Ok(State { control: Control::Eval(of[at]), ..s })
}

/// Evaluates the parts of a call from `at` on, and calls. The parts that need no frame are done at once.
fn call<'gc>(
    mc: &Mutation<'gc>,
    s: State<'gc>,
    of: Nodes<'gc>,
    mut at: usize,
    mut done: Option<Gc<'gc, Done<'gc>>>,
) -> Step<'gc> {
    let mut values = [Value::Nil; ARGS_MAX + 1];
    // None of the values is on the heap yet: so they need not be, if no part needs a frame.
    if at == 0 && of.len() <= values.len() {
        while at < of.len() {
            let Some(value) = direct(mc, s.env, Gc::as_ref(of[at]))? else { break };
            values[at] = value;
            at += 1;
        }
        if at == of.len() {
            return apply(mc, s, values[0], &values[1..at]);
        }
        for value in &values[..at] {
            done = Some(mc.alloc(Done { value: *value, before: done }));
        }
    }
    while at < of.len() {
        let Some(value) = direct(mc, s.env, Gc::as_ref(of[at]))? else {
            let next = Some(mc.alloc(Frame { next: s.next, env: s.env, then: Then::Call { of, at: at + 1, done } }));
            return Ok(State { control: Control::Eval(of[at]), env: s.env, next });
        };
        done = Some(mc.alloc(Done { value, before: done }));
        at += 1;
    }
    if of.len() <= values.len() {
        let mut before = done;
        for value in values[..at].iter_mut().rev() {
            let d = before.expect("one for each part");
            (*value, before) = (d.value, d.before);
        }
        return apply(mc, s, values[0], &values[1..at]);
    }
    let mut values: Vec<_> = std::iter::successors(done, |d| d.before).map(|d| d.value).collect();
    values.reverse();
    apply(mc, s, values[0], &values[1..])
}

fn resume<'gc>(mc: &Mutation<'gc>, s: State<'gc>, value: Value<'gc>) -> Step<'gc> {
    let frame = Gc::as_ref(s.next.expect("the last frame says stop"));
    let s = State { control: Control::Return(Value::Unspecified), env: frame.env, next: frame.next };
    match frame.then {
        Then::Stop => Ok(State { control: Control::Stopped(value), ..s }),
        Then::Handler(_) => Ok(State { control: Control::Return(value), ..s }),
        Then::If(yes, no) => Ok(State { control: Control::Eval(if value.is_true() { yes } else { no }), ..s }),
        Then::Seq { of, at } => seq(mc, s, of, at),
        Then::SetLocal { up, at } => {
            variable(frame.env, up, at).set(mc, value);
            Ok(s)
        }
        Then::SetGlobal { to, defines } => {
            if !defines && to.global.get().is_none() {
                return Err(Error::new(mc, format_args!("not defined: {}", to.name)));
            }
            to.global.set(mc, Some(value));
            Ok(s)
        }
        Then::Call { of, at, done } => call(mc, s, of, at, Some(mc.alloc(Done { value, before: done }))),
    }
}

/// Calls a function. The special ones, which change the machine itself, are known by name.
fn apply<'gc>(mc: &Mutation<'gc>, s: State<'gc>, function: Value<'gc>, args: &[Value<'gc>]) -> Step<'gc> {
    match (function, args) {
        (Value::Closure(closure), _) => {
            let lambda = Gc::as_ref(closure.lambda);
            if args.len() < lambda.params || args.len() > lambda.params && !lambda.has_rest {
                let text = format_args!("{} arguments, and not {}", args.len(), lambda.params).to_string();
                return Err(Error::new(mc, text));
            }
            let slots = mc.alloc_array(lambda.slots, |i| {
                GcCell::new(match () {
                    () if i < lambda.params => args[i],
                    () if i == lambda.params && lambda.has_rest => Value::list(mc, &args[i..]),
                    () => Value::Unspecified,
                })
            });
            let env = Some(mc.alloc(Env { slots, outer: closure.env }));
            Ok(State { control: Control::Eval(lambda.body), env, ..s })
        }
        (Value::Continuation(frame), [value]) => {
            Ok(State { control: Control::Return(*value), env: None, next: Some(frame) })
        }
        (Value::Builtin(b), _) if !b.is_special => Ok(State { control: Control::Return((b.run)(mc, args)?), ..s }),
        (Value::Builtin(b), _) => match (b.name, args) {
            ("call/cc", [f]) => {
                let here = s.next.expect("the last frame says stop");
                apply(mc, s, *f, &[Value::Continuation(here)])
            }
            ("apply", [f, list]) => apply(mc, s, *f, &list.items().collect::<Vec<_>>()),
            ("with-handler", [handler, thunk]) => {
                let next = Some(mc.alloc(Frame { next: s.next, env: None, then: Then::Handler(*handler) }));
                apply(mc, State { next, ..s }, *thunk, &[])
            }
            _ => Err(Error::new(mc, format_args!("wrong arguments: {}", Value::list(mc, args)))),
        },
        _ => Err(Error::new(mc, format_args!("not a function: {function}"))),
    }
}

/// Goes back to the next handler, whose function gets the value, with the rest of the program behind the handler.
fn raise<'gc>(mc: &Mutation<'gc>, s: State<'gc>, value: Value<'gc>) -> State<'gc> {
    let mut at = s.next;
    while let Some(frame) = at {
        if let Then::Handler(handler) = frame.then {
            let s = State { control: Control::Return(Value::Unspecified), env: None, next: frame.next };
            return apply(mc, s, handler, &[value]).unwrap_or_else(|Error(e)| raise(mc, s, e));
        }
        at = frame.next;
    }
    State { control: Control::Failed(value), env: None, next: None }
}
