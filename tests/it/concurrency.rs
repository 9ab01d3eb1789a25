//! Many at once: connections, recipients, programs and servers on one root.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::Mutex;
use std::thread;

use crate::sandbox::{Record, Sandbox, until};

const CONNECTIONS: usize = 50;
const MESSAGES_EACH: usize = 20;

/// A body that only this message has, of a length that is all its own.
fn body(name: &str, number: usize) -> String {
    format!(
        "{name} begins\n.\n{}{name} ends\n",
        format!(".{name}\n").repeat(number % 37)
    )
}

/// Fails unless a record holds exactly the body that its subject promises.
#[track_caller]
fn is_unmixed(record: &Record) {
    let name = &record.subject;
    let number = name.rsplit('-').next().unwrap().parse().unwrap();
    assert_eq!(
        record.text(),
        body(name, number),
        "{name} is mixed with another"
    );
}

#[test]
fn thousand_messages_from_fifty_connections_are_neither_lost_nor_mixed_nor_doubled() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let users = ["Andrew", "Fourouzan", "Stallings"];
    let ids = Mutex::new(HashSet::new());
    thread::scope(|scope| {
        for connection in 0..CONNECTIONS {
            let (server, ids) = (&server, &ids);
            scope.spawn(move || {
                let mut smtp = server.hello();
                for number in 0..MESSAGES_EACH {
                    let name = format!("m-{connection}-{number}");
                    let to = format!("{}@localhost", users[connection % 3]);
                    let content = format!(
                        "From: sender@localhost\nTo: {to}\nSubject: {name}\n\n{}",
                        body(&name, number)
                    );
                    let id = smtp.deliver("sender@localhost", &[&to], content);
                    assert!(ids.lock().unwrap().insert(id), "an id was given twice");
                }
            });
        }
    });
    assert_eq!(server.terminate().code, 0);
    let mut seen = HashSet::new();
    for (place, user) in users.iter().enumerate() {
        for record in sandbox.records(user) {
            is_unmixed(&record);
            let connection: usize = record.subject.split('-').nth(1).unwrap().parse().unwrap();
            assert_eq!(
                connection % 3,
                place,
                "{} is in {user}'s mailbox",
                record.subject
            );
            assert!(
                seen.insert(record.subject.clone()),
                "{} is there twice",
                record.subject
            );
        }
    }
    assert_eq!(seen.len(), CONNECTIONS * MESSAGES_EACH);
}

#[test]
fn messages_to_several_users_reach_all_of_them_in_full() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let to = [
        "andrew@localhost",
        "fourouzan@localhost",
        "stallings@localhost",
    ];
    thread::scope(|scope| {
        for connection in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut smtp = server.hello();
                for number in 0..10 {
                    let name = format!("Subject: a-{connection}-{number}\n\nhi\n");
                    smtp.deliver("sender@localhost", &to, name);
                }
            });
        }
    });
    for user in ["Andrew", "Fourouzan", "Stallings"] {
        let subjects: HashSet<_> = sandbox
            .records(user)
            .into_iter()
            .map(|r| r.subject)
            .collect();
        assert_eq!(
            (subjects.len(), sandbox.records(user).len()),
            (80, 80),
            "{user}"
        );
    }
}

#[test]
fn server_and_mailbox_delete_at_once_lose_and_revive_nothing() {
    const MESSAGES: usize = 100;
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let deleted = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut smtp = server.hello();
            for number in 0..MESSAGES {
                let name = format!("d-{number}");
                let content = format!(
                    "From: sender@localhost\nTo: andrew@localhost\nSubject: {name}\n\n{}",
                    body(&name, number)
                );
                smtp.deliver("sender@localhost", &["andrew@localhost"], content);
            }
        });
        let mut deleted = 0;
        while !sender.is_finished() {
            let output = sandbox.run(&["mailbox", "delete", "Andrew", "1"], "");
            assert!(matches!(output.code, 0 | 1), "{output:#?}");
            deleted += usize::from(output.code == 0);
        }
        deleted
    });
    let left = sandbox.records("Andrew");
    left.iter().for_each(is_unmixed);
    assert_eq!(left.len() + deleted, MESSAGES, "{deleted} were deleted");
    // The first is what is deleted, so what is left are the last, in order.
    let subjects: Vec<_> = left.iter().map(|record| record.subject.clone()).collect();
    let expected: Vec<_> = (deleted..MESSAGES)
        .map(|number| format!("d-{number}"))
        .collect();
    assert_eq!(subjects, expected);
    server.deliver(
        "sender@localhost",
        &["andrew@localhost"],
        "Subject: after\n\nhi\n",
    );
    assert_eq!(sandbox.records("Andrew").last().unwrap().subject, "after");
}

#[test]
fn second_server_on_one_root_is_refused() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let output = sandbox
        .run(&["serve", "--port", "0"], "")
        .code(75)
        .stdout("");
    assert!(output.stderr.contains("error: "), "{output:#?}");
    server.deliver("a@b.example", &["andrew@localhost"], "Subject: x\n\nhi\n");
    assert_eq!(server.terminate().code, 0);
    let next = sandbox.serve(&[]);
    next.deliver("a@b.example", &["andrew@localhost"], "Subject: y\n\nhi\n");
    next.kill();
    // A killed server leaves no lock behind.
    sandbox
        .serve(&[])
        .deliver("a@b.example", &["andrew@localhost"], "Subject: z\n\nhi\n");
    assert_eq!(sandbox.records("Andrew").len(), 3);
}

/// Somebody who is stopped while deleting keeps messages waiting, and nobody else.
#[test]
fn held_lock_keeps_only_messages_waiting() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    // A server that has been quick stores at once what comes from one client alone.
    for _ in 0..20 {
        smtp.deliver("a@b.example", &["andrew@localhost"], "Subject: x\n\nhi\n");
    }
    let lock = sandbox.lock();
    smtp.envelope("a@b.example", &["andrew@localhost"]);
    smtp.ask("DATA", "354 ");
    smtp.raw("Subject: y\r\n\r\nhi\r\n.\r\n");
    server.hello().ask("NOOP", "250 ");
    until("it is told in the log", || {
        server.log().contains("waiting for another process")
    });
    drop(lock);
    smtp.expect("250 ");
    assert_eq!(server.terminate().code, 0);
    assert_eq!(sandbox.records("Andrew").len(), 21);
}

#[test]
fn server_that_has_to_wait_for_the_root_says_so() {
    let sandbox = Sandbox::lab();
    let lock = sandbox.lock();
    let mut serve = sandbox.command(&["serve", "--port", "0"]);
    let mut serve = serve
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(serve.stderr.as_mut().unwrap()).lines();
    let told = log.find(|line| line.as_ref().unwrap().contains("waiting"));
    let told = told.unwrap().unwrap();
    assert!(told.contains("waiting for another process"), "{told}");
    drop(lock);
    let mut listening = String::new();
    let stdout = serve.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut listening).unwrap();
    assert!(listening.starts_with("listening smtp "), "{listening}");
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn users_changed_at_once_all_arrive() {
    let sandbox = Sandbox::lab();
    thread::scope(|scope| {
        for number in 0..8 {
            let sandbox = &sandbox;
            scope.spawn(move || {
                let name = format!("user{number}");
                let arguments = ["users", "add", &name, "--plain", "--password-stdin"];
                sandbox.run(&arguments, "secret\n").code(0);
            });
        }
    });
    let file = sandbox.read("logincred.txt");
    assert!(file.starts_with(crate::sandbox::LAB), "{file}");
    for number in 0..8 {
        assert!(file.contains(&format!("\nuser{number},secret\n")), "{file}");
    }
    assert_eq!(file.lines().count(), 11, "{file}");
}
