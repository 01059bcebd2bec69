//! Programs whose answers are known, most of them micro-benchmarks of long standing.

/// Name, text, and the value of its last form.
pub const PROGRAMS: &[(&str, &str, &str)] = &[
    ("fib", "(define (fib n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2))))) (fib 23)", "28657"),
    (
        "tak",
        "(define (tak x y z) (if (< y x) (tak (tak (- x 1) y z) (tak (- y 1) z x) (tak (- z 1) x y)) z)) (tak 14 8 3)",
        "4",
    ),
    ("ackermann", "(define (a m n) (cond ((= m 0) (+ n 1)) ((= n 0) (a (- m 1) 1)) (else (a (- m 1) (a m (- n 1)))))) (a 2 200)", "403"),
    (
        "queens",
        "(define (ok? row dist placed)
           (or (null? placed)
               (and (not (= (car placed) (+ row dist))) (not (= (car placed) (- row dist))) (not (= (car placed) row))
                    (ok? row (+ dist 1) (cdr placed)))))
         (define (queens n k placed)
           (if (= k 0) 1
               (fold (lambda (sum row) (if (ok? row 1 placed) (+ sum (queens n (- k 1) (cons row placed))) sum)) 0 (iota n))))
         (queens 7 7 '())",
        "40",
    ),
    (
        "sieve",
        "(define n 5000)
         (define flags (make-vector (+ n 1) #t))
         (define (strike i step) (when (<= i n) (vector-set! flags i #f) (strike (+ i step) step)))
         (let loop ((i 2) (count 0))
           (cond ((> i n) count)
                 ((vector-ref flags i) (strike (+ i i) i) (loop (+ i 1) (+ count 1)))
                 (else (loop (+ i 1) count))))",
        "669",
    ),
    (
        "towers",
        "(define (towers n from to by) (if (= n 0) 0 (+ (towers (- n 1) from by to) 1 (towers (- n 1) by to from)))) (towers 13 1 3 2)",
        "8191",
    ),
    (
        "permute",
        "(define (without x l) (filter (lambda (y) (not (eq? x y))) l))
         (define (permute l) (if (null? l) 1 (fold (lambda (n x) (+ n (permute (without x l)))) 0 l)))
         (permute (iota 7))",
        "5040",
    ),
    // 100000 calls deep, none of them a tail call.
    ("deep", "(define (count n) (if (= n 0) 0 (+ 1 (count (- n 1))))) (count 100000)", "100000"),
    ("closures", "(define (counter) (let ((n 0)) (lambda () (set! n (+ n 1)) n))) (define a (counter)) (define b (counter)) (a) (a) (b) (list (a) (b))", "(3 2)"),
    (
        "words",
        "(define counts (make-table))
         (for-each (lambda (w) (table-set! counts w (+ 1 (table-ref counts w 0))))
                   (string-split \"the cat and the dog and the bird\"))
         (list (table-ref counts \"the\" 0) (table-ref counts \"and\" 0) (table-ref counts \"cat\" 0) (table-length counts))",
        "(3 2 1 5)",
    ),
    (
        "strings",
        "(define (repeat s n) (if (= n 0) \"\" (string-append s (repeat s (- n 1)))))
         (list (string-length (repeat \"abc\" 300)) (substring (repeat \"abc\" 3) 2 5))",
        "(900 cab)",
    ),
    (
        "tables",
        "(define t (make-table))
         (let loop ((i 0)) (when (< i 20000) (table-set! t i (* i i)) (when (> i 100) (table-remove! t (- i 100))) (loop (+ i 1))))
         (list (table-length t) (table-ref t 19999 #f) (table-ref t 5000 #f) (table-ref t 0 #f))",
        "(101 399960001 #f 0)",
    ),
    (
        "errors",
        "(define (try thunk) (with-handler (lambda (e) (list 'caught e)) thunk))
         (list (try (lambda () (+ 1 (raise 'oops))))
               (try (lambda () (car 5)))
               (try (lambda () (vector-ref (make-vector 3 0) 7)))
               (try (lambda () (try (lambda () (raise 1))) (raise 2)))
               (try (lambda () (undefined-function)))
               (with-handler (lambda (e) 'outer) (lambda () (with-handler (lambda (e) (raise e)) (lambda () (raise 1)))))
               (try (lambda () 'fine)))",
        "((caught oops) (caught wrong arguments: (5)) (caught no item 7 in a vector of 3) (caught 2) (caught not defined: undefined-function) outer fine)",
    ),
    (
        "coroutines",
        "(define (tree->coroutine tree)
           (make-coroutine (lambda (yield first)
             (define (walk t) (cond ((null? t) #f) ((pair? t) (walk (car t)) (walk (cdr t))) (else (yield t))))
             (walk tree) 'end)))
         (define (same-fringe a b)
           (let ((a (tree->coroutine a)) (b (tree->coroutine b)))
             (let loop () (let ((x (a #f)) (y (b #f))) (cond ((not (eq? x y)) #f) ((eq? x 'end) #t) (else (loop)))))))
         (define accumulate (make-coroutine (lambda (yield first) (let loop ((sum first)) (loop (+ sum (yield sum)))))))
         (list (same-fringe '((1 2) (3 (4))) '(1 (2 3) 4)) (same-fringe '(1 2 3) '(1 (3 2))) (accumulate 1) (accumulate 10) (accumulate 100))",
        "(#t #f 1 11 111)",
    ),
    (
        "generators",
        "(define numbers (make-coroutine (lambda (yield first) (let loop ((i 0)) (yield i) (loop (+ i 1))))))
         (let loop ((n 0) (sum 0)) (if (= n 3000) sum (loop (+ n 1) (+ sum (numbers #f)))))",
        "4498500",
    ),
    // A continuation that is entered again and again.
    (
        "again",
        "(define (test)
           (define k #f)
           (define n 0)
           (define r (+ 100 (call/cc (lambda (c) (set! k c) 0))))
           (set! n (+ n 1))
           (if (< n 5) (k n) (list n r)))
         (test)",
        "(5 104)",
    ),
    (
        "mandelbrot",
        "(define (inside? cr ci) (let loop ((zr 0.0) (zi 0.0) (n 0))
           (cond ((= n 50) #t) ((> (+ (* zr zr) (* zi zi)) 4.0) #f)
                 (else (loop (+ (- (* zr zr) (* zi zi)) cr) (+ (* 2.0 zr zi) ci) (+ n 1))))))
         (let y ((i 0) (sum 0)) (if (= i 20) sum
           (y (+ i 1) (let x ((j 0) (sum sum)) (if (= j 20) sum
             (x (+ j 1) (if (inside? (- (/ j 8.0) 2.0) (- (/ i 10.0) 1.0)) (+ sum 1) sum)))))))",
        "124",
    ),
];
