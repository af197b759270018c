# For implementations of WireGuard that a `wg` configures. Sourced after pair.sh.
# A peer sets `link` (its interfaces are ${link}a and ${link}b), `subnet` (three bytes) and `port`, and
# may set a lower `mtu_max`.

# IP, UDP, WireGuard: what wg-quick leaves for them, whatever the version of IP.
overhead=80
mtu_max=65535

# wireguard_up COMMAND...: starts COMMAND INTERFACE on both hosts and joins them.
wireguard_up() {
    local end
    umask 077
    for end in a b; do
        wg genkey >"$PEER_DIR/$end.key"
        wg pubkey <"$PEER_DIR/$end.key" >"$PEER_DIR/$end.public"
        daemon "$end" "$@" "$link$end"
        wait_for_link "$end" "$link$end"
    done
    for end in a b; do
        wireguard_configure "$end"
    done
}

wireguard_configure() {
    local end=$1 far mtu=$((PEER_MTU - overhead)) tries=$((wait_seconds * 10))
    far=$(other "$end")
    until in_host "$end" wg show "$link$end" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "$link$end takes no configuration" >&2; return 1; }
        sleep 0.1
    done
    in_host "$end" wg set "$link$end" listen-port "$port" private-key "$PEER_DIR/$end.key" \
        peer "$(cat "$PEER_DIR/$far.public")" endpoint "$(endpoint "$far" "$port")" \
        allowed-ips "$subnet.0/24"
    if [ $mtu -gt $mtu_max ]; then mtu=$mtu_max; fi
    in_host "$end" ip link set "$link$end" mtu $mtu up
    in_host "$end" ip address add "$(wireguard_address "$end")/24" dev "$link$end"
}

wireguard_address() { if [ "$1" = a ]; then echo "$subnet.1"; else echo "$subnet.2"; fi; }

verb_stop() {
    end_daemons
    # Not every implementation removes its own.
    rm -f "/run/wireguard/${link}a.sock" "/run/wireguard/${link}b.sock"
}
verb_address() { echo "$subnet.1 $subnet.2"; }
