# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_minismtp_global_optspecs
    string join \n root= v/verbose q/quiet color= h/help V/version
end

function __fish_minismtp_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_minismtp_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_minismtp_using_subcommand
    set -l cmd (__fish_minismtp_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c minismtp -n "__fish_minismtp_needs_command" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_needs_command" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_needs_command" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_needs_command" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_needs_command" -s V -l version -d 'Print version'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "serve" -d 'Receive mail over SMTP, file it in the users\' mailboxes, and give access to them over POP3'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "send" -d 'Send mail: with a menu at a terminal, or one mail from a pipe'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "shell" -d 'Talk to a mail server in Teena\'s eight words: list and add users, read, delete and send mail'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "users" -d 'List, add and remove users, and set or check their passwords'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "mailbox" -d 'List, show and delete mail'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "demo" -d 'Show all of it at work: a server, a client, a mail and the mailbox it ends up in'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "completions" -d 'Print a script that lets your shell complete minismtp\'s commands and options'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "man" -d 'Write the manual pages, one for every command, into a directory'
complete -c minismtp -n "__fish_minismtp_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -s p -l port -d 'The port to listen on; 0 is a free one [default: 2525]' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l pop3-port -d 'The port for access to mailboxes: POP3, and the verbs of Teena\'s lab; 0 is a free one' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l lmtp-port -d 'The port for LMTP, over which another mail server hands over mail; 0 is a free one' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l lmtp-host -d 'An address or name of this machine to listen on for LMTP; may be given more than once' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l lmtp-socket -d 'A Unix socket for LMTP' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l smtps-port -d 'The port for SMTP under TLS from the first octet; 0 is a free one' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l pop3s-port -d 'The port for access to mailboxes under TLS from the first octet; 0 is a free one' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l tls-cert -d 'The server\'s certificate, and those that vouch for it, in PEM; for STARTTLS, STLS and the ports under TLS' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l tls-key -d 'The certificate\'s private key, in PEM, without a pass phrase' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l tls -d 'Make a certificate of our own, once, and keep it in the mail root' -r -f -a "self-signed\t'Nobody vouches for it but itself'"
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l host -d 'An address or name of this machine to listen on; may be given more than once' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l domain -d 'A domain whose mail is ours; may be given more than once. Without it, every domain is' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l catch-all -d 'The user who gets mail for users that do not exist' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l auth -d 'Whether senders have to log in' -r -f -a "optional\t'Whoever does not log in may send too, but not as a local user from another machine'
required\t'Only users who logged in may send'"
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l max-message-size -d 'The largest message, in octets, or with K, M or G behind' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l max-recipients -d 'How many recipients a message may have, 100 at least' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l max-connections -d 'How many connections there may be at once [default: 10000, or as many as the system has file handles for]' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l max-connections-per-address -d 'How many of them may come from one address, or IPv6 network (/64). This machine may have any' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l timeout -d 'How long to wait for a command or for more text, in seconds' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l hostname -d 'The name that the server calls itself [default: the machine\'s name]' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l user -d 'The user of this machine to run as, once the ports are bound; for a server started by root' -r -f -a "(__fish_complete_users)"
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l lab -d 'Ask for no passwords at mailbox access, and let everybody there add users'
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -l insecure-auth -d 'Take passwords in clear from other machines too, for others on the way to read'
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l server -d 'The mail server; the port is 2525 if it is left out, and IPv6 addresses stand in brackets' -r -f -a "(__fish_print_hostnames)"
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l user -d 'Log in as this user' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l password-file -d 'Take the password from the first line of this file' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l tls -d 'When the connection is under TLS [default: starttls]' -r -f -a "starttls\t'Once the server offers it'
implicit\t'From the first octet, on a port that is meant for it'
off\t'Never'"
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l tls-ca -d 'Trust the authorities, or the server\'s certificate, in this PEM file and no others' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l tls-fingerprint -d 'Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l timeout -d 'Wait no longer than this for any answer; otherwise as long as RFC 5321 wants, which is minutes' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l insecure-auth -d 'Log in even where others may read the password on its way'
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l require-tls -d 'Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`'
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -l tls-insecure -d 'Do not check the certificate: others may be at the other end'
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand send" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l server -d 'The server; the port is 1110 if it is left out, and IPv6 addresses stand in brackets' -r -f -a "(__fish_print_hostnames)"
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l user -d 'Open this user\'s mailbox at once, as `SetUser` does' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l password-file -d 'Take the password from the first line of this file' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l tls-ca -d 'Trust the authorities, or the server\'s certificate, in this PEM file and no others' -r -F
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l tls-fingerprint -d 'Trust the certificate with this SHA-256 fingerprint and no other, whatever stands in it' -r
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l tls -d 'When the connection is under TLS [default: starttls, and off with this machine unless another flag asks for TLS]' -r -f -a "starttls\t'Once the server offers it'
implicit\t'From the first octet, on a port that is meant for it'
off\t'Never'"
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l insecure-auth -d 'Log in even where others may read the password on its way'
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l require-tls -d 'Go no further where the server offers no TLS; so do `--tls-ca` and `--tls-fingerprint`'
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -l tls-insecure -d 'Do not check the certificate: others may be at the other end'
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand shell" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -f -a "list" -d 'Print the names of all users, one on each line'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -f -a "add" -d 'Add a user'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -f -a "remove" -d 'Remove a user; the mailbox stays'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -f -a "passwd" -d 'Give a user another password'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -f -a "check" -d 'Check a user\'s password'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and not __fish_seen_subcommand_from list add remove passwd check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from list" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from list" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from list" -l json -d 'Print JSON: an array with an object, `{"name": "Andrew"}`, for each user'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -l password-stdin -d 'Read the password from standard input, one line, instead of asking for it'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -l plain -d 'Keep the password as a readable word instead of a hash'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -l scram -d 'Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from remove" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from remove" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from remove" -l with-mail -d 'Remove the mailbox too, with all mail in it, unless a mail client has it open'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from remove" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from remove" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -l password-stdin -d 'Read the password from standard input, one line, instead of asking for it'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -l plain -d 'Keep the password as a readable word instead of a hash'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -l scram -d 'Keep the password as a SCRAM-SHA-256 verifier, so that clients can log in without sending it'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from passwd" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from check" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from check" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from check" -l password-stdin -d 'Read the password from standard input, one line, instead of asking for it'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from check" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from check" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from help" -f -a "list" -d 'Print the names of all users, one on each line'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add a user'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Remove a user; the mailbox stays'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from help" -f -a "passwd" -d 'Give a user another password'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from help" -f -a "check" -d 'Check a user\'s password'
complete -c minismtp -n "__fish_minismtp_using_subcommand users; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -f -a "list" -d 'List a user\'s messages, or every user with the number of messages'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -f -a "show" -d 'Print messages as they are stored'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -f -a "delete" -d 'Delete messages by number'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and not __fish_seen_subcommand_from list show delete help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from list" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from list" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from list" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from show" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from show" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from show" -l json -d 'Print JSON'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from show" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from show" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from delete" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from delete" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from delete" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from delete" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from help" -f -a "list" -d 'List a user\'s messages, or every user with the number of messages'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from help" -f -a "show" -d 'Print messages as they are stored'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from help" -f -a "delete" -d 'Delete messages by number'
complete -c minismtp -n "__fish_minismtp_using_subcommand mailbox; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c minismtp -n "__fish_minismtp_using_subcommand demo" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand demo" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand demo" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand demo" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand completions" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand completions" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand completions" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand completions" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand man" -l root -d 'The mail root: the directory that holds `logincred.txt` and the mailboxes' -r -f -a "(__fish_complete_directories)"
complete -c minismtp -n "__fish_minismtp_using_subcommand man" -l color -d 'When to use colors; `auto` is on a terminal, unless `NO_COLOR` is set' -r -f -a "auto\t''
always\t''
never\t''"
complete -c minismtp -n "__fish_minismtp_using_subcommand man" -s v -l verbose -d 'Tell more on standard error'
complete -c minismtp -n "__fish_minismtp_using_subcommand man" -s q -l quiet -d 'Print only results and errors'
complete -c minismtp -n "__fish_minismtp_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "serve" -d 'Receive mail over SMTP, file it in the users\' mailboxes, and give access to them over POP3'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "send" -d 'Send mail: with a menu at a terminal, or one mail from a pipe'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "shell" -d 'Talk to a mail server in Teena\'s eight words: list and add users, read, delete and send mail'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "users" -d 'List, add and remove users, and set or check their passwords'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "mailbox" -d 'List, show and delete mail'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "demo" -d 'Show all of it at work: a server, a client, a mail and the mailbox it ends up in'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "completions" -d 'Print a script that lets your shell complete minismtp\'s commands and options'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "man" -d 'Write the manual pages, one for every command, into a directory'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and not __fish_seen_subcommand_from serve send shell users mailbox demo completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from users" -f -a "list" -d 'Print the names of all users, one on each line'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from users" -f -a "add" -d 'Add a user'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from users" -f -a "remove" -d 'Remove a user; the mailbox stays'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from users" -f -a "passwd" -d 'Give a user another password'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from users" -f -a "check" -d 'Check a user\'s password'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from mailbox" -f -a "list" -d 'List a user\'s messages, or every user with the number of messages'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from mailbox" -f -a "show" -d 'Print messages as they are stored'
complete -c minismtp -n "__fish_minismtp_using_subcommand help; and __fish_seen_subcommand_from mailbox" -f -a "delete" -d 'Delete messages by number'
