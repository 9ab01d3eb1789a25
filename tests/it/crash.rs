//! What a crash leaves: of the client, of the server, of any program in mid-append.

use std::collections::HashSet;
use std::fs;
use std::io::Write as _;
use std::sync::mpsc::channel;
use std::thread;

use crate::sandbox::{Sandbox, until};
use crate::smtp::wire;

const NITC: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: SMTP Experiment\n\n\
                    Next evaluation will be on 22 March 2021.\nPlease be ready.\n";

#[test]
fn client_that_vanishes_before_the_final_dot_has_sent_nothing() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let content = wire(NITC);
    let ends = [&b""[..], b".", b".\r", b"..", b".\r\r\n"];
    let cuts = [0, 1, 40, content.len() - 1, content.len()];
    for (cut, end) in cuts.into_iter().flat_map(|cut| ends.map(|end| (cut, end))) {
        let mut smtp = server.hello();
        smtp.envelope(
            "stallings@localhost",
            &["andrew@localhost", "fourouzan@localhost"],
        );
        smtp.ask("DATA", "354 ");
        smtp.raw(&content[..cut]);
        if cut == content.len() {
            smtp.raw(end);
        }
        drop(smtp);
    }
    for command in ["", "MAIL FROM:<stallings@localhost>", "DATA"] {
        let mut smtp = server.hello();
        smtp.envelope("", &["andrew@localhost"]);
        smtp.raw(command);
        drop(smtp);
    }
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    // Stopping waits for every session, so nothing can be stored later.
    assert_eq!(server.terminate().code, 0);
    assert_eq!(sandbox.records("Andrew").len(), 1);
    assert!(sandbox.records("Fourouzan").is_empty());
    let leftovers: Vec<_> = fs::read_dir(sandbox.path("Andrew")).unwrap().collect();
    assert_eq!(leftovers.len(), 1, "spool files are left: {leftovers:?}");
}

#[test]
fn client_that_does_not_wait_for_the_250_may_have_sent_it() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.envelope("stallings@localhost", &["andrew@localhost"]);
    smtp.ask("DATA", "354 ");
    smtp.raw([wire(NITC), b".\r\n".to_vec()].concat());
    drop(smtp);
    assert_eq!(server.terminate().code, 0);
    assert_eq!(sandbox.records("Andrew").len(), 1, "taken whole, once");
}

#[test]
fn what_was_acknowledged_outlives_a_killed_server_once() {
    let sandbox = Sandbox::lab();
    for round in 0..3 {
        let server = sandbox.serve(&[]);
        let mut sessions: Vec<_> = (0..4).map(|_| server.hello()).collect();
        for n in 0..20 {
            let content = format!("Subject: {round}-{n}\n\n{}\n", "x".repeat(n * 500));
            let to: &[&str] = if n % 5 == 0 {
                &["andrew@localhost", "fourouzan@localhost"]
            } else {
                &["andrew@localhost"]
            };
            sessions[n % 4].deliver("stallings@localhost", to, content);
        }
        let mut half = server.hello();
        half.envelope("stallings@localhost", &["andrew@localhost"]);
        half.ask("DATA", "354 ");
        half.raw("Subject: half\r\n\r\nnever ended\r\n");
        server.kill();
    }
    // Whatever a start has to repair is repaired before it listens.
    let server = sandbox.serve(&[]);
    let subjects = |user: &str| -> Vec<_> {
        let mut subjects: Vec<_> = sandbox
            .records(user)
            .into_iter()
            .map(|r| r.subject)
            .collect();
        subjects.sort();
        subjects
    };
    let expected = |step: usize| -> Vec<_> {
        let mut all: Vec<_> = (0..3)
            .flat_map(|round| (0..20).step_by(step).map(move |n| format!("{round}-{n}")))
            .collect();
        all.sort();
        all
    };
    assert_eq!(subjects("Andrew"), expected(1));
    assert_eq!(subjects("Fourouzan"), expected(5));
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    assert_eq!(sandbox.records("Andrew").len(), 61);
}

#[test]
fn server_killed_under_load_has_every_acknowledged_message_once() {
    let sandbox = Sandbox::lab();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let server = sandbox.serve(&[]);
        let (sender, receiver) = channel();
        let mut senders = Vec::new();
        for connection in 0..6 {
            let (mut smtp, sender) = (server.hello(), sender.clone());
            senders.push(thread::spawn(move || {
                for number in 0.. {
                    let name = format!("{round}-{connection}-{number}");
                    // Some large enough to take another way to the disk.
                    let body = "x".repeat(if number % 7 == 3 {
                        100_000
                    } else {
                        100 * number
                    });
                    smtp.try_raw(
                        "MAIL FROM:<a@b.example>\r\nRCPT TO:<andrew@localhost>\r\n\
                         RCPT TO:<fourouzan@localhost>\r\nDATA\r\n",
                    );
                    for expected in [250, 250, 250, 354] {
                        match smtp.try_reply() {
                            Ok(reply) => assert_eq!(reply.code(), expected, "{reply}"),
                            Err(_) => return,
                        }
                    }
                    smtp.try_raw(format!("Subject: {name}\r\n\r\n{body}\r\n.\r\n"));
                    match smtp.try_reply() {
                        Ok(reply) => assert_eq!(reply.code(), 250, "{reply}"),
                        Err(_) => return,
                    }
                    sender.send(name).unwrap();
                }
            }));
        }
        drop(sender);
        acknowledged.extend(receiver.iter().take(40 + 15 * round));
        server.kill();
        acknowledged.extend(receiver.iter());
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
    }
    let server = sandbox.serve(&[]);
    for user in ["Andrew", "Fourouzan"] {
        let mut seen = HashSet::new();
        for record in sandbox.records(user) {
            let message = String::from_utf8(record.message()).unwrap();
            assert!(message.starts_with(&format!("Subject: {}\n\n", record.subject)));
            assert!(
                seen.insert(record.subject.clone()),
                "{} twice for {user}",
                record.subject
            );
        }
        for name in &acknowledged {
            assert!(seen.contains(name), "{name} is lost for {user}");
        }
    }
    assert_eq!(server.terminate().code, 0);
}

#[test]
fn message_deleted_after_a_crash_does_not_come_back() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for subject in ["one", "two", "three"] {
        let content = format!("Subject: {subject}\n\nhi\n");
        server.deliver("a@b.example", &["andrew@localhost"], content);
    }
    server.kill();
    let shown = sandbox
        .run(&["mailbox", "show", "Andrew", "last"], "")
        .code(0);
    assert!(shown.stdout.contains("Subject: three"), "{shown:#?}");
    sandbox
        .run(&["mailbox", "delete", "Andrew", "1", "3"], "")
        .code(0);
    let server = sandbox.serve(&[]);
    server.deliver(
        "a@b.example",
        &["andrew@localhost"],
        "Subject: four\n\nhi\n",
    );
    let subjects: Vec<_> = sandbox
        .records("Andrew")
        .into_iter()
        .map(|r| r.subject)
        .collect();
    assert_eq!(subjects, ["two", "four"]);
}

/// Leaves octets behind what counts, as a server does that is killed in the middle of a batch.
fn append_to_andrew(sandbox: &Sandbox, octets: &[u8]) {
    let mut mailbox = fs::File::options()
        .append(true)
        .open(sandbox.path("Andrew/mymailbox.mail"))
        .unwrap();
    mailbox.write_all(octets).unwrap();
}

/// What a killed server had written and not acknowledged is whole and proves nothing.
#[test]
fn nobody_sees_after_a_crash_what_was_not_acknowledged() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    server.kill();
    let record =
        "From: x@y\nTo: andrew@localhost\nSubject: no\nReceived: 2021-03-22 : 14 : 06\n.\n";
    append_to_andrew(&sandbox, record.as_bytes());
    let list = ["mailbox", "list", "Andrew"];
    let shown = sandbox.run(&list, "").code(0).stderr_has("set aside in ");
    assert_eq!(shown.stdout.lines().count(), 1, "{shown:#?}");
    sandbox
        .run(&list, "")
        .code(0)
        .silent()
        .stdout(&shown.stdout);
    assert_eq!(sandbox.records("Andrew").len(), 1);
}

/// A root without room comes up, at the price of a copy of what nobody acknowledged.
#[test]
fn killed_server_starts_again_on_a_full_disk() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    server.kill();
    append_to_andrew(&sandbox, &b"From: x@y\n".repeat(1000));
    // No file may be larger than 2 KiB: the copy would be.
    let server = sandbox.serve_under("ulimit -f 4");
    until("it is told", || {
        server.log().contains("cut off without a copy")
    });
    assert_eq!(server.terminate().code, 0);
    assert_eq!(sandbox.records("Andrew").len(), 1);
}

#[test]
fn torn_tail_is_set_aside_and_never_joined_with_the_next_message() {
    let whole =
        "From: a@b\nTo: andrew@localhost\nSubject: old\nReceived: 2021-03-22 : 14 : 05\nhi\n.\n";
    for torn in [
        "From: x@y\nTo: andrew@localhost\nSubject: to",
        "From: x@y\nTo: andrew@localhost\nSubject: torn\nReceived: 2021-03-22 : 14 : 06\nbody\n",
        "From: x@y\nTo: andrew@localhost\nSubject: torn\nReceived: 2021-03-22 : 14 : 06\nbody\n.",
        "F",
    ] {
        for before in ["", whole] {
            let sandbox = Sandbox::lab();
            fs::create_dir(sandbox.path("Andrew")).unwrap();
            let mailbox = sandbox.path("Andrew/mymailbox.mail");
            let mut file = fs::File::create(mailbox).unwrap();
            file.write_all(before.as_bytes()).unwrap();
            file.write_all(torn.as_bytes()).unwrap();
            drop(file);

            let server = sandbox.serve(&[]);
            server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
            let text = sandbox.mailbox("Andrew");
            let rest = text
                .strip_prefix(before)
                .unwrap_or_else(|| panic!("{torn:?}: {text}"));
            assert!(
                rest.starts_with("From: stallings@localhost\n"),
                "{torn:?}: {text}"
            );
            assert_eq!(
                sandbox.records("Andrew").len(),
                1 + usize::from(!before.is_empty())
            );

            let aside: Vec<_> = fs::read_dir(sandbox.path("Andrew"))
                .unwrap()
                .map(|entry| entry.unwrap())
                .filter(|entry| {
                    entry
                        .file_name()
                        .to_string_lossy()
                        .starts_with("mymailbox.torn-")
                })
                .collect();
            assert_eq!(aside.len(), 1, "{torn:?}: not set aside once");
            assert_eq!(fs::read_to_string(aside[0].path()).unwrap(), torn);
        }
    }
}

#[test]
fn mailbox_that_was_removed_by_hand_is_made_anew() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    fs::remove_dir_all(sandbox.path("Andrew")).unwrap();
    server.deliver("stallings@localhost", &["andrew@localhost"], NITC);
    assert_eq!(sandbox.records("Andrew").len(), 1);
}
