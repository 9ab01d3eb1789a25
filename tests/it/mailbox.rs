//! `minismtp mailbox` as a script meets it: on files that it did not write itself.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use crate::lab::Terminal;
use crate::sandbox::Sandbox;

const ONE: &str = "From: stallings@localhost\nTo: andrew@localhost\nSubject: first\n\
                   Received: 2021-03-22 : 14 : 05\nhi\n..\n.\n";
const TWO: &str = "From: fourouzan@localhost\nTo: andrew@localhost\nSubject: \n\
                   Received: 2021-03-22 : 14 : 06\n.\n";
const THREE: &str = "From: <>\nTo: andrew@localhost\nSubject: third\n\
                     Received: 2021-03-23 : 09 : 00\nReturn-Path: <>\n\
                     Received: from x ([127.0.0.1])\n\tby y with ESMTP id 1\n\
                     \tfor <andrew@localhost>;\n\tTue, 23 Mar 2021 09:00:00 +0000\n\
                     Subject: third\nX: y\n\nbody\n.\n";

/// Andrew has three messages, the others none.
fn three() -> Sandbox {
    let sandbox = Sandbox::lab();
    fs::create_dir(sandbox.path("Andrew")).unwrap();
    fs::write(
        sandbox.path("Andrew/mymailbox.mail"),
        format!("{ONE}{TWO}{THREE}"),
    )
    .unwrap();
    sandbox
}

#[test]
fn show_prints_the_records_as_stored() {
    let sandbox = three();
    let show = |arguments: &[&str]| sandbox.run(&[&["mailbox", "show"], arguments].concat(), "");
    for name in ["Andrew", "andrew"] {
        show(&[name])
            .code(0)
            .silent()
            .stdout(&format!("{ONE}{TWO}{THREE}"));
    }
    show(&["Andrew", "1"]).code(0).silent().stdout(ONE);
    show(&["Andrew", "2"]).code(0).silent().stdout(TWO);
    show(&["Andrew", "3"]).code(0).silent().stdout(THREE);
    show(&["Andrew", "last"]).code(0).silent().stdout(THREE);
    show(&["Andrew", "1-2"])
        .code(0)
        .silent()
        .stdout(&format!("{ONE}{TWO}"));
    show(&["Andrew", "2-3"])
        .code(0)
        .silent()
        .stdout(&format!("{TWO}{THREE}"));
    show(&["Andrew", "3-3"]).code(0).silent().stdout(THREE);
}

#[test]
fn show_of_what_is_not_there_is_1() {
    let sandbox = three();
    for arguments in [
        &["Andrew", "4"][..],
        &["Stallings", "1"],
        &["Stallings", "last"],
    ] {
        sandbox
            .run(&[&["mailbox", "show"], arguments].concat(), "")
            .code(1)
            .stdout("");
    }
    sandbox
        .run(&["mailbox", "show", "Stallings"], "")
        .code(0)
        .stdout("")
        .silent();
    for nonsense in ["0", "first", "2-1", "1-", "-", "1,2", "1-2-3"] {
        let output = sandbox
            .run(&["mailbox", "show", "Andrew", nonsense], "")
            .stdout("");
        assert!([1, 64].contains(&output.code), "{nonsense}: {output:#?}");
    }
}

#[test]
fn list_shows_number_date_sender_and_subject() {
    let sandbox = three();
    let output = sandbox
        .run(&["mailbox", "list", "andrew"], "")
        .code(0)
        .silent();
    let lines: Vec<_> = output
        .stdout
        .lines()
        .filter(|line| line.contains("2021-03-2"))
        .collect();
    assert_eq!(lines.len(), 3, "{}", output.stdout);
    for (line, words) in lines.iter().zip([
        ["1", "stallings@localhost", "first"],
        ["2", "fourouzan@localhost", ""],
        ["3", "<>", "third"],
    ]) {
        assert!(line.trim_start().starts_with(words[0]), "{line}");
        assert!(words.iter().all(|word| line.contains(word)), "{line}");
    }
}

#[test]
fn list_without_a_name_counts_for_every_user() {
    let sandbox = three();
    let output = sandbox.run(&["mailbox", "list"], "").code(0).silent();
    for (user, count) in [("Stallings", "0"), ("Fourouzan", "0"), ("Andrew", "3")] {
        let line = output.stdout.lines().find(|line| line.contains(user));
        let line = line.unwrap_or_else(|| panic!("no {user}: {}", output.stdout));
        assert!(line.split_whitespace().any(|word| word == count), "{line}");
    }
}

#[test]
fn list_as_json_can_be_read_by_a_script() {
    let sandbox = three();
    let output = sandbox
        .run(&["mailbox", "list", "Andrew", "--json"], "")
        .code(0)
        .silent();
    let whole = serde_json::from_str::<serde_json::Value>(&output.stdout).ok();
    let lines = || {
        output
            .stdout
            .lines()
            .map(serde_json::from_str::<serde_json::Value>)
            .collect()
    };
    let list: Vec<_> = match whole.as_ref().and_then(serde_json::Value::as_array) {
        Some(array) => array.clone(),
        None => Result::<_, _>::unwrap(lines()),
    };
    assert_eq!(list.len(), 3, "{}", output.stdout);
    let has = |place: usize, text: &str| {
        let object = list[place].as_object().unwrap();
        object.values().any(|value| value.as_str() == Some(text))
    };
    assert!(
        has(0, "first") && has(0, "stallings@localhost"),
        "{}",
        output.stdout
    );
    assert!(has(1, "") && has(2, "third"), "{}", output.stdout);
}

#[test]
fn list_is_safe_to_print_whatever_a_sender_wrote() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    let subject = "\x1b]0;evil\x07\x1b[2J";
    let content = format!("From: a@b.example\nSubject: {subject}\n\nhi\n");
    server.deliver("a@b.example", &["andrew@localhost"], content);
    let output = sandbox.run(&["mailbox", "list", "Andrew"], "").code(0);
    assert!(!output.stdout.contains(['\x1b', '\x07']), "{output:#?}");
}

#[test]
fn delete_removes_the_numbered_messages_and_no_others() {
    let sandbox = three();
    sandbox
        .run(&["mailbox", "delete", "andrew", "2"], "")
        .code(0);
    assert_eq!(sandbox.mailbox("Andrew"), format!("{ONE}{THREE}"));
    sandbox
        .run(&["mailbox", "delete", "Andrew", "1", "2"], "")
        .code(0);
    assert_eq!(sandbox.mailbox("Andrew"), "");
    sandbox
        .run(&["mailbox", "show", "Andrew", "last"], "")
        .code(1);

    let sandbox = three();
    sandbox
        .run(&["mailbox", "delete", "Andrew", "3", "1", "3"], "")
        .code(0);
    assert_eq!(sandbox.mailbox("Andrew"), TWO);
}

#[test]
fn delete_of_what_is_not_there_is_1() {
    let sandbox = three();
    sandbox
        .run(&["mailbox", "delete", "Andrew", "4"], "")
        .code(1)
        .stdout("");
    sandbox
        .run(&["mailbox", "delete", "Stallings", "1"], "")
        .code(1)
        .stdout("");
    sandbox
        .run(&["mailbox", "delete", "Andrew"], "")
        .code(64)
        .stdout("");
    let output = sandbox
        .run(&["mailbox", "delete", "Andrew", "x"], "")
        .stdout("");
    assert!([1, 64].contains(&output.code), "{output:#?}");
    assert_eq!(sandbox.mailbox("Andrew"), format!("{ONE}{TWO}{THREE}"));
}

#[test]
fn delete_works_beside_a_running_server() {
    let sandbox = three();
    let server = sandbox.serve(&[]);
    let mut smtp = server.hello();
    smtp.deliver(
        "a@b.example",
        &["andrew@localhost"],
        "Subject: fourth\n\nhi\n",
    );
    sandbox
        .run(&["mailbox", "delete", "Andrew", "1", "2"], "")
        .code(0);
    smtp.deliver(
        "a@b.example",
        &["andrew@localhost"],
        "Subject: fifth\n\nhi\n",
    );
    let subjects: Vec<_> = sandbox
        .records("Andrew")
        .into_iter()
        .map(|r| r.subject)
        .collect();
    assert_eq!(subjects, ["third", "fourth", "fifth"]);
    assert_eq!(server.terminate().code, 0);
    let subjects: Vec<_> = sandbox
        .records("Andrew")
        .into_iter()
        .map(|r| r.subject)
        .collect();
    assert_eq!(subjects, ["third", "fourth", "fifth"]);
    sandbox.serve(&[]);
    assert_eq!(
        sandbox.records("Andrew").len(),
        3,
        "a restart revives nothing"
    );
}

/// Who holds the lock may have been stopped: whoever waits says for what.
#[test]
fn change_that_has_to_wait_says_so() {
    let sandbox = three();
    let lock = sandbox.lock();
    let mut delete = sandbox.command(&["mailbox", "delete", "Andrew", "2"]);
    let mut delete = delete
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(delete.stderr.take().unwrap());
    let mut line = String::new();
    told.read_line(&mut line).unwrap();
    let path = sandbox.path(".minismtp.lock");
    let path = path.display();
    assert_eq!(
        line,
        format!("warning: waiting for another process that has locked `{path}`\n")
    );
    // Reading goes on.
    let show = ["mailbox", "show", "Andrew", "1"];
    sandbox.run(&show, "").code(0).silent().stdout(ONE);
    drop(lock);
    assert!(delete.wait().unwrap().success());
    assert_eq!(sandbox.mailbox("Andrew"), format!("{ONE}{THREE}"));
}

#[test]
fn mailbox_that_is_a_symlink_is_not_followed() {
    let sandbox = Sandbox::lab();
    fs::create_dir(sandbox.path("Andrew")).unwrap();
    let target = sandbox.beside("target");
    fs::write(&target, ONE).unwrap();
    std::os::unix::fs::symlink(&target, sandbox.path("Andrew/mymailbox.mail")).unwrap();
    let output = sandbox
        .run(&["mailbox", "delete", "Andrew", "1"], "")
        .stdout("");
    assert_ne!(output.code, 0);
    assert_eq!(fs::read_to_string(&target).unwrap(), ONE);
}

#[test]
fn the_file_that_is_of_no_use_is_named() {
    let sandbox = three();
    let ids = sandbox.path("Andrew/.minismtp.ids");
    fs::create_dir(&ids).unwrap();
    let expected = format!("cannot read `{}`: not a regular file", ids.display());
    sandbox
        .run(&["mailbox", "list", "Andrew"], "")
        .code(74)
        .stderr_has(&expected);
}

#[test]
fn root_is_found_by_flag_then_variable_then_current_directory() {
    let sandbox = three();
    let other = Sandbox::lab();
    let root = sandbox.root().to_str().unwrap();
    let show = ["mailbox", "show", "Andrew", "1"];

    other
        .run(&["--root", root, "mailbox", "show", "Andrew", "1"], "")
        .code(0)
        .stdout(ONE);
    other
        .run(&["mailbox", "show", "Andrew", "1", "--root", root], "")
        .code(0)
        .stdout(ONE);
    sandbox.run(&show, "").code(0).stdout(ONE);
    let mut command = other.command(&show);
    command
        .env_remove("MINISMTP_ROOT")
        .current_dir(sandbox.root());
    crate::sandbox::run(&mut command, "").code(0).stdout(ONE);

    // Nowhere else: the user's data directory.
    fs::create_dir_all(other.beside("data")).unwrap();
    fs::rename(sandbox.root(), other.beside("data").join("minismtp")).unwrap();
    let mut command = other.command(&show);
    command.env_remove("MINISMTP_ROOT");
    crate::sandbox::run(&mut command, "").code(0).stdout(ONE);
}

#[test]
fn closed_pipe_ends_quietly() {
    let sandbox = Sandbox::lab();
    fs::create_dir(sandbox.path("Andrew")).unwrap();
    // More than any pipe holds, so that the end of the reader cannot be missed.
    fs::write(sandbox.path("Andrew/mymailbox.mail"), ONE.repeat(20_000)).unwrap();
    for arguments in [
        &["mailbox", "show", "Andrew"][..],
        &["mailbox", "list", "Andrew"],
    ] {
        let mut command = sandbox.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(stderr, "", "{arguments:?}: not quiet");
        assert!(
            matches!(output.status.code(), Some(0) | None),
            "{arguments:?}: {output:?}"
        );
    }
}

/// What a message holds is for who reads it, not for the terminal.
#[test]
fn a_message_cannot_control_the_terminal() {
    let sandbox = Sandbox::lab();
    let record = "From: a@b\nTo: c@d\nSubject: \x1b[31mx\nReceived: T\na\tb\x07\x1b[2Jc\n.\n";
    fs::create_dir(sandbox.path("Andrew")).unwrap();
    fs::write(sandbox.path("Andrew/mymailbox.mail"), record).unwrap();
    let show = ["mailbox", "show", "andrew"];
    sandbox.run(&show, "").code(0).stdout(record);
    let (code, screen) = Terminal::start(&sandbox, &show).end();
    assert_eq!(code, 0, "{screen}");
    assert!(screen.contains("Subject: ?[31mx\r\n"), "{screen}");
    assert!(screen.contains("a\tb??[2Jc\r\n"), "{screen}");
}
