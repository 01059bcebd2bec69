//! Text to lists, and lists to nodes: special forms are taken apart, and variables looked up.

use super::value::{Error, Lambda, Node, Symbol, Value};
use exectrace::gc::{Gc, GcCell, GcMap, GcString, Mutation};

/// All names.
pub type Names<'gc> = GcMap<'gc, GcString<'gc>, Gc<'gc, Symbol<'gc>>>;

pub fn symbol<'gc>(mc: &Mutation<'gc>, names: &Names<'gc>, name: &str) -> Gc<'gc, Symbol<'gc>> {
    let name = mc.alloc_str(name);
    names.get(&name).unwrap_or_else(|| {
        let symbol = mc.alloc(Symbol { name, global: GcCell::new(None) });
        names.insert(mc, name, symbol);
        symbol
    })
}

/// Reads the next value of the text, and leaves the rest; `None` at the end.
pub fn read<'gc>(mc: &Mutation<'gc>, names: &Names<'gc>, text: &mut &str) -> Result<Option<Value<'gc>>, Error<'gc>> {
    skip(text);
    let Some(first) = text.chars().next() else { return Ok(None) };
    if first == '(' {
        *text = &text[1..];
        let mut items = Vec::new();
        let mut tail = Value::Nil;
        loop {
            skip(text);
            if let Some(rest) = text.strip_prefix(')') {
                *text = rest;
                return Ok(Some(items.iter().rev().fold(tail, |tail, head| Value::cons(mc, *head, tail))));
            }
            let item = read(mc, names, text)?.ok_or_else(|| Error::new(mc, "a list without its end"))?;
            if matches!(item, Value::Symbol(s) if &*s.name == ".") {
                tail = read(mc, names, text)?.unwrap_or(Value::Nil);
            } else {
                items.push(item);
            }
        }
    }
    if first == '\'' {
        *text = &text[1..];
        let quoted = read(mc, names, text)?.ok_or_else(|| Error::new(mc, "a quote of nothing"))?;
        return Ok(Some(Value::list(mc, &[Value::Symbol(symbol(mc, names, "quote")), quoted])));
    }
    if let Some(rest) = text.strip_prefix('"') {
        let end = rest.find('"').ok_or_else(|| Error::new(mc, "a string without its end"))?;
        *text = &rest[end + 1..];
        return Ok(Some(Value::Str(mc.alloc_str(&rest[..end].replace("\\n", "\n")))));
    }
    let end = text.find(|c: char| c.is_whitespace() || "()'\";".contains(c)).unwrap_or(text.len());
    if end == 0 {
        return Err(Error::new(mc, format_args!("not expected: {first}")));
    }
    let (word, rest) = text.split_at(end);
    *text = rest;
    Ok(Some(match word {
        "#t" => Value::Bool(true),
        "#f" => Value::Bool(false),
        _ => match (word.parse(), word.parse()) {
            (Ok(int), _) => Value::Int(int),
            (_, Ok(real)) if word.contains(|c: char| c.is_ascii_digit()) => Value::Real(real),
            _ => Value::Symbol(symbol(mc, names, word)),
        },
    }))
}

fn skip(text: &mut &str) {
    loop {
        *text = text.trim_start();
        let Some(comment) = text.strip_prefix(';') else { return };
        *text = comment.find('\n').map_or("", |end| &comment[end..]);
    }
}

/// The variables of one function, and those around it.
pub struct Scope<'a, 'gc> {
    names: Vec<Gc<'gc, Symbol<'gc>>>,
    outer: Option<&'a Scope<'a, 'gc>>,
}

pub struct Compiler<'a, 'gc> {
    pub mc: &'a Mutation<'gc>,
    pub names: &'a Names<'gc>,
}

type Compiled<'gc> = Result<Gc<'gc, Node<'gc>>, Error<'gc>>;

impl<'gc> Compiler<'_, 'gc> {
    fn error<T>(&self, text: impl std::fmt::Display) -> Result<T, Error<'gc>> {
        Err(Error::new(self.mc, text))
    }

    pub fn node(&self, of: Value<'gc>, scope: Option<&mut Scope<'_, 'gc>>) -> Compiled<'gc> {
        let mc = self.mc;
        match of {
            Value::Symbol(s) => Ok(mc.alloc(match find(scope.as_deref(), s) {
                Some((up, at)) => Node::Local { up, at },
                None => Node::Global(s),
            })),
            Value::Pair(p) => {
                let args: Vec<_> = p.tail.get().items().collect();
                if let Value::Symbol(s) = p.head.get()
                    && find(scope.as_deref(), s).is_none()
                {
                    return self.form(s, of, &args, scope);
                }
                self.call(of, scope)
            }
            other => Ok(mc.alloc(Node::Const(other))),
        }
    }

    fn nodes(
        &self,
        of: &[Value<'gc>],
        mut scope: Option<&mut Scope<'_, 'gc>>,
    ) -> Result<Vec<Gc<'gc, Node<'gc>>>, Error<'gc>> {
        of.iter().map(|v| self.node(*v, scope.as_deref_mut())).collect()
    }

    fn call(&self, of: Value<'gc>, scope: Option<&mut Scope<'_, 'gc>>) -> Compiled<'gc> {
        let nodes = self.nodes(&of.items().collect::<Vec<_>>(), scope)?;
        let simple = |n: &Gc<'gc, Node<'gc>>| {
            matches!(**n, Node::Const(_) | Node::Local { .. } | Node::Global(_) | Node::Simple(_))
        };
        let args_max = super::machine::ARGS_MAX;
        let is_simple = matches!(*nodes[0], Node::Global(_)) && nodes.len() <= args_max && nodes.iter().all(simple);
        let of = self.mc.alloc_slice(&nodes);
        Ok(self.mc.alloc(if is_simple { Node::Simple(of) } else { Node::Call(of) }))
    }

    fn seq(&self, of: &[Value<'gc>], scope: Option<&mut Scope<'_, 'gc>>) -> Compiled<'gc> {
        match of {
            [] => Ok(self.mc.alloc(Node::Const(Value::Unspecified))),
            [one] => self.node(*one, scope),
            _ => {
                let nodes = self.nodes(of, scope)?;
                Ok(self.mc.alloc(Node::Seq(self.mc.alloc_slice(&nodes))))
            }
        }
    }

    fn symbol(&self, name: &str) -> Value<'gc> {
        Value::Symbol(symbol(self.mc, self.names, name))
    }

    fn list(&self, items: &[Value<'gc>]) -> Value<'gc> {
        Value::list(self.mc, items)
    }

    fn form(
        &self,
        name: Gc<'gc, Symbol<'gc>>,
        whole: Value<'gc>,
        args: &[Value<'gc>],
        mut scope: Option<&mut Scope<'_, 'gc>>,
    ) -> Compiled<'gc> {
        let mc = self.mc;
        let nil = Value::Nil;
        match (&*name.name, args) {
            ("quote", [what]) => Ok(mc.alloc(Node::Const(*what))),
            ("if", [test, yes, no @ ..]) => {
                let test = self.node(*test, scope.as_deref_mut())?;
                let yes = self.node(*yes, scope.as_deref_mut())?;
                let no = self.seq(no, scope)?;
                Ok(mc.alloc(Node::If(test, yes, no)))
            }
            ("define", [Value::Pair(head), body @ ..]) => {
                let lambda = self.lambda(head.tail.get(), body, scope.as_deref_mut(), Some(head.head.get()))?;
                self.define(head.head.get(), lambda, scope)
            }
            ("define", [to @ Value::Symbol(s), value]) => {
                if let Some(scope) = scope.as_deref_mut() {
                    declare(scope, *s);
                }
                let value = self.node(*value, scope.as_deref_mut())?;
                self.define(*to, value, scope)
            }
            ("set!", [Value::Symbol(s), value]) => {
                let to = find(scope.as_deref(), *s);
                let value = self.node(*value, scope)?;
                Ok(mc.alloc(match to {
                    Some((up, at)) => Node::SetLocal { up, at, value },
                    None => Node::SetGlobal { to: *s, defines: false, value },
                }))
            }
            ("lambda", [params, body @ ..]) => self.lambda(*params, body, scope, None),
            ("begin", body) => self.seq(body, scope),
            // The others stand for something that is known.
            ("let", [Value::Symbol(_), bindings, ..]) => {
                let (vars, values) = self.unzip(*bindings)?;
                let function = Value::cons(mc, Value::cons(mc, args[0], self.list(&vars)), self.list(&args[2..]));
                let define = Value::cons(mc, self.symbol("define"), function);
                let call = Value::cons(mc, args[0], self.list(&values));
                let outer = self.list(&[self.symbol("lambda"), nil, define, call]);
                self.node(self.list(&[outer]), scope)
            }
            ("let", [bindings, body @ ..]) => {
                let (vars, values) = self.unzip(*bindings)?;
                let rest = Value::cons(mc, self.list(&vars), self.list(body));
                let lambda = Value::cons(mc, self.symbol("lambda"), rest);
                self.node(Value::cons(mc, lambda, self.list(&values)), scope)
            }
            ("let*", [bindings, body @ ..]) => {
                let body = Value::cons(mc, self.symbol("begin"), self.list(body));
                let bindings: Vec<_> = bindings.items().collect();
                let nested = bindings
                    .iter()
                    .rev()
                    .fold(body, |body, b| self.list(&[self.symbol("let"), self.list(&[*b]), body]));
                self.node(nested, scope)
            }
            ("letrec", [bindings, body @ ..]) => {
                let define = self.symbol("define");
                let mut inner: Vec<_> = bindings.items().map(|b| Value::cons(mc, define, b)).collect();
                inner.extend(body);
                let lambda = Value::cons(mc, self.symbol("lambda"), Value::cons(mc, nil, self.list(&inner)));
                self.node(self.list(&[lambda]), scope)
            }
            ("cond", []) => Ok(mc.alloc(Node::Const(Value::Unspecified))),
            ("cond", [clause, rest @ ..]) => {
                let parts: Vec<_> = clause.items().collect();
                let Some((test, body)) = parts.split_first() else { return self.error("cond: an empty clause") };
                let body = Value::cons(mc, self.symbol("begin"), self.list(body));
                if *test == self.symbol("else") {
                    return self.node(body, scope);
                }
                let rest = Value::cons(mc, self.symbol("cond"), self.list(rest));
                self.node(self.list(&[self.symbol("if"), *test, body, rest]), scope)
            }
            ("and", [] | [_]) => self.node(args.first().copied().unwrap_or(Value::Bool(true)), scope),
            ("and", [first, rest @ ..]) => {
                let rest = Value::cons(mc, self.symbol("and"), self.list(rest));
                self.node(self.list(&[self.symbol("if"), *first, rest, Value::Bool(false)]), scope)
            }
            ("or", [] | [_]) => self.node(args.first().copied().unwrap_or(Value::Bool(false)), scope),
            ("or", [first, rest @ ..]) => {
                // A name that no program can write.
                let it = self.symbol(" it");
                let rest = Value::cons(mc, self.symbol("or"), self.list(rest));
                let test = self.list(&[self.symbol("if"), it, it, rest]);
                let binding = self.list(&[self.list(&[it, *first])]);
                self.node(self.list(&[self.symbol("let"), binding, test]), scope)
            }
            ("when" | "unless", [test, body @ ..]) => {
                let body = Value::cons(mc, self.symbol("begin"), self.list(body));
                let (yes, no) = if &*name.name == "when" { (body, nil) } else { (nil, body) };
                let quoted = |v: Value<'gc>| if v == nil { Value::Unspecified } else { v };
                self.node(self.list(&[self.symbol("if"), *test, quoted(yes), quoted(no)]), scope)
            }
            _ => self.call(whole, scope),
        }
    }

    fn define(&self, to: Value<'gc>, value: Gc<'gc, Node<'gc>>, scope: Option<&mut Scope<'_, 'gc>>) -> Compiled<'gc> {
        let Value::Symbol(to) = to else { return self.error("define: not a name") };
        Ok(self.mc.alloc(match scope {
            Some(scope) => Node::SetLocal { up: 0, at: declare(scope, to), value },
            None => Node::SetGlobal { to, defines: true, value },
        }))
    }

    fn unzip(&self, bindings: Value<'gc>) -> Result<(Vec<Value<'gc>>, Vec<Value<'gc>>), Error<'gc>> {
        bindings
            .items()
            .map(|b| match b.items().collect::<Vec<_>>()[..] {
                [var, value] => Ok((var, value)),
                _ => self.error("a binding is a name and a value"),
            })
            .collect()
    }

    fn lambda(
        &self,
        params: Value<'gc>,
        body: &[Value<'gc>],
        scope: Option<&mut Scope<'_, 'gc>>,
        defines: Option<Value<'gc>>,
    ) -> Compiled<'gc> {
        let mut scope = scope;
        // A function that is defined inside of another one may call itself.
        if let (Some(scope), Some(Value::Symbol(s))) = (scope.as_deref_mut(), defines) {
            declare(scope, s);
        }
        let mut names = Vec::new();
        let mut at = params;
        while let Value::Pair(p) = at {
            let Value::Symbol(s) = p.head.get() else { return self.error("a parameter is a name") };
            names.push(s);
            at = p.tail.get();
        }
        let params = names.len();
        let has_rest = matches!(at, Value::Symbol(s) if { names.push(s); true });
        let mut inner = Scope { names, outer: scope.as_deref() };
        // Definitions may refer to each other.
        for form in body {
            let mut parts = form.items();
            if parts.next() == Some(self.symbol("define")) {
                match parts.next() {
                    Some(Value::Symbol(s)) => drop(declare(&mut inner, s)),
                    Some(Value::Pair(p)) => {
                        if let Value::Symbol(s) = p.head.get() {
                            declare(&mut inner, s);
                        }
                    }
                    _ => {}
                }
            }
        }
        let body = self.seq(body, Some(&mut inner))?;
        Ok(self.mc.alloc(Node::Lambda(self.mc.alloc(Lambda { params, has_rest, slots: inner.names.len(), body }))))
    }
}

fn find<'gc>(mut scope: Option<&Scope<'_, 'gc>>, name: Gc<'gc, Symbol<'gc>>) -> Option<(usize, usize)> {
    let mut up = 0;
    while let Some(s) = scope {
        if let Some(at) = s.names.iter().rposition(|n| Gc::ptr_eq(*n, name)) {
            return Some((up, at));
        }
        (scope, up) = (s.outer, up + 1);
    }
    None
}

/// The place of a variable of the function, which gets one if it has none.
fn declare<'gc>(scope: &mut Scope<'_, 'gc>, name: Gc<'gc, Symbol<'gc>>) -> usize {
    scope.names.iter().rposition(|n| Gc::ptr_eq(*n, name)).unwrap_or_else(|| {
        scope.names.push(name);
        scope.names.len() - 1
    })
}
