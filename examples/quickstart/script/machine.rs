//! The machine: runs code in slices, between which the heap may begin a collection.

use super::compiler::{Binary, Function, Op, Program};
use super::value::{Closure, Ledger, List, Scope, Value, Variable};
use exectrace::gc::{Arena, Config, Gc, GcCell, GcRefCell, HeapStats, Mutation, Rootable, Static};
use std::rc::Rc;

/// Instructions between two safepoints: a few microseconds.
const SLICE: u32 = 256;
/// Calls within calls.
const DEPTH_MAX: usize = 10_000;

/// What the machine can do besides computing.
pub trait Host {
    /// How many files there are to read.
    fn files(&mut self) -> usize;
    fn words(&mut self, file: usize) -> Result<Vec<String>, String>;
    /// How many files the index has for a query.
    fn ask(&mut self, query: &str) -> Result<f64, String>;
    fn print(&mut self, line: &str);
}

/// Functions that are built in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Native {
    Len,
    Push,
    Text,
    Files,
    Words,
    Ask,
    Print,
}

impl Native {
    const ALL: [(&'static str, Native, usize); 7] = [
        ("len", Native::Len, 1),
        ("push", Native::Push, 2),
        ("text", Native::Text, 1),
        ("files", Native::Files, 0),
        ("words", Native::Words, 1),
        ("ask", Native::Ask, 1),
        ("print", Native::Print, 1),
    ];

    pub fn named(name: &str) -> Option<Native> {
        Self::ALL.iter().find(|n| n.0 == name).map(|n| n.1)
    }
}

/// A call that is under way.
struct Frame<'gc> {
    function: u32,
    /// The next instruction.
    at: u32,
    scope: Scope<'gc>,
}
exectrace::collect_fields!(impl['gc] struct Frame<'gc> { function, at, scope });

/// The root object.
struct State<'gc> {
    stack: GcRefCell<'gc, Vec<Value<'gc>>>,
    frames: GcRefCell<'gc, Vec<Frame<'gc>>>,
    globals: GcRefCell<'gc, Vec<Value<'gc>>>,
    /// The constants.
    texts: Vec<Value<'gc>>,
}
exectrace::collect_fields!(impl['gc] struct State<'gc> { stack, frames, globals, texts });

pub struct Machine {
    heap: Arena<Rootable!['gc => State<'gc>]>,
    program: Rc<Program>,
    ledger: Ledger,
    instructions: u64,
}

impl Machine {
    pub fn new(program: Program, config: Config) -> Machine {
        let heap = Arena::new(config, |mc| State {
            stack: GcRefCell::new(Vec::new()),
            frames: GcRefCell::new(vec![Frame { function: 0, at: 0, scope: None }]),
            globals: GcRefCell::new(vec![Value::Nil; program.globals.len()]),
            texts: program.texts.iter().map(|t| Value::Text(mc.alloc_str(t))).collect(),
        });
        Machine { heap, program: program.into(), ledger: Ledger::default(), instructions: 0 }
    }

    /// Runs the script to its end, and returns what it returned, as text.
    ///
    /// # Errors
    /// In one line, with the line of the script.
    pub fn run(&mut self, host: &mut dyn Host) -> Result<String, String> {
        loop {
            let (program, ledger, instructions) = (&*self.program, &self.ledger, &mut self.instructions);
            let result = self.heap.mutate(|mc, state| {
                let mut slice = Slice {
                    mc,
                    state,
                    ledger,
                    functions: &program.functions,
                    stack: &mut state.stack.borrow_mut(mc),
                    frames: &mut state.frames.borrow_mut(mc),
                };
                let result = slice.run(host, instructions).map_err(|e| slice.locate(&e));
                ledger.settle(mc);
                result.map(|done| done.map(|value| value.to_string()))
            })?;
            if let Some(value) = result {
                return Ok(value);
            }
            self.heap.safepoint();
        }
    }

    pub fn heap_stats(&self) -> HeapStats {
        self.heap.stats()
    }

    pub fn instructions(&self) -> u64 {
        self.instructions
    }
}

/// The machine while it runs, with its state at hand.
struct Slice<'a, 'gc> {
    mc: &'gc Mutation<'gc>,
    state: &'gc State<'gc>,
    ledger: &'a Ledger,
    functions: &'a [Function],
    stack: &'a mut Vec<Value<'gc>>,
    frames: &'a mut Vec<Frame<'gc>>,
}

impl<'gc> Slice<'_, 'gc> {
    /// Runs some instructions; the script's result if it has ended.
    fn run(&mut self, host: &mut dyn Host, instructions: &mut u64) -> Result<Option<Value<'gc>>, String> {
        for _ in 0..SLICE {
            let Some(frame) = self.frames.last_mut() else { return Ok(Some(self.stack.pop().unwrap_or(Value::Nil))) };
            let op = self.functions[frame.function as usize].code[frame.at as usize];
            frame.at += 1;
            *instructions += 1;
            match op {
                Op::Nil => self.stack.push(Value::Nil),
                Op::True => self.stack.push(Value::Bool(true)),
                Op::False => self.stack.push(Value::Bool(false)),
                Op::Number(n) => self.stack.push(Value::Number(n)),
                Op::Text(i) => self.stack.push(self.state.texts[i as usize]),
                Op::Native(n) => self.stack.push(Value::Native(Static(n))),
                Op::Local(i) => {
                    let value = local(frame.scope, i).value.get();
                    self.stack.push(value);
                }
                Op::SetLocal(i) => {
                    let variable = local(frame.scope, i);
                    let value = self.pop();
                    variable.value.set(self.mc, value);
                }
                Op::Global(i) => {
                    let value = self.state.globals.borrow()[i as usize];
                    self.stack.push(value);
                }
                Op::SetGlobal(i) => {
                    let value = self.pop();
                    self.state.globals.borrow_mut(self.mc)[i as usize] = value;
                }
                Op::Declare => {
                    let value = self.pop();
                    self.declare(value);
                }
                Op::Forget(n) => {
                    for _ in 0..n {
                        frame.scope = frame.scope.and_then(|v| v.older);
                    }
                }
                Op::Pop => drop(self.pop()),
                Op::Binary(op) => self.binary(op)?,
                Op::Not => {
                    let value = self.pop();
                    self.stack.push(Value::Bool(!value.is_true()));
                }
                Op::Negate => {
                    let n = number(&self.pop())?;
                    self.stack.push(Value::Number(-n));
                }
                Op::Jump(to) => frame.at = to,
                Op::JumpIfFalse(to) => {
                    if !self.stack.pop().is_some_and(|v| v.is_true()) {
                        frame.at = to;
                    }
                }
                Op::AndJump(to) | Op::OrJump(to) => {
                    let is_true = self.stack.last().is_some_and(Value::is_true);
                    if is_true == matches!(op, Op::OrJump(_)) {
                        frame.at = to;
                    } else {
                        self.stack.pop();
                    }
                }
                Op::List(n) => {
                    let items = self.stack.split_off(self.stack.len() - n as usize);
                    self.push_list(items);
                }
                Op::Index => self.index()?,
                Op::SetIndex => self.set_index()?,
                Op::Closure(function) => {
                    let scope = frame.scope;
                    self.stack.push(Value::Closure(self.mc.alloc(Closure { function, scope })));
                }
                Op::Call(n) => self.call(n as usize, host)?,
                Op::Return => drop(self.frames.pop()),
                Op::Next(to) => self.next(to)?,
            }
        }
        Ok(None)
    }

    fn pop(&mut self) -> Value<'gc> {
        self.stack.pop().expect("the compiler balances the stack")
    }

    fn frame(&mut self) -> &mut Frame<'gc> {
        self.frames.last_mut().expect("a function is running")
    }

    fn declare(&mut self, value: Value<'gc>) {
        let older = self.frame().scope;
        self.frame().scope = Some(self.mc.alloc(Variable { value: GcCell::new(value), older }));
    }

    fn push_list(&mut self, items: Vec<Value<'gc>>) {
        self.stack.push(Value::List(List::new(self.mc, items, self.ledger)));
    }

    fn binary(&mut self, op: Binary) -> Result<(), String> {
        let b = self.pop();
        let a = self.pop();
        let compared = |op: &str| a.compare(&b).ok_or_else(|| format!("{op} of {} and {}", a.kind(), b.kind()));
        let value = match op {
            Binary::Add => match (a, b) {
                (Value::Text(_), _) | (_, Value::Text(_)) => Value::Text(self.mc.alloc_str(&format!("{a}{b}"))),
                _ => Value::Number(number(&a)? + number(&b)?),
            },
            Binary::Subtract => Value::Number(number(&a)? - number(&b)?),
            Binary::Multiply => Value::Number(number(&a)? * number(&b)?),
            Binary::Divide => Value::Number(number(&a)? / number(&b)?),
            Binary::Remainder => Value::Number(number(&a)? % number(&b)?),
            Binary::Equal => Value::Bool(a.equals(&b)),
            Binary::NotEqual => Value::Bool(!a.equals(&b)),
            Binary::Less => Value::Bool(compared("<")?.is_lt()),
            Binary::LessOrEqual => Value::Bool(compared("<=")?.is_le()),
            Binary::Greater => Value::Bool(compared(">")?.is_gt()),
            Binary::GreaterOrEqual => Value::Bool(compared(">=")?.is_ge()),
        };
        self.stack.push(value);
        Ok(())
    }

    fn index(&mut self) -> Result<(), String> {
        let at = number(&self.pop())?;
        let list = list(&self.pop())?;
        let item = list.items.borrow().get(at as usize).copied();
        self.stack.push(item.ok_or_else(|| format!("no element {at} in a list of {}", list.items.borrow().len()))?);
        Ok(())
    }

    fn set_index(&mut self) -> Result<(), String> {
        let value = self.pop();
        let at = number(&self.pop())?;
        let list = list(&self.pop())?;
        let mut items = list.items.borrow_mut(self.mc);
        let len = items.len();
        *items.get_mut(at as usize).ok_or_else(|| format!("no element {at} in a list of {len}"))? = value;
        Ok(())
    }

    /// One step of a `for` loop.
    fn next(&mut self, exit: u32) -> Result<(), String> {
        let scope = self.frame().scope;
        let (position, items) = (local(scope, 0), list(&local(scope, 1).value.get())?);
        let at = number(&position.value.get())?;
        match items.items.borrow().get(at as usize) {
            Some(item) => {
                position.value.set(self.mc, Value::Number(at + 1.0));
                self.stack.push(*item);
            }
            None => self.frame().at = exit,
        }
        Ok(())
    }

    fn call(&mut self, arguments: usize, host: &mut dyn Host) -> Result<(), String> {
        let first = self.stack.len() - arguments;
        match self.stack[first - 1] {
            Value::Closure(c) => {
                let f = &self.functions[c.function as usize];
                check_count(&f.name, f.parameters as usize, arguments)?;
                if self.frames.len() == DEPTH_MAX {
                    return Err(format!("{} calls within calls", DEPTH_MAX));
                }
                let mut scope = c.scope;
                for value in self.stack.drain(first..) {
                    scope = Some(self.mc.alloc(Variable { value: GcCell::new(value), older: scope }));
                }
                self.stack.pop();
                self.frames.push(Frame { function: c.function, at: 0, scope });
                Ok(())
            }
            Value::Native(n) => {
                let arguments = self.stack.split_off(first);
                self.stack.pop();
                self.native(n.0, &arguments, host)
            }
            other => Err(format!("{} cannot be called", other.kind())),
        }
    }

    fn native(&mut self, native: Native, args: &[Value<'gc>], host: &mut dyn Host) -> Result<(), String> {
        let known = Native::ALL.iter().find(|n| n.1 == native);
        let (name, _, count) = *known.expect("every native is in the list");
        check_count(name, count, args.len())?;
        let value = match native {
            Native::Len => Value::Number(match args[0] {
                Value::Text(t) => t.len() as f64,
                value => list(&value)?.items.borrow().len() as f64,
            }),
            Native::Push => {
                list(&args[0])?.push(self.mc, args[1]);
                args[0]
            }
            Native::Text => Value::Text(self.mc.alloc_str(&args[0].to_string())),
            Native::Files => Value::Number(host.files() as f64),
            Native::Words => {
                let words = host.words(number(&args[0])? as usize)?;
                let words = words.iter().map(|w| Value::Text(self.mc.alloc_str(w))).collect();
                self.push_list(words);
                return Ok(());
            }
            Native::Ask => Value::Number(host.ask(&args[0].to_string())?),
            Native::Print => {
                host.print(&args[0].to_string());
                Value::Nil
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// Says where in the script something went wrong.
    fn locate(&self, error: &str) -> String {
        let Some(frame) = self.frames.last() else { return error.into() };
        let f = &self.functions[frame.function as usize];
        format!("line {}, in {}: {error}", f.lines[frame.at as usize - 1], f.name)
    }
}

fn local<'gc>(scope: Scope<'gc>, newer: u32) -> Gc<'gc, Variable<'gc>> {
    let mut at = scope;
    for _ in 0..newer {
        at = at.and_then(|v| v.older);
    }
    at.expect("the compiler counts the variables")
}

fn number(value: &Value<'_>) -> Result<f64, String> {
    match value {
        Value::Number(n) => Ok(*n),
        other => Err(format!("expected a number, not {}", other.kind())),
    }
}

fn list<'gc>(value: &Value<'gc>) -> Result<Gc<'gc, List<'gc>>, String> {
    match value {
        Value::List(l) => Ok(*l),
        other => Err(format!("expected a list, not {}", other.kind())),
    }
}

fn check_count(name: &str, takes: usize, given: usize) -> Result<(), String> {
    if takes == given { Ok(()) } else { Err(format!("{name} takes {takes} values, not {given}")) }
}
