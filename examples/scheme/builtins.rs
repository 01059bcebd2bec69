//! The functions that the language has from the beginning: those written in Rust, and a prelude in the language itself.

use super::value::{Builtin, Error, Table, Value};
use exectrace::gc::{GcVec, Mutation};
use std::cmp::Ordering;
use std::sync::LazyLock;

type Run = for<'gc> fn(&Mutation<'gc>, &[Value<'gc>]) -> Result<Value<'gc>, Error<'gc>>;

/// The machine's own, which never run from here.
const SPECIAL: [&str; 3] = ["call/cc", "apply", "with-handler"];

/// All of them.
pub static TABLE: LazyLock<Vec<Builtin>> = LazyLock::new(|| {
    ALL.iter().map(|(name, run)| Builtin { name, is_special: SPECIAL.contains(name), run: *run }).collect()
});

/// By name.
const ALL: &[(&str, Run)] = &[
    ("call/cc", wrong),
    ("apply", wrong),
    ("with-handler", wrong),
    ("raise", |mc, a| match a {
        [v] => Err(Error(*v)),
        _ => wrong(mc, a),
    }),
    ("error", |mc, a| {
        let words: Vec<_> = a.iter().map(ToString::to_string).collect();
        Err(Error::new(mc, words.join(" ")))
    }),
    ("+", |mc, a| fold(mc, a, 0, i64::checked_add, |x, y| x + y)),
    ("*", |mc, a| fold(mc, a, 1, i64::checked_mul, |x, y| x * y)),
    ("-", |mc, a| match a {
        [x] => fold(mc, &[Value::Int(0), *x], 0, i64::checked_sub, |x, y| x - y),
        [x, rest @ ..] => rest.iter().try_fold(*x, |x, y| number(mc, x, *y, i64::checked_sub, |x, y| x - y)),
        _ => wrong(mc, a),
    }),
    ("/", |mc, a| match *a {
        [x, y] => Ok(Value::Real(real(mc, x)? / real(mc, y)?)),
        _ => wrong(mc, a),
    }),
    ("quotient", |mc, a| division(mc, a, i64::checked_div)),
    ("remainder", |mc, a| division(mc, a, i64::checked_rem)),
    ("=", |mc, a| compare(mc, a, Ordering::is_eq)),
    ("<", |mc, a| compare(mc, a, Ordering::is_lt)),
    (">", |mc, a| compare(mc, a, Ordering::is_gt)),
    ("<=", |mc, a| compare(mc, a, Ordering::is_le)),
    (">=", |mc, a| compare(mc, a, Ordering::is_ge)),
    ("eq?", |mc, a| match a {
        [x, y] => Ok(Value::Bool(x == y)),
        _ => wrong(mc, a),
    }),
    ("cons", |mc, a| match a {
        [x, y] => Ok(Value::cons(mc, *x, *y)),
        _ => wrong(mc, a),
    }),
    ("car", |mc, a| match a {
        [Value::Pair(p)] => Ok(p.head.get()),
        _ => wrong(mc, a),
    }),
    ("cdr", |mc, a| match a {
        [Value::Pair(p)] => Ok(p.tail.get()),
        _ => wrong(mc, a),
    }),
    ("set-car!", |mc, a| match a {
        [Value::Pair(p), v] => {
            p.head.set(mc, *v);
            Ok(Value::Unspecified)
        }
        _ => wrong(mc, a),
    }),
    ("set-cdr!", |mc, a| match a {
        [Value::Pair(p), v] => {
            p.tail.set(mc, *v);
            Ok(Value::Unspecified)
        }
        _ => wrong(mc, a),
    }),
    ("list", |mc, a| Ok(Value::list(mc, a))),
    ("null?", |mc, a| is(mc, a, |v| matches!(v, Value::Nil))),
    ("pair?", |mc, a| is(mc, a, |v| matches!(v, Value::Pair(_)))),
    ("string?", |mc, a| is(mc, a, |v| matches!(v, Value::Str(_)))),
    ("number?", |mc, a| is(mc, a, |v| matches!(v, Value::Int(_) | Value::Real(_)))),
    ("symbol?", |mc, a| is(mc, a, |v| matches!(v, Value::Symbol(_)))),
    ("not", |mc, a| is(mc, a, |v| !v.is_true())),
    ("string-append", |mc, a| {
        let mut all = String::new();
        for v in a {
            let Value::Str(s) = v else { return wrong(mc, a) };
            all.push_str(s);
        }
        Ok(Value::Str(mc.alloc_str(&all)))
    }),
    ("string-length", |mc, a| match a {
        [Value::Str(s)] => Ok(Value::Int(s.chars().count() as i64)),
        _ => wrong(mc, a),
    }),
    ("substring", |mc, a| match a {
        [Value::Str(s), Value::Int(from), Value::Int(to)] if *from >= 0 && from <= to => {
            let part: String = s.chars().skip(*from as usize).take((to - from) as usize).collect();
            Ok(Value::Str(mc.alloc_str(&part)))
        }
        _ => wrong(mc, a),
    }),
    ("string-split", |mc, a| match a {
        [Value::Str(s)] => {
            let words: Vec<_> = s.split_whitespace().map(|w| Value::Str(mc.alloc_str(w))).collect();
            Ok(Value::list(mc, &words))
        }
        _ => wrong(mc, a),
    }),
    ("to-string", |mc, a| match a {
        [v] => Ok(Value::Str(mc.alloc_str(&v.to_string()))),
        _ => wrong(mc, a),
    }),
    ("make-vector", |mc, a| match a {
        [Value::Int(n), v] => {
            let vec = mc.alloc(GcVec::new());
            vec.try_reserve(mc, *n as usize).map_err(|e| Error::new(mc, e))?;
            (0..*n).for_each(|_| vec.push(mc, *v));
            Ok(Value::Vector(vec))
        }
        _ => wrong(mc, a),
    }),
    ("vector-ref", |mc, a| match a {
        [Value::Vector(v), Value::Int(i)] => {
            v.get(*i as usize).ok_or_else(|| Error::new(mc, format_args!("no item {i} in a vector of {}", v.len())))
        }
        _ => wrong(mc, a),
    }),
    ("vector-set!", |mc, a| match a {
        [Value::Vector(v), Value::Int(i), value] if v.set(mc, *i as usize, *value) => Ok(Value::Unspecified),
        _ => wrong(mc, a),
    }),
    ("vector-push!", |mc, a| match a {
        [Value::Vector(v), value] => {
            v.push(mc, *value);
            Ok(Value::Unspecified)
        }
        _ => wrong(mc, a),
    }),
    ("vector-length", |mc, a| match a {
        [Value::Vector(v)] => Ok(Value::Int(v.len() as i64)),
        _ => wrong(mc, a),
    }),
    ("make-table", |mc, _| Ok(Value::Table(mc.alloc(Table::new())))),
    ("table-ref", |mc, a| match a {
        [Value::Table(t), key, default] => Ok(t.get(key).unwrap_or(*default)),
        _ => wrong(mc, a),
    }),
    ("table-set!", |mc, a| match a {
        [Value::Table(t), key, value] => {
            t.insert(mc, *key, *value);
            Ok(Value::Unspecified)
        }
        _ => wrong(mc, a),
    }),
    ("table-remove!", |mc, a| match a {
        [Value::Table(t), key] => Ok(Value::Bool(t.remove(mc, key).is_some())),
        _ => wrong(mc, a),
    }),
    ("table-keys", |mc, a| match a {
        [Value::Table(t)] => {
            let keys: Vec<_> = t.iter().map(|(k, _)| k).collect();
            Ok(Value::list(mc, &keys))
        }
        _ => wrong(mc, a),
    }),
    ("table-length", |mc, a| match a {
        [Value::Table(t)] => Ok(Value::Int(t.len() as i64)),
        _ => wrong(mc, a),
    }),
];

fn wrong<'gc>(mc: &Mutation<'gc>, args: &[Value<'gc>]) -> Result<Value<'gc>, Error<'gc>> {
    Err(Error::new(mc, format_args!("wrong arguments: {}", Value::list(mc, args))))
}

fn is<'gc>(
    mc: &Mutation<'gc>,
    args: &[Value<'gc>],
    test: impl FnOnce(&Value<'gc>) -> bool,
) -> Result<Value<'gc>, Error<'gc>> {
    match args {
        [v] => Ok(Value::Bool(test(v))),
        _ => wrong(mc, args),
    }
}

fn real<'gc>(mc: &Mutation<'gc>, v: Value<'gc>) -> Result<f64, Error<'gc>> {
    match v {
        Value::Int(x) => Ok(x as f64),
        Value::Real(x) => Ok(x),
        _ => Err(Error::new(mc, format_args!("not a number: {v}"))),
    }
}

fn number<'gc>(
    mc: &Mutation<'gc>,
    x: Value<'gc>,
    y: Value<'gc>,
    ints: fn(i64, i64) -> Option<i64>,
    reals: fn(f64, f64) -> f64,
) -> Result<Value<'gc>, Error<'gc>> {
    if let (Value::Int(x), Value::Int(y)) = (x, y) {
        return ints(x, y).map(Value::Int).ok_or_else(|| Error::new(mc, "a number that is too large"));
    }
    Ok(Value::Real(reals(real(mc, x)?, real(mc, y)?)))
}

fn fold<'gc>(
    mc: &Mutation<'gc>,
    args: &[Value<'gc>],
    first: i64,
    ints: fn(i64, i64) -> Option<i64>,
    reals: fn(f64, f64) -> f64,
) -> Result<Value<'gc>, Error<'gc>> {
    let (first, rest) = args.split_first().map_or((Value::Int(first), args), |(first, rest)| (*first, rest));
    rest.iter().try_fold(first, |x, y| number(mc, x, *y, ints, reals))
}

fn division<'gc>(
    mc: &Mutation<'gc>,
    args: &[Value<'gc>],
    f: fn(i64, i64) -> Option<i64>,
) -> Result<Value<'gc>, Error<'gc>> {
    match args {
        [Value::Int(x), Value::Int(y)] => f(*x, *y).map(Value::Int).ok_or_else(|| Error::new(mc, "division by zero")),
        _ => wrong(mc, args),
    }
}

fn compare<'gc>(mc: &Mutation<'gc>, args: &[Value<'gc>], f: fn(Ordering) -> bool) -> Result<Value<'gc>, Error<'gc>> {
    for pair in args.windows(2) {
        let holds = match (pair[0], pair[1]) {
            (Value::Int(x), Value::Int(y)) => f(x.cmp(&y)),
            (x, y) => real(mc, x)?.partial_cmp(&real(mc, y)?).is_some_and(f),
        };
        if !holds {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

/// Coroutines come of continuations: each side keeps where the other is to go on.
pub const PRELUDE: &str = r#"
(define (length l) (let loop ((l l) (n 0)) (if (null? l) n (loop (cdr l) (+ n 1)))))
(define (reverse l) (let loop ((l l) (r '())) (if (null? l) r (loop (cdr l) (cons (car l) r)))))
(define (append a b) (if (null? a) b (cons (car a) (append (cdr a) b))))
(define (map f l) (if (null? l) '() (cons (f (car l)) (map f (cdr l)))))
(define (filter f l) (cond ((null? l) '()) ((f (car l)) (cons (car l) (filter f (cdr l)))) (else (filter f (cdr l)))))
(define (for-each f l) (unless (null? l) (f (car l)) (for-each f (cdr l))))
(define (fold f x l) (if (null? l) x (fold f (f x (car l)) (cdr l))))
(define (iota n) (let loop ((i (- n 1)) (l '())) (if (< i 0) l (loop (- i 1) (cons i l)))))
; (make-coroutine (lambda (yield first) ...)): called with a value, goes on to the next yield, or to its end.
(define (make-coroutine body)
  (define back #f)
  (define here #f)
  (define (yield v) (call/cc (lambda (k) (set! here k) (back v))))
  (set! here (lambda (first) (define result (body yield first)) (set! here (lambda (x) (error "a dead coroutine"))) (back result)))
  (lambda (v) (call/cc (lambda (k) (set! back k) (here v)))))
"#;
