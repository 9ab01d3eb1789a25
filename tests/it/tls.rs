//! TLS, met through real sockets by our own client and by others.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use chrono::Datelike as _;
use minismtp::net::certificate::{Fingerprint, self_signed};

use crate::clients::{client, is_installed};
use crate::fake::Script;
use crate::logins::{NOBODY, is_root};
use crate::sandbox::{Output, Sandbox, Server, run, until};
use crate::serve::own_address;
use crate::smtp::Smtp;

const MAIL: &str = "From: a@b.example\nTo: andrew@localhost\nSubject: x\nhi\n";
const FROM_ANDREW: &str = "From: andrew@localhost\nTo: andrew@localhost\nSubject: x\nhi\n";

/// A certificate for `localhost` and 127.0.0.1, and the key, beside a mail root.
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

impl Pair {
    fn new(sandbox: &Sandbox, names: &[&str], year: i32) -> Self {
        let pair = Self {
            certificate: sandbox.beside("cert.pem"),
            key: sandbox.beside("key.pem"),
        };
        pair.renew(names, year);
        pair
    }

    fn renew(&self, names: &[&str], year: i32) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let (certificate, key) = self_signed(&names, &[], year).unwrap();
        fs::write(&self.key, key).unwrap();
        fs::set_permissions(&self.key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&self.certificate, certificate).unwrap();
    }

    fn flags(&self) -> [&str; 4] {
        let [certificate, key] = [&self.certificate, &self.key].map(|path| path.to_str().unwrap());
        ["--tls-cert", certificate, "--tls-key", key]
    }

    fn ca(&self) -> [&str; 2] {
        ["--tls-ca", self.certificate.to_str().unwrap()]
    }
}

/// Reads the last line that a server with a certificate prints at its start.
fn fingerprint(server: &mut Server) -> String {
    let line = server.next_line();
    let fingerprint = line.strip_prefix("certificate sha256 ");
    fingerprint.unwrap_or_else(|| panic!("{line}")).to_owned()
}

/// A server with a certificate of its own making, on all four ports.
fn serve_all(sandbox: &Sandbox) -> (Server, String) {
    let flags = [
        "--tls",
        "self-signed",
        "--smtps-port",
        "0",
        "--pop3s-port",
        "0",
    ];
    let mut server = sandbox.serve_pop3(&flags);
    let (_smtps, _pop3s) = (server.next_listener(), server.next_listener());
    let fingerprint = fingerprint(&mut server);
    (server, fingerprint)
}

/// Sends to `localhost`, which is what the certificates are for.
fn send(sandbox: &Sandbox, port: u16, flags: &[&str], mail: &str) -> Output {
    let server = format!("localhost:{port}");
    sandbox.run(&[&["send", "--server", &server], flags].concat(), mail)
}

/// The same by somebody who has another mail root.
fn stranger(sandbox: &Sandbox, port: u16, flags: &[&str], mail: &str) -> Output {
    let elsewhere = sandbox.beside("nowhere");
    let flags = [flags, &["--root", elsewhere.to_str().unwrap()]].concat();
    send(sandbox, port, &flags, mail)
}

#[test]
fn certificate_is_made_once_and_trusted_by_who_has_the_same_root() {
    let sandbox = Sandbox::lab();
    let (server, fingerprint) = serve_all(&sandbox);
    for name in [".minismtp.tls.crt", ".minismtp.tls.key"] {
        let mode = fs::metadata(sandbox.path(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    if is_installed("openssl") {
        let file = sandbox.path(".minismtp.tls.crt");
        let file = file.to_str().unwrap();
        let arguments = [
            "x509",
            "-in",
            file,
            "-noout",
            "-fingerprint",
            "-sha256",
            "-text",
        ];
        let shown = client(&sandbox, "openssl", &arguments, "").code(0).stdout;
        assert!(shown.contains(&fingerprint), "{shown}");
        assert!(
            shown.contains("DNS:localhost, IP Address:127.0.0.1"),
            "{shown}"
        );
    }
    send(&sandbox, server.address().port(), &[], MAIL)
        .code(0)
        .silent();
    let smtps = server.listener("smtps").port();
    send(&sandbox, smtps, &["--tls", "implicit"], MAIL)
        .code(0)
        .silent();
    send(&sandbox, server.address().port(), &["--tls", "off"], MAIL).code(0);
    assert_eq!(sandbox.records("Andrew").len(), 3);
    let log = server.terminate().log;
    assert_eq!(log.matches(" secured tls=1.3\n").count(), 2, "{log}");
    let (_server, again) = serve_all(&sandbox);
    assert_eq!(again, fingerprint);
}

/// Puts a certificate for `localhost` that ends in so many days, and its key, where the server keeps its
/// own.
fn keep(sandbox: &Sandbox, days: i64) -> String {
    let end = chrono::Utc::now().date_naive() + chrono::TimeDelta::days(days);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let [month, day] = [end.month(), end.day()].map(|number| number.try_into().unwrap());
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(end.year(), month, day);
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    fs::write(sandbox.path(".minismtp.tls.crt"), &certificate).unwrap();
    fs::write(sandbox.path(".minismtp.tls.key"), key.serialize_pem()).unwrap();
    Fingerprint::of_pem(certificate.as_bytes())
        .unwrap()
        .to_string()
}

#[test]
fn certificate_is_made_anew_in_its_last_month_and_others_are_told() {
    let sandbox = Sandbox::lab();
    let start = || {
        let mut server = sandbox.serve(&["-q", "--tls", "self-signed"]);
        let fingerprint = fingerprint(&mut server);
        send(&sandbox, server.address().port(), &["--require-tls"], MAIL).code(0);
        (fingerprint, server.terminate().log)
    };
    for (days, is_renewed) in [(-1000, true), (-1, true), (29, true), (32, false)] {
        let before = keep(&sandbox, days);
        let (shown, log) = start();
        assert_eq!(shown != before, is_renewed, "{days} days: {log}");
        let told = format!("whoever trusts {before} has to be told of {shown}");
        assert_eq!(log.contains(&told), is_renewed, "{days} days: {log}");
        let (again, log) = start();
        assert_eq!(again, shown, "{days} days");
        assert!(!log.contains(&shown), "{days} days: {log}");
    }
    keep(&sandbox, 0);
    start();
    for name in [".minismtp.tls.crt", ".minismtp.tls.key"] {
        let status = fs::metadata(sandbox.path(name)).unwrap();
        assert_eq!(status.permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn certificate_that_lacks_a_name_stays_until_it_is_removed() {
    let sandbox = Sandbox::lab();
    let start = |hostname: &str| {
        let flags = ["-q", "--tls", "self-signed", "--hostname", hostname];
        let mut server = sandbox.serve(&flags);
        (fingerprint(&mut server), server.terminate().log)
    };
    let (made, log) = start("mx.example");
    assert!(!log.contains("certificate"), "{log}");
    let (kept, log) = start("mail.example");
    assert_eq!(kept, made);
    assert!(
        log.contains("is not for `mail.example`; remove it"),
        "{log}"
    );
    let (_, log) = start("MX.example");
    assert!(!log.contains("certificate"), "{log}");
    fs::remove_file(sandbox.path(".minismtp.tls.crt")).unwrap();
    let (other, log) = start("mail.example");
    assert_ne!(other, made);
    assert!(!log.contains("certificate"), "{log}");
}

#[test]
fn certificate_of_our_own_that_is_damaged_or_exposed_is_told_of() {
    let sandbox = Sandbox::lab();
    let files = [".minismtp.tls.crt", ".minismtp.tls.key"];
    let serve = ["--tls", "self-signed"];
    let told = "others can read the private key";
    let log = sandbox.serve(&serve).terminate().log;
    assert!(!log.contains(told), "{log}");
    let key = sandbox.path(files[1]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let log = sandbox.serve(&serve).terminate().log;
    let told = format!("{told} in `{}`; `chmod 600 ", key.display());
    assert!(log.contains(&told), "{log}");
    for damaged in files {
        let whole = sandbox.octets(damaged);
        fs::write(sandbox.path(damaged), &whole[..whole.len() / 2]).unwrap();
        let output = sandbox
            .run(&[&["serve", "--port", "0"], &serve[..]].concat(), "")
            .code(78)
            .stderr_has("hint: remove `.minismtp.tls.crt` and `.minismtp.tls.key` there");
        let error = format!("error: `{}`: ", sandbox.path(damaged).display());
        assert!(output.stderr.contains(&error), "{output:?}");
        fs::write(sandbox.path(damaged), whole).unwrap();
    }
}

#[test]
fn nobody_is_trusted_without_a_reason() {
    let sandbox = Sandbox::lab();
    let (server, fingerprint) = serve_all(&sandbox);
    let port = server.address().port();
    stranger(&sandbox, port, &[], MAIL)
        .code(76)
        .stderr_has("the certificate is signed by nobody who is trusted here")
        .stderr_has(&fingerprint);
    let certificate = sandbox.path(".minismtp.tls.crt");
    for flags in [
        ["--tls-ca", certificate.to_str().unwrap()],
        ["--tls-fingerprint", &fingerprint],
        [
            "--tls-fingerprint",
            &fingerprint.replace(':', "").to_lowercase(),
        ],
    ] {
        stranger(&sandbox, port, &flags, MAIL).code(0).silent();
    }
    stranger(&sandbox, port, &["--tls-insecure"], MAIL)
        .code(0)
        .stderr_has("warning: the server's certificate is not checked");
    let wrong = another(&fingerprint);
    stranger(&sandbox, port, &["--tls-fingerprint", &wrong], MAIL)
        .code(76)
        .stderr_has("not the one with the fingerprint that was given but with ");
    assert_eq!(sandbox.records("Andrew").len(), 4);
}

#[test]
fn certificate_that_others_may_have_put_there_is_not_trusted() {
    let sandbox = Sandbox::lab();
    let (server, _) = serve_all(&sandbox);
    let port = server.address().port();
    let file = sandbox.path(".minismtp.tls.crt");
    for (mode, code) in [(0o644, 0), (0o620, 76), (0o602, 76), (0o600, 0)] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        send(&sandbox, port, &[], MAIL).code(code);
    }
    // Only root can give a file away.
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(65_534), None).unwrap();
        send(&sandbox, port, &[], MAIL)
            .code(76)
            .stderr_has("signed by nobody who is trusted here");
    }
}

#[test]
fn each_fault_of_a_certificate_has_its_own_sentence() {
    for (names, year, expected) in [
        (
            &["mx.example"][..],
            2026,
            "the certificate is for `mx.example`, not for `localhost`",
        ),
        (
            &["localhost"],
            2001,
            "the certificate expired on 2011-12-31",
        ),
        (
            &["localhost"],
            2100,
            "the certificate is not valid before 2100-01-01",
        ),
    ] {
        let sandbox = Sandbox::lab();
        let pair = Pair::new(&sandbox, names, year);
        let server = sandbox.serve(&pair.flags());
        send(&sandbox, server.address().port(), &pair.ca(), MAIL)
            .code(76)
            .stderr_has(expected);
        assert_eq!(sandbox.mailbox("Andrew"), "");
    }
}

#[test]
fn faults_of_certificates_and_keys_are_told_in_words() {
    if !is_installed("openssl") {
        return;
    }
    let sandbox = Sandbox::lab();
    fs::write(sandbox.path("names"), "subjectAltName=DNS:localhost\n").unwrap();
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca -subj /CN=ca",
        "req -new -newkey rsa:2048 -nodes -keyout key -out request -subj /CN=localhost",
        "x509 -req -in request -CA ca -CAkey ca.key -sha1 -extfile names -out cert",
        "x509 -req -in request -signkey key -out old",
        "pkey -in key -aes256 -passout pass:x -out encrypted",
        "rsa -in key -aes256 -passout pass:x -traditional -out encrypted-rsa",
    ] {
        openssl(&sandbox, arguments);
    }
    let [certificate, key, ca, other, old, encrypted, encrypted_rsa] = [
        "cert",
        "key",
        "ca",
        "ca.key",
        "old",
        "encrypted",
        "encrypted-rsa",
    ]
    .map(|name| made(&sandbox, name));
    let server = sandbox.serve(&["--tls-cert", &certificate, "--tls-key", &key]);
    send(&sandbox, server.address().port(), &["--tls-ca", &ca], MAIL)
        .code(76)
        .stderr_has("the certificate is no good: it is signed with SHA-1, which can be forged\n");
    let encrypted_hint =
        |file: &str| format!("hint: `openssl pkey -in {file} -out FILE` writes it");
    for (certificate, key, expected, hint) in [
        (
            &certificate,
            &other,
            "the private key is not that of the certificate",
            "hint: of a pair, `openssl x509 -in CERTIFICATE -noout -pubkey` and ".to_owned(),
        ),
        (
            &certificate,
            &encrypted,
            "the private key has a pass phrase",
            encrypted_hint(&encrypted),
        ),
        (
            &certificate,
            &encrypted_rsa,
            "the private key has a pass phrase",
            encrypted_hint(&encrypted_rsa),
        ),
        (
            &old,
            &key,
            "the certificate is of X.509 version 1, and only version 3 will do",
            "hint: `openssl req -x509` makes one of version 3".to_owned(),
        ),
        (
            &certificate,
            &certificate,
            "there is no private key in it",
            "has to be PEM".to_owned(),
        ),
    ] {
        let flags = ["--tls-cert", certificate, "--tls-key", key];
        sandbox
            .run(&[&["serve", "--port", "0"], &flags[..]].concat(), "")
            .code(78)
            .stderr_has(expected)
            .stderr_has(&hint);
    }
    // Others show certificates of version 1.
    let mut shown = Command::new("openssl")
        .args([
            "s_server",
            "-accept",
            "127.0.0.1:0",
            "-cert",
            &old,
            "-key",
            &key,
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(shown.stdout.take().unwrap()).lines();
    let address = lines.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.to_owned()));
    let address = address.unwrap();
    sandbox
        .run(&["send", "--server", &address, "--tls", "implicit"], MAIL)
        .code(76)
        .stderr_has("no good: it is of X.509 version 1, and only version 3 will do\n");
    shown.kill().unwrap();
    shown.wait().unwrap();
}

/// Has openssl make something, in the mail root.
fn openssl(sandbox: &Sandbox, arguments: &str) {
    let arguments: Vec<_> = arguments.split(' ').collect();
    client(sandbox, "openssl", &arguments, "").code(0);
}

/// A file that [`openssl`] made, and others may not read.
fn made(sandbox: &Sandbox, name: &str) -> String {
    let file = sandbox.path(name);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn certificate_that_is_its_own_authority_is_one_that_nobody_knows() {
    if !is_installed("openssl") {
        return;
    }
    let sandbox = Sandbox::lab();
    openssl(
        &sandbox,
        "req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -subj /CN=localhost -addext \
         subjectAltName=DNS:localhost",
    );
    let [certificate, key] = ["cert", "key"].map(|name| made(&sandbox, name));
    let mut server = sandbox.serve(&["--tls-cert", &certificate, "--tls-key", &key]);
    let fingerprint = fingerprint(&mut server);
    let port = server.address().port();
    send(&sandbox, port, &[], MAIL)
        .code(76)
        .stderr_has("the certificate is signed by nobody who is trusted here")
        .stderr_has(&fingerprint);
    send(&sandbox, port, &["--tls-ca", &certificate], MAIL).code(0);
}

#[test]
fn certificate_that_was_given_is_trusted_whoever_signed_it() {
    if !is_installed("openssl") {
        return;
    }
    for (digest, name, expected) in [
        ("sha256", "localhost", 0),
        ("sha256", "mx.example", 76),
        ("sha1", "localhost", 0),
    ] {
        let sandbox = Sandbox::lab();
        let names = format!("subjectAltName=DNS:{name}\n");
        fs::write(sandbox.path("names"), names).unwrap();
        openssl(
            &sandbox,
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca -subj /CN=ca",
        );
        openssl(
            &sandbox,
            "req -new -newkey rsa:2048 -nodes -keyout key -out request -subj /CN=localhost",
        );
        openssl(
            &sandbox,
            &format!(
                "x509 -req -in request -CA ca -CAkey ca.key -{digest} -extfile names -out cert"
            ),
        );
        let [certificate, key] = ["cert", "key"].map(|name| made(&sandbox, name));
        let server = sandbox.serve(&["--tls-cert", &certificate, "--tls-key", &key]);
        let port = server.address().port();
        let output = send(&sandbox, port, &["--tls-ca", &certificate], MAIL);
        assert_eq!(output.code, expected, "{digest} {name}: {output:?}");
        if expected != 0 {
            output.stderr_has("the certificate is for `mx.example`, not for `localhost`");
        }
        send(&sandbox, port, &[], MAIL)
            .code(76)
            .stderr_has("signed by nobody who is trusted here");
    }
}

#[test]
fn who_requires_tls_gets_it_or_sends_nothing() {
    let sandbox = Sandbox::lab();
    let mut server = sandbox.serve_pop3(&["--smtps-port", "0", "--tls", "self-signed"]);
    server.next_listener();
    let smtps = server.listener("smtps").port();
    let other = Sandbox::lab();
    let plain = other.serve_pop3(&[]);
    send(&sandbox, plain.address().port(), &["--require-tls"], MAIL)
        .code(76)
        .stderr_has("the server offers no TLS, and it is required");
    send(
        &sandbox,
        plain.address().port(),
        &["--tls", "implicit"],
        MAIL,
    )
    .code(76)
    .stderr_has("the peer does not speak TLS")
    .stderr_has("`--tls starttls`");
    // Nobody says the first word.
    send(&sandbox, smtps, &["--timeout", "1"], MAIL)
        .code(75)
        .stderr_has("hint: if TLS comes first on this port, `--tls implicit` begins it");
    send(&sandbox, smtps, &["--tls", "off", "--require-tls"], MAIL).code(64);
    let shell = |port: u16, flags: &[&str]| {
        let server = format!("localhost:{port}");
        let flags = [&["shell", "--server", &server], flags].concat();
        sandbox.run(&flags, "Listusers\n")
    };
    shell(plain.pop3_address().port(), &["--require-tls"])
        .code(76)
        .stderr_has("the server offers no TLS");
    shell(server.pop3_address().port(), &["--require-tls"]).code(0);
    assert!(server.terminate().log.contains(" secured tls=1.3\n"));
    assert_eq!(sandbox.mailbox("Andrew") + &other.mailbox("Andrew"), "");
}

/// A fingerprint that differs in its first octet.
fn another(fingerprint: &str) -> String {
    let first = if fingerprint.starts_with("00") {
        "01"
    } else {
        "00"
    };
    format!("{first}{}", &fingerprint[2..])
}

#[test]
fn who_says_whom_to_trust_wants_tls() {
    let sandbox = Sandbox::lab();
    let (server, fingerprint) = serve_all(&sandbox);
    let clear = Sandbox::lab();
    let plain = clear.serve_pop3(&[]);
    let certificate = sandbox.path(".minismtp.tls.crt");
    let certificate = certificate.to_str().unwrap();
    let foreign = Pair::new(&clear, &["localhost"], 2026);
    let shell = |port: u16, flags: &[&str]| {
        let server = format!("localhost:{port}");
        sandbox.run(&[&["shell", "--server", &server], flags].concat(), "Quit\n")
    };
    let wrong = another(&fingerprint);
    let pop3 = server.pop3_address().port();
    for (flags, code) in [
        (&["--tls-fingerprint", &wrong][..], 76),
        (&foreign.ca(), 76),
        (&["--tls-fingerprint", &fingerprint], 0),
        (&["--tls-ca", certificate], 0),
        (&["--tls-insecure"], 0),
        (&["--tls", "starttls"], 0),
    ] {
        shell(pop3, flags).code(code);
    }
    for flags in [
        ["--tls-fingerprint", &fingerprint],
        ["--tls-ca", certificate],
    ] {
        let without = "the server offers no TLS, and it is required";
        send(&sandbox, plain.address().port(), &flags, MAIL)
            .code(76)
            .stderr_has(without);
        shell(plain.pop3_address().port(), &flags)
            .code(76)
            .stderr_has(without);
    }
    for flags in [
        &["--tls-fingerprint", &fingerprint][..],
        &["--tls-ca", certificate],
        &["--tls-insecure"],
        &["--require-tls"],
    ] {
        let flags = [flags, &["--tls", "off"]].concat();
        let told = format!("`--tls off` and `{}` cannot both be", flags[0]);
        send(&sandbox, server.address().port(), &flags, MAIL)
            .code(64)
            .stderr_has(&told);
        shell(pop3, &flags).code(64).stderr_has(&told);
    }
    let log = server.terminate().log;
    assert_eq!(log.matches(" secured tls=1.3\n").count(), 4, "{log}");
    assert!(!plain.terminate().log.contains(" delivered "));
    assert_eq!(sandbox.mailbox("Andrew") + &clear.mailbox("Andrew"), "");
}

#[test]
fn shell_reads_mail_under_tls() {
    let sandbox = Sandbox::lab();
    let (server, fingerprint) = serve_all(&sandbox);
    server.deliver(
        "a@b.example",
        &["andrew@localhost"],
        "Subject: x\n\nhello\n",
    );
    let read = |listener: &str, flags: &[&str]| {
        let address = server.listener(listener).to_string();
        let arguments = ["shell", "--server", &address, "--user", "Andrew"];
        let mut command = sandbox.command(&[&arguments, flags].concat());
        command.env("MINISMTP_PASSWORD", "@dministr@tor");
        run(&mut command, "Read\n")
    };
    let output = read("pop3s", &["--tls", "implicit"]).code(0);
    assert!(output.stdout.contains("hello\n"), "{output:?}");
    let output = read(
        "pop3",
        &["--tls-fingerprint", &fingerprint, "--require-tls"],
    )
    .code(0);
    assert!(output.stdout.contains("hello\n"), "{output:?}");
    // On this machine nothing needs to be asked for.
    read("pop3", &[]).code(0);
    let log = server.terminate().log;
    assert_eq!(log.matches(" secured tls=1.3\n").count(), 2, "{log}");
}

/// A server that is met from another address than this machine's own.
fn serve_outside(sandbox: &Sandbox, address: IpAddr, flags: &[&str]) -> (Server, SocketAddr) {
    let address = address.to_string();
    let mut server = sandbox.serve(&[&["--host", &address], flags].concat());
    if flags.contains(&"--tls") {
        fingerprint(&mut server);
    }
    let address = server.address();
    (server, address)
}

#[test]
fn passwords_of_others_go_under_tls_or_not_at_all() {
    let Some(address) = own_address() else { return };
    let sandbox = Sandbox::new();
    // Nothing but the password itself proves a hashed one.
    let add = ["users", "add", "Andrew", "--password-stdin"];
    sandbox.run(&add, "@dministr@tor\n").code(0);
    let (server, address) = serve_outside(&sandbox, address, &["--tls", "self-signed"]);
    let mut smtp = Smtp::connect(address);
    smtp.expect("220 ");
    let offered = smtp.ask("EHLO client.example", "250");
    assert!(offered.lines.iter().any(|line| line.ends_with("STARTTLS")));
    assert!(
        !offered.lines.iter().any(|line| line.contains("AUTH")),
        "{offered}"
    );
    smtp.ask("AUTH PLAIN AEFuZHJldwBAZG1pbmlzdHJAdG9y", "538 5.7.11");
    let log_in = |flags: &[&str]| {
        let address = address.to_string();
        let arguments = ["send", "--server", &address, "--user", "Andrew"];
        let mut command = sandbox.command(&[&arguments, flags].concat());
        command.env("MINISMTP_PASSWORD", "@dministr@tor");
        run(&mut command, FROM_ANDREW)
    };
    // The address is one of those that the certificate is for.
    log_in(&[]).code(0).silent();
    log_in(&["--tls-insecure"])
        .code(77)
        .stderr_has("the password was not sent")
        .stderr_has("hint: `--tls-ca FILE` or `--tls-fingerprint SHA256`, instead of");
    log_in(&["--tls-insecure", "--insecure-auth"]).code(0);
    let only_under_tls = "many servers offer a login under TLS only, and `--tls off` was given";
    log_in(&["--tls", "off", "--insecure-auth"])
        .code(77)
        .stderr_has(&format!("hint: {only_under_tls}; without `--user`"));
    let server_address = address.to_string();
    let arguments = ["send", "--server", &server_address, "--tls", "off"];
    sandbox
        .run(&arguments, FROM_ANDREW)
        .code(77)
        .stderr_has("530")
        .stderr_has(&format!("hint: {only_under_tls}\n"));
    assert_eq!(sandbox.records("Andrew").len(), 2);
    drop(server);

    let outside = address.ip();
    let clear = [
        "--port",
        "0",
        "--host",
        &outside.to_string(),
        "--pop3-port",
        "0",
    ];
    let mut command = sandbox.command(&["serve"]);
    command.args(clear);
    let mut server = Server::start(command);
    until("the warning is there", || {
        server.log().contains("nobody can log in to ")
    });
    server.next_listener();
    let arguments = ["send", "--server", &server.address().to_string()];
    sandbox
        .run(&arguments, FROM_ANDREW)
        .code(77)
        .stderr_has("and this one has no TLS: it lacks a certificate\n");
    drop(server);
    let (_server, address) = serve_outside(&sandbox, outside, &["--insecure-auth"]);
    let mut smtp = Smtp::connect(address);
    smtp.expect("220 ");
    smtp.ask("EHLO client.example", "250");
    smtp.ask("AUTH PLAIN AEFuZHJldwBAZG1pbmlzdHJAdG9y", "235");
}

#[test]
fn who_may_be_anybody_gets_nothing_to_guess_a_password_with() {
    let Some(address) = own_address() else { return };
    let sandbox = Sandbox::new();
    let offer = Script::new().offers(&["AUTH SCRAM-SHA-256"]);
    let fake = offer.login(&["535 no"]).start_on(&format!("{address}:0"));
    let log_in = |flags: &[&str]| {
        let address = fake.address.to_string();
        let arguments = ["send", "--server", &address, "--user", "Andrew"];
        let mut command = sandbox.command(&[&arguments, flags].concat());
        command.env("MINISMTP_PASSWORD", "@dministr@tor");
        let output = run(&mut command, FROM_ANDREW).code(77);
        (output, fake.session().command("AUTH").is_some())
    };
    let (output, is_tried) = log_in(&[]);
    output
        .stderr_has("the connection is not protected")
        .stderr_has("hint: the server offers no TLS; `--insecure-auth` sends");
    assert!(!is_tried);
    let (output, _) = log_in(&["--tls", "off"]);
    output.stderr_has("hint: without `--tls off` TLS begins where");
    assert!(log_in(&["--insecure-auth"]).1);
}

#[test]
fn what_is_said_in_clear_is_not_taken_for_said_under_tls() {
    let sandbox = Sandbox::lab();
    let (server, _) = serve_all(&sandbox);
    let mut smtp = server.hello();
    smtp.raw("STARTTLS\r\nMAIL FROM:<a@b.example>\r\n");
    smtp.expect("503 5.5.1");
    smtp.expect_end();
    // Behind the answer, before the handshake.
    let mut smtp = server.hello();
    smtp.ask("STARTTLS", "220 2.0.0");
    smtp.raw("MAIL FROM:<a@b.example>\r\n");
    assert!(!smtp.rest().contains("250"));
    let mut pop = server.pop3();
    pop.raw("STLS\r\nUSER Andrew\r\n");
    pop.expect("-ERR");
    pop.expect_end();
    server.deliver("a@b.example", &["andrew@localhost"], "hi\n");
    until("the log tells", || {
        server
            .log()
            .contains("error=\"the peer does not speak TLS\"")
    });
}

#[test]
fn renewed_key_that_others_can_read_is_told_of() {
    let sandbox = Sandbox::lab();
    let pair = Pair::new(&sandbox, &["localhost"], 2026);
    let server = sandbox.serve(&pair.flags());
    let port = server.address().port();
    pair.renew(&["localhost"], 2026);
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644)).unwrap();
    until("the log tells", || {
        send(&sandbox, port, &["--tls-insecure"], MAIL).code(0);
        server.log().contains("others can read the private key")
    });
}

#[test]
fn renewed_certificate_is_shown_and_connections_stay() {
    let sandbox = Sandbox::lab();
    let pair = Pair::new(&sandbox, &["localhost"], 2026);
    let mut server = sandbox.serve(&pair.flags());
    let before = fingerprint(&mut server);
    let port = server.address().port();
    let mut open = server.hello();
    pair.renew(&["localhost"], 2026);
    let renewed = fs::read(&pair.certificate).unwrap();
    let renewed = Fingerprint::of_pem(&renewed).unwrap();
    let renewed = renewed.to_string();
    assert_ne!(renewed, before);
    until("the new one is shown", || {
        send(&sandbox, port, &["--tls-fingerprint", &renewed], MAIL).code == 0
    });
    open.ask("NOOP", "250");
    // One that is of no use is not shown.
    fs::write(&pair.certificate, "half a certifi").unwrap();
    until("the log tells", || {
        send(&sandbox, port, &["--tls-fingerprint", &renewed], MAIL).code(0);
        server
            .log()
            .contains("the certificate from before is shown")
    });
    let log = server.terminate().log;
    assert!(
        log.contains(&format!("certificate sha256={renewed}\n")),
        "{log}"
    );
}

#[test]
fn the_readmes_hook_hands_what_is_renewed_to_the_servers_user() {
    if !is_root() {
        return;
    }
    let sandbox = Sandbox::lab();
    for path in [sandbox.root().to_owned(), sandbox.path("logincred.txt")] {
        chown(path, Some(NOBODY), None).unwrap();
    }
    let roots_own = sandbox.beside("live");
    fs::create_dir(&roots_own).unwrap();
    fs::set_permissions(&roots_own, fs::Permissions::from_mode(0o700)).unwrap();
    let [live, copied] = [roots_own, sandbox.beside("etc")].map(|directory| Pair {
        certificate: directory.join("fullchain.pem"),
        key: directory.join("privkey.pem"),
    });
    let readme = include_str!("../../README.md");
    let hook = readme.split("```text\n#!/bin/sh\n").nth(1).unwrap();
    let hook = hook.split("```").next().unwrap();
    for word in ["-g minismtp", "/etc/minismtp"] {
        assert!(hook.contains(word), "{hook}");
    }
    let hook = hook
        .replace("-g minismtp", &format!("-g {NOBODY}"))
        .replace("/etc/minismtp", sandbox.beside("etc").to_str().unwrap());
    let renew = || {
        live.renew(&["localhost"], 2026);
        let mut sh = Command::new("sh");
        sh.args(["-c", &hook])
            .env("RENEWED_LINEAGE", sandbox.beside("live"));
        run(&mut sh, "").code(0).silent();
        let certificate = fs::read(&live.certificate).unwrap();
        Fingerprint::of_pem(&certificate).unwrap().to_string()
    };
    let first = renew();
    let mut server = sandbox.serve(&[&["--user", "nobody"], &copied.flags()[..]].concat());
    assert_eq!(fingerprint(&mut server), first);
    let port = server.address().port();
    let renewed = renew();
    until("the new one is shown", || {
        send(&sandbox, port, &["--tls-fingerprint", &renewed], MAIL).code == 0
    });
    let log = server.terminate().log;
    assert!(!log.contains("others can read"), "{log}");
}

#[test]
fn a_certificate_that_clients_refuse_for_its_dates_is_told_of() {
    let sandbox = Sandbox::lab();
    let pair = Pair::new(&sandbox, &["localhost"], 2001);
    let server = sandbox.serve(&pair.flags());
    let file = pair.certificate.display();
    let expired = format!("the certificate in `{file}` expired on 2011-12-3");
    until("the log tells", || server.log().contains(&expired));
    let port = server.address().port();
    pair.renew(&["localhost"], 2100);
    let early = format!("the certificate in `{file}` is not valid before ");
    until("the log tells of the new one", || {
        send(&sandbox, port, &pair.ca(), MAIL).code(76);
        server.log().contains(&early)
    });
    pair.renew(&["localhost"], 2026);
    until("the good one is shown", || {
        send(&sandbox, port, &pair.ca(), MAIL).code == 0
    });
    let log = server.terminate().log;
    assert_eq!(log.matches("clients refuse it").count(), 2, "{log}");
}

#[test]
fn what_cannot_be_shown_is_told_at_the_start() {
    let sandbox = Sandbox::lab();
    let pair = Pair::new(&sandbox, &["localhost"], 2026);
    let serve = |flags: &[&str]| sandbox.run(&[&["serve", "--port", "0"], flags].concat(), "");
    serve(&["--smtps-port", "0"])
        .code(64)
        .stderr_has("`--smtps-port` needs a certificate");
    serve(&pair.flags()[..2]).code(64);
    serve(&["--tls-cert", "/nowhere", "--tls-key", pair.flags()[3]])
        .code(74)
        .stderr_has("cannot read `/nowhere`");
    let other = Pair {
        certificate: sandbox.beside("other.pem"),
        key: sandbox.beside("other.key"),
    };
    other.renew(&["localhost"], 2026);
    serve(&["--tls-cert", pair.flags()[1], "--tls-key", other.flags()[3]])
        .code(78)
        .stderr_has("the private key is not that of the certificate");
    serve(&["--tls-cert", pair.flags()[3], "--tls-key", pair.flags()[3]])
        .code(78)
        .stderr_has("there is no certificate in it");
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644)).unwrap();
    let server = sandbox.serve(&pair.flags());
    until("the log tells", || {
        server.log().contains("others can read the private key")
    });
}

#[test]
fn only_safe_versions_are_spoken() {
    if !is_installed("openssl") {
        return;
    }
    let sandbox = Sandbox::lab();
    let (server, _) = serve_all(&sandbox);
    let smtps = server.listener("smtps").to_string();
    let (smtp, pop3) = (
        server.address().to_string(),
        server.pop3_address().to_string(),
    );
    let probe = |flags: &[&str]| {
        client(
            &sandbox,
            "openssl",
            &[&["s_client"], flags].concat(),
            "QUIT\n",
        )
    };
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        for flags in [
            &["-connect", &smtps, version][..],
            &["-connect", &smtp, "-starttls", "smtp", version],
            &["-connect", &pop3, "-starttls", "pop3", version],
        ] {
            let output = probe(flags);
            assert!(
                output.stdout.contains(&format!("New, {name}, Cipher is")),
                "{output:?}"
            );
        }
    }
    for version in ["-tls1", "-tls1_1"] {
        let security = ["-cipher", "DEFAULT:@SECLEVEL=0"];
        let output = probe(&[&["-connect", &smtps, version], &security[..]].concat());
        assert_ne!(output.code, 0, "{output:?}");
    }
    // A renegotiation is refused, and the server stands.
    let output = client(
        &sandbox,
        "openssl",
        &["s_client", "-connect", &smtps, "-tls1_2"],
        "R\n",
    );
    assert!(
        !output.stdout.contains("RENEGOTIATING\nverify"),
        "{output:?}"
    );
    send(&sandbox, server.address().port(), &[], MAIL).code(0);
    let log = server.terminate().log;
    let told = "closed error=\"the peer has no TLS from 1.2 on";
    assert_eq!(log.matches(told).count(), 2, "{log}");
}

#[test]
fn who_begins_tls_at_a_port_in_clear_is_told_so_at_once() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&[]);
    let port = server.address().port();
    // What is said in clear is no TLS to who expects it.
    send(&sandbox, port, &["--tls", "implicit"], MAIL)
        .code(76)
        .stderr_has("does not speak TLS");
    let mut pop = server.pop3();
    pop.raw([22, 3]);
    pop.expect("-ERR TLS does not come first");
    pop.expect_end();
    let log = server.terminate().log;
    let told = "refused command=\"(TLS handshake)\" reply=\"";
    assert_eq!(log.matches(told).count(), 2, "{log}");
}

#[test]
fn handshake_that_does_not_come_is_not_waited_for() {
    let sandbox = Sandbox::lab();
    let flags = [
        "--tls",
        "self-signed",
        "--smtps-port",
        "0",
        "--timeout",
        "1",
    ];
    let mut server = sandbox.serve(&flags);
    server.next_listener();
    let mut silent = Smtp::connect(server.listener("smtps"));
    silent.expect_end();
    let mut begun = server.hello();
    begun.ask("STARTTLS", "220 2.0.0");
    // The first octet of a handshake, and nothing more.
    begun.raw(b"\x16");
    begun.expect_end();
    until("the log tells", || {
        let log = server.log();
        log.matches("error=\"the TLS handshake took too long\"")
            .count()
            == 2
    });
}

#[test]
fn garbage_on_a_port_under_tls_harms_nobody() {
    let sandbox = Sandbox::lab();
    let (server, _) = serve_all(&sandbox);
    for garbage in [
        &b"EHLO client.example\r\n"[..],
        &[0; 70_000],
        &[0xff; 10],
        b"\x16\x03\x01\xff\xff",
    ] {
        let mut smtp = Smtp::connect(server.listener("smtps"));
        smtp.try_raw(garbage);
        smtp.stream().shutdown(Shutdown::Write).ok();
        assert!(!smtp.rest().contains("220"), "nothing is said in clear");
    }
    let silent: Vec<_> = (0..50)
        .map(|_| Smtp::connect(server.listener("smtps")))
        .collect();
    send(
        &sandbox,
        server.listener("smtps").port(),
        &["--tls", "implicit"],
        MAIL,
    )
    .code(0);
    drop(silent);
    assert_eq!(server.terminate().code, 0);
}

const PYTHON: &str = r#"
import poplib, smtplib, ssl, sys
smtp, smtps, pop3, pop3s = map(int, sys.argv[1:5])
context = ssl.create_default_context(cafile=sys.argv[5])
text = b"From: andrew@localhost\r\nSubject: tls\r\n\r\n" + b"x" * 70 + b"\r\n" * 1000
for begin in ("starttls", "implicit"):
    if begin == "starttls":
        client = smtplib.SMTP("localhost", smtp, timeout=20)
        client.starttls(context=context)
    else:
        client = smtplib.SMTP_SSL("localhost", smtps, timeout=20, context=context)
    with client:
        client.login("Andrew", "@dministr@tor")
        assert not client.has_extn("starttls")
        client.sendmail("andrew@localhost", ["andrew@localhost"], text)
        client.sendmail("andrew@localhost", ["andrew@localhost"], text * 500)
for count, begin in enumerate(("stls", "implicit")):
    if begin == "stls":
        client = poplib.POP3("localhost", pop3, timeout=20)
        assert "STLS" in client.capa()
        client.stls(context=context)
    else:
        client = poplib.POP3_SSL("localhost", pop3s, timeout=20, context=context)
    assert "STLS" not in client.capa()
    client.user("Andrew")
    client.pass_("@dministr@tor")
    assert client.stat()[0] == 4, client.stat()
    assert b"\r\n".join(client.retr(4)[1]).endswith((text * 500).rstrip(b"\r\n") + b"\r\n" * 999)
    client.quit()
"#;

#[test]
fn other_clients_speak_tls_with_us() {
    let sandbox = Sandbox::lab();
    let (server, fingerprint) = serve_all(&sandbox);
    let certificate = sandbox.path(".minismtp.tls.crt");
    let certificate = certificate.to_str().unwrap();
    let [smtp, smtps, pop3, pop3s] =
        ["smtp", "smtps", "pop3", "pop3s"].map(|name| server.listener(name).port().to_string());
    let mut count = 0;
    if is_installed("python3") {
        let arguments = ["-c", PYTHON, &smtp, &smtps, &pop3, &pop3s, certificate];
        client(&sandbox, "python3", &arguments, "").code(0);
        count += 4;
    }
    if is_installed("curl") {
        for (url, more) in [
            (format!("smtp://localhost:{smtp}"), "--ssl-reqd"),
            (format!("smtps://localhost:{smtps}"), "--tlsv1.3"),
        ] {
            let login = ["--user", "Andrew:@dministr@tor", "--upload-file", "-"];
            let mail = [
                "--mail-from",
                "andrew@localhost",
                "--mail-rcpt",
                "andrew@localhost",
            ];
            let flags = [
                "-sS",
                "--crlf",
                more,
                "--cacert",
                certificate,
                "--url",
                &url,
            ];
            client(
                &sandbox,
                "curl",
                &[&flags[..], &mail, &login].concat(),
                MAIL,
            )
            .code(0);
            count += 1;
        }
        let url = format!("pop3s://localhost:{pop3s}/1");
        let flags = [
            "-sS",
            "--cacert",
            certificate,
            "--user",
            "Andrew:@dministr@tor",
            &url,
        ];
        let read = client(&sandbox, "curl", &flags, "").code(0).stdout;
        assert!(
            read.starts_with("Return-Path: <andrew@localhost>"),
            "{read}"
        );
    }
    if is_installed("msmtp") {
        let port = format!("--port={smtp}");
        let pinned = format!("--tls-fingerprint={fingerprint}");
        let flags = [
            "--file=/dev/null",
            "--host=localhost",
            &port,
            "--from=andrew@localhost",
        ];
        let tls = ["--tls=on", "--tls-starttls=on", &pinned, "--auth=off"];
        client(
            &sandbox,
            "msmtp",
            &[&flags[..], &tls, &["andrew@localhost"]].concat(),
            MAIL,
        )
        .code(0);
        count += 1;
    }
    let records = sandbox.records("Andrew");
    assert_eq!(records.len(), count);
    let secure = records.iter().filter(|record| record.is_full());
    for record in secure {
        assert!(record.trace().1.contains(" with ESMTPS"), "{record:?}");
    }
    let log = server.terminate().log;
    assert_eq!(
        log.matches(" connected ").count(),
        log.matches(" secured ").count(),
        "{log}"
    );
}
