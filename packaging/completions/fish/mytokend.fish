# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mytokend_global_optspecs
    string join \n h/help V/version
end

function __fish_mytokend_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mytokend_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mytokend_using_subcommand
    set -l cmd (__fish_mytokend_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mytokend -n "__fish_mytokend_needs_command" -s h -l help -d 'Print help'
complete -c mytokend -n "__fish_mytokend_needs_command" -s V -l version -d 'Print version'
complete -c mytokend -n "__fish_mytokend_needs_command" -f -a "agent" -d 'Keeps the access tokens of this node\'s jobs and login sessions fresh; runs in the foreground'
complete -c mytokend -n "__fish_mytokend_needs_command" -f -a "broker" -d 'Holds the cluster\'s private key and gives nodes the access tokens of their jobs; runs in the foreground'
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l config -d 'Directory of the configuration' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l socket -d 'Path of the socket [default: agent.sock in the runtime directory]' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l runtime-dir -d 'Overrides `agent.runtime_dir` of `jobs.toml`' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l state-dir -d 'Overrides `broker.state_dir` of `jobs.toml`' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l node -d 'Name of this node in Slurm [default: the host\'s name without its domain]' -r
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l stderr -d 'Log to standard error instead of syslog'
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -l check -d 'Reads configuration and keys, says what is wrong with them, and ends'
complete -c mytokend -n "__fish_mytokend_using_subcommand agent" -s h -l help -d 'Print help'
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -l config -d 'Directory of the configuration' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -l listen -d 'Overrides `broker.listen` of `jobs.toml`' -r
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -l state-dir -d 'Overrides `broker.state_dir` of `jobs.toml`' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -l runtime-dir -d 'Directory for what a restart must not forget' -r -F
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -l stderr -d 'Log to standard error instead of syslog'
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -l check -d 'Reads configuration and keys, says what is wrong with them, and ends'
complete -c mytokend -n "__fish_mytokend_using_subcommand broker" -s h -l help -d 'Print help'
