#!/usr/bin/env bash
# Starts and stops a mail server to compare with, as root on Debian, with its default durability, on a
# loopback port, with files of its own:
#
#     peers.sh start postfix PORT     prints the process, and the directories where mail waits
#     peers.sh stop postfix
#
# Mail for user0@localhost and so on goes to one mbox file each.

set -euo pipefail

base=/var/tmp/minismtp-peers

fail() {
    printf 'peers.sh: %s\n' "$*" >&2
    exit 1
}

start_postfix() {
    local port=$1 dir=$base/postfix
    command -v postfix > /dev/null || fail 'Postfix is not installed: apt-get install postfix'
    stop_postfix
    mkdir -p "$dir"/{etc,spool,data,mail}
    chmod 755 "$base" "$dir" "$dir"/etc "$dir"/spool
    chown postfix "$dir/data"
    chown nobody:nogroup "$dir/mail"
    for user in $(seq 0 99); do
        printf 'user%s@localhost user%s\n' "$user" "$user"
    done > "$dir/etc/users"
    cat > "$dir/etc/main.cf" <<CF
compatibility_level = 3.6
queue_directory = $dir/spool
data_directory = $dir/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
myhostname = peer.localhost
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
mydestination =
virtual_mailbox_domains = localhost
virtual_mailbox_base = $dir/mail
virtual_mailbox_maps = texthash:$dir/etc/users
virtual_uid_maps = static:$(id -u nobody)
virtual_gid_maps = static:$(id -g nobody)
virtual_mailbox_limit = 0
CF
    cat > "$dir/etc/master.cf" <<CF
127.0.0.1:$port inet n - n - - smtpd
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
error     unix - - n - - error
retry     unix - - n - - error
virtual   unix - n n - - virtual
anvil     unix - - n - 1 anvil
proxymap  unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
showq     unix n - n - - showq
flush     unix n - n 1000? 0 flush
verify    unix - - n - 1 verify
postlog   unix-dgram n - n - 1 postlogd
CF
    postfix -c "$dir/etc" start > /dev/null 2>&1 || fail 'Postfix does not start'
    printf '%s %s %s %s\n' "$(tr -d ' ' < "$dir/spool/pid/master.pid")" \
        "$dir"/spool/{incoming,active,maildrop}
}

stop_postfix() {
    local dir=$base/postfix
    if [ -d "$dir/etc" ]; then
        postfix -c "$dir/etc" stop > /dev/null 2>&1 || true
        for _ in $(seq 100); do
            postfix -c "$dir/etc" status > /dev/null 2>&1 || break
            sleep 0.1
        done
    fi
    rm -rf "$dir"
}

case "${1-} ${2-}" in
    'start postfix') start_postfix "${3?a port}" ;;
    'stop postfix') stop_postfix ;;
    *) fail 'usage: peers.sh start|stop postfix [PORT]' ;;
esac
