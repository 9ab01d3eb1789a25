//! Who gets in, who is told what, and what others may read: logins and policy.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::clients::{client, is_installed};
use crate::pop::Pop;
use crate::sandbox::{LAB, PATIENCE, Sandbox, Server, run, until};
use crate::serve::own_address;
use crate::smtp::{Smtp, base64, plain};

const MAIL: &str = "From: x@localhost\nTo: andrew@localhost\nSubject: x\n\nx\n";

/// A SCRAM client by RFC 5802 that shares nothing with ours.
const SCRAM: &str = r#"
import base64, hashlib, hmac, os, socket, sys

protocol, port, user, password = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
stream = socket.create_connection(("127.0.0.1", port), timeout=20).makefile("rwb")

def line():
    return stream.readline().decode().rstrip("\r\n")

def say(text):
    stream.write(text.encode() + b"\r\n")
    stream.flush()

def mac(key, text):
    return hmac.new(key, text, hashlib.sha256).digest()

def challenge():
    got = line()
    go_on = {"smtp": "334 ", "pop3": "+ "}[protocol]
    if not got.startswith(go_on):
        sys.exit("refused: " + got)
    return base64.b64decode(got[len(go_on):]).decode()

line()
if protocol == "smtp":
    say("EHLO [127.0.0.1]")
    while line()[3] == "-":
        pass
nonce = base64.b64encode(os.urandom(12)).decode()
bare = "n=" + user + ",r=" + nonce
say("AUTH SCRAM-SHA-256 " + base64.b64encode(("y,," + bare).encode()).decode())
first = challenge()
fields = dict(field.split("=", 1) for field in first.split(","))
assert fields["r"].startswith(nonce) and fields["r"] != nonce
salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
key = mac(salted, b"Client Key")
last = "c=" + base64.b64encode(b"y,,").decode() + ",r=" + fields["r"]
signed = ",".join([bare, first, last]).encode()
signature = mac(hashlib.sha256(key).digest(), signed)
proof = bytes(a ^ b for a, b in zip(key, signature))
say(base64.b64encode((last + ",p=" + base64.b64encode(proof).decode()).encode()).decode())
got = challenge()
assert got == "v=" + base64.b64encode(mac(mac(salted, b"Server Key"), signed)).decode(), got
say("")
print(line())
"#;

fn scram(sandbox: &Sandbox, protocol: &str, port: u16, user: &str, password: &str) -> String {
    let port = port.to_string();
    let arguments = ["-c", SCRAM, protocol, &port, user, password];
    let output = client(sandbox, "python3", &arguments, "");
    format!("{}{}", output.stdout, output.stderr)
}

#[test]
fn others_prove_a_password_by_scram_over_both_protocols() {
    if !is_installed("python3") {
        return;
    }
    let sandbox = Sandbox::lab();
    sandbox
        .run(
            &["users", "add", "Kept", "--scram", "--password-stdin"],
            "correct horse\n",
        )
        .code(0);
    let file = sandbox.read("logincred.txt");
    let kept = file.lines().last().unwrap();
    assert!(kept.starts_with("Kept,SCRAM-SHA-256$32768:"), "{kept}");
    let server = sandbox.serve_pop3(&[]);
    let ports = [
        ("smtp", server.address().port(), "235 2.7.0"),
        ("pop3", server.pop3_address().port(), "+OK"),
    ];
    for (protocol, port, welcome) in ports {
        for (user, password) in [("kept", "correct horse"), ("Andrew", "@dministr@tor")] {
            let said = scram(&sandbox, protocol, port, user, password);
            assert!(said.starts_with(welcome), "{protocol} {user}: {said}");
        }
        let said = scram(&sandbox, protocol, port, "Kept", "wrong horse");
        assert!(said.starts_with("refused: "), "{protocol}: {said}");
    }
    // The verifier serves who sends the password, too.
    server.hello().login("KEPT", "correct horse").expect("235");
    sandbox
        .run(
            &["users", "check", "Kept", "--password-stdin"],
            "correct horse\n",
        )
        .code(0);
    let log = server.terminate().log;
    assert!(log.contains("logged-in user=Kept"), "{log}");
    assert!(
        log.contains("login-failed user=Kept peer=127.0.0.1:"),
        "{log}"
    );
}

#[test]
fn an_address_of_ours_will_do_for_a_name() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&["--domain", "example.org"]);
    for (user, code) in [
        ("Andrew@example.org", "235"),
        ("andrew@EXAMPLE.ORG", "235"),
        ("Andrew@elsewhere.example", "535"),
        ("nobody@example.org", "535"),
    ] {
        server.hello().login(user, "@dministr@tor").expect(code);
    }
    let mut pop = Pop::connect(server.pop3_address());
    pop.expect("+OK");
    pop.login("ANDREW@example.org", "@dministr@tor");
    pop.quit();
    let port = server.address().port();
    let user = "Andrew@example.org";
    let said = scram(&sandbox, "smtp", port, user, "@dministr@tor");
    assert!(said.starts_with("235"), "{said}");
}

/// As while somebody's program saves it.
#[test]
fn a_credentials_file_that_is_away_refuses_nobody_for_good() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.ask("MAIL FROM:<a@b.example>", "250");
    smtp.ask("RCPT TO:<andrew@localhost>", "250");
    smtp.ask("RSET", "250");
    smtp.ask("MAIL FROM:<a@b.example>", "250");
    let file = sandbox.path("logincred.txt");
    fs::remove_file(&file).unwrap();
    smtp.ask("RCPT TO:<andrew@localhost>", "451");
    smtp.ask("DATA", "451 4.5.1");
    fs::write(&file, "").unwrap();
    smtp.ask("RCPT TO:<andrew@localhost>", "451");
    server
        .hello()
        .login("Andrew", "@dministr@tor")
        .expect("454");
    fs::write(&file, LAB).unwrap();
    smtp.ask("RCPT TO:<andrew@localhost>", "250");
    let log = server.terminate().log;
    assert!(
        log.contains("had users in it and is gone or empty"),
        "{log}"
    );
}

#[test]
fn msmtp_logs_in_by_scram() {
    if !is_installed("msmtp") {
        return;
    }
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--auth", "required"]);
    let port = format!("--port={}", server.address().port());
    let common = ["--file=/dev/null", "--host=127.0.0.1", &port, "--tls=off"];
    let login = [
        "--auth=scram-sha-256",
        "--user=Stallings",
        "--passwordeval=echo 'network$ecurity'",
        "--from=stallings@localhost",
        "--timeout=20",
        "andrew@localhost",
    ];
    client(&sandbox, "msmtp", &[&common[..], &login].concat(), MAIL).code(0);
    assert_eq!(sandbox.records("Andrew").len(), 1);
}

#[test]
fn send_prefers_scram_and_hides_it() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["-v"]);
    let mut send = sandbox.command(&["send", "--user", "Stallings", "-v", "--server"]);
    send.arg(server.address().to_string());
    send.env("MINISMTP_PASSWORD", "network$ecurity");
    let mail = MAIL.replace("x@localhost", "stallings@localhost");
    let output = run(&mut send, &mail).code(0);
    for said in [&output.stderr, &server.terminate().log] {
        assert!(said.contains("AUTH SCRAM-SHA-256 <redacted>"), "{said}");
        assert_eq!(said.matches("334 <redacted>").count(), 2, "{said}");
    }
}

#[test]
fn scram_is_offered_when_every_user_can_use_it() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&[]);
    let offers = |expected: bool| {
        let mut smtp = Smtp::connect(server.address());
        smtp.expect("220");
        smtp.line("EHLO me");
        let offer = smtp.reply().lines.join("\n");
        assert_eq!(offer.contains("AUTH SCRAM-SHA-256 PLAIN LOGIN"), expected);
        assert!(offer.contains("PLAIN LOGIN"), "{offer}");
        let mut pop = Pop::connect(server.pop3_address());
        pop.expect("+OK");
        let offer = pop.ask_lines("CAPA").join("\n");
        assert_eq!(offer.contains("SASL SCRAM-SHA-256 PLAIN"), expected);
        assert!(offer.contains("SASL"), "{offer}");
    };
    offers(true);
    let hashed = ["users", "add", "Hashed", "--password-stdin"];
    sandbox.run(&hashed, "secret\n").code(0);
    offers(false);
    let kept = ["users", "passwd", "Hashed", "--scram", "--password-stdin"];
    sandbox.run(&kept, "secret\n").code(0);
    offers(true);
}

#[test]
fn an_unknown_user_and_a_wrong_password_are_told_the_same() {
    let sandbox = Sandbox::lab();
    for (name, flag) in [("Hashed", None), ("Kept", Some("--scram"))] {
        let mut arguments = vec!["users", "add", name, "--password-stdin"];
        arguments.extend(flag);
        sandbox.run(&arguments, "secret\n").code(0);
    }
    let server = sandbox.serve_pop3(&[]);
    let users = ["Andrew", "Hashed", "Kept", "Nobody", ".."];
    // Everyone in sessions of their own, at once: the answers are held back.
    let told: Vec<_> = std::thread::scope(|scope| {
        let server = &server;
        let threads = users.map(|user| scope.spawn(move || told(server, user)));
        threads.map(|thread| thread.join().unwrap()).into()
    });
    for (user, told_to) in users.iter().zip(&told) {
        assert_eq!(*told_to, told[0], "{user}");
    }
    let log = server.terminate().log;
    let failures = log.matches("login-failed user=").count();
    assert_eq!(failures, 5 * users.len(), "{log}");
}

/// What somebody with a wrong password is told, in all ways to log in.
fn told(server: &Server, user: &str) -> Vec<String> {
    let mut smtp = server.hello();
    let mut told = Vec::new();
    smtp.line(&format!("AUTH PLAIN {}", plain(user, "wrong")));
    told.push(smtp.reply().lines.join("\n"));
    smtp.ask("AUTH LOGIN", "334");
    smtp.ask(&base64(user), "334");
    smtp.line(&base64("wrong"));
    told.push(smtp.reply().lines.join("\n"));
    let mut smtp = server.hello();
    let first = base64(format!("n,,n={user},r=abc"));
    let challenge = smtp.ask(&format!("AUTH SCRAM-SHA-256 {first}"), "334 ");
    let challenge = STANDARD.decode(&challenge.lines[0][4..]).unwrap();
    let challenge = String::from_utf8(challenge).unwrap();
    let (nonce, shape) = challenge.split_once(",s=").unwrap();
    let (salt, iterations) = shape.split_once(',').unwrap();
    told.push(format!("{} {iterations}", salt.len()));
    let proof = base64([0; 32]);
    smtp.line(&base64(format!("c=biws,{nonce},p={proof}")));
    told.push(smtp.reply().lines.join("\n"));
    let mut pop = Pop::connect(server.pop3_address());
    pop.expect("+OK");
    told.push(pop.ask(&format!("USER {user}"), "+OK"));
    told.push(pop.ask("PASS wrong", "-ERR [AUTH]"));
    told.push(pop.ask(
        &format!("AUTH PLAIN {}", plain(user, "wrong")),
        "-ERR [AUTH]",
    ));
    told
}

#[test]
fn a_pop3_session_ends_after_three_wrong_passwords() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&[]);
    let mut pop = Pop::connect(server.pop3_address());
    pop.expect("+OK");
    for answer in ["-ERR [AUTH]", "-ERR [AUTH]", "-ERR"] {
        pop.ask("USER Andrew", "+OK");
        pop.ask("PASS wrong", answer);
    }
    pop.expect_end();
}

/// A server that other machines can reach, as they reach it; nothing where there is no network.
fn open_server(sandbox: &Sandbox, flags: &[&str]) -> Option<(Server, SocketAddr)> {
    let address = own_address().filter(IpAddr::is_ipv4)?;
    let server = sandbox.serve(&[&["--host", "0.0.0.0"], flags].concat());
    let port = server.address().port();
    Some((server, SocketAddr::new(address, port)))
}

fn hello(address: SocketAddr) -> Smtp {
    let mut smtp = Smtp::connect(address);
    smtp.expect("220");
    smtp.ask("EHLO me", "250");
    smtp
}

#[test]
fn failures_slow_down_an_address_but_not_the_user() {
    let sandbox = Sandbox::lab();
    let Some((server, address)) = open_server(&sandbox, &["--insecure-auth"]) else {
        return;
    };
    let wrong = format!("AUTH PLAIN {}", plain("Andrew", "wrong"));
    let right = format!("AUTH PLAIN {}", plain("Andrew", "@dministr@tor"));
    let mut smtp = hello(address);
    smtp.ask(&wrong, "535 5.7.8");
    // Another that waits for its answer, two seconds, keeps the next one waiting as long, be it
    // right, and that one nobody.
    smtp.line(&wrong);
    until("the second failure", || {
        server.log().matches("login-failed").count() == 2
    });
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| hello(address).ask(&right, "235"));
        }
    });
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
    assert!(waited < Duration::from_secs(4), "{waited:?}");
    smtp.expect("535 5.7.8");
    // Not so from this machine itself.
    let begun = Instant::now();
    server
        .hello()
        .login("Andrew", "@dministr@tor")
        .expect("235");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn who_guesses_does_not_hold_up_a_stop() {
    let sandbox = Sandbox::lab();
    let Some((server, address)) = open_server(&sandbox, &["--insecure-auth"]) else {
        return;
    };
    let mut guessers: Vec<Smtp> = (0..8).map(|_| hello(address)).collect();
    for (number, guesser) in guessers.iter_mut().enumerate() {
        guesser.line(&format!(
            "AUTH PLAIN {}",
            plain(&format!("u{number}"), "wrong")
        ));
    }
    until("some have failed, others wait", || {
        server.log().contains("login-failed")
    });
    let begun = Instant::now();
    assert_eq!(server.terminate().code, 0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn guesses_on_many_connections_at_once_gain_nothing() {
    let sandbox = Sandbox::lab();
    let flags = ["--insecure-auth", "--pop3-port", "0"];
    let Some((mut server, address)) = open_server(&sandbox, &flags) else {
        return;
    };
    server.next_listener();
    let right = format!("AUTH PLAIN {}", plain("Stallings", "network$ecurity"));
    hello(address).ask(&right, "235");
    let pop3 = SocketAddr::new(address.ip(), server.pop3_address().port());
    let failed = || server.log().matches("login-failed").count();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        // By both protocols, and by SCRAM: proofs that are all ready before the first is judged.
        let guesses: Vec<_> = (0..4)
            .map(|number| {
                let (mut smtp, mut pop) = (hello(address), Pop::connect(pop3));
                pop.expect("+OK");
                pop.ask(&format!("USER Andrew{number}"), "+OK");
                let first = base64(format!("n,,n=Fourouzan{number},r=abc"));
                let challenge = smtp.ask(&format!("AUTH SCRAM-SHA-256 {first}"), "334 ");
                let challenge = STANDARD.decode(&challenge.lines[0][4..]).unwrap();
                let challenge = String::from_utf8(challenge).unwrap();
                let (nonce, _) = challenge.split_once(",s=").unwrap();
                let proof = base64(format!("c=biws,{nonce},p={}", base64([0; 32])));
                (smtp, proof, pop)
            })
            .collect();
        for (mut smtp, proof, mut pop) in guesses {
            scope.spawn(move || smtp.line(&proof));
            scope.spawn(move || pop.line("PASS wrong"));
        }
        until("four failures", || failed() >= 4);
        // Who logged in from there before waits for none of them.
        let begun = Instant::now();
        hello(address).ask(&right, "235");
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        until("the fifth failure", || failed() >= 5);
    });
    // The four of before cost four seconds.
    let elapsed = begun.elapsed();
    assert!(elapsed >= Duration::from_secs(4), "{elapsed:?}");
}

#[test]
fn no_stranger_sends_as_a_local_user_however_it_is_spelled() {
    let sandbox = Sandbox::lab();
    let domains = ["--domain", "example.org", "--domain", "home.arpa"];
    let flags = [&domains[..], &["--hostname", "mail.example.org"]].concat();
    let Some((_server, address)) = open_server(&sandbox, &flags) else {
        return;
    };
    let mut smtp = hello(address);
    for (sender, reply) in [
        ("<andrew@example.org>", "530 5.7.0"),
        ("<ANDREW@EXAMPLE.ORG>", "530 5.7.0"),
        ("<Andrew@home.ARPA>", "530 5.7.0"),
        ("<\"andrew\"@example.org>", "530 5.7.0"),
        ("<\"an\\drew\"@example.org>", "530 5.7.0"),
        ("<andrew+list@example.org>", "530 5.7.0"),
        ("<\"andrew+a b\"@example.org>", "530 5.7.0"),
        (
            "<@elsewhere.example,@b.example:andrew@example.org>",
            "530 5.7.0",
        ),
        ("<postmaster@example.org>", "530 5.7.0"),
        ("<PostMaster@Home.arpa>", "530 5.7.0"),
        ("<postmaster@MAIL.example.org>", "530 5.7.0"),
        // No addresses at all.
        ("<andrew@example.org.>", "501 5.1.7"),
        ("<andrew@example..org>", "501 5.1.7"),
        ("<andrew>", "501 5.1.7"),
        // Nobody's here.
        ("<andrew@elsewhere.example>", "250 2.1.0"),
        ("<andrew%example.org@elsewhere.example>", "250 2.1.0"),
        ("<postmaster@elsewhere.example>", "250 2.1.0"),
        ("<>", "250 2.1.0"),
    ] {
        smtp.ask(&format!("MAIL FROM:{sender}"), reply);
        smtp.ask("RSET", "250");
    }
}

#[test]
fn who_logged_in_sends_as_nobody_else_however_it_is_spelled() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&["--domain", "example.org"]);
    let mut smtp = server.hello();
    smtp.login("andrew", "@dministr@tor").expect("235");
    for (sender, reply) in [
        ("<andrew@example.org>", "250"),
        ("<\"ANDREW\"@Example.Org>", "250"),
        ("<andrew+list@example.org>", "250"),
        ("<>", "250"),
        ("<stallings@example.org>", "553 5.7.1"),
        ("<\"stallings\"@example.org>", "553 5.7.1"),
        ("<@example.org:stallings@example.org>", "553 5.7.1"),
        // The first user reads the postmaster's mail, and may answer it.
        ("<postmaster@example.org>", "553 5.7.1"),
        ("<nobody@example.org>", "553 5.7.1"),
        ("<andrew@elsewhere.example>", "553 5.7.1"),
        ("<stallings%example.org@andrew.example>", "553 5.7.1"),
    ] {
        smtp.ask(&format!("MAIL FROM:{sender}"), reply);
        smtp.ask("RSET", "250");
    }
    let mut smtp = server.hello();
    smtp.login("stallings", "network$ecurity").expect("235");
    smtp.ask("MAIL FROM:<postmaster@example.org>", "250");
}

#[test]
fn nothing_is_relayed_however_it_is_asked_for() {
    let sandbox = Sandbox::lab();
    // With somebody who gets all that is for nobody: some spellings are nobody's.
    for flags in [
        &["--domain", "example.org"][..],
        &["--domain", "example.org", "--catch-all", "Fourouzan"],
    ] {
        let has_catch_all = flags.len() > 2;
        let server = sandbox.serve(flags);
        for is_logged_in in [false, true] {
            let mut smtp = server.hello();
            if is_logged_in {
                smtp.login("andrew", "@dministr@tor").expect("235");
            }
            smtp.ask("MAIL FROM:<andrew@example.org>", "250");
            let nobody = if has_catch_all { "250" } else { "550 5.1.1" };
            for (recipient, reply) in [
                ("<andrew@elsewhere.example>", "550 5.7.1"),
                ("<andrew@sub.example.org>", "550 5.7.1"),
                ("<andrew@example.org.elsewhere.example>", "550 5.7.1"),
                ("<andrew@[192.0.2.1]>", "550 5.7.1"),
                ("<@example.org:bob@elsewhere.example>", "550 5.7.1"),
                (
                    "<@example.org,@example.org:bob@elsewhere.example>",
                    "550 5.7.1",
                ),
                ("<bob@elsewhere.example.>", "501 5.1.3"),
                ("<bob@elsewhere.example@example.org>", "501 5.1.3"),
                // Whose local part it is, is ours to say: nobody's.
                ("<bob%elsewhere.example@example.org>", nobody),
                ("<elsewhere.example!bob@example.org>", nobody),
                ("<\"bob@elsewhere.example\"@example.org>", nobody),
                ("<andrew@EXAMPLE.org>", "250"),
                ("<@elsewhere.example:andrew@example.org>", "250"),
            ] {
                smtp.ask(&format!("RCPT TO:{recipient}"), reply);
            }
        }
    }
}

#[test]
fn a_credentials_file_that_others_can_read_is_told_about() {
    let sandbox = Sandbox::lab();
    let file = sandbox.path("logincred.txt");
    let told = "others can read or change the passwords in `";
    sandbox.run(&["users", "list"], "").code(0).silent();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    sandbox.run(&["users", "list"], "").code(0).stderr_has(told);
    let log = sandbox.serve(&[]).terminate().log;
    assert!(log.contains(told) && log.contains("chmod 600 "), "{log}");
}

#[test]
fn a_credentials_file_that_is_no_plain_file_stops_the_server() {
    let sandbox = Sandbox::lab();
    let (file, elsewhere) = (sandbox.path("logincred.txt"), sandbox.beside("users.txt"));
    fs::rename(&file, &elsewhere).unwrap();
    symlink(&elsewhere, &file).unwrap();
    let serve = ["serve", "--port", "0"];
    let told = "not a regular file";
    sandbox.run(&serve, "").code(74).stderr_has(told);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    sandbox.run(&serve, "").code(74).stderr_has(told);
    fs::remove_dir(&file).unwrap();
    let made = Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    sandbox.run(&serve, "").code(74).stderr_has(told);
}

#[test]
fn what_is_made_is_its_owners_alone_whatever_the_umask() {
    let sandbox = Sandbox::new();
    let root = sandbox.beside("made");
    let mut command = Command::new("sh");
    let binary = env!("CARGO_BIN_EXE_minismtp");
    let script = format!(
        "umask 0; echo secret | {binary} users add --scram Andrew --password-stdin >&2 && \
         exec {binary} serve --port 0"
    );
    command.args(["-c", &script]).env("MINISMTP_ROOT", &root);
    let server = Server::start(command);
    server.deliver("x@localhost", &["andrew@localhost"], MAIL);
    server.hello().ask(
        &format!("AUTH SCRAM-SHA-256 {}", base64("n,,n=x,r=y")),
        "334",
    );
    let mut directories = vec![root];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        assert_eq!(
            fs::metadata(&directory).unwrap().mode() & 0o7777,
            0o700,
            "{directory:?}"
        );
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                assert_eq!(
                    fs::metadata(&path).unwrap().mode() & 0o7777,
                    0o600,
                    "{path:?}"
                );
                files += 1;
            }
        }
    }
    assert!(files >= 4, "{files}");
}

/// Whether tests run as root, who alone can become somebody else.
pub(crate) fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("skipped: not root");
    }
    is_root
}

/// The user `nobody`, and a group.
pub(crate) const NOBODY: u32 = 65534;

#[test]
fn root_binds_and_becomes_another_user() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::lab();
    for path in [sandbox.root().to_owned(), sandbox.path("logincred.txt")] {
        chown(path, Some(NOBODY), None).unwrap();
    }
    let server = sandbox.serve(&["--user", "nobody"]);
    server.deliver("x@localhost", &["andrew@localhost"], MAIL);
    let mailbox = fs::metadata(sandbox.path("Andrew/mymailbox.mail")).unwrap();
    assert_eq!((mailbox.uid(), mailbox.mode() & 0o7777), (NOBODY, 0o600));
    let tasks = format!("/proc/{}/task", server.process_id());
    for task in fs::read_dir(tasks).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let has = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .unwrap();
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(has("Uid:"), vec![NOBODY.to_string(); 4]);
        assert!(!has("Gid:").contains(&"0".to_owned()), "{status}");
        assert!(!has("Groups:").contains(&"0".to_owned()), "{status}");
        assert!(has("CapEff:").concat().chars().all(|digit| digit == '0'));
        assert!(has("CapPrm:").concat().chars().all(|digit| digit == '0'));
    }
    assert_eq!(server.terminate().code, 0);
}

/// A root that was visited by the system's administrator goes on being its owner's.
#[test]
fn what_root_makes_in_a_mail_root_is_its_owners() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::new();
    chown(sandbox.root(), Some(NOBODY), Some(NOBODY)).unwrap();
    for name in ["Andrew", "Berta"] {
        let add = ["users", "add", name, "--plain", "--password-stdin"];
        sandbox.run(&add, "secret\n").code(0);
    }
    let arguments = [
        "--tls",
        "self-signed",
        "--pop3-port",
        "0",
        "--user",
        "nobody",
    ];
    let to_both = ["andrew@localhost", "berta@localhost"];
    // By root alone, then by its owner, and by both.
    let server = sandbox.serve(&arguments[..2]);
    server.deliver("x@localhost", &to_both, MAIL);
    server.terminate();
    let mut server = sandbox.serve(&arguments);
    server.next_listener();
    server.deliver("x@localhost", &to_both, MAIL);
    let delete = ["mailbox", "delete", "Andrew", "1"];
    sandbox.run(&delete, "").code(0);
    sandbox
        .run(
            &["users", "passwd", "Berta", "--plain", "--password-stdin"],
            "other\n",
        )
        .code(0);
    let mut names = Vec::new();
    for directory in ["", "Andrew", "Berta"] {
        for entry in fs::read_dir(sandbox.path(directory)).unwrap() {
            let entry = entry.unwrap();
            let status = entry.metadata().unwrap();
            let name = entry.file_name().into_string().unwrap();
            assert_eq!((status.uid(), status.gid()), (NOBODY, NOBODY), "{name}");
            assert_eq!(status.mode() & 0o077, 0, "{name}");
            names.push(name);
        }
    }
    for made in [
        "logincred.txt",
        ".minismtp.lock",
        ".minismtp.server.lock",
        ".minismtp.tls.key",
        ".minismtp.ids",
        "Andrew",
        "mymailbox.mail",
    ] {
        assert!(names.iter().any(|name| name == made), "{made}: {names:?}");
    }
    server.maildrop("Andrew", "secret").ask("STAT", "+OK 1 ");
    server.maildrop("Berta", "other").ask("STAT", "+OK 2 ");
}

#[test]
fn root_gives_nothing_away_that_was_there() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::lab();
    chown(sandbox.root(), Some(NOBODY), Some(NOBODY)).unwrap();
    let elsewhere = sandbox.beside("elsewhere.txt");
    fs::write(&elsewhere, "kept").unwrap();
    fs::create_dir(sandbox.path("Andrew")).unwrap();
    symlink(&elsewhere, sandbox.path("Andrew/mymailbox.mail")).unwrap();
    symlink(&elsewhere, sandbox.path("Andrew/.minismtp.lock")).unwrap();
    fs::create_dir(sandbox.path("Stallings")).unwrap();
    fs::write(sandbox.path("Stallings/mymailbox.mail"), "").unwrap();
    chown(sandbox.path("Stallings"), Some(NOBODY), None).unwrap();
    let server = sandbox.serve(&[]);
    server.deliver("x@localhost", &["stallings@localhost"], MAIL);
    let mut smtp = server.connect();
    smtp.ask("HELO x", "250 ");
    smtp.ask("MAIL FROM:<x@localhost>", "250 ");
    smtp.ask("RCPT TO:<andrew@localhost>", "250 ");
    smtp.ask("DATA", "354 ");
    smtp.ask("x\r\n.", "4");
    sandbox
        .run(&["mailbox", "delete", "Andrew", "1"], "")
        .code(74);
    for path in [
        elsewhere.clone(),
        sandbox.path("logincred.txt"),
        sandbox.path("Andrew"),
        sandbox.path("Stallings/mymailbox.mail"),
    ] {
        assert_eq!(fs::metadata(&path).unwrap().uid(), 0, "{path:?}");
    }
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), "kept");
}

#[test]
fn a_file_of_anothers_in_the_mail_root_is_named() {
    if !is_root() {
        return;
    }
    for (file, arguments) in [
        ("Andrew/.minismtp.ids", &["mailbox", "list", "Andrew"][..]),
        (
            "Andrew/.minismtp.lock",
            &["mailbox", "delete", "Andrew", "1"],
        ),
        (
            ".minismtp.lock",
            &["users", "remove", "Andrew", "--with-mail"],
        ),
        (".minismtp.server.lock", &["serve", "--port", "0"]),
        ("logincred.txt", &["serve", "--port", "0"]),
        ("pem", &["serve", "--tls-cert", "pem", "--tls-key", "pem"]),
    ] {
        let sandbox = Sandbox::lab();
        fs::create_dir(sandbox.path("Andrew")).unwrap();
        fs::write(sandbox.path("Andrew/mymailbox.mail"), "").unwrap();
        for name in ["", "logincred.txt", "Andrew", "Andrew/mymailbox.mail"] {
            chown(sandbox.path(name), Some(NOBODY), None).unwrap();
        }
        let path = sandbox.path(file);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(0), None).unwrap();
        let mut command = Command::new(sandbox.copied_binary());
        command.args(arguments).arg("--root").arg(sandbox.root());
        command.current_dir(sandbox.root()).env_clear();
        let output = run(command.uid(NOBODY).gid(NOBODY), "").code(74).stdout("");
        let expected = format!("{file}`: Permission denied");
        assert!(output.stderr.contains(&expected), "{output:?}");
        let hint = match file {
            "pem" => "hint: the user whom the server runs as has to be able to read it",
            _ => "hint: run it as the user who owns the mail root, to whom ",
        };
        assert!(output.stderr.contains(hint), "{output:?}");
    }
}

#[test]
fn a_mail_root_of_another_user_is_told_about() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::lab();
    let serve = ["serve", "--port", "0", "--user"];
    let output = sandbox
        .run(&[&serve[..], &["nobody"]].concat(), "")
        .code(78)
        .stdout("");
    assert!(
        output
            .stderr
            .contains("does not belong to the user `nobody`"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("hint: `chown -R nobody: "),
        "{output:?}"
    );
    assert_eq!(fs::metadata(sandbox.root()).unwrap().uid(), 0);
    sandbox
        .run(&[&serve[..], &["nosuchuser"]].concat(), "")
        .code(78)
        .stderr_has("`--user nosuchuser`: this machine has no such user")
        .stderr_has("hint: `useradd --system nosuchuser` makes one");
    let missing = sandbox.beside("missing");
    let missing = missing.to_str().unwrap();
    sandbox
        .run(&[&serve[..], &["nobody", "--root", missing]].concat(), "")
        .code(78)
        .stderr_has("hint: `install -d -m 700 -o nobody ");
    assert!(!fs::exists(missing).unwrap());
}

#[test]
fn root_is_warned_when_others_can_connect() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::lab();
    let told = " warning \"running as root; `--user NAME`";
    let log = sandbox.serve(&["--host", "0.0.0.0"]).terminate().log;
    assert!(log.contains(told), "{log}");
    let log = sandbox.serve(&[]).terminate().log;
    assert!(!log.contains(told), "{log}");
    assert_eq!(sandbox.read("logincred.txt"), LAB);
}

#[test]
fn systemd_takes_the_readmes_unit() {
    // What verifies units does not come with every machine, nor with what tests install.
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|path| path.join("systemd-analyze").is_file()) {
        println!("skipped: `systemd-analyze` is not installed");
        return;
    }
    let readme = include_str!("../../README.md");
    let unit = readme.split("```ini\n").nth(1).unwrap();
    let unit = unit.split("```").next().unwrap();
    let installed = "/usr/local/bin/minismtp";
    assert!(unit.contains(installed));
    let sandbox = Sandbox::new();
    let file = sandbox.beside("minismtp.service");
    fs::write(
        &file,
        unit.replace(installed, env!("CARGO_BIN_EXE_minismtp")),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["verify", "--man=no", file];
    let output = client(&sandbox, "systemd-analyze", &arguments, "").code(0);
    assert!(!output.stderr.contains("minismtp.service"), "{output:?}");
}
