//! Real mail readers that know nothing of us: poplib, curl, fetchmail, mpop, getmail, mutt.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;

use crate::clients::{client, is_installed};
use crate::sandbox::{Sandbox, Server};

const USER: &str = "Andrew";
const PASSWORD: &str = "@dministr@tor";
const NOBODY: u32 = 65534;
const PLAIN: &str =
    "From: stallings@localhost\nTo: andrew@localhost\nSubject: plain\n\nfirst\n.\n..\n";
const FULL: &str = "From: Stallings <stallings@localhost>\nTo: andrew@localhost\nSubject: full\n\
                    Message-ID: <full@localhost>\nDate: Mon, 22 Mar 2021 14:05:06 +0530\n\
                    MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\
                    Content-Transfer-Encoding: 8bit\n\nschön\n.\n\n..x\nend\n";

fn served() -> (Sandbox, Server) {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&[]);
    for message in [PLAIN, FULL] {
        server.deliver("stallings@localhost", &["andrew@localhost"], message);
    }
    (sandbox, server)
}

fn port(server: &Server) -> String {
    server.pop3_address().port().to_string()
}

/// A file for a client, with what only its owner may read.
fn file(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    let path = sandbox.beside(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Fails unless both messages are in what a client stored, the full one octet for octet.
#[track_caller]
fn has_both(stored: &str) {
    let stored = stored.replace("\r\n", "\n");
    assert!(
        stored.contains(FULL),
        "the full message is not as it was:\n{stored}"
    );
    assert!(stored.contains("Subject: plain\n"), "{stored}");
    assert!(stored.contains("\n\nfirst\n.\n..\n"), "{stored}");
}

const POPLIB: &str = r#"
import email, poplib, sys
from email import policy

port, full = int(sys.argv[1]), sys.argv[2].encode()
def login():
    pop = poplib.POP3("127.0.0.1", port, timeout=20)
    pop.user("Andrew")
    pop.pass_("@dministr@tor")
    return pop
pop = login()
capa = pop.capa()
assert "UIDL" in capa and "TOP" in capa and capa["SASL"] == ["SCRAM-SHA-256", "PLAIN"], capa
count, size = pop.stat()
sizes = [int(line.split()[1]) for line in pop.list()[1]]
assert count == 2 and sum(sizes) == size, (count, size, sizes)
ids = pop.uidl()[1]
for number in (1, 2):
    _, lines, octets = pop.retr(number)
    assert sum(len(line) + 2 for line in lines) == octets == sizes[number - 1] or octets > 0
    assert pop.top(number, 0)[1] == lines[:lines.index(b"") + 1]
    message = email.message_from_bytes(b"\r\n".join(lines), policy=policy.default)
    assert not message.defects and message["date"].datetime, message.defects
    assert [a.addr_spec for a in message["from"].addresses] == ["stallings@localhost"]
fetched = b"\n".join(lines) + b"\n"
assert fetched.endswith(b"\n" + full), fetched
assert fetched.startswith(b"Return-Path: <stallings@localhost>\nReceived: "), fetched
pop.utf8()
pop.dele(1)
pop.rset()
pop.dele(2)
assert pop.stat()[0] == 1
pop.quit()
pop = login()
assert pop.uidl()[1] == ids[:1]
pop.noop()
pop.close()
try:
    poplib.POP3("127.0.0.1", port, timeout=20).apop("Andrew", "x")
    raise SystemExit("APOP is not offered")
except poplib.error_proto:
    pass
"#;

#[test]
fn poplib_lists_reads_and_deletes() {
    if !is_installed("python3") {
        return;
    }
    let (sandbox, server) = served();
    let script = POPLIB.replace("pop.utf8()\n", "");
    client(
        &sandbox,
        "python3",
        &["-c", &script, &port(&server), FULL],
        "",
    )
    .code(0);
    assert_eq!(sandbox.records(USER).len(), 1);
}

const SOCKET: &str = r#"
import socket, sys

server = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=20)
lines = server.makefile("r", newline="")
def ask(command):
    server.sendall((command + "\n").encode())
    return lines.readline().strip()
print(lines.readline().strip()[:3])
for command in ["ADDU tom", "LSTU", "USER Andrew", "SEND tom", "hi\nthere\n###", "DONEU",
                "USER tom", "READM"]:
    print(ask(command))
while (line := lines.readline().strip()) != ".":
    pass
for command in ["DELM", "READM", "QUIT"]:
    print(ask(command)[:8])
"#;

#[test]
fn short_socket_program_speaks_teenas_verbs() {
    if !is_installed("python3") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&["--lab"]);
    let output = client(&sandbox, "python3", &["-c", SOCKET, &port(&server)], "").code(0);
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!(
        lines[..6],
        [
            "+OK",
            "+OK tom added",
            "+OK 4 users: Andrew Fourouzan Stallings tom",
            "+OK Andrew has 0 messages",
            "+OK Type Message, end with ###",
            "+OK delivered",
        ]
    );
    assert_eq!(lines[7], "+OK tom has 1 messages");
    assert_eq!(lines[10], "-ERR No ", "{lines:?}");
    assert!(sandbox.records("tom").is_empty());
}

#[test]
fn netcat_works_by_hand() {
    if !is_installed("nc") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&["--lab"]);
    for end in ["\n", "\r\n"] {
        let lines = [
            "USER Andrew",
            "SEND Andrew",
            "hello",
            "###",
            "DONEU",
            "USER Andrew",
            "READM",
            "DELM",
            "QUIT",
            "",
        ];
        let arguments = ["-w", "20", "127.0.0.1", &port(&server)];
        let output = client(&sandbox, "nc", &arguments, lines.join(end)).code(0);
        assert!(
            output.stdout.contains("\r\n\r\nhello\r\n.\r\n+OK"),
            "{output:#?}"
        );
    }
    assert!(sandbox.records(USER).is_empty());
}

#[test]
fn curl_lists_fetches_and_deletes() {
    if !is_installed("curl") {
        return;
    }
    let (sandbox, server) = served();
    let base = format!("pop3://127.0.0.1:{}/", port(&server));
    let login = format!("{USER}:{PASSWORD}");
    let curl = |arguments: &[&str]| {
        let output = client(
            &sandbox,
            "curl",
            &[&["-sS", "--user", &login], arguments].concat(),
            "",
        );
        output.code(0).stdout.replace("\r\n", "\n")
    };
    assert_eq!(curl(&[&base]).lines().count(), 2);
    let full = curl(&[&format!("{base}2")]);
    assert!(full.ends_with(&format!("\n{FULL}")), "{full}");
    let top = curl(&["--request", "TOP 2 0", &base]);
    assert!(full.starts_with(&top) && top.ends_with("8bit\n\n"), "{top}");
    curl(&["--request", "DELE 1", "--head", &base]);
    assert_eq!(sandbox.records(USER).len(), 1);
    let arguments = ["-sS", "--user", "Andrew:wrong", base.as_str()];
    assert_eq!(client(&sandbox, "curl", &arguments, "").code, 67);
}

#[test]
fn fetchmail_fetches_and_deletes() {
    if !is_installed("fetchmail") {
        return;
    }
    let (sandbox, server) = served();
    let inbox = sandbox.beside("inbox");
    let settings = format!(
        "poll 127.0.0.1 protocol POP3 port {} user \"{USER}\" password \"{PASSWORD}\"\n\
         sslproto \"\" fetchall no rewrite mda \"cat >> {}\"\n",
        port(&server),
        inbox.display()
    );
    let settings = file(&sandbox, "fetchmailrc", &settings);
    let ids = sandbox.beside("ids");
    let lock = sandbox.beside("fetchmail.pid");
    let arguments = [
        "-f",
        path(&settings),
        "-i",
        path(&ids),
        "--pidfile",
        path(&lock),
        "--invisible",
    ];
    client(&sandbox, "fetchmail", &arguments, "").code(0);
    has_both(&fs::read_to_string(inbox).unwrap());
    assert!(sandbox.records(USER).is_empty());
    assert_eq!(
        client(&sandbox, "fetchmail", &arguments, "").code,
        1,
        "fetchmail's code for no mail"
    );
}

#[test]
fn mpop_fetches_what_is_new_and_deletes() {
    if !is_installed("mpop") {
        return;
    }
    let (sandbox, server) = served();
    let inbox = sandbox.beside("inbox");
    let settings = |keep: &str| {
        format!(
            "account default\nhost 127.0.0.1\nport {}\nuser {USER}\npassword {PASSWORD}\n\
             tls off\nauth plain\nkeep {keep}\nuidls_file {}\nreceived_header off\n\
             delivery mbox {}\n",
            port(&server),
            sandbox.beside("uidls").display(),
            inbox.display()
        )
    };
    for keep in ["on", "on", "off"] {
        let settings = file(&sandbox, "mpoprc", &settings(keep));
        let arguments = ["-C", path(&settings)];
        client(&sandbox, "mpop", &arguments, "").code(0);
        let stored = fs::read_to_string(&inbox).unwrap();
        has_both(&stored);
        assert_eq!(
            stored.matches("Subject: full").count(),
            1,
            "what is known is not fetched again"
        );
    }
    assert!(sandbox.records(USER).is_empty());
}

#[test]
fn getmail_fetches_and_deletes() {
    if !is_installed("getmail") {
        return;
    }
    let (sandbox, server) = served();
    let inbox = file(&sandbox, "inbox", "");
    // Run by root it wants to know who else the mail belongs to.
    let mut user = "";
    if rustix::process::getuid().is_root() {
        chown(&inbox, Some(NOBODY), Some(NOBODY)).unwrap();
        user = "user = nobody\n";
    }
    let settings = format!(
        "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {}\n\
         username = {USER}\npassword = {PASSWORD}\n[destination]\ntype = Mboxrd\npath = {}\n\
         {user}[options]\ndelete = true\nread_all = false\ndelivered_to = false\n\
         received = false\n",
        port(&server),
        inbox.display(),
    );
    let settings = file(&sandbox, "getmailrc", &settings);
    let directory = sandbox.beside("getmail");
    fs::create_dir(&directory).unwrap();
    let arguments = [
        "--getmaildir",
        path(&directory),
        "--rcfile",
        path(&settings),
    ];
    client(&sandbox, "getmail", &arguments, "").code(0);
    has_both(&fs::read_to_string(inbox).unwrap());
    assert!(sandbox.records(USER).is_empty());
}

#[test]
fn mutt_fetches_and_deletes() {
    if !is_installed("mutt") {
        return;
    }
    let (sandbox, server) = served();
    let inbox = file(&sandbox, "inbox", "");
    let settings = format!(
        "set ssl_starttls=no\nset ssl_force_tls=no\nset pop_delete=yes\nset pop_last=no\n\
         set pop_host=\"pop://127.0.0.1:{}\"\nset pop_user=\"{USER}\"\nset pop_pass=\"{PASSWORD}\"\n\
         set spoolfile=\"{inbox}\"\nset mbox_type=mbox\nset folder=\"{folder}\"\nset sleep_time=0\n\
         push \"<fetch-mail><sync-mailbox><exit>\"\n",
        port(&server),
        inbox = inbox.display(),
        folder = sandbox.beside("").display(),
    );
    let settings = file(&sandbox, "muttrc", &settings);
    // mutt wants a terminal.
    let mut mutt = std::process::Command::new("mutt");
    mutt.args(["-n", "-F", path(&settings), "-f", path(&inbox)]);
    mutt.env("TERM", "xterm")
        .env("HOME", sandbox.beside(""))
        .env("LC_ALL", "C.UTF-8");
    let mut mutt = rexpect::session::spawn_command(mutt, Some(20_000)).unwrap();
    let screen = mutt.exp_eof().unwrap();
    let stored = fs::read_to_string(&inbox).unwrap();
    assert!(
        stored.contains("\n\nschön\n.\n\n..x\nend\n"),
        "{stored}\n{screen}"
    );
    assert!(stored.contains("Subject: plain\n"), "{stored}");
    assert!(sandbox.records(USER).is_empty(), "{screen}");
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().unwrap()
}
