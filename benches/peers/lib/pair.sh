# For peers that have a daemon on each host: starting, finding and ending the two. Sourced.
# The variables PEER_* are explained in ../README.md.
set -euo pipefail

peers_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
# Programs that scripts/install-peers.sh has built, and those of root.
export PATH="$peers_root/target/peers/bin:$PATH:/usr/sbin:/sbin"
# Seconds that an interface may take to appear, and a daemon to end.
wait_seconds=10

# needs PROGRAM PACKAGE...: fails with the command that installs it when a program is missing.
needs() {
    command -v "$1" >/dev/null || {
        echo "$1 is not installed: scripts/install-peers.sh, or ${*:2}"
        return 1
    }
}

namespace() { if [ "$1" = a ]; then echo "$PEER_NS_A"; else echo "$PEER_NS_B"; fi; }
underlay() { if [ "$1" = a ]; then echo "$PEER_UNDERLAY_A"; else echo "$PEER_UNDERLAY_B"; fi; }
other() { if [ "$1" = a ]; then echo b; else echo a; fi; }

# endpoint END PORT: the underlay address with a port, brackets around IPv6.
endpoint() {
    local address
    address=$(underlay "$1")
    case $address in *:*) echo "[$address]:$2" ;; *) echo "$address:$2" ;; esac
}

# in_host END COMMAND...: runs a command in the namespace of a host.
in_host() {
    local end=$1
    nsenter --net="/run/netns/$(namespace "$end")" -- "${@:2}"
}

# daemon END COMMAND...: starts a daemon and remembers its process id.
daemon() {
    local end=$1
    nsenter --net="/run/netns/$(namespace "$end")" -- "${@:2}" \
        </dev/null >"$PEER_DIR/$end.out" 2>&1 &
    echo $! >>"$PEER_DIR/$end.pid"
}

# wait_for_link END INTERFACE: until a daemon has made its interface.
wait_for_link() {
    local tries=$((wait_seconds * 10))
    until in_host "$1" ip link show dev "$2" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ $tries -eq 0 ]; then
            echo "no interface $2 after $wait_seconds s" >&2
            tail -n 20 "$PEER_DIR/$1.out" >&2
            return 1
        fi
        sleep 0.1
    done
}

# end_daemons: SIGTERM, a while, SIGKILL; only to processes that daemon() has started.
end_daemons() {
    local pids pid tries=$((wait_seconds * 10))
    pids=$(cat "$PEER_DIR"/?.pid 2>/dev/null || true)
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do
        while kill -0 "$pid" 2>/dev/null && [ $tries -gt 0 ]; do
            tries=$((tries - 1))
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null || true
    done
    rm -f "$PEER_DIR"/?.pid
}

# run_verb VERB: calls the function that a peer's file has for it.
run_verb() {
    case ${1-} in
    start | stop | address | version | available) "verb_$1" ;;
    *)
        echo "usage: $0 start|stop|address|version|available" >&2
        return 2
        ;;
    esac
}
