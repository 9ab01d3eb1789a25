
using namespace System.Management.Automation
using namespace System.Management.Automation.Language

Register-ArgumentCompleter -Native -CommandName 'minismtp' -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)

    $commandElements = $commandAst.CommandElements
    $command = @(
        'minismtp'
        for ($i = 1; $i -lt $commandElements.Count; $i++) {
            $element = $commandElements[$i]
            if ($element -isnot [StringConstantExpressionAst] -or
                $element.StringConstantType -ne [StringConstantType]::BareWord -or
                $element.Value.StartsWith('-') -or
                $element.Value -eq $wordToComplete) {
                break
        }
        $element.Value
    }) -join ';'

    $completions = @(switch ($command) {
        'minismtp' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('-V', '-V ', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('--version', '--version', [CompletionResultType]::ParameterName, 'Print version')
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Receive mail over SMTP, file it in the users'' mailboxes, and give access to them over POP3')
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send mail: with a menu at a terminal, or one mail from a pipe')
            [CompletionResult]::new('shell', 'shell', [CompletionResultType]::ParameterValue, 'Talk to a mail server in Teena''s eight words: list and add users, read, delete and send mail')
            [CompletionResult]::new('users', 'users', [CompletionResultType]::ParameterValue, 'List, add and remove users, and set or check their passwords')
            [CompletionResult]::new('mailbox', 'mailbox', [CompletionResultType]::ParameterValue, 'List, show and delete mail')
            [CompletionResult]::new('demo', 'demo', [CompletionResultType]::ParameterValue, 'Show all of it at work: a server, a client, a mail and the mailbox it ends up in')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print a script that lets your shell complete minismtp''s commands and options')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Write the manual pages, one for every command, into a directory')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'minismtp;serve' {
            [CompletionResult]::new('-p', '-p', [CompletionResultType]::ParameterName, 'The port to listen on; 0 is a free one [default: 2525]')
            [CompletionResult]::new('--port', '--port', [CompletionResultType]::ParameterName, 'The port to listen on; 0 is a free one [default: 2525]')
            [CompletionResult]::new('--pop3-port', '--pop3-port', [CompletionResultType]::ParameterName, 'The port for access to mailboxes: POP3, and the verbs of Teena''s lab; 0 is a free one')
            [CompletionResult]::new('--lmtp-port', '--lmtp-port', [CompletionResultType]::ParameterName, 'The port for LMTP, over which another mail server hands over mail; 0 is a free one')
            [CompletionResult]::new('--lmtp-host', '--lmtp-host', [CompletionResultType]::ParameterName, 'An address or name of this machine to listen on for LMTP; may be given more than once')
            [CompletionResult]::new('--lmtp-socket', '--lmtp-socket', [CompletionResultType]::ParameterName, 'A Unix socket for LMTP')
            [CompletionResult]::new('--smtps-port', '--smtps-port', [CompletionResultType]::ParameterName, 'The port for SMTP under TLS from the first octet; 0 is a free one')
            [CompletionResult]::new('--pop3s-port', '--pop3s-port', [CompletionResultType]::ParameterName, 'The port for access to mailboxes under TLS from the first octet; 0 is a free one')
            [CompletionResult]::new('--tls-cert', '--tls-cert', [CompletionResultType]::ParameterName, 'The server''s certificate, and those that vouch for it, in PEM; for STARTTLS, STLS and the ports under TLS')
            [CompletionResult]::new('--tls-key', '--tls-key', [CompletionResultType]::ParameterName, 'The certificate''s private key, in PEM, without a pass phrase')
            [CompletionResult]::new('--tls', '--tls', [CompletionResultType]::ParameterName, 'Make a certificate of our own, once, and keep it in the mail root')
            [CompletionResult]::new('--host', '--host', [CompletionResultType]::ParameterName, 'An address or name of this machine to listen on; may be given more than once')
            [CompletionResult]::new('--domain', '--domain', [CompletionResultType]::ParameterName, 'A domain whose mail is ours; may be given more than once. Without it, every domain is')
            [CompletionResult]::new('--catch-all', '--catch-all', [CompletionResultType]::ParameterName, 'The user who gets mail for users that do not exist')
            [CompletionResult]::new('--auth', '--auth', [CompletionResultType]::ParameterName, 'Whether senders have to log in')
            [CompletionResult]::new('--max-message-size', '--max-message-size', [CompletionResultType]::ParameterName, 'The largest message, in octets, or with K, M or G behind')
            [CompletionResult]::new('--max-recipients', '--max-recipients', [CompletionResultType]::ParameterName, 'How many recipients a message may have, 100 at least')
            [CompletionResult]::new('--max-connections', '--max-connections', [CompletionResultType]::ParameterName, 'How many connections there may be at once [default: 10000, or as many as the system has file handles for]')
            [CompletionResult]::new('--max-connections-per-address', '--max-connections-per-address', [CompletionResultType]::ParameterName, 'How many of them may come from one address, or IPv6 network (/64). This machine may have any')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'How long to wait for a command or for more text, in seconds')
            [CompletionResult]::new('--hostname', '--hostname', [CompletionResultType]::ParameterName, 'The name that the server calls itself [default: the machine''s name]')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'The user of this machine to run as, once the ports are bound; for a server started by root')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--lab', '--lab', [CompletionResultType]::ParameterName, 'Ask for no passwords at mailbox access, and let everybody there add users')
            [CompletionResult]::new('--insecure-auth', '--insecure-auth', [CompletionResultType]::ParameterName, 'Take passwords in clear from other machines too, for others on the way to read')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;send' {
            [CompletionResult]::new('--server', '--server', [CompletionResultType]::ParameterName, 'The mail server; the port is 2525 if it is left out, and IPv6 addresses stand in brackets')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Log in as this user')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'Take the password from the first line of this file')
            [CompletionResult]::new('--tls', '--tls', [CompletionResultType]::ParameterName, 'When the connection is under TLS [default: starttls]')
            [CompletionResult]::new('--tls-ca', '--tls-ca', [CompletionResultType]::ParameterName, 'Trust the authorities, or the server''s certificate, in this PEM file and no others')
            [CompletionResult]::new('--tls-fingerprint', '--tls-fingerprint', [CompletionResultType]::ParameterName, 'Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it')
            [CompletionResult]::new('--timeout', '--timeout', [CompletionResultType]::ParameterName, 'Wait no longer than this for any answer; otherwise as long as RFC 5321 wants, which is minutes')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--insecure-auth', '--insecure-auth', [CompletionResultType]::ParameterName, 'Log in even where others may read the password on its way')
            [CompletionResult]::new('--require-tls', '--require-tls', [CompletionResultType]::ParameterName, 'Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`')
            [CompletionResult]::new('--tls-insecure', '--tls-insecure', [CompletionResultType]::ParameterName, 'Do not check the certificate: others may be at the other end')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;shell' {
            [CompletionResult]::new('--server', '--server', [CompletionResultType]::ParameterName, 'The server; the port is 1110 if it is left out, and IPv6 addresses stand in brackets')
            [CompletionResult]::new('--user', '--user', [CompletionResultType]::ParameterName, 'Open this user''s mailbox at once, as `SetUser` does')
            [CompletionResult]::new('--password-file', '--password-file', [CompletionResultType]::ParameterName, 'Take the password from the first line of this file')
            [CompletionResult]::new('--tls-ca', '--tls-ca', [CompletionResultType]::ParameterName, 'Trust the authorities, or the server''s certificate, in this PEM file and no others')
            [CompletionResult]::new('--tls-fingerprint', '--tls-fingerprint', [CompletionResultType]::ParameterName, 'Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it')
            [CompletionResult]::new('--tls', '--tls', [CompletionResultType]::ParameterName, 'When the connection is under TLS [default: starttls, and off with this machine unless another flag asks for TLS]')
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--insecure-auth', '--insecure-auth', [CompletionResultType]::ParameterName, 'Log in even where others may read the password on its way')
            [CompletionResult]::new('--require-tls', '--require-tls', [CompletionResultType]::ParameterName, 'Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`')
            [CompletionResult]::new('--tls-insecure', '--tls-insecure', [CompletionResultType]::ParameterName, 'Do not check the certificate: others may be at the other end')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;users' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'Print the names of all users, one on each line')
            [CompletionResult]::new('add', 'add', [CompletionResultType]::ParameterValue, 'Add a user')
            [CompletionResult]::new('remove', 'remove', [CompletionResultType]::ParameterValue, 'Remove a user; the mailbox stays')
            [CompletionResult]::new('passwd', 'passwd', [CompletionResultType]::ParameterValue, 'Give a user another password')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check a user''s password')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'minismtp;users;list' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON: an array with an object, `{"name": "Andrew"}`, for each user')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;users;add' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--password-stdin', '--password-stdin', [CompletionResultType]::ParameterName, 'Read the password from standard input, one line, instead of asking for it')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'Keep the password as a readable word instead of a hash')
            [CompletionResult]::new('--scram', '--scram', [CompletionResultType]::ParameterName, 'Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;users;remove' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--with-mail', '--with-mail', [CompletionResultType]::ParameterName, 'Remove the mailbox too, with all mail in it, unless a mail client has it open')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;users;passwd' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--password-stdin', '--password-stdin', [CompletionResultType]::ParameterName, 'Read the password from standard input, one line, instead of asking for it')
            [CompletionResult]::new('--plain', '--plain', [CompletionResultType]::ParameterName, 'Keep the password as a readable word instead of a hash')
            [CompletionResult]::new('--scram', '--scram', [CompletionResultType]::ParameterName, 'Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;users;check' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--password-stdin', '--password-stdin', [CompletionResultType]::ParameterName, 'Read the password from standard input, one line, instead of asking for it')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;users;help' {
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'Print the names of all users, one on each line')
            [CompletionResult]::new('add', 'add', [CompletionResultType]::ParameterValue, 'Add a user')
            [CompletionResult]::new('remove', 'remove', [CompletionResultType]::ParameterValue, 'Remove a user; the mailbox stays')
            [CompletionResult]::new('passwd', 'passwd', [CompletionResultType]::ParameterValue, 'Give a user another password')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check a user''s password')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'minismtp;users;help;list' {
            break
        }
        'minismtp;users;help;add' {
            break
        }
        'minismtp;users;help;remove' {
            break
        }
        'minismtp;users;help;passwd' {
            break
        }
        'minismtp;users;help;check' {
            break
        }
        'minismtp;users;help;help' {
            break
        }
        'minismtp;mailbox' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List a user''s messages, or every user with the number of messages')
            [CompletionResult]::new('show', 'show', [CompletionResultType]::ParameterValue, 'Print messages as they are stored')
            [CompletionResult]::new('delete', 'delete', [CompletionResultType]::ParameterValue, 'Delete messages by number')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'minismtp;mailbox;list' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;mailbox;show' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('--json', '--json', [CompletionResultType]::ParameterName, 'Print JSON')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;mailbox;delete' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;mailbox;help' {
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List a user''s messages, or every user with the number of messages')
            [CompletionResult]::new('show', 'show', [CompletionResultType]::ParameterValue, 'Print messages as they are stored')
            [CompletionResult]::new('delete', 'delete', [CompletionResultType]::ParameterValue, 'Delete messages by number')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'minismtp;mailbox;help;list' {
            break
        }
        'minismtp;mailbox;help;show' {
            break
        }
        'minismtp;mailbox;help;delete' {
            break
        }
        'minismtp;mailbox;help;help' {
            break
        }
        'minismtp;demo' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;completions' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;man' {
            [CompletionResult]::new('--root', '--root', [CompletionResultType]::ParameterName, 'The mail root: the directory that holds `logincred.txt` and the mailboxes')
            [CompletionResult]::new('--color', '--color', [CompletionResultType]::ParameterName, 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set')
            [CompletionResult]::new('-v', '-v', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('--verbose', '--verbose', [CompletionResultType]::ParameterName, 'Tell more on standard error')
            [CompletionResult]::new('-q', '-q', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('--quiet', '--quiet', [CompletionResultType]::ParameterName, 'Print only results and errors')
            [CompletionResult]::new('-h', '-h', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            [CompletionResult]::new('--help', '--help', [CompletionResultType]::ParameterName, 'Print help (see more with ''--help'')')
            break
        }
        'minismtp;help' {
            [CompletionResult]::new('serve', 'serve', [CompletionResultType]::ParameterValue, 'Receive mail over SMTP, file it in the users'' mailboxes, and give access to them over POP3')
            [CompletionResult]::new('send', 'send', [CompletionResultType]::ParameterValue, 'Send mail: with a menu at a terminal, or one mail from a pipe')
            [CompletionResult]::new('shell', 'shell', [CompletionResultType]::ParameterValue, 'Talk to a mail server in Teena''s eight words: list and add users, read, delete and send mail')
            [CompletionResult]::new('users', 'users', [CompletionResultType]::ParameterValue, 'List, add and remove users, and set or check their passwords')
            [CompletionResult]::new('mailbox', 'mailbox', [CompletionResultType]::ParameterValue, 'List, show and delete mail')
            [CompletionResult]::new('demo', 'demo', [CompletionResultType]::ParameterValue, 'Show all of it at work: a server, a client, a mail and the mailbox it ends up in')
            [CompletionResult]::new('completions', 'completions', [CompletionResultType]::ParameterValue, 'Print a script that lets your shell complete minismtp''s commands and options')
            [CompletionResult]::new('man', 'man', [CompletionResultType]::ParameterValue, 'Write the manual pages, one for every command, into a directory')
            [CompletionResult]::new('help', 'help', [CompletionResultType]::ParameterValue, 'Print this message or the help of the given subcommand(s)')
            break
        }
        'minismtp;help;serve' {
            break
        }
        'minismtp;help;send' {
            break
        }
        'minismtp;help;shell' {
            break
        }
        'minismtp;help;users' {
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'Print the names of all users, one on each line')
            [CompletionResult]::new('add', 'add', [CompletionResultType]::ParameterValue, 'Add a user')
            [CompletionResult]::new('remove', 'remove', [CompletionResultType]::ParameterValue, 'Remove a user; the mailbox stays')
            [CompletionResult]::new('passwd', 'passwd', [CompletionResultType]::ParameterValue, 'Give a user another password')
            [CompletionResult]::new('check', 'check', [CompletionResultType]::ParameterValue, 'Check a user''s password')
            break
        }
        'minismtp;help;users;list' {
            break
        }
        'minismtp;help;users;add' {
            break
        }
        'minismtp;help;users;remove' {
            break
        }
        'minismtp;help;users;passwd' {
            break
        }
        'minismtp;help;users;check' {
            break
        }
        'minismtp;help;mailbox' {
            [CompletionResult]::new('list', 'list', [CompletionResultType]::ParameterValue, 'List a user''s messages, or every user with the number of messages')
            [CompletionResult]::new('show', 'show', [CompletionResultType]::ParameterValue, 'Print messages as they are stored')
            [CompletionResult]::new('delete', 'delete', [CompletionResultType]::ParameterValue, 'Delete messages by number')
            break
        }
        'minismtp;help;mailbox;list' {
            break
        }
        'minismtp;help;mailbox;show' {
            break
        }
        'minismtp;help;mailbox;delete' {
            break
        }
        'minismtp;help;demo' {
            break
        }
        'minismtp;help;completions' {
            break
        }
        'minismtp;help;man' {
            break
        }
        'minismtp;help;help' {
            break
        }
    })

    $completions.Where{ $_.CompletionText -like "$wordToComplete*" } |
        Sort-Object -Property ListItemText
}
