//! `#[derive(Collect)]`: what it shows of all shapes of types. What it refuses is in the documentation of `Collect`.

#![cfg(feature = "derive")]
#![forbid(unsafe_code)]

use exectrace::gc::{Arena, Collect, Config, Gc, GcCell, GcRefCell, Rootable};
use std::collections::HashMap;
use std::sync::Mutex;

#[derive(Collect)]
struct Named<'gc, T> {
    #[collect(require_static)]
    lock: Mutex<u32>,
    item: T,
    next: GcCell<'gc, Option<Gc<'gc, Named<'gc, T>>>>,
    r#type: Gc<'gc, Unit>,
}

#[derive(Collect)]
struct Unit;

#[derive(Collect)]
struct Tuple<'gc>(Gc<'gc, u64>, GcRefCell<'gc, HashMap<String, Gc<'gc, u64>>>);

#[derive(Collect)]
enum Value<'gc> {
    Nil,
    Number(f64),
    Pair(Gc<'gc, Value<'gc>>, Box<Value<'gc>>),
    Object { class: &'static str, fields: Vec<Value<'gc>> },
}

/// Contains itself without a reference into the heap.
#[derive(Collect)]
enum Expression {
    Constant(u64),
    Sum(Box<Expression>, Box<Expression>),
}

#[derive(Collect)]
#[collect(no_drop)]
struct Generic<A, B: Clone>
where
    A: Copy,
{
    a: A,
    b: Vec<B>,
}

#[derive(Collect)]
#[collect(require_static)]
struct Opaque(#[allow(dead_code)] std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

#[derive(Collect)]
struct Everything<'gc> {
    named: Gc<'gc, Named<'gc, Gc<'gc, u64>>>,
    tuple: Gc<'gc, Tuple<'gc>>,
    value: GcCell<'gc, Option<Gc<'gc, Value<'gc>>>>,
    expression: Gc<'gc, Expression>,
    generic: Gc<'gc, Generic<u32, Gc<'gc, u64>>>,
    opaque: Opaque,
}

#[test]
fn every_field_of_every_shape_is_shown() {
    let mut arena = Arena::<Rootable!['gc => Everything<'gc>]>::new(Config::new().stress(true).poison(true), |mc| {
        let number = |n: u64| mc.alloc(n);
        let named = |n, next| {
            let next = GcCell::new(next);
            mc.alloc(Named { lock: Mutex::new(7), item: number(n), next, r#type: mc.alloc(Unit) })
        };
        Everything {
            named: named(1, Some(named(2, None))),
            tuple: mc.alloc(Tuple(number(3), GcRefCell::new(HashMap::from([("four".to_owned(), number(4))])))),
            value: GcCell::new(Some(mc.alloc(Value::Pair(
                mc.alloc(Value::Number(5.0)),
                Box::new(Value::Object { class: "C", fields: vec![Value::Nil, Value::Number(6.0)] }),
            )))),
            expression: mc.alloc(Expression::Sum(Box::new(Expression::Constant(7)), Box::new(Expression::Constant(8)))),
            generic: mc.alloc(Generic { a: 9, b: vec![number(10), number(11)] }),
            opaque: Opaque(Default::default()),
        }
    });
    for _ in 0..10 {
        // Each safepoint collects, verifies and poisons what is free.
        arena.safepoint();
        arena.mutate(|mc, e| {
            for _ in 0..1000 {
                mc.alloc(0xBAD_u64);
            }
            let second = e.named.next.get().unwrap();
            assert_eq!((*e.named.item, *second.item, *second.lock.lock().unwrap()), (1, 2, 7));
            let _: &Unit = &second.r#type;
            assert_eq!((*e.tuple.0, *e.tuple.1.borrow()["four"]), (3, 4));
            let Value::Pair(head, tail) = &*e.value.get().unwrap() else { panic!() };
            let Value::Object { class: "C", fields } = &**tail else { panic!() };
            assert!(matches!(**head, Value::Number(5.0)) && matches!(fields[..], [Value::Nil, Value::Number(6.0)]));
            let Expression::Sum(a, b) = &*e.expression else { panic!() };
            assert!(matches!((&**a, &**b), (Expression::Constant(7), Expression::Constant(8))));
            assert_eq!((e.generic.a, *e.generic.b[0], *e.generic.b[1]), (9, 10, 11));
            let _ = &e.opaque;
        });
    }
}

#[test]
fn types_that_cannot_hold_references_are_not_looked_into() {
    fn needs<T: Collect>() -> bool {
        T::NEEDS_VISIT
    }
    assert!(!needs::<Expression>() && !needs::<Unit>() && !needs::<Opaque>() && !needs::<Generic<u8, u8>>());
    assert!(needs::<Value>() && needs::<Tuple>() && needs::<Generic<u8, Gc<u8>>>());
}
