# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mytoken_ssh_global_optspecs
    string join \n h/help V/version
end

function __fish_mytoken_ssh_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mytoken_ssh_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mytoken_ssh_using_subcommand
    set -l cmd (__fish_mytoken_ssh_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -s V -l version -d 'Print version'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "login" -d 'Get a mytoken: confirm in the browser, and it is stored for the other commands'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "ssh" -d 'Run ssh and answer its token prompt'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "scp" -d 'Run scp and answer its token prompts'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "sftp" -d 'Run sftp and answer its token prompt'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "git" -d 'Run git: each of its connections gets a token'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "rsync" -d 'Run rsync: its connection gets a token'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "mosh" -d 'Run mosh: its connection gets a token'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "ansible" -d 'Run ansible: each of its connections gets a token'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "ansible-playbook" -d 'Run ansible-playbook: each of its connections gets a token'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "run" -d 'Run any program: each ssh, scp and sftp that it starts gets a token'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "add" -d 'Write down which token a host gets at each login: the one that you name, or that the host asks for'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "hosts" -d 'Show which hosts get a token of their own, in the order in which the entries count'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "env" -d 'Print a line for your shell: then plain ssh, and all that starts it, gets a token for configured hosts'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "status" -d 'Show the stored mytokens'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "token" -d 'Print an access token, for a script'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "code" -d 'Print a code for one login, to type into any ssh client'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "import" -d 'Store a mytoken, short token or transfer code that you give on standard input'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "export" -d 'Print a stored mytoken, for `mytoken-ssh import` on another machine'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "logout" -d 'Revoke a stored mytoken with every mytoken made from it, and remove it'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_needs_command" -f -a "doctor" -d 'Look for what keeps logins from working'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l server -d 'The same as SERVER' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l issuer -d 'URL of your OpenID provider' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l name -d 'Name of the mytoken in the server\'s lists [default: as at your last login, else this machine\'s name]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l scope -d 'Scopes that access tokens may have (repeat the option, or separate them by blanks) [default: as at your last login]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l audience -d 'Audience that access tokens may have [default: as at your last login]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l capability -d 'Capability of the mytoken, instead of the default ones or those of your last login (repeat the option for more)' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l lifetime -d 'Lifetime of the mytoken [default: 30d]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -l no-browser -d 'Open no browser: show the link only'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand login" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l delegate -d 'Give the session its own mytoken [default lifetime: 24h]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l scope -d 'Scopes of the login\'s token [default: the scopes of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l audience -d 'Audience of the login\'s token [default: the audience of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l token-file -d 'Send the token in this file unchanged, to one host only' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ssh" -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l delegate -d 'Give the session its own mytoken [default lifetime: 24h]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l scope -d 'Scopes of the login\'s token [default: the scopes of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l audience -d 'Audience of the login\'s token [default: the audience of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l token-file -d 'Send the token in this file unchanged, to one host only' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand scp" -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l delegate -d 'Give the session its own mytoken [default lifetime: 24h]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l scope -d 'Scopes of the login\'s token [default: the scopes of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l audience -d 'Audience of the login\'s token [default: the audience of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l token-file -d 'Send the token in this file unchanged, to one host only' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand sftp" -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand git" -l help -d 'Print help, as the only argument. Options for the token: see mytoken-ssh run --help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand rsync" -l help -d 'Print help, as the only argument. Options for the token: see mytoken-ssh run --help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand mosh" -l help -d 'Print help, as the only argument. Options for the token: see mytoken-ssh run --help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ansible" -l help -d 'Print help, as the only argument. Options for the token: see mytoken-ssh run --help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand ansible-playbook" -l help -d 'Print help, as the only argument. Options for the token: see mytoken-ssh run --help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand run" -l delegate -d 'Give the session its own mytoken [default lifetime: 24h]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand run" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand run" -l scope -d 'Scopes of the login\'s token [default: the scopes of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand run" -l audience -d 'Audience of the login\'s token [default: the audience of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand run" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand run" -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l audience -d 'Audience of the host\'s tokens [default: as before; the host is asked, if neither this, a scope nor a form is named]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l scope -d 'Scopes of the host\'s tokens (repeat the option, or separate them by blanks) [default: as before]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l send -d 'What the host gets [default: as before]' -r -f -a "access_token\t'An access token if the host\'s audience is known, and a transfer code otherwise or with `--delegate`'
transfer_code\t'A transfer code at each login'"
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l oidc-agent -d 'Account of oidc-agent that gives the host\'s access tokens, or the URL of its provider [default: as before]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l info -d 'URL of the host\'s motley_cue [default: the HOST\'s port 443, then 8443]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l issuer -d 'URL of your OpenID provider, if the host takes tokens of several [default: that of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l server -d 'URL of the mytoken server of your mytoken [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -l yes -d 'Take what the host says without a question'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand hosts" -l remove -d 'Remove this entry from hosts.toml' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand hosts" -l json -d 'Print a JSON list: pattern, scope, audience, send, where the token comes from, and the file'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand hosts" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand env" -l shell -d 'Your shell [default: that of $SHELL]' -r -f -a "sh\t'sh, bash, zsh and the like'
fish\t'fish'
csh\t'csh and tcsh'"
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand env" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand status" -l json -d 'Print a JSON list'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand status" -l check -d 'Ask each mytoken\'s server whether it accepts it'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand status" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -l scope -d 'Scopes of the access token (repeat the option, or separate them by blanks) [default: those of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -l audience -d 'Audience of the access token (repeat the option for more) [default: the audience of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -l file -d 'Write the token to this file instead, which only you can read' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -l json -d 'Print a JSON object: the token, its expiry, scope and audience'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand token" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -l delegate -d 'Give the session its own mytoken [default lifetime: 24h]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -l scope -d 'Scopes of the login\'s token [default: the scopes of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -l audience -d 'Audience of the login\'s token [default: the audience of your mytoken]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -l json -d 'Print a JSON object: the code, its expiry and the host'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand code" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand import" -l server -d 'Host name or URL of the mytoken server [default: the one in the mytoken; of a short token or code, that of your last login]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand import" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand import" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand export" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand export" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand logout" -l server -d 'URL of the mytoken server [default: the only server that you have a mytoken for]' -r
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand logout" -l ca -d 'PEM file with the CA certificates to trust' -r -F
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand logout" -l forget -d 'Remove the stored mytoken even if it cannot be revoked'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand logout" -s h -l help -d 'Print help'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand doctor" -l json -d 'Print a JSON list: part, level, text and fix'
complete -c mytoken-ssh -n "__fish_mytoken_ssh_using_subcommand doctor" -s h -l help -d 'Print help'
