#!/usr/bin/env bash
# Runs real programs bare and under `exectrace record`, and judges: the same exit code, the same results, and traces that `exectrace check`
# and Go's trace tool accept.
#
#   programs.sh [-x EXECTRACE] [-m MODE]... [-k DIR] [PROGRAM]...
#
# PROGRAM is one of the functions `run_...` below, all of them by default; those that are not installed are left out, and said so. MODE is
# `curve`, `sampled` or `exact`. EXECTRACE_GO names a `go` for its tool; without one only `exectrace check` judges. -k keeps what was
# recorded. Prints a table in Markdown; what went wrong goes to standard error. docs/record-programs.md has its last result.
#
# It is no part of the tests, which need none of these programs.
set -u
here=$(cd "$(dirname "$0")" && pwd)
exectrace=$here/../../target/release/exectrace
modes=()
keep=
while getopts x:m:k: option; do
    case $option in
        x) exectrace=$OPTARG ;;
        m) modes+=("$OPTARG") ;;
        k) keep=$OPTARG ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
[ ${#modes[@]} -gt 0 ] || modes=(curve)
work=${keep:-$(mktemp -d)}
mkdir -p "$work"
# PostgreSQL refuses to be run by root, so another user must be able to read and write here.
chmod 755 "$work"
cp "$exectrace" "$work/exectrace"
exectrace=$work/exectrace
[ -n "$keep" ] || trap 'rm -rf "$work"' EXIT
export LC_ALL=C

# --- programs -----------------------------------------------------------------------------------------------------------------------
# Each runs in an empty directory of its own, puts `"${RUN[@]}"` before the program that is recorded, prints what it did in words that do
# not depend on time, and returns the program's exit code. `version_...` prints a version and fails if there is none.

version_python() { "$python" --version && "$python" -c 'import test.test_json'; }
# Not a wrapper script of a version manager.
python=$(python3 -c 'import sys; print(sys.executable)' 2> /dev/null)
# The tests' own verdicts, one a line.
python_tests() {
    "${RUN[@]}" "$python" -m test -v --timeout 600 "$@" > out 2>&1
    local code=$?
    grep -aE '^test[a-z_A-Z0-9]* \(.*\.\.\. (ok|FAIL|ERROR|skipped|expected failure)' out | sed 's/ \.\.\. skipped.*/ ... skipped/' | sort -u
    return $code
}
version_python_json() { version_python; }
run_python_json() { python_tests test_json; }
version_python_threading() { version_python; }
run_python_threading() { python_tests test_threading; }
version_python_subprocess() { version_python; }
run_python_subprocess() { python_tests test_subprocess; }
version_python_asyncio() { version_python; }
run_python_asyncio() { python_tests test_asyncio; }

version_java() { java -version 2>&1 | head -1 && javac -version > /dev/null 2>&1; }
run_java() {
    cat > Hello.java <<'JAVA'
import java.util.*;
public class Hello {
    public static void main(String[] args) throws Exception {
        Map<Integer, String> m = new HashMap<>();
        Thread[] threads = new Thread[4];
        for (int i = 0; i < threads.length; i++) {
            final int k = i;
            threads[i] = new Thread(() -> {
                for (int j = 0; j < 200000; j++) synchronized (m) { m.put(j % 5000, "v" + (j + k)); }
            });
            threads[i].start();
        }
        for (Thread t : threads) t.join();
        System.gc();
        System.out.println("Hello, world " + m.size());
        System.exit(3);
    }
}
JAVA
    javac Hello.java && "${RUN[@]}" java -cp . Hello
}

version_redis() { redis-server --version | sed 's/.* v=\([^ ]*\).*/\1/' && command -v redis-benchmark > /dev/null; }
run_redis() {
    "${RUN[@]}" redis-server --port 7391 --save '' > out 2>&1 &
    local server=$!
    wait_for redis-cli -p 7391 ping || return 99
    redis-benchmark -p 7391 -q -n 30000 -c 20 -r 10000 -t set,get,incr,lpush,lrange_100 > bench 2>&1 || return 98
    redis-cli -p 7391 set a b; redis-cli -p 7391 get a; redis-cli -p 7391 bgsave > /dev/null
    grep -c 'requests per second' bench
    kill $server
    wait $server
}

pg_bin=$(ls -d /usr/lib/postgresql/*/bin 2> /dev/null | tail -1)
[ -n "$pg_bin" ] || pg_bin=$(pg_config --bindir 2> /dev/null)
version_postgres() { "$pg_bin/postgres" --version; }
run_postgres() {
    local bin=$pg_bin user=() server port=7392
    if [ "$(id -u)" = 0 ]; then
        user=(runuser -u postgres --)
        chown postgres .
    fi
    "${user[@]}" "$bin/initdb" -D data -A trust > init 2>&1 || return 99
    # runuser does not pass signals on; the server is asked to stop by its own tool.
    "${user[@]}" "${RUN[@]}" "$bin/postgres" -D data -p $port -k "$PWD" -c listen_addresses= > out 2>&1 &
    server=$!
    wait_for "${user[@]}" "$bin/pg_isready" -q -h "$PWD" -p $port || return 98
    "${user[@]}" "$bin/pgbench" -h "$PWD" -p $port -i -s 2 postgres > load 2>&1 || return 97
    "${user[@]}" "$bin/pgbench" -h "$PWD" -p $port -c 4 -j 2 -t 400 postgres 2>&1 | grep -E 'transactions actually|failed'
    "${user[@]}" "$bin/psql" -h "$PWD" -p $port -At -c 'select count(*) from pgbench_history; select count(*) from pgbench_accounts' postgres
    "${user[@]}" "$bin/pg_ctl" -D data -m fast stop > stop 2>&1
    wait $server
}

version_nginx() { nginx -v 2>&1 && command -v wrk > /dev/null; }
run_nginx() {
    mkdir -p logs
    head -c 20000 /dev/zero | tr '\0' x > file.txt
    cat > nginx.conf <<CONF
worker_processes 2; daemon off; pid $PWD/nginx.pid; error_log $PWD/logs/error.log;
events { worker_connections 256; }
http { access_log $PWD/logs/access.log; client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3; uwsgi_temp_path $PWD/t4;
scgi_temp_path $PWD/t5; gzip on; gzip_types text/plain; server { listen 127.0.0.1:7393; root $PWD; } }
CONF
    chmod 755 . ; [ "$(id -u)" != 0 ] || sed -i '1s/^/user root; /' nginx.conf
    "${RUN[@]}" nginx -c "$PWD/nginx.conf" -e "$PWD/logs/error.log" > out 2>&1 &
    local server=$!
    wait_for curl -sf http://127.0.0.1:7393/file.txt || return 99
    wrk -t 1 -c 20 -d 1 http://127.0.0.1:7393/file.txt > load
    wrk -t 1 -c 20 -d 1 -H 'Accept-Encoding: gzip' http://127.0.0.1:7393/file.txt >> load
    grep -c Requests/sec load; grep -E 'Non-2xx|Socket errors' load
    kill -TERM $server
    wait $server
}

version_npm() { npm --version; }
run_npm() {
    echo '{"name":"x","version":"1.0.0"}' > package.json
    "${RUN[@]}" npm install --no-audit --no-fund --no-progress express@4.21.2 lodash@4.17.21 typescript@5.6.3 > out 2>&1
    local code=$?
    find node_modules -type f -name '*.js*' ! -name .package-lock.json | sort | xargs cat | sha256sum
    return $code
}

version_node() { node --version; }
run_node() {
    cat > server.js <<'JS'
const http = require('http'), zlib = require('zlib'), crypto = require('crypto');
const { Worker, isMainThread } = require('worker_threads');
if (!isMainThread) { let a = []; for (let i = 0; i < 2e5; i++) a.push({ i, s: String(i) }); process.exitCode = 0; return; }
for (let i = 0; i < 3; i++) new Worker(__filename);
const server = http.createServer((q, r) => {
    const body = JSON.stringify(Array.from({ length: 200 }, (_, i) => ({ i, name: 'n' + i })));
    crypto.pbkdf2('a', 'b', 10, 32, 'sha256', (e, key) => zlib.gzip(body, (e, z) => { r.setHeader('x', key.toString('hex')); r.end(z); }));
});
server.listen(7394, '127.0.0.1');
process.on('SIGTERM', () => { server.close(() => process.exit(7)); server.closeAllConnections(); });
JS
    "${RUN[@]}" node server.js > out 2>&1 &
    local server=$!
    wait_for curl -sf http://127.0.0.1:7394/ || return 99
    wrk -t 1 -c 10 -d 1 http://127.0.0.1:7394/ > load
    curl -s http://127.0.0.1:7394/ | sha256sum
    grep -c Requests/sec load; grep -E 'Non-2xx' load
    kill -TERM $server
    wait $server
}

version_cargo() { cargo --version; }
run_cargo() {
    mkdir -p c/src && cd c || return 99
    printf '[package]\nname = "c"\nversion = "0.1.0"\nedition = "2021"\n[workspace]\n' > Cargo.toml
    cat > build.rs <<'RS'
fn main() { println!("cargo:rustc-env=FROM_BUILD={}", 42); }
RS
    cat > src/main.rs <<'RS'
use std::collections::{BTreeMap, HashMap};
fn main() {
    let mut m: HashMap<String, Vec<u64>> = HashMap::new();
    for i in 0..1000u64 { m.entry(format!("{}", i % 17)).or_default().push(i * i); }
    let t: BTreeMap<_, u64> = m.iter().map(|(k, v)| (k.clone(), v.iter().sum())).collect();
    let h = std::thread::spawn(move || println!("{} {:?}", env!("FROM_BUILD"), t));
    h.join().unwrap();
}
RS
    "${RUN[@]}" cargo build --release --offline > ../out 2>&1
    local code=$?
    target/release/c
    return $code
}

version_sqlite() { sqlite3 --version; }
run_sqlite() {
    cat > q.sql <<'SQL'
create table t(a integer primary key, b text, c real);
insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 200000) select i, hex(i * 7919 % 65537), i * 0.5 from n;
create index ib on t(b);
select b, count(*), sum(c) from t group by b order by 2 desc, 1 limit 5;
update t set b = lower(b) where a % 3 = 0;
select count(*), count(distinct b) from t;
pragma integrity_check;
SQL
    "${RUN[@]}" sqlite3 x.db < q.sql
}

version_git() { git --version; }
run_git() {
    "${RUN[@]}" git clone -q --no-local --bare "$here/../.." r.git 2> out || return 99
    "${RUN[@]}" git -C r.git log --stat -n 300 HEAD | sha256sum
    "${RUN[@]}" git -C r.git repack -q -a -d -f --depth 10 --threads 2 || return 98
    "${RUN[@]}" git -C r.git fsck --full 2>&1 | grep -v dangling
    "${RUN[@]}" git -C r.git rev-list --objects --all | cut -d' ' -f1 | sort | sha256sum
    # An exit code of its own.
    "${RUN[@]}" git -C r.git cat-file -e 0000000000000000000000000000000000000001 2> /dev/null
}

version_ripgrep() { rg --version | head -1; }
run_ripgrep() { "${RUN[@]}" rg --threads 2 --sort path -c 'unsafe \w+' "$here/../../src" | sed 's/.*src//' | sort; }

version_gcc() { gcc --version | head -1; }
big_c() {
    local i
    for ((i = 0; i < ${1:-400}; i++)); do
        echo "struct s$i { int a[$((i % 7 + 1))]; double d; }; double f$i(struct s$i *p, int n) { double r = 0;
for (int i = 0; i < n; i++) { for (int j = 0; j < $((i % 7 + 1)); j++) r += p[i].a[j] * p[i].d; if (r > $i) r /= 3; switch (i % 5) { case 0: r++; break; case 1: r *= 2; break; default: r -= i; } }
return r; }"
    done
}
run_gcc() {
    big_c > x.c
    "${RUN[@]}" gcc -O2 -c x.c -o x.o || return 99
    sha256sum x.o
    echo 'int f(' > bad.c
    "${RUN[@]}" gcc -c bad.c 2> /dev/null
}

# --- the judging --------------------------------------------------------------------------------------------------------------------

wait_for() {
    local i
    for ((i = 0; i < 300; i++)); do
        "$@" > /dev/null 2>&1 && return 0
        sleep 0.1
    done
    echo "waited in vain for $*" >&2
    return 1
}

# Runs a program in an empty directory; leaves `result`, `code` and `seconds` beside it.
run() {
    local name=$1 to=$2
    rm -rf "$to"; mkdir -p "$to/dir"
    local begin=$EPOCHREALTIME
    (cd "$to/dir" && "run_$name") > "$to/result" 2> "$to/stderr"
    echo $? > "$to/code"
    awk "BEGIN { printf \"%.1f\n\", $EPOCHREALTIME - $begin }" > "$to/seconds"
}

# The traces of a directory, the largest first.
judge() {
    local dir=$1 trace n=0 bad=0 events=0 e
    verdict=
    while read -r trace; do
        n=$((n + 1))
        if ! "$exectrace" check "$trace" > "$trace.check" 2>&1; then
            bad=$((bad + 1)); verdict="check refuses ${trace##*/}"; echo "$trace: $(tail -1 "$trace.check")" >&2
            continue
        fi
        e=$(grep -o '[0-9]* events' "$trace.check" | head -1 | cut -d' ' -f1)
        events=$((events + ${e:-0}))
        # Go's tool takes its time: those of a tree of processes are alike.
        if [ -n "${EXECTRACE_GO:-}" ] && [ $n -le 8 ]; then
            if ! "$EXECTRACE_GO" tool trace -d=parsed "$trace" > /dev/null 2> "$trace.go"; then
                bad=$((bad + 1)); verdict="Go refuses ${trace##*/}"; echo "$trace: $(tail -1 "$trace.go")" >&2
            fi
            for kind in net sync syscall sched; do
                if ! "$EXECTRACE_GO" tool trace -pprof=$kind "$trace" > /dev/null 2> "$trace.go"; then
                    bad=$((bad + 1)); verdict="Go has no $kind of ${trace##*/}"; echo "$trace: $(tail -1 "$trace.go")" >&2
                fi
            done
        fi
    done < <(find "$dir" -name '*.trace' -size +0 -printf '%s %p\n' | sort -rn | cut -d' ' -f2-)
    traces=$n all_events=$events
    [ $n -gt 0 ] || verdict="no trace"
    [ $bad -eq 0 ] || verdict="$verdict ($bad of $n)"
}

[ $# -gt 0 ] || set -- $(declare -F | awk '{ print $3 }' | sed -n 's/^run_//p')
failed=0
echo "| program | version | heap | exit code | results | traces | events | seconds (bare) | verdict |"
echo "|---|---|---|---|---|---|---|---|---|"
for name in "$@"; do
    version=$("version_$name" 2> /dev/null | head -1) || { echo "$name: not installed" >&2; continue; }
    [ -n "$version" ] || { echo "$name: not installed" >&2; continue; }
    RUN=()
    run "$name" "$work/$name.bare"
    bare=$work/$name.bare
    for mode in "${modes[@]}"; do
        here_now=$work/$name.$mode
        mkdir -p "$here_now.traces"; rm -rf "${here_now:?}.traces"/*; chmod 777 "$here_now.traces"
        # A program that is recorded more than once has a number in its traces' names.
        cat > "$here_now.run" <<SH
#!/bin/sh
n=\$\$
exec "$exectrace" record --quiet --follow --heap $mode -o "$here_now.traces/$name.\$n.trace" -- "\$@"
SH
        chmod 755 "$here_now.run"
        RUN=("$here_now.run")
        run "$name" "$here_now"
        judge "$here_now.traces"
        same=same
        cmp -s "$bare/result" "$here_now/result" || { same=differ; diff "$bare/result" "$here_now/result" | head -20 >&2; }
        code=$(cat "$here_now/code")
        [ "$code" = "$(cat "$bare/code")" ] || code="$code, bare $(cat "$bare/code")"
        # Files that were to be traces later.
        left=$(find "$here_now.traces" -name '*.spool*' | wc -l)
        [ "$left" = 0 ] || verdict="${verdict:+$verdict; }$left spools left"
        [ "$same" = same ] && [ "$code" = "$(cat "$bare/code")" ] && [ -z "$verdict" ] || failed=1
        echo "| $name | ${version} | $mode | $code | $(wc -l < "$bare/result") lines, $same | $traces | $all_events | $(cat "$here_now/seconds") ($(cat "$bare/seconds")) | ${verdict:-good} |"
    done
done
exit $failed
