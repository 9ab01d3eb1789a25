
use builtin;
use str;

set edit:completion:arg-completer[minismtp] = {|@words|
    fn spaces {|n|
        builtin:repeat $n ' ' | str:join ''
    }
    fn cand {|text desc|
        edit:complex-candidate $text &display=$text' '(spaces (- 14 (wcswidth $text)))$desc
    }
    var command = 'minismtp'
    for word $words[1..-1] {
        if (str:has-prefix $word '-') {
            break
        }
        set command = $command';'$word
    }
    var completions = [
        &'minismtp'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand -V 'Print version'
            cand --version 'Print version'
            cand serve 'Receive mail over SMTP, file it in the users'' mailboxes, and give access to them over POP3'
            cand send 'Send mail: with a menu at a terminal, or one mail from a pipe'
            cand shell 'Talk to a mail server in Teena''s eight words: list and add users, read, delete and send mail'
            cand users 'List, add and remove users, and set or check their passwords'
            cand mailbox 'List, show and delete mail'
            cand demo 'Show all of it at work: a server, a client, a mail and the mailbox it ends up in'
            cand completions 'Print a script that lets your shell complete minismtp''s commands and options'
            cand man 'Write the manual pages, one for every command, into a directory'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'minismtp;serve'= {
            cand -p 'The port to listen on; 0 is a free one [default: 2525]'
            cand --port 'The port to listen on; 0 is a free one [default: 2525]'
            cand --pop3-port 'The port for access to mailboxes: POP3, and the verbs of Teena''s lab; 0 is a free one'
            cand --lmtp-port 'The port for LMTP, over which another mail server hands over mail; 0 is a free one'
            cand --lmtp-host 'An address or name of this machine to listen on for LMTP; may be given more than once'
            cand --lmtp-socket 'A Unix socket for LMTP'
            cand --smtps-port 'The port for SMTP under TLS from the first octet; 0 is a free one'
            cand --pop3s-port 'The port for access to mailboxes under TLS from the first octet; 0 is a free one'
            cand --tls-cert 'The server''s certificate, and those that vouch for it, in PEM; for STARTTLS, STLS and the ports under TLS'
            cand --tls-key 'The certificate''s private key, in PEM, without a pass phrase'
            cand --tls 'Make a certificate of our own, once, and keep it in the mail root'
            cand --host 'An address or name of this machine to listen on; may be given more than once'
            cand --domain 'A domain whose mail is ours; may be given more than once. Without it, every domain is'
            cand --catch-all 'The user who gets mail for users that do not exist'
            cand --auth 'Whether senders have to log in'
            cand --max-message-size 'The largest message, in octets, or with K, M or G behind'
            cand --max-recipients 'How many recipients a message may have, 100 at least'
            cand --max-connections 'How many connections there may be at once [default: 10000, or as many as the system has file handles for]'
            cand --max-connections-per-address 'How many of them may come from one address, or IPv6 network (/64). This machine may have any'
            cand --timeout 'How long to wait for a command or for more text, in seconds'
            cand --hostname 'The name that the server calls itself [default: the machine''s name]'
            cand --user 'The user of this machine to run as, once the ports are bound; for a server started by root'
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --lab 'Ask for no passwords at mailbox access, and let everybody there add users'
            cand --insecure-auth 'Take passwords in clear from other machines too, for others on the way to read'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;send'= {
            cand --server 'The mail server; the port is 2525 if it is left out, and IPv6 addresses stand in brackets'
            cand --user 'Log in as this user'
            cand --password-file 'Take the password from the first line of this file'
            cand --tls 'When the connection is under TLS [default: starttls]'
            cand --tls-ca 'Trust the authorities, or the server''s certificate, in this PEM file and no others'
            cand --tls-fingerprint 'Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it'
            cand --timeout 'Wait no longer than this for any answer; otherwise as long as RFC 5321 wants, which is minutes'
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --insecure-auth 'Log in even where others may read the password on its way'
            cand --require-tls 'Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`'
            cand --tls-insecure 'Do not check the certificate: others may be at the other end'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;shell'= {
            cand --server 'The server; the port is 1110 if it is left out, and IPv6 addresses stand in brackets'
            cand --user 'Open this user''s mailbox at once, as `SetUser` does'
            cand --password-file 'Take the password from the first line of this file'
            cand --tls-ca 'Trust the authorities, or the server''s certificate, in this PEM file and no others'
            cand --tls-fingerprint 'Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it'
            cand --tls 'When the connection is under TLS [default: starttls, and off with this machine unless another flag asks for TLS]'
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --insecure-auth 'Log in even where others may read the password on its way'
            cand --require-tls 'Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`'
            cand --tls-insecure 'Do not check the certificate: others may be at the other end'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;users'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand list 'Print the names of all users, one on each line'
            cand add 'Add a user'
            cand remove 'Remove a user; the mailbox stays'
            cand passwd 'Give a user another password'
            cand check 'Check a user''s password'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'minismtp;users;list'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --json 'Print JSON: an array with an object, `{"name": "Andrew"}`, for each user'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;users;add'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --password-stdin 'Read the password from standard input, one line, instead of asking for it'
            cand --plain 'Keep the password as a readable word instead of a hash'
            cand --scram 'Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;users;remove'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --with-mail 'Remove the mailbox too, with all mail in it, unless a mail client has it open'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;users;passwd'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --password-stdin 'Read the password from standard input, one line, instead of asking for it'
            cand --plain 'Keep the password as a readable word instead of a hash'
            cand --scram 'Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;users;check'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --password-stdin 'Read the password from standard input, one line, instead of asking for it'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;users;help'= {
            cand list 'Print the names of all users, one on each line'
            cand add 'Add a user'
            cand remove 'Remove a user; the mailbox stays'
            cand passwd 'Give a user another password'
            cand check 'Check a user''s password'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'minismtp;users;help;list'= {
        }
        &'minismtp;users;help;add'= {
        }
        &'minismtp;users;help;remove'= {
        }
        &'minismtp;users;help;passwd'= {
        }
        &'minismtp;users;help;check'= {
        }
        &'minismtp;users;help;help'= {
        }
        &'minismtp;mailbox'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
            cand list 'List a user''s messages, or every user with the number of messages'
            cand show 'Print messages as they are stored'
            cand delete 'Delete messages by number'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'minismtp;mailbox;list'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --json 'Print JSON'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;mailbox;show'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand --json 'Print JSON'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;mailbox;delete'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;mailbox;help'= {
            cand list 'List a user''s messages, or every user with the number of messages'
            cand show 'Print messages as they are stored'
            cand delete 'Delete messages by number'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'minismtp;mailbox;help;list'= {
        }
        &'minismtp;mailbox;help;show'= {
        }
        &'minismtp;mailbox;help;delete'= {
        }
        &'minismtp;mailbox;help;help'= {
        }
        &'minismtp;demo'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;completions'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;man'= {
            cand --root 'The mail root: the directory that holds `logincred.txt` and the mailboxes'
            cand --color 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set'
            cand -v 'Tell more on standard error'
            cand --verbose 'Tell more on standard error'
            cand -q 'Print only results and errors'
            cand --quiet 'Print only results and errors'
            cand -h 'Print help (see more with ''--help'')'
            cand --help 'Print help (see more with ''--help'')'
        }
        &'minismtp;help'= {
            cand serve 'Receive mail over SMTP, file it in the users'' mailboxes, and give access to them over POP3'
            cand send 'Send mail: with a menu at a terminal, or one mail from a pipe'
            cand shell 'Talk to a mail server in Teena''s eight words: list and add users, read, delete and send mail'
            cand users 'List, add and remove users, and set or check their passwords'
            cand mailbox 'List, show and delete mail'
            cand demo 'Show all of it at work: a server, a client, a mail and the mailbox it ends up in'
            cand completions 'Print a script that lets your shell complete minismtp''s commands and options'
            cand man 'Write the manual pages, one for every command, into a directory'
            cand help 'Print this message or the help of the given subcommand(s)'
        }
        &'minismtp;help;serve'= {
        }
        &'minismtp;help;send'= {
        }
        &'minismtp;help;shell'= {
        }
        &'minismtp;help;users'= {
            cand list 'Print the names of all users, one on each line'
            cand add 'Add a user'
            cand remove 'Remove a user; the mailbox stays'
            cand passwd 'Give a user another password'
            cand check 'Check a user''s password'
        }
        &'minismtp;help;users;list'= {
        }
        &'minismtp;help;users;add'= {
        }
        &'minismtp;help;users;remove'= {
        }
        &'minismtp;help;users;passwd'= {
        }
        &'minismtp;help;users;check'= {
        }
        &'minismtp;help;mailbox'= {
            cand list 'List a user''s messages, or every user with the number of messages'
            cand show 'Print messages as they are stored'
            cand delete 'Delete messages by number'
        }
        &'minismtp;help;mailbox;list'= {
        }
        &'minismtp;help;mailbox;show'= {
        }
        &'minismtp;help;mailbox;delete'= {
        }
        &'minismtp;help;demo'= {
        }
        &'minismtp;help;completions'= {
        }
        &'minismtp;help;man'= {
        }
        &'minismtp;help;help'= {
        }
    ]
    $completions[$command]
}
