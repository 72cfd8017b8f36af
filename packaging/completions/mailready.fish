# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mailready_global_optspecs
    string join \n config= h/help V/version
end

function __fish_mailready_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mailready_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mailready_using_subcommand
    set -l cmd (__fish_mailready_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mailready -n "__fish_mailready_needs_command" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_needs_command" -s h -l help -d 'Print help'
complete -c mailready -n "__fish_mailready_needs_command" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "convert" -d 'Convert users\' mail now, through the agent'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "status" -d 'Show where users stand'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "explain" -d 'Tell all about one user: where the mail is, why, and what comes next'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "verify" -d 'Prove that converted users\' mail is what it was'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "rollback" -d 'Give converted users their mail back as mbox'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "hold" -d 'Keep a user from being converted'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "release" -d 'End a hold'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "background" -d 'Let conversions go on after the agent has stopped by itself'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "convert-file" -d 'Convert one mbox file into a new Maildir, without the agent'
complete -c mailready -n "__fish_mailready_needs_command" -f -a "check-config" -d 'Check the configuration and tell what it does'
complete -c mailready -n "__fish_mailready_using_subcommand convert" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand convert" -l all -d 'Convert all users whom the configuration allows'
complete -c mailready -n "__fish_mailready_using_subcommand convert" -l wait -d 'Wait for open sessions to end instead of reporting `waiting`'
complete -c mailready -n "__fish_mailready_using_subcommand convert" -l dry-run -d 'Look and tell, change nothing'
complete -c mailready -n "__fish_mailready_using_subcommand convert" -l json -d 'Print one JSON object instead of lines'
complete -c mailready -n "__fish_mailready_using_subcommand convert" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailready -n "__fish_mailready_using_subcommand convert" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand status" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand status" -l json -d 'Print one JSON object instead of a table'
complete -c mailready -n "__fish_mailready_using_subcommand status" -s h -l help -d 'Print help'
complete -c mailready -n "__fish_mailready_using_subcommand status" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand explain" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand explain" -s h -l help -d 'Print help'
complete -c mailready -n "__fish_mailready_using_subcommand explain" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand verify" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand verify" -l json -d 'Print one JSON object instead of a table'
complete -c mailready -n "__fish_mailready_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailready -n "__fish_mailready_using_subcommand verify" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand rollback" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand rollback" -l all -d 'Roll back all users who are on Maildir'
complete -c mailready -n "__fish_mailready_using_subcommand rollback" -l yes -d 'Do not ask'
complete -c mailready -n "__fish_mailready_using_subcommand rollback" -l json -d 'Print one JSON object instead of lines; asks nothing, so it needs --yes'
complete -c mailready -n "__fish_mailready_using_subcommand rollback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailready -n "__fish_mailready_using_subcommand rollback" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand hold" -l until -d 'Until when: 12h, 30d, 2027-01-31 or "2027-01-31 18:00" (local time); without it for ever' -r
complete -c mailready -n "__fish_mailready_using_subcommand hold" -l why -d 'Why; shown by status and explain' -r
complete -c mailready -n "__fish_mailready_using_subcommand hold" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand hold" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailready -n "__fish_mailready_using_subcommand hold" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand release" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand release" -s h -l help -d 'Print help'
complete -c mailready -n "__fish_mailready_using_subcommand release" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand background" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand background" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailready -n "__fish_mailready_using_subcommand background" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand convert-file" -l server -d 'Whose rules the mbox follows: the server that shows it today' -r -f -a "dovecot\t'Dovecot 2.3 or 2.4'
uw\t'UW imapd and ipop3d, Alpine'
qpopper\t'qpopper 2 to 4'"
complete -c mailready -n "__fish_mailready_using_subcommand convert-file" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand convert-file" -l json -d 'Print one JSON object instead of lines'
complete -c mailready -n "__fish_mailready_using_subcommand convert-file" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mailready -n "__fish_mailready_using_subcommand convert-file" -s V -l version -d 'Print version'
complete -c mailready -n "__fish_mailready_using_subcommand check-config" -l config -d 'Configuration to go by; conf.d/*.toml beside it is read too' -r -F
complete -c mailready -n "__fish_mailready_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c mailready -n "__fish_mailready_using_subcommand check-config" -s V -l version -d 'Print version'
