# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mytokenctl_global_optspecs
    string join \n h/help V/version
end

function __fish_mytokenctl_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mytokenctl_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mytokenctl_using_subcommand
    set -l cmd (__fish_mytokenctl_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -s V -l version -d 'Print version'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "status" -d 'Shows the credentials of your jobs and sessions on this node, and what happened to them'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "renew" -d 'Gets a new access token now for your jobs and sessions on this node, and writes files that are missing'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "revoke" -d 'Revokes the credential of a running job, for all jobs of its submission, and removes its access tokens on this node'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "replace" -d 'Gives a job a new credential, made from your mytoken, and revokes the old one. A running job is reached by srun, one that waits through the brokers'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "keygen" -d 'Makes the cluster\'s key pair'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "broker-ca" -d 'Makes the authority that signs the certificates of brokers and nodes'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "broker" -d 'Shows what the broker on this host does (root)'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "node" -d 'Shows and changes which nodes are enrolled at the broker on this host, and enrols this host (root)'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "key" -d 'Replaces the cluster\'s key: several private keys open credentials, each those that are sealed to it'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "check" -d 'Checks this host. Exit status: 0 all is well, 1 warnings, 2 something does not work, 3 the check could not be done'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "explain" -d 'Explains the decision about a login with the token on standard input. This costs a mytoken one use, and a transfer code is used up'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "profile" -d 'Shows the profiles of jobs.toml. Nothing is made, and no mytoken is sent'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "run" -d 'Keeps an access token fresh in a file for a program outside Slurm, and names the file to it'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "attach" -d 'Makes a credential as sbatch does, and prints the environment that gives it to a job submitted by REST within an hour'
complete -c mytokenctl -n "__fish_mytokenctl_needs_command" -f -a "with-token" -d 'Runs a program that reads no token file, with the access token of the job or session in its environment'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand status" -l config -d 'Directory of the configuration, for --login' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand status" -l socket -d 'The agent\'s socket. Without it the one in the runtime directory of jobs.toml' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand status" -l all -d 'Of all users (root)'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand status" -l login -d 'Shows instead the requests that logins on this host sent to the mytoken server, and the servers that are paused (root)'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand status" -l json -d 'Print JSON'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand status" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand renew" -l socket -d 'The agent\'s socket. Without it the one in the runtime directory of jobs.toml' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand renew" -l all -d 'For those of all users (root)'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand renew" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand revoke" -l socket -d 'The agent\'s socket. Without it the one in the runtime directory of jobs.toml' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand revoke" -l here -d 'Say nothing of other nodes: the same command runs there'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand revoke" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand replace" -l profile -d 'Profile of the new credential of a job that waits. Without it the one of a submission to its partition. A job that runs keeps its profile' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand replace" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand replace" -l socket -d 'The agent\'s socket. Without it the one in the runtime directory of jobs.toml' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand replace" -l all -d 'All your jobs'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand replace" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand keygen" -l dir -d 'Directory for the two files' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand keygen" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker-ca" -l dir -d 'Directory for the two files [default: that of `broker.ca_key_file` in `jobs.toml`]' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker-ca" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker-ca" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker; and not __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker; and not __fish_seen_subcommand_from status" -f -a "status" -d 'Shows nodes, submissions, requests, budgets and certificates of the broker on this host. Exit status: 3 if no broker answers'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker; and __fish_seen_subcommand_from status" -l runtime-dir -d 'The broker\'s runtime directory' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker; and __fish_seen_subcommand_from status" -l json -d 'Print JSON'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand broker; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and not __fish_seen_subcommand_from list remove block code enrol" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and not __fish_seen_subcommand_from list remove block code enrol" -f -a "list" -d 'Lists the nodes that are enrolled at the broker on this host'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and not __fish_seen_subcommand_from list remove block code enrol" -f -a "remove" -d 'Removes nodes: their certificates are refused, and they can enrol again with any key'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and not __fish_seen_subcommand_from list remove block code enrol" -f -a "block" -d 'Keeps nodes out: their certificates are refused, and they cannot enrol until they are removed'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and not __fish_seen_subcommand_from list remove block code enrol" -f -a "code" -d 'Prints a one-time code with which a node can enrol at the broker on this host, once and within an hour'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and not __fish_seen_subcommand_from list remove block code enrol" -f -a "enrol" -d 'Enrols this host as a node at the first broker that accepts it: by MUNGE, or with a one-time code'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from list" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from list" -l json -d 'Print JSON'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from remove" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from block" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from block" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from code" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from code" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from enrol" -l node -d 'Name of this node in Slurm [default: the host\'s name without its domain]' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from enrol" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from enrol" -l code -d 'With the one-time code on standard input'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand node; and __fish_seen_subcommand_from enrol" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and not __fish_seen_subcommand_from new list retire" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and not __fish_seen_subcommand_from new list retire" -f -a "new" -d 'Makes the next key pair beside the one in use, and says what to copy where (root)'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and not __fish_seen_subcommand_from new list retire" -f -a "list" -d 'Lists the keys of this host by their ids'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and not __fish_seen_subcommand_from new list retire" -f -a "retire" -d 'Removes a private key from this host, if submissions are not sealed to it any more (root)'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and __fish_seen_subcommand_from new" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and __fish_seen_subcommand_from list" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and __fish_seen_subcommand_from retire" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand key; and __fish_seen_subcommand_from retire" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l as -d 'Checks what sshd does for logins of this account, and reads files with its rights (root)' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l nodes -d 'Checks these hosts, too: each runs its own check, and differences from this host are findings. Names as in Slurm, for example n[1-99] (root)' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l via -d 'What starts the check on the hosts of --nodes' -r -f -a "srun\t'A job of Slurm. It reaches nodes that have a free processor'
ssh\t'ssh as root, without a password'"
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l socket -d 'The agent\'s socket. Without it the one in the runtime directory of jobs.toml' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l offline -d 'Sends no request to providers and mytoken servers. The checks of --nodes do so, because those of a cluster would use up the servers\' limits'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l only-read -d 'Only reads the files, with the rights of USER. The check itself does so, in a child process'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -l json -d 'Print JSON'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand explain" -l user -d 'The account' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand explain" -l claims -d 'Explains instead the decision about a token with the claims in this file (a JSON object). Nothing is sent, and no signature is checked' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand explain" -l last -d 'Shows instead the last refused login of this account by the log of sshd, and what to do (root)' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand explain" -l submission -d 'Explains instead what sbatch would request with the mytoken on standard input. Nothing is made, and the mytoken is not sent' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand explain" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand explain" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and not __fish_seen_subcommand_from show list" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and not __fish_seen_subcommand_from show list" -f -a "show" -d 'Shows what a submission with this profile would request with your mytoken, and what it would not get'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and not __fish_seen_subcommand_from show list" -f -a "list" -d 'Lists the profiles, and which of them a submission gets that names none'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l partition -d 'For a submission to this partition' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l account -d 'For a submission with this account' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and __fish_seen_subcommand_from show" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and __fish_seen_subcommand_from list" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand profile; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand run" -l profile -d 'The profile of jobs.toml' -r
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand run" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand run" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand attach" -l config -d 'Directory of the configuration' -r -F
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand attach" -l required -d 'The job must fail without a credential'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand attach" -l json -d 'Print members of a job\'s description for slurmrestd, since v0.0.39'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand attach" -s h -l help -d 'Print help'
complete -c mytokenctl -n "__fish_mytokenctl_using_subcommand with-token" -s h -l help -d 'Print help'
