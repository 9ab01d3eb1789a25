#!/usr/bin/env bash
# Starts and stops a mail server to compare with, as root on Debian, with its default durability, on a
# loopback port, with files of its own:
#
#     peers.sh start postfix|opensmtpd PORT   prints the process, and where mail waits
#     peers.sh stop postfix|opensmtpd
#
# Mail for user0@localhost and so on goes to one mbox file each, which is complete when nothing waits.
#
# Debian's packages of the two exclude each other, so only Postfix is installed. OpenSMTPD is fetched
# and unpacked without being installed. The paths and users that it wants are there in a mount
# namespace of its own: the rest of the system sees none of them.

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

start_opensmtpd() {
    local port=$1 dir=$base/opensmtpd package=$base/packages/opensmtpd
    stop_opensmtpd
    if [ ! -x "$package/usr/sbin/smtpd" ]; then
        rm -rf "$package"
        mkdir -p "$package"
        (cd "$package" && apt-get -qq download opensmtpd && dpkg -x ./*.deb .) > /dev/null 2>&1 ||
            fail 'OpenSMTPD cannot be fetched: apt-get update'
    fi
    if ldd "$package/usr/sbin/smtpd" | grep -q 'not found'; then
        fail 'OpenSMTPD lacks a library: apt-get install libdb5.3 libevent-2.1-7 libpam0g libssl3'
    fi
    mkdir -p "$dir"/{empty,etc,home,lib,mail,run,spool}
    chmod 755 "$base" "$dir"
    chmod 711 "$dir/spool"
    chmod 1777 "$dir/mail"
    cp /etc/passwd /etc/group "$dir/etc"
    cat >> "$dir/etc/passwd" <<'PASSWD'
opensmtpd:x:65001:65001::/var/lib/opensmtpd/empty:/usr/sbin/nologin
opensmtpq:x:65002:65002::/var/lib/opensmtpd/empty:/usr/sbin/nologin
PASSWD
    printf 'opensmtpd:x:65001:\nopensmtpq:x:65002:\n' >> "$dir/etc/group"
    for user in $(seq 0 99); do
        printf 'user%s:x:%s:65003::%s/home/user%s:/bin/sh\n' \
            "$user" "$((65100 + user))" "$dir" "$user"
        mkdir "$dir/home/user$user"
        chown "$((65100 + user)):65003" "$dir/home/user$user"
    done >> "$dir/etc/passwd"
    cat > "$dir/etc/smtpd.conf" <<CONF
smtp limit max-mails 1000000
listen on 127.0.0.1 port $port hostname peer.localhost
action "local" mbox
match from any for domain "localhost" action "local"
CONF
    # What is mounted over has to be there; the empty directories stay.
    mkdir -p /usr/libexec/opensmtpd /var/lib/opensmtpd /var/spool/smtpd
    mkdir -p "$dir/lib/empty"
    setsid unshare --mount --propagation private bash -c '
        set -e
        dir=$1 package=$2
        mount --bind "$dir/etc/passwd" /etc/passwd
        mount --bind "$dir/etc/group" /etc/group
        mount --bind "$package/usr/libexec/opensmtpd" /usr/libexec/opensmtpd
        mount --bind "$dir/lib" /var/lib/opensmtpd
        mount --bind "$dir/spool" /var/spool/smtpd
        mount --bind "$dir/mail" /var/mail
        mount --bind "$dir/run" /run
        exec "$package/usr/sbin/smtpd" -d -f "$dir/etc/smtpd.conf"
    ' smtpd "$dir" "$package" < /dev/null > "$dir/log" 2>&1 &
    printf '%s\n' "$!" > "$dir/pid"
    for _ in $(seq 100); do
        if (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; then
            printf '%s %s %s\n' "$!" "$dir"/spool/{incoming,queue}
            return
        fi
        sleep 0.1
    done
    fail "OpenSMTPD does not start: $(tail -n 1 "$dir/log")"
}

stop_opensmtpd() {
    local dir=$base/opensmtpd pid
    if [ -f "$dir/pid" ]; then
        pid=$(< "$dir/pid")
        # Not somebody else who got its number since.
        if grep -q smtpd "/proc/$pid/comm" 2> /dev/null; then
            kill "$pid"
            for _ in $(seq 100); do
                [ -d "/proc/$pid" ] || break
                sleep 0.1
            done
        fi
    fi
    rm -rf "$dir"
}

case "${1-} ${2-}" in
    'start postfix') start_postfix "${3?a port}" ;;
    'stop postfix') stop_postfix ;;
    'start opensmtpd') start_opensmtpd "${3?a port}" ;;
    'stop opensmtpd') stop_opensmtpd ;;
    *) fail 'usage: peers.sh start|stop postfix|opensmtpd [PORT]' ;;
esac
