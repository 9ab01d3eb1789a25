//! `minismtp shell` from a pipe and at a terminal, with our server and with odd ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::thread;

use crate::lab::Terminal;
use crate::sandbox::{Output, Sandbox, Server, run};

/// Runs the shell on these lines.
fn piped(sandbox: &Sandbox, server: &Server, flags: &[&str], lines: &str) -> Output {
    let address = server.pop3_address().to_string();
    let mut command = sandbox.command(&["shell", "--server", &address]);
    run(command.args(flags), lines)
}

/// A server that greets, then plays these answers, one to each line, and hangs up. Gives its
/// address, and in the end the lines it has heard.
fn fake(answers: &'static [&'static str]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut heard = Vec::new();
        let mut answers = answers.iter();
        if let Some(greeting) = answers.next() {
            stream.write_all(greeting.as_bytes()).unwrap();
        }
        for answer in answers {
            match lines.next() {
                Some(Ok(line)) => heard.push(line),
                _ => return heard,
            }
            stream.write_all(answer.as_bytes()).unwrap();
        }
        heard
    });
    (address, heard)
}

fn with_fake(
    answers: &'static [&'static str],
    flags: &[&str],
    lines: &str,
) -> (Output, Vec<String>) {
    let (address, heard) = fake(answers);
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(&["shell", "--server", &address]);
    let output = run(command.args(flags), lines);
    (output, heard.join().unwrap())
}

#[test]
fn piped_session_prints_the_answers_and_nothing_else() {
    let (output, heard) = with_fake(
        &[
            "+OK ready\r\n",
            "+OK 1 users: a\r\n",
            "-ERR b already present\r\n",
            "+OK a has 2 messages\r\n",
            "+OK 9 octets\r\nSubject: x\r\n\r\n..\r\n..hi\r\n.\r\n",
            "+OK\r\n",
            "+OK Type Message, end with ###\r\n",
            "",
            "",
            "+OK delivered\r\n",
            "-ERR No More Mail\r\n",
            "+OK\r\n",
            "+OK bye\r\n",
        ],
        &[],
        "LISTUSERS\nadduser b\n\nSetUser a\r\nRead\nDelete\nSend b\n.dot\na ### b\nend###\nread\n\
         Done\nQuit\nListusers\n",
    );
    let heard: Vec<_> = heard.iter().map(String::as_str).collect();
    let expected = [
        "LSTU", "ADDU b", "USER a", "READM", "DELM", "SEND b", ".dot", "a ### b", "end###",
        "READM", "DONEU", "QUIT",
    ];
    assert_eq!(heard, expected);
    output
        .code(0)
        .stdout(
            "+OK ready\n+OK 1 users: a\n-ERR b already present\n+OK a has 2 messages\n\
             +OK 9 octets\nSubject: x\n\n.\n.hi\n+OK\n+OK Type Message, end with ###\n\
             +OK delivered\n-ERR No More Mail\n+OK\n+OK bye\n",
        )
        .silent();
}

#[test]
fn end_of_input_quits() {
    let (output, heard) = with_fake(&["+OK ready\r\n", "+OK bye\r\n"], &[], "");
    assert_eq!(heard, ["QUIT"]);
    output.code(0).stdout("+OK ready\n+OK bye\n").silent();
}

#[test]
fn unknown_words_list_the_options() {
    let (output, heard) = with_fake(
        &["+OK ready\r\n", "+OK bye\r\n"],
        &[],
        "help\nSetUser\nadduser a b\nlistusers a\nRead\nQuit\n",
    );
    assert_eq!(heard, ["QUIT"]);
    let output = output.code(0);
    let hint = "hint: the options are Listusers, Adduser <userid>, SetUser <userid> and Quit\n";
    assert_eq!(
        output.stderr,
        format!(
            "error: there is no option `help` here\n{hint}\
             error: `SetUser` takes one user id, as `SetUser Andrew`\n\
             error: `Adduser` takes one user id, as `Adduser Andrew`\n\
             error: `Listusers` stands alone on its line\n\
             error: there is no option `Read` here\n{hint}"
        )
    );
}

#[test]
fn password_follows_where_the_mailbox_is_not_open() {
    let answers: &[&str] = &[
        "+OK ready\r\n",
        "+OK send PASS\r\n",
        "+OK a has 0 messages\r\n",
        "-ERR No More Mail\r\n",
        "+OK bye\r\n",
    ];
    let (address, heard) = fake(answers);
    let sandbox = Sandbox::new();
    let file = sandbox.beside("password");
    std::fs::write(&file, "two words\n").unwrap();
    let mut command = sandbox.command(&["shell", "--server", &address, "--user", "a"]);
    let output = run(command.arg("--password-file").arg(file), "Read\n");
    assert_eq!(
        heard.join().unwrap(),
        ["USER a", "PASS two words", "READM", "QUIT"]
    );
    let output = output.code(0).silent();
    assert!(!output.stdout.contains("two words"), "{output:?}");
}

#[test]
fn refused_login_is_77_where_it_was_asked_for() {
    const ANSWERS: &[&str] = &[
        "+OK ready\r\n",
        "+OK send PASS\r\n",
        "-ERR [AUTH] invalid\r\n",
        "+OK bye\r\n",
    ];
    for (flags, lines, code) in [
        (&["--user", "a"][..], "Read\n", 77),
        (&[], "SetUser a\n", 0),
    ] {
        let (address, heard) = fake(ANSWERS);
        let sandbox = Sandbox::new();
        let mut command = sandbox.command(&["shell", "--server", &address]);
        command.args(flags).env("MINISMTP_PASSWORD", "wrong");
        let output = run(&mut command, lines).code(code);
        assert_eq!(heard.join().unwrap(), ["USER a", "PASS wrong", "QUIT"]);
        assert!(
            output.stdout.contains("-ERR [AUTH] invalid\n"),
            "{output:?}"
        );
    }
}

#[test]
fn refused_send_does_not_turn_its_message_into_words() {
    let (output, heard) = with_fake(
        &[
            "+OK ready\r\n",
            "+OK a has 1 messages\r\n",
            "-ERR no such user\r\n",
            "-ERR No More Mail\r\n",
            "+OK bye\r\n",
        ],
        &[],
        "SetUser a\nSend nobody\nDelete\nQuit\n###\nRead\n",
    );
    assert_eq!(heard, ["USER a", "SEND nobody", "READM", "QUIT"]);
    output.code(0).silent();
}

#[test]
fn message_without_its_end_is_not_sent() {
    let (output, heard) = with_fake(
        &[
            "+OK ready\r\n",
            "+OK a has 1 messages\r\n",
            "+OK Type Message\r\n",
            "",
            "",
        ],
        &[],
        "SetUser a\nSend b\nhalf a message\n",
    );
    assert_eq!(heard, ["USER a", "SEND b"]);
    output.code(65).stderr_has("###");
}

#[test]
fn lost_connection_and_no_connection_are_75() {
    let (output, _) = with_fake(
        &["+OK ready\r\n", "+OK a has 1 messages\r\n"],
        &[],
        "SetUser a\nRead\n",
    );
    output
        .code(75)
        .stderr_has("connection was lost")
        .stderr_has("hint: ");
    let (output, _) = with_fake(&[], &[], "Quit\n");
    output
        .code(75)
        .stderr_has("hint: if TLS comes first on this port, `--tls implicit` begins it");
    let (output, _) = with_fake(&["-ERR [SYS/TEMP] too many connections\r\n"], &[], "Quit\n");
    output
        .code(75)
        .stdout("-ERR [SYS/TEMP] too many connections\n");
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let sandbox = Sandbox::new();
    let output = sandbox
        .run(&["shell", "--server", &closed.to_string()], "Listusers\n")
        .code(75);
    output
        .stdout("")
        .stderr_has("hint: ")
        .stderr_has("minismtp serve --lab");
}

#[test]
fn other_protocols_are_76() {
    let (output, _) = with_fake(&["220 mx.example ESMTP\r\n"], &[], "Quit\n");
    output.code(76).stderr_has("220 mx.example ESMTP");
}

#[test]
fn bad_server_is_64() {
    let sandbox = Sandbox::new();
    sandbox
        .run(&["shell", "--server", "localhost:x"], "")
        .code(64);
}

// With our server.

#[test]
fn lab_session_works_from_a_pipe() {
    let sandbox = Sandbox::new();
    let server = sandbox.serve_pop3(&["--lab"]);
    piped(
        &sandbox,
        &server,
        &[],
        "Adduser alice\nAdduser bob\nListusers\nSetUser alice\nSend bob\nSubject: hi\nhello\n###\n\
         Send nobody\nlost\n###\nDone\nSetUser bob\nRead\nDelete\nRead\nDone\nQuit\n",
    )
    .code(0)
    .silent();
    assert_eq!(sandbox.records("bob").len(), 0);
    let output = piped(
        &sandbox,
        &server,
        &[],
        "SetUser alice\nSend bob\nhello###\nDone\n",
    )
    .code(0);
    assert!(output.stdout.contains("\n+OK delivered\n"), "{output:#?}");
    let output = piped(&sandbox, &server, &[], "SetUser bob\nRead\nQuit\n").code(0);
    assert!(
        output.stdout.contains("+OK bob has 1 messages\n"),
        "{output:#?}"
    );
    assert!(output.stdout.contains("\n\nhello\n+OK"), "{output:#?}");
}

#[test]
fn passwords_are_asked_for_without_the_lab() {
    let sandbox = Sandbox::lab();
    let server = sandbox.serve_pop3(&[]);
    let address = server.pop3_address().to_string();
    let mut terminal = Terminal::start(&sandbox, &["shell", "--server", &address]);
    terminal.expect("Main-Prompt> ");
    terminal.line("SetUser Andrew");
    terminal.hidden("Password of Andrew: ", "wrong");
    terminal.expect("-ERR [AUTH]");
    terminal.expect("Main-Prompt> ");
    terminal.line("SetUser Andrew");
    terminal.hidden("Password of Andrew: ", "@dministr@tor");
    terminal.expect("+OK");
    terminal.expect("Sub-Prompt-Andrew> ");
    terminal.line("Listusers");
    terminal.expect("+OK 3 users: Andrew Fourouzan Stallings");
    terminal.expect("Sub-Prompt-Andrew> ");
    terminal.line("Quit");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert!(
        !screen.contains("@dministr@tor") && !screen.contains("wrong"),
        "{screen}"
    );
}

/// Teena's sheet from beginning to end, on a terminal of this kind.
fn teena(term: &str) {
    let sandbox = Sandbox::new();
    let server = sandbox.serve_pop3(&["--lab"]);
    let address = server.pop3_address().to_string();
    let arguments = ["shell", "--server", &address];
    let mut terminal = Terminal::start_with(&sandbox, &arguments, &[("TERM", term)]);
    let mut say = |prompt: &str, line: &str, answer: &str| {
        terminal.expect(prompt);
        terminal.line(line);
        terminal.expect(answer);
    };
    let main = "Main-Prompt> ";
    let alice = "Sub-Prompt-alice> ";
    let bob = "Sub-Prompt-bob> ";
    say(main, "Adduser alice", "+OK alice added");
    say(main, "Adduser bob", "+OK bob added");
    say(main, "Adduser bob", "-ERR bob already present");
    say(main, "Listusers", "+OK 2 users: alice bob");
    say(
        main,
        "xyzzy",
        "Listusers, Adduser <userid>, SetUser <userid> and Quit",
    );
    assert_eq!(sandbox.mailbox("bob"), "");
    say(main, "SetUser alice", "+OK alice has 0 messages");
    say(alice, "Send nobody", "-ERR");
    say(alice, "Send bob", "Type Message:");
    say("", "Subject: lunch", "");
    say("", ".at one?", "");
    say("", "###", "+OK delivered");
    say(alice, "Done", "+OK");
    let records = sandbox.records("bob");
    assert_eq!(
        (records[0].subject.as_str(), records[0].text().as_str()),
        ("lunch", ".at one?\n")
    );
    server.deliver(
        "x@y.example",
        &["bob@localhost"],
        "Subject: by SMTP\n\nhello\n",
    );
    say(main, "SetUser bob", "+OK bob has 2 messages");
    say(bob, "Read", "Subject: lunch");
    say("", "Delete", "+OK");
    assert_eq!(sandbox.records("bob").len(), 1);
    say(bob, "Read", "Subject: by SMTP");
    say(bob, "Read", "-ERR No More Mail");
    say(bob, "Done", "+OK");
    say(main, "Quit", "+OK");
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
}

#[test]
fn teenas_session_on_a_terminal() {
    teena("xterm");
}

#[test]
fn teenas_session_on_a_terminal_that_can_do_nothing() {
    teena("dumb");
}

#[test]
fn tab_and_arrows_work_on_a_terminal() {
    let (address, heard) = fake(&[
        "+OK ready\r\n",
        "+OK 2 users: Andrew Stallings\r\n",
        "+OK Stallings has 0 messages\r\n",
        "-ERR No More Mail\r\n",
        "-ERR No More Mail\r\n",
        "+OK bye\r\n",
    ]);
    let sandbox = Sandbox::new();
    let arguments = ["shell", "--server", &address];
    let mut terminal = Terminal::start_with(&sandbox, &arguments, &[("TERM", "xterm")]);
    terminal.expect("Main-Prompt> ");
    terminal.line("se\tst\t");
    terminal.expect("+OK Stallings has 0 messages");
    terminal.expect("Sub-Prompt-Stallings> ");
    terminal.line("Read");
    terminal.expect("-ERR No More Mail");
    terminal.expect("Sub-Prompt-Stallings> ");
    terminal.line("\x1b[A");
    terminal.expect("-ERR No More Mail");
    terminal.expect("Sub-Prompt-Stallings> ");
    terminal.end_of_input();
    let (code, screen) = terminal.end();
    assert_eq!(code, 0, "{screen}");
    assert_eq!(
        heard.join().unwrap(),
        ["LSTU", "USER Stallings", "READM", "READM", "QUIT"]
    );
}
