//! `minismtp users` as a script meets it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::lab::Terminal;
use crate::sandbox::{LAB, Sandbox};

#[test]
fn list_names_every_user_in_the_order_of_the_file() {
    let sandbox = Sandbox::lab();
    let output = sandbox.run(&["users", "list"], "").code(0).silent();
    let names: Vec<_> = output
        .stdout
        .lines()
        .map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(
        names,
        [Some("Stallings"), Some("Fourouzan"), Some("Andrew")]
    );
    for secret in ["network$ecurity", "d@t@comm", "@dministr@tor"] {
        assert!(!output.stdout.contains(secret), "{}", output.stdout);
    }
}

#[test]
fn list_of_an_empty_root_is_empty() {
    Sandbox::new()
        .run(&["users", "list"], "")
        .code(0)
        .stdout("");
}

#[test]
fn added_user_has_an_argon2id_secret_and_can_be_checked() {
    let sandbox = Sandbox::lab();
    sandbox
        .run(
            &["users", "add", "alice", "--password-stdin"],
            "won,der l@nd$\n",
        )
        .code(0)
        .silent();
    let file = sandbox.read("logincred.txt");
    assert!(file.starts_with(LAB), "the other lines are kept: {file}");
    let line = file.lines().last().unwrap();
    assert!(line.starts_with("alice,$argon2id$v=19$"), "{line}");
    assert_eq!(file.lines().count(), 4);
    sandbox
        .run(
            &["users", "check", "alice", "--password-stdin"],
            "won,der l@nd$\n",
        )
        .code(0);
    for wrong in ["won", "won,der l@nd", "", "won,der l@nd$x"] {
        let output = sandbox.run(
            &["users", "check", "Alice", "--password-stdin"],
            format!("{wrong}\n"),
        );
        assert!([1, 65, 77].contains(&output.code), "{wrong:?}: {output:#?}");
    }
}

#[test]
fn added_secrets_are_salted() {
    let sandbox = Sandbox::new();
    for name in ["one", "two"] {
        sandbox
            .run(&["users", "add", name, "--password-stdin"], "same\n")
            .code(0);
    }
    let file = sandbox.read("logincred.txt");
    let secrets: Vec<_> = file
        .lines()
        .map(|line| line.split_once(',').unwrap().1)
        .collect();
    assert_ne!(secrets[0], secrets[1]);
}

#[test]
fn plain_password_is_written_as_the_lab_has_it() {
    let sandbox = Sandbox::new();
    let add = ["users", "add", "Stallings", "--plain", "--password-stdin"];
    sandbox.run(&add, "network$ecurity\n").code(0).silent();
    assert_eq!(sandbox.read("logincred.txt"), "Stallings,network$ecurity\n");
    let mode = fs::metadata(sandbox.path("logincred.txt"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(format!("{:o}", mode & 0o777), "600");
}

#[test]
fn mode_of_the_file_is_kept() {
    let sandbox = Sandbox::lab();
    let file = sandbox.path("logincred.txt");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    sandbox
        .run(&["users", "add", "alice", "--password-stdin"], "x\n")
        .code(0);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(format!("{:o}", mode & 0o777), "640");
    let left: Vec<_> = fs::read_dir(sandbox.root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "logincred.txt" && name != "alice" && !name.starts_with(".minismtp"))
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn name_that_is_taken_in_any_case_is_refused() {
    let sandbox = Sandbox::lab();
    for name in ["Andrew", "ANDREW", "andrew"] {
        let output = sandbox
            .run(&["users", "add", name, "--password-stdin"], "x\n")
            .stdout("");
        assert_ne!(output.code, 0, "{name}");
        assert!(
            output.stderr.contains("Andrew") || output.stderr.contains(name),
            "{output:#?}"
        );
    }
    assert_eq!(sandbox.read("logincred.txt"), LAB);
}

#[test]
fn name_that_is_no_safe_word_is_refused() {
    let sandbox = Sandbox::lab();
    let long = "n".repeat(65);
    for name in [
        "", ".", "..", ".hidden", "a/b", "a b", "a,b", "a@b", "a\tb", "a\nb", "../x", &long,
    ] {
        let output = sandbox
            .run(&["users", "add", "--password-stdin", "--", name], "x\n")
            .stdout("");
        assert!([64, 65].contains(&output.code), "{name:?}: {output:#?}");
    }
    let output = sandbox
        .run(&["users", "add", "--password-stdin", "--", "-x"], "x\n")
        .stdout("");
    assert!([64, 65].contains(&output.code), "{output:#?}");
    assert_eq!(sandbox.read("logincred.txt"), LAB);
}

#[test]
fn password_that_cannot_stand_in_the_file_is_refused() {
    let sandbox = Sandbox::lab();
    for (plain, password) in [
        ("--plain", "two words\n"),
        ("--plain", "\n"),
        ("--plain", ""),
    ] {
        let add = ["users", "add", "alice", plain, "--password-stdin"];
        let output = sandbox.run(&add, password).stdout("");
        assert_ne!(output.code, 0, "{password:?}: {output:#?}");
    }
    let add = ["users", "add", "alice", "--password-stdin"];
    assert_ne!(sandbox.run(&add, "\n").code, 0, "an empty password");
    // A plain secret that reads as a hash would never match what was typed.
    let add = ["users", "add", "alice", "--plain", "--password-stdin"];
    assert_ne!(
        sandbox.run(&add, "$argon2id$v=19$x\n").code,
        0,
        "looks like a hash"
    );
    assert_eq!(sandbox.read("logincred.txt"), LAB);
}

#[test]
fn passwd_replaces_one_line_and_keeps_the_spelling() {
    let sandbox = Sandbox::lab();
    sandbox
        .run(&["users", "passwd", "andrew", "--password-stdin"], "new\n")
        .code(0)
        .silent();
    let file = sandbox.read("logincred.txt");
    let lines: Vec<_> = file.lines().collect();
    assert_eq!(
        lines[..2],
        ["Stallings,network$ecurity", "Fourouzan,d@t@comm"]
    );
    assert!(lines[2].starts_with("Andrew,$argon2id$"), "{file}");
    sandbox
        .run(&["users", "check", "Andrew", "--password-stdin"], "new\n")
        .code(0);
    let old = sandbox.run(
        &["users", "check", "Andrew", "--password-stdin"],
        "@dministr@tor\n",
    );
    assert_ne!(old.code, 0);
}

#[test]
fn plain_passwords_of_the_lab_can_be_checked() {
    let sandbox = Sandbox::lab();
    for (name, password) in [("Stallings", "network$ecurity"), ("FOUROUZAN", "d@t@comm")] {
        for end in ["\n", "\r\n", ""] {
            let check = ["users", "check", name, "--password-stdin"];
            sandbox.run(&check, format!("{password}{end}")).code(0);
        }
    }
}

#[test]
fn unknown_user_is_67() {
    let sandbox = Sandbox::lab();
    for arguments in [
        &["users", "remove", "nobody"][..],
        &["users", "passwd", "nobody", "--password-stdin"],
        &["mailbox", "show", "nobody"],
        &["mailbox", "list", "nobody"],
        &["mailbox", "delete", "nobody", "1"],
    ] {
        let output = sandbox.run(arguments, "x\n").code(67).stdout("");
        assert!(output.stderr.contains("nobody"), "{output:#?}");
    }
    assert_eq!(sandbox.read("logincred.txt"), LAB);
    assert!(!sandbox.path("nobody").exists());
}

#[test]
fn removed_user_keeps_the_mailbox_unless_told_otherwise() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve(&[]);
    for to in ["andrew@localhost", "fourouzan@localhost"] {
        server.deliver("a@b.example", &[to], "Subject: x\n\nhi\n");
    }
    drop(server);
    let removed = sandbox.run(&["users", "remove", "andrew"], "").code(0);
    assert_eq!(
        removed.stderr,
        "hint: the mail is still there; `minismtp users remove Andrew --with-mail` removes it\n"
    );
    assert_eq!(sandbox.records("Andrew").len(), 1);
    sandbox
        .run(&["users", "remove", "Fourouzan", "--with-mail"], "")
        .code(0)
        .silent();
    assert!(!sandbox.path("Fourouzan").exists());
    sandbox
        .run(&["users", "remove", "andrew", "--with-mail"], "")
        .stdout("removed the mail of Andrew, who was no user\n")
        .code(0)
        .silent();
    assert!(!sandbox.path("Andrew").exists());
    sandbox
        .run(&["users", "remove", "andrew", "--with-mail"], "")
        .code(67);
    assert_eq!(sandbox.read("logincred.txt"), "Stallings,network$ecurity\n");
}

#[test]
fn lines_that_are_not_understood_are_kept() {
    let sandbox = Sandbox::new();
    let file = "no comma here\n\nAndrew,x\n";
    fs::write(sandbox.path("logincred.txt"), file).unwrap();
    let output = sandbox
        .run(
            &["users", "add", "alice", "--plain", "--password-stdin"],
            "y\n",
        )
        .code(0);
    assert!(output.stderr.contains("line 1"), "{output:#?}");
    assert_eq!(sandbox.read("logincred.txt"), format!("{file}alice,y\n"));
}

#[test]
fn hash_of_another_system_is_a_word_that_is_warned_of() {
    let sandbox = Sandbox::new();
    let hash = "$2y$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";
    sandbox.write_users(&format!("Andrew,x\nBerta,{hash}\n"));
    let told = "line 2 has a hash that only other systems can check: it is itself the password of \
                Berta here; `minismtp users passwd Berta` sets another";
    for arguments in [
        &["users", "list"][..],
        &["users", "check", "Berta", "--password-stdin"],
    ] {
        let output = sandbox.run(arguments, hash).code(0);
        assert_eq!(output.stderr.matches(told).count(), 1, "{output:?}");
        assert!(!output.stderr.contains("skipped") && !output.stderr.contains(hash));
    }
    let log = sandbox.serve(&[]).terminate().log;
    assert_eq!(log.matches(told).count(), 1, "{log}");
    assert!(!log.contains(hash), "{log}");
    let passwd = ["users", "passwd", "Berta", "--password-stdin"];
    sandbox.run(&passwd, "y").code(0).stderr_has(told);
    sandbox.run(&["users", "list"], "").code(0).silent();
}

#[test]
fn last_line_without_an_end_is_not_joined_with_the_next() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("logincred.txt"), "Andrew,x").unwrap();
    sandbox
        .run(
            &["users", "add", "alice", "--plain", "--password-stdin"],
            "y\n",
        )
        .code(0);
    assert_eq!(sandbox.read("logincred.txt"), "Andrew,x\nalice,y\n");
}

#[test]
fn names_that_differ_only_in_case_are_78() {
    let sandbox = Sandbox::lab().user("ANDREW", "x");
    sandbox
        .run(&["users", "list"], "")
        .code(78)
        .stdout("")
        .stderr_has("Andrew");
    sandbox
        .run(&["users", "check", "Andrew", "--password-stdin"], "x\n")
        .code(78);
}

#[test]
fn password_is_asked_for_twice_on_a_terminal() {
    let sandbox = Sandbox::lab();
    let mut terminal = Terminal::start(&sandbox, &["users", "add", "alice"]);
    terminal.hidden(": ", "wonderland");
    terminal.hidden(": ", "wonderland");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(!screen.contains("wonderland"), "{screen}");
    sandbox
        .run(
            &["users", "check", "alice", "--password-stdin"],
            "wonderland\n",
        )
        .code(0);

    let mut terminal = Terminal::start(&sandbox, &["users", "add", "bob"]);
    terminal.hidden(": ", "one");
    terminal.hidden(": ", "another");
    let (code, screen) = terminal.end();
    assert_ne!(code, 0, "{screen}");
    assert!(!sandbox.read("logincred.txt").contains("bob"));
}
