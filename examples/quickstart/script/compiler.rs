//! From tokens to code for the machine, in one pass: a parser of expressions by precedence that writes instructions as it goes.
//!
//! A local variable is named by how many newer ones there are: the machine keeps them as a linked list, which
//! closures share.

use super::lexer::{Kind, Token, tokens};
use super::machine::Native;

/// One instruction. Operands come from the stack, results go there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    Nil,
    True,
    False,
    Number(f64),
    /// The string constant of this index.
    Text(u32),
    Native(Native),
    Local(u32),
    SetLocal(u32),
    Global(u32),
    SetGlobal(u32),
    /// Takes a value and makes it the newest local.
    Declare,
    /// Forgets the newest locals.
    Forget(u32),
    Pop,
    Binary(Binary),
    Not,
    Negate,
    Jump(u32),
    /// Takes a value.
    JumpIfFalse(u32),
    /// Leaves the value if it jumps.
    AndJump(u32),
    OrJump(u32),
    /// A list of so many values.
    List(u32),
    Index,
    SetIndex,
    Closure(u32),
    Call(u32),
    Return,
    /// The newest locals are a list and a position in it: its next element, or a jump if there is none.
    Next(u32),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

pub struct Function {
    pub name: String,
    pub parameters: u32,
    pub code: Vec<Op>,
    /// The line of each instruction.
    pub lines: Vec<u32>,
}

pub struct Program {
    /// The first is the script itself.
    pub functions: Vec<Function>,
    pub texts: Vec<String>,
    pub globals: Vec<String>,
}

/// Compiles a script.
///
/// # Errors
/// In one line, with the line of the script.
pub fn compile(source: &str) -> Result<Program, String> {
    let mut c = Compiler {
        tokens: tokens(source)?,
        at: 0,
        program: Program { functions: Vec::new(), texts: Vec::new(), globals: Vec::new() },
        open: vec![Open::new("script", 0)],
    };
    while c.peek() != Kind::End {
        c.statement()?;
    }
    c.finish_function();
    // Functions are closed from the inside out, so the script was the last: make it the first.
    c.program.functions.rotate_right(1);
    for op in c.program.functions.iter_mut().flat_map(|f| &mut f.code) {
        if let Op::Closure(f) = op {
            *f += 1;
        }
    }
    Ok(c.program)
}

/// A function that is being compiled.
struct Open<'s> {
    name: String,
    parameters: u32,
    code: Vec<Op>,
    lines: Vec<u32>,
    /// The names of the locals in scope, the newest last; "" for the machine's own.
    locals: Vec<&'s str>,
    /// How many blocks are open.
    depth: u32,
}

impl Open<'_> {
    fn new(name: &str, parameters: u32) -> Self {
        Open { name: name.into(), parameters, code: Vec::new(), lines: Vec::new(), locals: Vec::new(), depth: 0 }
    }
}

struct Compiler<'s> {
    tokens: Vec<Token<'s>>,
    at: usize,
    program: Program,
    /// Functions within functions, the innermost last.
    open: Vec<Open<'s>>,
}

enum Place {
    Local(u32),
    Global(u32),
    Native(Native),
}

impl<'s> Compiler<'s> {
    fn peek(&self) -> Kind<'s> {
        self.tokens[self.at].kind
    }

    fn next(&mut self) -> Kind<'s> {
        let kind = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        kind
    }

    fn accept(&mut self, mark: &str) -> bool {
        let is = self.peek() == Kind::Mark(mark);
        if is {
            self.next();
        }
        is
    }

    fn expect(&mut self, mark: &str) -> Result<(), String> {
        if self.accept(mark) { Ok(()) } else { Err(self.error(&format!("expected {mark}"))) }
    }

    fn name(&mut self) -> Result<&'s str, String> {
        match self.next() {
            Kind::Name(name) => Ok(name),
            _ => Err(self.error("expected a name")),
        }
    }

    fn error(&self, what: &str) -> String {
        let found = match self.peek() {
            Kind::Number(n) => n.to_string(),
            Kind::String(s) | Kind::Name(s) | Kind::Mark(s) => s.into(),
            Kind::End => "the end".into(),
        };
        format!("line {}: {what} before {found}", self.tokens[self.at].line)
    }

    fn function(&mut self) -> &mut Open<'s> {
        self.open.last_mut().expect("a function is open")
    }

    fn emit(&mut self, op: Op) -> usize {
        let line = self.tokens[self.at.saturating_sub(1)].line;
        let f = self.function();
        f.code.push(op);
        f.lines.push(line);
        f.code.len() - 1
    }

    /// Lets a jump go to the place that the code has reached.
    fn land(&mut self, jump: usize) {
        let here = self.here();
        match &mut self.function().code[jump] {
            Op::Jump(to) | Op::JumpIfFalse(to) | Op::AndJump(to) | Op::OrJump(to) | Op::Next(to) => *to = here,
            other => unreachable!("{other:?} is no jump"),
        }
    }

    fn here(&mut self) -> u32 {
        self.function().code.len() as u32
    }

    fn finish_function(&mut self) -> u32 {
        self.emit(Op::Nil);
        self.emit(Op::Return);
        let f = self.open.pop().expect("a function is open");
        self.program.functions.push(Function { name: f.name, parameters: f.parameters, code: f.code, lines: f.lines });
        self.program.functions.len() as u32 - 1
    }

    /// Where a variable is: among the locals of the functions around, innermost first, or the script's globals, or built in.
    fn find(&self, name: &str) -> Option<Place> {
        let locals = self.open.iter().rev().flat_map(|f| f.locals.iter().rev());
        if let Some(newer) = locals.clone().position(|l| *l == name) {
            return Some(Place::Local(newer as u32));
        }
        if let Some(i) = self.program.globals.iter().position(|g| g == name) {
            return Some(Place::Global(i as u32));
        }
        Native::named(name).map(Place::Native)
    }

    /// Where a new variable is to be: variables of the script outside of all blocks are global.
    fn is_global(&mut self) -> bool {
        self.open.len() == 1 && self.function().depth == 0
    }

    fn global(&mut self, name: &str) -> u32 {
        let globals = &mut self.program.globals;
        let at = globals.iter().position(|g| g == name).unwrap_or_else(|| {
            globals.push(name.into());
            globals.len() - 1
        });
        at as u32
    }

    /// Takes the value on the stack as a new variable's.
    fn declare(&mut self, name: &'s str) {
        if self.is_global() {
            let i = self.global(name);
            self.emit(Op::SetGlobal(i));
        } else {
            self.declare_local(name);
        }
    }

    fn declare_local(&mut self, name: &'s str) {
        self.emit(Op::Declare);
        self.function().locals.push(name);
    }

    fn forget(&mut self, n: usize) {
        let f = self.function();
        f.locals.truncate(f.locals.len() - n);
        if n > 0 {
            self.emit(Op::Forget(n as u32));
        }
    }

    fn statement(&mut self) -> Result<(), String> {
        match self.peek() {
            Kind::Mark("let") => self.let_statement(),
            Kind::Mark("fn") if matches!(self.tokens[self.at + 1].kind, Kind::Name(_)) => self.fn_statement(),
            Kind::Mark("if") => self.if_statement(),
            Kind::Mark("while") => self.while_statement(),
            Kind::Mark("for") => self.for_statement(),
            Kind::Mark("return") => {
                self.next();
                if matches!(self.peek(), Kind::Mark("}" | ";")) {
                    self.emit(Op::Nil);
                } else {
                    self.expression(0)?;
                }
                self.emit(Op::Return);
                Ok(())
            }
            _ => self.expression_statement(),
        }?;
        while self.accept(";") {}
        Ok(())
    }

    fn let_statement(&mut self) -> Result<(), String> {
        self.next();
        let name = self.name()?;
        self.expect("=")?;
        self.expression(0)?;
        self.declare(name);
        Ok(())
    }

    /// The variable comes before the function, so that it can call itself.
    fn fn_statement(&mut self) -> Result<(), String> {
        self.next();
        let name = self.name()?;
        if self.is_global() {
            let i = self.global(name);
            self.closure(name)?;
            self.emit(Op::SetGlobal(i));
        } else {
            self.emit(Op::Nil);
            self.declare_local(name);
            self.closure(name)?;
            self.emit(Op::SetLocal(0));
        }
        Ok(())
    }

    fn if_statement(&mut self) -> Result<(), String> {
        self.next();
        self.expression(0)?;
        let over = self.emit(Op::JumpIfFalse(0));
        self.block()?;
        if !self.accept("else") {
            self.land(over);
            return Ok(());
        }
        let end = self.emit(Op::Jump(0));
        self.land(over);
        if self.peek() == Kind::Mark("if") {
            self.if_statement()?;
        } else {
            self.block()?;
        }
        self.land(end);
        Ok(())
    }

    fn while_statement(&mut self) -> Result<(), String> {
        self.next();
        let begin = self.here();
        self.expression(0)?;
        let exit = self.emit(Op::JumpIfFalse(0));
        self.block()?;
        self.emit(Op::Jump(begin));
        self.land(exit);
        Ok(())
    }

    fn for_statement(&mut self) -> Result<(), String> {
        self.next();
        let name = self.name()?;
        self.expect("in")?;
        self.expression(0)?;
        self.declare_local("");
        self.emit(Op::Number(0.0));
        self.declare_local("");
        let begin = self.here();
        let exit = self.emit(Op::Next(0));
        self.declare_local(name);
        self.block()?;
        self.forget(1);
        self.emit(Op::Jump(begin));
        self.land(exit);
        self.forget(2);
        Ok(())
    }

    fn block(&mut self) -> Result<(), String> {
        self.expect("{")?;
        let outside = self.function().locals.len();
        self.function().depth += 1;
        while !self.accept("}") {
            if self.peek() == Kind::End {
                return Err(self.error("expected }"));
            }
            self.statement()?;
        }
        self.function().depth -= 1;
        let inside = self.function().locals.len() - outside;
        self.forget(inside);
        Ok(())
    }

    fn expression_statement(&mut self) -> Result<(), String> {
        self.expression(0)?;
        if !self.accept("=") {
            self.emit(Op::Pop);
            return Ok(());
        }
        let f = self.function();
        let set = match f.code.last() {
            Some(Op::Local(i)) => Op::SetLocal(*i),
            Some(Op::Global(i)) => Op::SetGlobal(*i),
            Some(Op::Index) => Op::SetIndex,
            _ => return Err(self.error("cannot assign to this")),
        };
        f.code.pop();
        f.lines.pop();
        self.expression(0)?;
        self.emit(set);
        Ok(())
    }

    /// An expression whose operators bind more than `above`.
    fn expression(&mut self, above: u8) -> Result<(), String> {
        self.operand()?;
        while let Kind::Mark(mark) = self.peek() {
            let Some((binds, op)) = infix(mark) else { break };
            if binds <= above {
                break;
            }
            self.next();
            let Some(op) = op else {
                let jump = self.emit(if mark == "and" { Op::AndJump(0) } else { Op::OrJump(0) });
                self.expression(binds)?;
                self.land(jump);
                continue;
            };
            self.expression(binds)?;
            self.emit(Op::Binary(op));
        }
        Ok(())
    }

    fn operand(&mut self) -> Result<(), String> {
        match self.next() {
            Kind::Number(n) => drop(self.emit(Op::Number(n))),
            Kind::String(s) => {
                self.program.texts.push(s.into());
                let i = self.program.texts.len() as u32 - 1;
                self.emit(Op::Text(i));
            }
            Kind::Name(name) => {
                let op = match self.find(name) {
                    Some(Place::Local(i)) => Op::Local(i),
                    Some(Place::Global(i)) => Op::Global(i),
                    Some(Place::Native(n)) => Op::Native(n),
                    None => return Err(self.error(&format!("no variable is called {name}:"))),
                };
                self.emit(op);
            }
            Kind::Mark("nil") => drop(self.emit(Op::Nil)),
            Kind::Mark("true") => drop(self.emit(Op::True)),
            Kind::Mark("false") => drop(self.emit(Op::False)),
            Kind::Mark("not") => {
                self.expression(PREFIX)?;
                self.emit(Op::Not);
            }
            Kind::Mark("-") => {
                self.expression(PREFIX)?;
                self.emit(Op::Negate);
            }
            Kind::Mark("fn") => self.closure("fn")?,
            Kind::Mark("(") => {
                self.expression(0)?;
                self.expect(")")?;
            }
            Kind::Mark("[") => {
                let n = self.values("]")?;
                self.emit(Op::List(n));
            }
            _ => {
                self.at = self.at.saturating_sub(1);
                return Err(self.error("expected a value"));
            }
        }
        loop {
            if self.accept("(") {
                let n = self.values(")")?;
                self.emit(Op::Call(n));
            } else if self.accept("[") {
                self.expression(0)?;
                self.expect("]")?;
                self.emit(Op::Index);
            } else {
                return Ok(());
            }
        }
    }

    /// Values with commas between them, up to a closing mark.
    fn values(&mut self, end: &str) -> Result<u32, String> {
        let mut n = 0;
        while !self.accept(end) {
            self.expression(0)?;
            n += 1;
            if !self.accept(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(n)
    }

    /// Parameters and body of a function.
    fn closure(&mut self, name: &str) -> Result<(), String> {
        self.expect("(")?;
        let mut parameters = Vec::new();
        while !self.accept(")") {
            parameters.push(self.name()?);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        let mut open = Open::new(name, parameters.len() as u32);
        open.locals = parameters;
        self.open.push(open);
        self.block()?;
        let f = self.finish_function();
        self.emit(Op::Closure(f));
        Ok(())
    }
}

/// How strongly a sign before a value binds.
const PREFIX: u8 = 6;

/// How strongly an operator binds, and its instruction; `and` and `or` have none.
fn infix(mark: &str) -> Option<(u8, Option<Binary>)> {
    Some(match mark {
        "or" => (1, None),
        "and" => (2, None),
        "==" => (3, Some(Binary::Equal)),
        "!=" => (3, Some(Binary::NotEqual)),
        "<" => (3, Some(Binary::Less)),
        "<=" => (3, Some(Binary::LessOrEqual)),
        ">" => (3, Some(Binary::Greater)),
        ">=" => (3, Some(Binary::GreaterOrEqual)),
        "+" => (4, Some(Binary::Add)),
        "-" => (4, Some(Binary::Subtract)),
        "*" => (5, Some(Binary::Multiply)),
        "/" => (5, Some(Binary::Divide)),
        "%" => (5, Some(Binary::Remainder)),
        _ => return None,
    })
}
